//! What the node stands on: PostgreSQL's programs, the database, the embedding model.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::Finding;
use crate::config::{DatabaseKind, Resolved, Settings};
use crate::node::OPS_SOCKET;
use crate::node::database::{Database, cluster_options};
use crate::process::Spawner;
use crate::rag::embed::{self, Embedder};
use crate::store::{cluster, migrate};

/// How long a node may take to say how it does.
const STATUS_WAIT: Duration = Duration::from_secs(2);
/// Longest answer that is read, in bytes.
const STATUS_BYTES_MAX: u64 = 64 * 1024;
/// Two sentences that any sentence model finds alike, and one that it finds different from both.
const SENTENCES: [&str; 3] =
    ["How do I restore a backup?", "Restoring the database from a backup", "The cake needs three eggs"];

/// How the node on this data directory does; nothing where none runs.
pub(super) async fn node(settings: &Settings) -> Option<Finding> {
    let mut socket = UnixStream::connect(settings.data_dir.join(OPS_SOCKET)).await.ok()?;
    let answer = async {
        socket.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        socket.take(STATUS_BYTES_MAX).read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let Ok(Ok(answer)) = tokio::time::timeout(STATUS_WAIT, answer).await else {
        return Some(Finding::warn("node", "runs but does not answer on its ops.sock", "look at its log"));
    };
    let status: Option<Status> =
        answer.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok());
    Some(match status {
        Some(status) if status.ready => Finding::ok("node", "runs and is ready"),
        Some(status) => Finding::warn(
            "node",
            format!("runs, not ready: {}", status.reasons.join(", ")),
            "look at its log",
        ),
        None => Finding::warn("node", "runs and refuses to say how it does", "ask as the user who runs it"),
    })
}

/// What a node says about itself.
#[derive(serde::Deserialize)]
struct Status {
    ready: bool,
    reasons: Vec<String>,
}

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
