//! The whole node under signals: what it has begun it finishes, and what it leaves behind is data only.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::node::{Node, data_folder};

/// Far more than any step here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const LOGIN: &str = r#"{"username": "nobody-here", "password": "wrong"}"#;

/// The processes that work in a folder or below it.
fn processes_in(folder: &Path) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let is_inside = |path: &PathBuf| fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
    processes.map(|entry| entry.path()).filter(is_inside).collect()
}

#[test]
fn sigterm_in_the_middle_of_a_request_cuts_nothing() {
    let folder = data_folder();
    let mut node = Node::start(folder.path(), &[]);
    let address = node.address;
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "POST /api/auth/login/ HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        LOGIN.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&LOGIN.as_bytes()[..10]).unwrap();
    let mut idle = TcpStream::connect(address).unwrap();
    idle.set_read_timeout(Some(PATIENCE)).unwrap();

    node.signal(Signal::SIGTERM);
    node.wait_for("STOPPING=1");
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "an idle connection is closed at once");
    stream.write_all(&LOGIN.as_bytes()[10..]).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 4"), "{response}");
    assert!(response.contains("connection: close"), "{response}");
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", body.len())), "{response}");
    assert_eq!(node.wait().code(), Some(0));
}

#[test]
fn a_killed_node_leaves_no_process_and_the_next_one_starts_on_its_data() {
    let folder = data_folder();
    let mut node = Node::start(folder.path(), &[]);
    assert!(!processes_in(folder.path()).is_empty(), "PostgreSQL works in its data directory");
    node.signal(Signal::SIGKILL);
    node.wait();
    let next = Node::start(folder.path(), &[]);
    assert!(next.get("/readyz").starts_with("HTTP/1.1 200"));
    next.signal(Signal::SIGKILL);
    drop(next);
    let killed_at = Instant::now();
    while !processes_in(folder.path()).is_empty() {
        assert!(killed_at.elapsed() < PATIENCE, "{:?}", processes_in(folder.path()));
        std::thread::yield_now();
    }
}
