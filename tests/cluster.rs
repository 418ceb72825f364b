//! The private Postgres: it keeps its data, and outlives neither its agent nor a rival.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use agent::process::{Pid, Signal, Spawner};
use agent::store::cluster::{Cluster, Durability, Error, Options};
use nix::sys::signal::kill;
use tokio::time::{sleep, timeout};

use crate::support::postgres::{TestDatabase, make_reachable};

/// Far more than any step here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells [`owns_a_cluster`] which data directory to use.
const HELPER_VARIABLE: &str = "AGENT_TEST_CLUSTER";

struct DataDir(tempfile::TempDir);

impl DataDir {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        make_reachable(dir.path());
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn pgdata(&self) -> PathBuf {
        self.path().join("postgres/data")
    }

    fn postmaster(&self) -> Pid {
        let file = fs::read_to_string(self.pgdata().join("postmaster.pid")).unwrap();
        Pid::from_raw(file.lines().next().unwrap().parse().unwrap())
    }
}

/// Options for a test that loses nothing, or need not keep it: it does not wait for the disk.
fn options(data_dir: impl Into<PathBuf>) -> Options {
    Options { durability: Durability::None, ..Options::new(data_dir) }
}

async fn start(dir: &DataDir, spawner: &Spawner) -> Cluster {
    start_with(options(dir.path()), spawner).await
}

async fn start_with(options: Options, spawner: &Spawner) -> Cluster {
    Cluster::start(options, spawner).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn execute(cluster: &Cluster, sql: &str) -> Result<Option<String>, tokio_postgres::Error> {
    let (client, connection) =
        tokio_postgres::connect(&cluster.connection_string(), tokio_postgres::NoTls).await?;
    let work = async move {
        let messages = client.simple_query(sql).await?;
        drop(client);
        Ok(messages.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }))
    };
    tokio::try_join!(work, connection).map(|(value, ())| value)
}

/// Waits for the end of a process that is not our child; one that nobody reaps counts as ended.
async fn ends(pid: Pid) {
    let running = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    };
    timeout(PATIENCE, async {
        while running() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the process ends");
}

#[tokio::test]
async fn a_restart_keeps_the_data() {
    let dir = DataDir::new();
    let spawner = Spawner::start().unwrap();
    let cluster = start_with(Options::new(dir.path()), &spawner).await;
    assert_eq!(execute(&cluster, "show fsync").await.unwrap().as_deref(), Some("on"));
    assert_eq!(execute(&cluster, "show listen_addresses").await.unwrap().as_deref(), Some(""));
    execute(&cluster, "create table kept as select 42 as answer").await.unwrap();
    let postmaster = dir.postmaster();
    cluster.stop().await;
    ends(postmaster).await;

    let cluster = start_with(Options::new(dir.path()), &spawner).await;
    assert_eq!(execute(&cluster, "select answer from kept").await.unwrap().as_deref(), Some("42"));
    cluster.stop().await;
}

#[tokio::test]
async fn root_runs_it_as_another_user_behind_a_private_folder() {
    let dir = DataDir::new();
    let spawner = Spawner::start().unwrap();
    let cluster = start(&dir, &spawner).await;
    let folder = fs::metadata(cluster.socket_dir()).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
    let process = fs::metadata(format!("/proc/{}", dir.postmaster())).unwrap();
    assert_eq!(process.uid(), folder.uid());
    assert_ne!(process.uid(), 0, "PostgreSQL refuses root");
    cluster.stop().await;
}

#[tokio::test]
async fn a_second_agent_is_refused() {
    let dir = DataDir::new();
    let spawner = Spawner::start().unwrap();
    let cluster = start(&dir, &spawner).await;
    let error = Cluster::start(Options::new(dir.path()), &spawner).await.unwrap_err();
    assert!(matches!(error, Error::InUse { .. }) && error.needs_a_person(), "{error}");
    cluster.stop().await;
}

#[tokio::test]
async fn a_postgres_that_dies_is_started_again_with_its_data() {
    let dir = DataDir::new();
    let spawner = Spawner::start().unwrap();
    let cluster = start_with(Options::new(dir.path()), &spawner).await;
    execute(&cluster, "create table kept as select 42 as answer").await.unwrap();
    let first = dir.postmaster();
    kill(first, Signal::SIGKILL).unwrap();
    ends(first).await;
    let answer = timeout(PATIENCE, async {
        loop {
            if let Ok(answer) = execute(&cluster, "select answer from kept").await {
                return answer;
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(answer.await.unwrap().as_deref(), Some("42"));
    assert_ne!(dir.postmaster(), first);
    cluster.stop().await;
}

#[tokio::test]
async fn a_data_directory_of_another_version_is_refused_with_the_remedy() {
    let dir = DataDir::new();
    let spawner = Spawner::start().unwrap();
    start(&dir, &spawner).await.stop().await;
    fs::write(dir.pgdata().join("PG_VERSION"), "9\n").unwrap();
    let error = Cluster::start(Options::new(dir.path()), &spawner).await.unwrap_err();
    assert!(matches!(error, Error::Version { found: 9, .. }) && error.needs_a_person());
    assert!(error.to_string().contains("install version 9, or move the folder away"), "{error}");
}

#[tokio::test]
async fn without_the_programs_one_line_says_what_to_install() {
    let dir = DataDir::new();
    let empty = tempfile::tempdir().unwrap();
    let spawner = Spawner::start().unwrap();
    let options = Options { bin_dir: Some(empty.path().to_owned()), ..Options::new(dir.path()) };
    let error = Cluster::start(options, &spawner).await.unwrap_err();
    assert!(matches!(error, Error::BinDir { .. }) && error.needs_a_person());
    let text = Error::BinariesMissing.to_string();
    assert!(
        text.contains("apt-get install postgresql") && text.contains("database_url") && !text.contains('\n')
    );
}

#[tokio::test]
async fn root_is_told_about_a_folder_that_the_postgres_user_cannot_enter() {
    if !nix::unistd::Uid::effective().is_root() {
        return; // Anyone else runs Postgres as themselves.
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let spawner = Spawner::start().unwrap();
    let error = Cluster::start(Options::new(dir.path().join("data")), &spawner).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { path, .. } if path == dir.path()), "{error}");
    assert!(error.to_string().contains("set `data_dir`"), "{error}");
}

#[tokio::test]
async fn a_half_made_data_directory_is_swept_up() {
    let dir = DataDir::new();
    let spawner = Spawner::start().unwrap();
    start(&dir, &spawner).await.stop().await;
    fs::rename(dir.pgdata(), dir.path().join("postgres/data.partial-1")).unwrap();
    let cluster = start(&dir, &spawner).await;
    assert!(!dir.path().join("postgres/data.partial-1").exists());
    cluster.stop().await;
}

/// The agent that the next test kills: this binary again, told by a variable to run only this. As a test it is nothing.
#[tokio::test]
async fn owns_a_cluster() {
    let Some(data_dir) = std::env::var_os(HELPER_VARIABLE) else { return };
    let spawner = Spawner::start().unwrap();
    let cluster = Cluster::start(options(data_dir), &spawner).await.unwrap();
    execute(&cluster, "create table if not exists kept as select 42 as answer").await.unwrap();
    std::io::stdout().write_all(b"\nready\n").unwrap();
    std::future::pending::<()>().await;
}

fn owner_of(dir: &DataDir) -> std::process::Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cluster::owns_a_cluster", "--nocapture", "--test-threads=1"])
        .env(HELPER_VARIABLE, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_kill_at_any_moment_of_the_first_start_is_harmless() {
    let dir = DataDir::new();
    for moment_ms in [20, 100, 300, 600, 900] {
        let mut agent = owner_of(&dir);
        sleep(Duration::from_millis(moment_ms)).await;
        agent.kill().unwrap();
        agent.wait().unwrap();
    }
    let spawner = Spawner::start().unwrap();
    let cluster = start(&dir, &spawner).await;
    assert_eq!(execute(&cluster, "select 1").await.unwrap().as_deref(), Some("1"));
    cluster.stop().await;
}

#[tokio::test]
async fn a_killed_agent_leaves_nothing_running() {
    let dir = DataDir::new();
    let mut agent = owner_of(&dir);
    let stdout = BufReader::new(agent.stdout.take().unwrap());
    assert!(stdout.lines().map_while(Result::ok).any(|line| line == "ready"));
    let postmaster = dir.postmaster();
    agent.kill().unwrap();
    agent.wait().unwrap();

    // The next agent does not have to wait for the old Postgres: it does that itself.
    let spawner = Spawner::start().unwrap();
    let cluster = start(&dir, &spawner).await;
    assert_ne!(dir.postmaster(), postmaster);
    assert_eq!(execute(&cluster, "select answer from kept").await.unwrap().as_deref(), Some("42"));
    ends(postmaster).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_postgres_that_outlived_its_agent_is_adopted_and_stopped_at_the_end() {
    let dir = DataDir::new();
    let spawner = Spawner::start().unwrap();
    start(&dir, &spawner).await.stop().await;
    let mut orphan = orphan(&dir);
    let pid = Pid::from_raw(i32::try_from(orphan.id()).unwrap());
    timeout(PATIENCE, async {
        while !fs::read_to_string(dir.pgdata().join("postmaster.pid"))
            .is_ok_and(|file| file.contains("ready"))
        {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the orphan starts");

    let cluster = start(&dir, &spawner).await;
    assert_eq!(dir.postmaster(), pid);
    assert_eq!(execute(&cluster, "select 1").await.unwrap().as_deref(), Some("1"));
    cluster.stop().await;
    assert!(orphan.try_wait().unwrap().is_some());
}

/// Starts Postgres on the directory as an agent without a death signal would.
fn orphan(dir: &DataDir) -> std::process::Child {
    use std::os::unix::process::CommandExt;
    let owner = fs::metadata(dir.pgdata()).unwrap();
    let options = fs::read_to_string(dir.pgdata().join("postmaster.opts")).unwrap();
    let program = options.split_whitespace().next().unwrap().to_owned();
    std::process::Command::new(program)
        .arg("-D")
        .arg(dir.pgdata())
        .args(["-c", "listen_addresses="])
        .arg("-k")
        .arg(dir.path().join("postgres/run"))
        .current_dir(dir.path().join("postgres"))
        .uid(owner.uid())
        .gid(owner.gid())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn test_databases_are_separate_and_usable_in_parallel() {
    let databases = futures_util::future::join_all((0..4).map(|_| TestDatabase::new())).await;
    for database in &databases {
        let (client, connection) =
            tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await.unwrap();
        let work = async move {
            let done = client.batch_execute("create table only_here ()").await;
            drop(client);
            done
        };
        tokio::try_join!(work, connection).unwrap();
    }
}
