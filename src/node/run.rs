//! Start and stop of a node, to be read from top to bottom.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::database::Database;
use super::front::Front;
use super::role_app::RoleApp;
use super::signals::Signals;
use super::supervisor::Supervisor;
use super::watch::{self, DATABASE};
use super::{Error, OPS_SOCKET};
use crate::config::{Resolved, Settings};
use crate::process::Spawner;
use crate::server::ops::{self, Ops};
use crate::server::{Drained, Limits, Listener, Readiness, TlsFiles, raise_descriptor_limit, serve};
use crate::telemetry::tasks::Tasks;

/// The index's name in the node's health.
const INDEX: &str = "index";
/// What must have happened once before the node is ready.
const PARTS: [&str; 2] = [DATABASE, INDEX];
/// Threads for work that blocks: files, large scans.
const BLOCKING_THREADS_MAX: usize = 64;
/// How long threads that hang may delay the end, after everything was stopped in order.
const LEFTOVER_WAIT: Duration = Duration::from_millis(500);

/// Runs the node until it is told to stop and has stopped.
///
/// # Errors
/// The machine lacks something, an address is taken, or a second signal came. A dependency that is away is no error:
/// the node stays, not ready, and tries again.
pub fn run(resolved: Resolved) -> Result<(), Error> {
    let settings = &resolved.settings;
    log::info!(role:% = settings.role, profile:% = settings.profile, version = env!("CARGO_PKG_VERSION"); "starting");
    if let Err(error) = raise_descriptor_limit() {
        log::warn!("cannot raise the limit on open files: {error}");
    }
    make_data_dir(settings)?;
    let spawner = Spawner::start().context("cannot start the thread that starts children")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("node")
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let readiness = Readiness::new("app", &PARTS);
    let (commands, commanded) = mpsc::channel(1);
    let ops = Ops::start(ops_options(settings), readiness.clone(), commands).map_err(anyhow::Error::from)?;
    log::info!(address:% = ops.address(); "operations on http://{}", ops.address());
    let outcome = runtime.block_on(until_told(resolved, spawner, readiness, commanded));
    ops.stop();
    runtime.shutdown_timeout(LEFTOVER_WAIT);
    outcome
}

/// Lives until the first signal or command, and gives up waiting at the second signal.
async fn until_told(
    resolved: Resolved,
    spawner: Spawner,
    readiness: Readiness,
    mut commanded: mpsc::Receiver<ops::Command>,
) -> Result<(), Error> {
    let mut signals = Signals::install().context("cannot take signals")?;
    let stop = CancellationToken::new();
    let life = live(resolved, spawner, readiness, stop.clone());
    tokio::pin!(life);
    let reason = tokio::select! {
        ended = &mut life => return ended,
        signal = signals.next() => signal,
        Some(ops::Command::Drain) = commanded.recv() => "a command",
    };
    log::info!(reason; "stopping, told by {reason}");
    stop.cancel();
    tokio::select! {
        ended = life => ended,
        _ = signals.next() => Err(Error::Interrupted),
    }
}

/// Starts, serves until `stop`, and stops in order.
async fn live(
    resolved: Resolved,
    spawner: Spawner,
    readiness: Readiness,
    stop: CancellationToken,
) -> Result<(), Error> {
    let began = Instant::now();
    let settings = Arc::new(resolved.settings.clone());
    let supervisor = Supervisor::new(resolved.surroundings.notify_socket.clone());
    let listener = listen(&settings)?;
    let address = listener.address().context("cannot ask for the listener's address")?;

    let url =
        format!("{}://{address}", if settings.server.tls_cert_file.is_some() { "https" } else { "http" });
    supervisor.status(&format!("starting on {url}"));

    let front = Front::default();
    let closing = CancellationToken::new();
    let tasks = Tasks::new();
    let traffic = tasks.spawn(serve(
        listener,
        front.router(readiness.clone()),
        Limits::of(&settings.server, &settings.drain),
        readiness.clone(),
        closing.clone(),
    ));

    let (database, role) = tokio::select! {
        started = start_role(&resolved, &settings, &spawner, address, &readiness) => started?,
        () = stop.cancelled() => {
            readiness.drain();
            log::info!("stopped while starting");
            return Ok(());
        }
    };
    let (store, data_dir, stopping) =
        (database.store.clone(), settings.data_dir.clone(), tasks.stopping().clone());
    let health = readiness.clone();
    tasks.spawn_vital("watch", move || {
        watch::run(store.clone(), data_dir.clone(), health.clone(), stopping.clone())
    });
    front.open(role.router());
    tokio::select! {
        () = role.caught_up() => {
            readiness.started(INDEX);
            let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            log::info!(url, duration_ms; "serving on {url}");
            supervisor.ready(&format!("serving on {url}"));
        }
        () = stop.cancelled() => {}
    }

    stop.cancelled().await;

    readiness.drain();
    supervisor.stopping();
    tokio::time::sleep(settings.drain.balancer_wait).await;
    closing.cancel();
    tasks.stopping().cancel();
    let (drained, left) = tokio::join!(traffic, role.stop(settings.drain.deadline));
    report_drain(drained.context("the traffic listener has panicked")?, left);
    database.close().await;
    log::info!("stopped");
    Ok(())
}

/// Starts what the role stands on, and the role. The model loads while Postgres starts.
async fn start_role(
    resolved: &Resolved,
    settings: &Arc<Settings>,
    spawner: &Spawner,
    address: SocketAddr,
    readiness: &Readiness,
) -> Result<(Database, RoleApp), Error> {
    let (database, model) =
        tokio::join!(Database::open_ready(resolved, spawner, readiness), RoleApp::load_model(settings));
    let database = database?;
    readiness.started(DATABASE);
    let role = RoleApp::start(settings, database.store.clone(), model, address, readiness).await?;
    Ok((database, role))
}

fn report_drain(drained: Drained, tasks: usize) {
    if drained.cut > 0 || tasks > 0 {
        log::warn!(connections = drained.cut, tasks; "the drain's deadline cut {} connections and {tasks} tasks", drained.cut);
    }
}

/// Opens the traffic listener.
fn listen(settings: &Settings) -> Result<Listener, Error> {
    let listener = Listener::bind(settings.listen)
        .with_context(|| format!("cannot listen on {} (listen, AGENT_LISTEN)", settings.listen))?;
    let (Some(certificates), Some(key)) = (&settings.server.tls_cert_file, &settings.server.tls_key_file)
    else {
        return Ok(listener);
    };
    let files = TlsFiles { certificates: certificates.clone(), key: key.clone() };
    listener.with_tls(&files).map_err(|error| Error::Machine(error.into()))
}

fn ops_options(settings: &Settings) -> ops::Options {
    ops::Options {
        listen: settings.ops_listen,
        peer_listen: settings.peer_listen,
        hosts: Vec::new(),
        socket: Some(settings.data_dir.join(OPS_SOCKET)),
    }
}

fn make_data_dir(settings: &Settings) -> Result<(), Error> {
    let path = &settings.data_dir;
    let made = fs::create_dir_all(path);
    let made = made.with_context(|| format!("cannot make {} (data_dir, --data-dir)", path.display()));
    made.map_err(Error::Machine)
}
