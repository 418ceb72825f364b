//! A real Postgres for tests: one cluster per test process, one fresh database per [`TestDatabase`].
//!
//! ```ignore
//! let database = TestDatabase::new().await;
//! let pool = connect(&database.url()).await;   // the store's own way in
//! // the database is dropped with `database`, open connections or not
//! ```
//!
//! The cluster is started by the agent's own `store::cluster` with the first database, in a folder of its own under the
//! system's temporary one, without fsync. It ends with the process, by its death signal, even if that is killed; its
//! folder is removed by a later test run.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use agent::process::Spawner;
use agent::store::cluster::{Cluster, Durability, Options};
use tokio::sync::{mpsc, oneshot};

/// Marks the folders that hold test clusters.
const PREFIX: &str = "agent-test-postgres-";

/// A folder younger than this may belong to a process that has not locked it yet.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// A database of its own.
pub struct TestDatabase {
    name: String,
    url: String,
}

enum Request {
    Create { name: String, reply: oneshot::Sender<String> },
    Drop { name: String },
}

impl TestDatabase {
    /// Makes an empty database; starts the cluster if this is the first.
    pub async fn new() -> Self {
        let name = format!("test_{}", uuid::Uuid::now_v7().simple());
        let (reply, url) = oneshot::channel();
        cluster().send(Request::Create { name: name.clone(), reply }).expect("the cluster's thread runs");
        let url = url.await.expect("the cluster's thread makes a database");
        Self { name, url }
    }

    /// The URL that `database_url` takes.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // With the process ending, the whole cluster ends.
        let _ = cluster().send(Request::Drop { name: std::mem::take(&mut self.name) });
    }
}

/// Returns the way to the cluster's thread, which outlives the runtimes of the single tests.
fn cluster() -> &'static mpsc::UnboundedSender<Request> {
    static CLUSTER: OnceLock<mpsc::UnboundedSender<Request>> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let (sender, receiver) = mpsc::unbounded_channel();
        thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(receiver));
        });
        sender
    })
}

async fn serve(mut requests: mpsc::UnboundedReceiver<Request>) {
    sweep();
    let data_dir = std::env::temp_dir().join(format!("{PREFIX}{}", uuid::Uuid::now_v7().simple()));
    let options = Options {
        durability: Durability::None,
        connections_max: 300,
        ..Options::new(make_reachable(&data_dir))
    };
    let spawner = Spawner::start().unwrap();
    let cluster = Cluster::start(options, &spawner).await.unwrap_or_else(|error| panic!("{error}"));
    while let Some(request) = requests.recv().await {
        match request {
            Request::Create { name, reply } => {
                execute(&cluster, &format!("create database {name} strategy file_copy")).await;
                let _ = reply.send(cluster.connection_string_to(&name));
            }
            Request::Drop { name } => execute(&cluster, &format!("drop database {name} with (force)")).await,
        }
    }
}

async fn execute(cluster: &Cluster, statement: &str) {
    let (client, connection) =
        tokio_postgres::connect(&cluster.connection_string(), tokio_postgres::NoTls).await.unwrap();
    let work = async {
        let done = client.batch_execute(statement).await;
        drop(client);
        done
    };
    tokio::try_join!(work, connection).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
}

/// Makes a folder that the user `postgres` can pass through, for tests that run as root.
pub fn make_reachable(path: &Path) -> PathBuf {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    path.to_owned()
}

/// Removes the folders of test processes that have ended: those whose lock is free.
fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let age = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|time| time.elapsed().ok());
        if !is_ours || age.is_none_or(|age| age < STALE_AFTER) {
            continue;
        }
        let lock = File::open(entry.path().join("postgres/lock"));
        if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
