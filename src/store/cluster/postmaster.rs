//! Starts Postgres's first process, or adopts one that outlived its agent, and waits until it answers.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::kill;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use super::binaries::{Binaries, command};
use super::layout::Layout;
use super::{Durability, Error, NAME, Options, PORT};
use crate::process::{Child, Pid, Signal, Spawner};

/// How often a starting Postgres is asked; a start takes about 100 ms, so more would show.
const READY_POLL: Duration = Duration::from_millis(10);

/// How long a start may take: the replay of the log after a crash, which `max_wal_size` bounds, on a slow disk.
const READY_PATIENCE: Duration = Duration::from_secs(300);

/// How long one attempt may take: a Postgres that is stopped, or waits for its disk, lets clients in and never answers.
/// Making the database copies a template, which takes seconds on a slow disk.
const ATTEMPT_PATIENCE: Duration = Duration::from_secs(30);

/// How long an earlier agent's Postgres may take to end after its fast-shutdown signal.
const OLD_PATIENCE: Duration = Duration::from_secs(60);

/// How often a process that is not our child is looked at.
const OLD_POLL: Duration = Duration::from_millis(50);

/// An orderly stop: SIGINT rolls back, flushes and ends; SIGQUIT ends without a flush; SIGKILL comes last.
const STOP: [(Signal, Duration); 2] =
    [(Signal::SIGINT, Duration::from_secs(10)), (Signal::SIGQUIT, Duration::from_secs(3))];

/// All that a start, and a restart, needs.
#[derive(Debug)]
pub(super) struct Starter {
    pub layout: Layout,
    pub binaries: Binaries,
    pub options: Options,
    pub spawner: Spawner,
}

/// A running Postgres.
#[derive(Debug)]
pub(super) enum Postmaster {
    /// Started by us: the kernel stops it when the agent dies.
    Child(Child),
    /// Left by an earlier agent.
    Adopted(Old),
}

/// A Postgres that is not our child.
#[derive(Clone, Copy, Debug)]
pub(super) struct Old {
    pid: Pid,
}

impl Starter {
    /// Adopts or starts Postgres and waits until the agent's database can be opened.
    pub async fn start(&self) -> Result<Postmaster, Error> {
        if let Some(old) = self.old_postmaster() {
            // One whose socket is elsewhere, or that is shutting down, cannot be used.
            if matches!(timeout(ATTEMPT_PATIENCE, self.connect("postgres")).await, Ok(Ok(_))) {
                log::info!(pid = old.pid.as_raw(); "adopting the PostgreSQL of an earlier agent");
                let made = timeout(ATTEMPT_PATIENCE, self.make_database()).await;
                let silent = |_| Error::Silent { seconds: ATTEMPT_PATIENCE.as_secs() };
                made.map_err(silent)?.map_err(Error::Refused)?;
                return Ok(Postmaster::Adopted(old));
            }
            log::info!(pid = old.pid.as_raw(); "waiting for the PostgreSQL of an earlier agent to end");
            self.end_old(old).await?;
        }
        let mut child =
            self.spawner.spawn(command(&self.binaries.dir, "postgres", self.args(), &self.layout)).await?;
        self.wait_ready(&mut child).await?;
        Ok(Postmaster::Child(child))
    }

    /// Lists Postgres's arguments: they override the data directory's own files, so that a newer agent's hold at once.
    fn args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["-D".into(), self.layout.data.clone().into()];
        let settings = [
            ("listen_addresses", ""),
            ("unix_socket_permissions", "0700"),
            // A laptop's share, not a server's: the index lives in the agent's memory, not in Postgres's.
            ("shared_buffers", "64MB"),
            ("max_wal_size", "512MB"),
            // Parallel queries need shared memory that containers limit to 64 MB, and compiled ones an LLVM in memory.
            ("max_parallel_workers_per_gather", "0"),
            ("jit", "off"),
            ("timezone", "UTC"),
            // The agent's log has its own time stamps. Errors go to the client that caused them; their details and
            // statements may hold documents' text, which no log may.
            ("logging_collector", "off"),
            ("log_destination", "stderr"),
            ("log_line_prefix", ""),
            ("log_min_messages", "log"),
            ("log_min_error_statement", "panic"),
            ("log_min_duration_statement", "-1"),
            ("log_statement", "none"),
            ("log_error_verbosity", "terse"),
        ];
        let durability: &[_] = match self.options.durability {
            Durability::Full => &[("fsync", "on"), ("full_page_writes", "on"), ("synchronous_commit", "on")],
            Durability::None => {
                &[("fsync", "off"), ("full_page_writes", "off"), ("synchronous_commit", "off")]
            }
        };
        for (name, value) in settings.iter().chain(durability) {
            args.extend(["-c".into(), format!("{name}={value}").into()]);
        }
        let connections = self.options.connections_max.max(10);
        args.extend(["-c".into(), format!("max_connections={connections}").into()]);
        args.extend(["-c".into(), format!("port={PORT}").into()]);
        // A list of folders, hence the quotes.
        let mut sockets = OsString::from("unix_socket_directories=\"");
        sockets.push(&self.layout.socket_dir);
        sockets.push("\"");
        args.extend(["-c".into(), sockets]);
        args
    }

    /// Waits until the agent's database can be opened, or Postgres has ended.
    async fn wait_ready(&self, child: &mut Child) -> Result<(), Error> {
        let deadline = Instant::now() + READY_PATIENCE;
        loop {
            match timeout(ATTEMPT_PATIENCE, self.make_database()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) if !is_starting(&error) => return Err(Error::Refused(error)),
                _ if Instant::now() > deadline => {
                    return Err(Error::Silent { seconds: READY_PATIENCE.as_secs() });
                }
                _ => {}
            }
            if let Ok(status) = timeout(READY_POLL, child.exited()).await {
                return Err(Error::Ended { status, output: child.tail().join("; ") });
            }
        }
    }

    /// Makes the agent's database where it is missing.
    async fn make_database(&self) -> Result<(), tokio_postgres::Error> {
        let (client, connection) = self.connect("postgres").await?;
        let work = async move {
            if client.query_opt("select from pg_database where datname = $1", &[&NAME]).await?.is_none() {
                client.batch_execute(&format!("create database {NAME}")).await?;
            }
            // The end of the last client ends the connection below.
            drop(client);
            Ok(())
        };
        tokio::try_join!(work, connection).map(|_| ())
    }

    async fn connect(
        &self,
        database: &str,
    ) -> Result<(Client, impl Future<Output = Result<(), tokio_postgres::Error>>), tokio_postgres::Error>
    {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.layout.socket_dir).port(PORT).user(NAME).dbname(database);
        config.connect(NoTls).await
    }

    /// Finds the Postgres that runs on our data directory.
    fn old_postmaster(&self) -> Option<Old> {
        let file = fs::read_to_string(self.layout.data.join("postmaster.pid")).ok()?;
        let pid = file.lines().next()?.trim().parse().ok().filter(|&pid| pid > 1)?;
        let old = Old { pid: Pid::from_raw(pid) };
        (old.is_alive() && old.runs_in(&self.layout.data)).then_some(old)
    }

    /// Asks an old Postgres to end and waits for it.
    async fn end_old(&self, old: Old) -> Result<(), Error> {
        old.signal(Signal::SIGINT);
        match timeout(OLD_PATIENCE, old.ended()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::OldPostmaster { pid: old.pid.as_raw() }),
        }
    }
}

impl Postmaster {
    /// Waits for its end and says how it went.
    pub async fn ended(&mut self) -> String {
        match self {
            Self::Child(child) => {
                let status = child.exited().await;
                format!("{status}; {}", child.tail().pop().unwrap_or_default())
            }
            Self::Adopted(old) => {
                old.ended().await;
                "not our child, so its status is unknown".to_owned()
            }
        }
    }

    /// Stops it in order, within [`super::STOP_DEADLINE`].
    pub async fn stop(&mut self) {
        match self {
            Self::Child(child) => {
                child.stop(&STOP).await;
            }
            Self::Adopted(old) => {
                for (signal, patience) in STOP {
                    old.signal(signal);
                    if timeout(patience, old.ended()).await.is_ok() {
                        return;
                    }
                }
                old.signal(Signal::SIGKILL);
            }
        }
    }
}

impl Old {
    async fn ended(self) {
        while self.is_alive() {
            sleep(OLD_POLL).await;
        }
    }

    fn signal(self, signal: Signal) {
        // It may have ended meanwhile, which is what the signal is for.
        let _ = kill(self.pid, signal);
    }

    fn is_alive(self) -> bool {
        kill(self.pid, None) != Err(Errno::ESRCH) && !self.is_zombie()
    }

    /// Tells whether it has ended and waits for a parent that does not reap it, as in containers without an init.
    fn is_zombie(self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
    }

    /// Tells a Postgres on `data` from a stranger that got its process id after a reboot: Postgres stays in its data
    /// directory. Where the kernel cannot say, the id is believed.
    fn runs_in(self, data: &Path) -> bool {
        match fs::read_link(format!("/proc/{}/cwd", self.pid)) {
            Ok(cwd) => cwd == data,
            Err(_) => !Path::new("/proc/self/cwd").exists(),
        }
    }
}

/// Tells a Postgres that does not answer yet from one that answers with an error.
fn is_starting(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => *code == SqlState::CANNOT_CONNECT_NOW || *code == SqlState::TOO_MANY_CONNECTIONS,
        None => true,
    }
}
