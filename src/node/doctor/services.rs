//! What the node stands on: PostgreSQL's programs, the database, the embedding model.

use std::time::Instant;

use super::Finding;
use crate::config::{DatabaseKind, Resolved, Settings};
use crate::node::database::{Database, cluster_options};
use crate::process::Spawner;
use crate::rag::embed::{self, Embedder};
use crate::store::{cluster, migrate};

/// Two sentences that any sentence model finds alike, and one that it finds different from both.
const SENTENCES: [&str; 3] =
    ["How do I restore a backup?", "Restoring the database from a backup", "The cake needs three eggs"];

/// Which PostgreSQL would run the private cluster; nothing where the settings name a server.
pub(super) async fn programs(resolved: &Resolved, spawner: &Spawner) -> Option<Finding> {
    if resolved.settings.database == DatabaseKind::Url {
        return None;
    }
    Some(match cluster::find_programs(&cluster_options(resolved), spawner).await {
        Ok((folder, major)) => Finding::ok("postgresql", format!("version {major} in {}", folder.display())),
        Err(error) => {
            let text = format!("{:#}", anyhow::Error::from(error));
            Finding::fail("postgresql", "the private cluster cannot run", text)
        }
    })
}

/// Whether the database answers and has this version's schema. A private cluster that is not running is not started.
pub(super) async fn database(resolved: &Resolved, spawner: &Spawner) -> Option<Finding> {
    let settings = &resolved.settings;
    if settings.database == DatabaseKind::Private && cluster::url_in_use(&settings.data_dir).is_none() {
        return Some(Finding::ok("database", "private, starts with the node"));
    }
    let started = Instant::now();
    let outcome = async {
        let database = Database::open_beside_node(resolved, spawner).await?;
        let pending = migrate::pending(&database.store).await;
        database.close().await;
        Ok::<usize, crate::node::Error>(pending?)
    };
    let kind = settings.database;
    Some(match outcome.await {
        Ok(0) => {
            let text = format!("{kind}, answers in {} ms, schema up to date", started.elapsed().as_millis());
            Finding::ok("database", text)
        }
        Ok(pending) => {
            let text = format!("{kind}, answers, lacks {pending} migrations");
            Finding::warn("database", text, "start the node or run agent migrate")
        }
        Err(error) => {
            let text = format!("{kind}, does not answer: {}", super::super::explain(&error).join("; "));
            let remedy =
                "check database_url, the server, and the network between; the node starts and waits for it";
            Finding::fail("database", text, remedy)
        }
    })
}

/// Whether there is a model, and whether its vectors make sense.
pub(super) async fn model(settings: &Settings) -> Finding {
    let directory = &settings.model.dir;
    let embedder = match Embedder::load(directory, settings.model.threads) {
        Ok(embedder) => embedder,
        Err(embed::Error::Missing { .. }) => {
            let text = format!("there is none in {}: search is by words only", directory.display());
            return Finding::warn("model", text, "agent model install DIR|FILE|URL");
        }
        Err(error) => {
            let text = format!("{:#}", anyhow::Error::from(error));
            return Finding::fail("model", text, "agent model install DIR|FILE|URL");
        }
    };
    let started = Instant::now();
    let vectors = match embedder.passages(SENTENCES.map(str::to_owned).to_vec()).await {
        Ok(vectors) => vectors,
        Err(error) => {
            return Finding::fail("model", format!("cannot embed: {error}"), "install the model again");
        }
    };
    let elapsed = started.elapsed().as_millis();
    let dot =
        |left: &[f32], right: &[f32]| left.iter().zip(right).map(|(left, right)| left * right).sum::<f32>();
    if dot(&vectors[0], &vectors[1]) <= dot(&vectors[0], &vectors[2]) {
        let text = format!(
            "the model in {} does not know similar sentences from different ones",
            directory.display()
        );
        return Finding::fail("model", text, "agent model install DIR|FILE|URL");
    }
    let identity = embedder.identity();
    let digest = hex::encode(&identity.sha256[..6]);
    let text = format!(
        "{}, {} dimensions, sha256 {digest}…, three sentences in {elapsed} ms",
        identity.name, identity.dimension
    );
    Finding::ok("model", text)
}
