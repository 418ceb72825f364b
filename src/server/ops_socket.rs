//! The command socket: HTTP on a Unix socket that only this user, and nothing that we have started, may use.
//!
//! `curl --unix-socket ops.sock http://localhost/status`; `curl -X POST --unix-socket ops.sock http://localhost/drain`

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::connection::{self, Service};
use super::ops::Command;
use super::{Limits, Readiness};
use crate::telemetry::tasks::Tasks;

/// The pause after a failure to accept.
const BACK_OFF: Duration = Duration::from_millis(100);

/// How far up a caller's ancestors are looked at; process trees are rarely deeper than ten.
const ANCESTORS_MAX: usize = 64;

/// Serves commands at `path` until `stop`, then removes the socket.
pub(super) async fn run(
    path: &Path,
    limits: Limits,
    readiness: Readiness,
    commands: mpsc::Sender<Command>,
    stop: &CancellationToken,
) {
    let listener = match bind(path) {
        Ok(listener) => listener,
        Err(error) => {
            log::warn!("cannot take commands at {}: {error}", path.display());
            return;
        }
    };
    let service = Service { router: router(readiness.clone(), commands), readiness, limits };
    let connections = Tasks::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if is_welcome(&stream) => {
                let (service, draining) = (service.clone(), connections.stopping().clone());
                connections.spawn(async move { connection::run(stream, None, service, &draining).await });
            }
            Ok(_) => {
                log::warn!("refused a command from another user, or from a process that the agent started")
            }
            Err(_) => sleep(BACK_OFF).await,
        }
    }
    // A socket that is gone already is what is wanted.
    let _ = fs::remove_file(path);
    connections.stop(limits.drain_timeout).await;
}

fn router(readiness: Readiness, commands: mpsc::Sender<Command>) -> Router {
    let status = async move || Json(readiness.health());
    let drain = async move || match commands.try_send(Command::Drain) {
        Ok(()) => StatusCode::ACCEPTED,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    Router::new().route("/status", get(status)).route("/drain", post(drain))
}

/// Binds the socket. A killed agent leaves its file behind, so one that nobody answers on is replaced.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Tells whether the caller may give commands: root or our own user, since the mode is set only after the binding, and
/// none of our children, since theirs is the code of others (documents' parsers, web pages).
///
/// A child that leaves its process tree behind (a double fork) is not recognised; the parsers' own sandbox is what keeps
/// those from the socket.
fn is_welcome(stream: &UnixStream) -> bool {
    let Ok(caller) = stream.peer_cred() else { return false };
    let is_our_user = caller.uid() == 0 || caller.uid() == nix::unistd::Uid::effective().as_raw();
    let us = std::process::id();
    is_our_user && caller.pid().and_then(|pid| u32::try_from(pid).ok()).is_some_and(|pid| !descends(pid, us))
}

/// Tells whether `pid` has `ancestor` above it. A process that cannot be looked at counts as a descendant.
fn descends(pid: u32, ancestor: u32) -> bool {
    if pid == ancestor {
        return false;
    }
    let mut current = pid;
    for _ in 0..ANCESTORS_MAX {
        match parent(current) {
            Some(0) => return false,
            Some(parent) if parent == ancestor => return true,
            Some(parent) => current = parent,
            None => return true,
        }
    }
    true
}

/// Reads a process's parent from `/proc`; the name before it may hold anything, so it is read from the last parenthesis.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_child_descends_from_us_and_our_parent_does_not() {
        let us = std::process::id();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(descends(child.id(), us));
        assert!(!descends(us, us));
        assert!(!descends(std::os::unix::process::parent_id(), us));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(descends(child.id(), us), "a process that is gone is not trusted");
    }
}
