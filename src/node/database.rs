//! The database of this node: its private cluster, or the server that the settings name.

use std::time::Duration;

use rand::RngExt;

use super::Error;
use super::watch::DATABASE;
use crate::config::{DatabaseKind, Resolved, Settings};
use crate::process::Spawner;
use crate::server::Readiness;
use crate::store::cluster::{self, Cluster};
use crate::store::{self, Store, migrate};

/// The shortest and the longest pause between two attempts to reach a database.
const RETRY_PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// For the sockets of a closed pool to close: Postgres complains of connections that are there when it stops.
const GOODBYE: Duration = Duration::from_millis(30);
/// Connections to the private cluster besides the pool's: commands beside the node, and a person with psql.
const OTHER_CONNECTIONS: u16 = 10;

/// An open database, and the cluster behind it where it is our own.
#[derive(Debug)]
pub(super) struct Database {
    /// The pool.
    pub store: Store,
    cluster: Option<Cluster>,
}

impl Database {
    /// Starts the private cluster, or prepares the pool of the server that the settings name, which connects later.
    ///
    /// # Errors
    /// [`Error::Machine`] where only a person can help, [`Error::Unavailable`] where a later try may work.
    pub async fn open(resolved: &Resolved, spawner: &Spawner) -> Result<Self, Error> {
        let settings = &resolved.settings;
        let (cluster, url) = match (settings.database, &settings.database_url) {
            (DatabaseKind::Url, Some(url)) => (None, url.expose().to_owned()),
            _ => {
                let cluster = Cluster::start(cluster_options(resolved), spawner).await?;
                let url = cluster.connection_string();
                (Some(cluster), url)
            }
        };
        Ok(Self { store: Store::new(store_options(settings, url))?, cluster })
    }

    /// Opens the database and brings its schema up to date, trying again for as long as a later try may work.
    ///
    /// # Errors
    /// [`Error::Machine`]: only a person can help.
    pub async fn open_ready(
        resolved: &Resolved,
        spawner: &Spawner,
        readiness: &Readiness,
    ) -> Result<Self, Error> {
        let mut pause = Pause::default();
        let database = loop {
            match Self::open(resolved, spawner).await {
                Err(Error::Unavailable(error)) => pause.after(&error, readiness).await,
                opened => break opened?,
            }
        };
        loop {
            match migrate::migrate(&database.store).await {
                Ok(done) if done.applied.is_empty() => break,
                Ok(done) => {
                    log::info!("applied migrations {}", done.applied.join(", "));
                    break;
                }
                Err(error) => pause.after(&error.into(), readiness).await,
            }
        }
        readiness.report(DATABASE, "answers");
        Ok(database)
    }

    /// Opens the database for a command: one that a running agent holds is shared with it.
    pub async fn open_beside_node(resolved: &Resolved, spawner: &Spawner) -> Result<Self, Error> {
        let settings = &resolved.settings;
        if settings.database == DatabaseKind::Private
            && let Some(url) = cluster::url_in_use(&settings.data_dir)
        {
            return Ok(Self { store: Store::new(store_options(settings, url))?, cluster: None });
        }
        Self::open(resolved, spawner).await
    }

    /// Closes the pool and stops the private cluster.
    pub async fn close(self) {
        self.store.close();
        if let Some(cluster) = self.cluster {
            tokio::time::sleep(GOODBYE).await;
            cluster.stop().await;
        }
    }
}

/// Pauses that double from one failure to the next, with jitter so that nodes do not come back in step.
#[derive(Debug)]
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(RETRY_PAUSE.0)
    }
}

impl Pause {
    /// Tells why another try is needed, waits, and makes the next wait longer.
    async fn after(&mut self, error: &anyhow::Error, readiness: &Readiness) {
        log::error!("the database is away, trying again in {:.1?}: {error:#}", self.0);
        readiness.report(DATABASE, "away since the start");
        tokio::time::sleep(self.0.mul_f64(rand::rng().random_range(0.75..1.25))).await;
        self.0 = (self.0 * 2).min(RETRY_PAUSE.1);
    }
}

pub(super) fn cluster_options(resolved: &Resolved) -> cluster::Options {
    let settings = &resolved.settings;
    let options = cluster::Options::new(&settings.data_dir);
    let pool = u16::try_from(settings.database_pool_max).unwrap_or(u16::MAX);
    cluster::Options {
        bin_dir: settings.postgres_bin_dir.clone(),
        search_path: resolved.surroundings.search_path.clone(),
        connections_max: options.connections_max.max(pool.saturating_add(OTHER_CONNECTIONS)),
        ..options
    }
}

fn store_options(settings: &Settings, url: String) -> store::Options {
    store::Options {
        url,
        ca_file: settings.database_ca_file.clone(),
        pool_max: settings.database_pool_max,
        connect_timeout: settings.database_connect_timeout,
        acquire_timeout: settings.database_acquire_timeout,
        statement_timeout: settings.database_statement_timeout,
        connection_age_max: settings.database_connection_age_max,
        tcp_user_timeout: settings.database_tcp_user_timeout,
    }
}
