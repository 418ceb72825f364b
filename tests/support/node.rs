//! The real binary as a node, on a private Postgres in a data directory of its own.
//!
//! The node's notifications to systemd are the events that tests wait for, and tell the address that the system chose.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The longest wait for anything, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes a folder that Postgres's user may pass through, as which it runs when the tests run as root.
pub fn data_folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("agent-test-node-").tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Prepares a run of the binary with only these settings.
pub fn agent(arguments: &[&str], settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.args(arguments).stdin(Stdio::null());
    for (key, value) in settings {
        command.env(agent::config::environment_name(key), value);
    }
    command
}

/// Runs the binary to its end.
pub fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    agent(arguments, settings).output().unwrap()
}

/// A running node. It is killed when it is dropped.
pub struct Node {
    child: Child,
    notifications: UnixDatagram,
    _folder: tempfile::TempDir,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Node {
    /// Starts a node on `data_dir` and waits until it is ready.
    pub fn start(data_dir: &Path, settings: &[(&str, &str)]) -> Self {
        let mut node = Self::spawn(data_dir, settings);
        node.wait_for("READY=1");
        node
    }

    /// Starts a node on `data_dir` and waits until it listens.
    pub fn spawn(data_dir: &Path, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket: PathBuf = folder.path().join("notify");
        let notifications = UnixDatagram::bind(&socket).unwrap();
        notifications.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut command = agent(&["--role", "app", "--listen", "127.0.0.1:0"], settings);
        command.arg("--data-dir").arg(data_dir).env("NOTIFY_SOCKET", &socket);
        let child = command.spawn().unwrap();
        let mut node =
            Self { child, notifications, _folder: folder, address: SocketAddr::from(([0, 0, 0, 0], 0)) };
        let status = node.wait_for("STATUS=starting on http://");
        node.address = status.rsplit('/').next().unwrap().parse().unwrap();
        node
    }

    /// Waits for a notification that begins so, and returns it.
    pub fn wait_for(&mut self, start: &str) -> String {
        let began = Instant::now();
        let mut text = [0; 512];
        loop {
            if let Ok(length) = self.notifications.recv(&mut text) {
                let notification = String::from_utf8_lossy(&text[..length]).into_owned();
                if notification.starts_with(start) {
                    return notification;
                }
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the node ended ({ended:?}) before it said {start}");
            assert!(began.elapsed() < PATIENCE, "the node did not say {start}");
        }
    }

    /// Asks for `path` and returns status line, head and body.
    pub fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Stops the node as systemd does and returns its exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.wait().code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
