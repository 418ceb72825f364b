//! Where state goes and what is listened on: data directory, free space, ports.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::Finding;
use crate::config::{ByteSize, Settings};

/// Below this, uploads and PostgreSQL's log soon fill the disk.
const FREE_MIN: ByteSize = ByteSize(1 << 30);

/// Whether state can be written, or the directory made.
pub(super) fn data_dir(path: &Path) -> Finding {
    let remedy = "give --data-dir a directory that this user may write";
    let Some(existing) = path.ancestors().find(|ancestor| ancestor.exists()) else {
        return Finding::fail("data_dir", format!("{} has no parent", path.display()), remedy);
    };
    match tempfile::tempfile_in(existing) {
        Ok(_) if existing == path => Finding::ok("data_dir", format!("{} is writable", path.display())),
        Ok(_) => Finding::ok("data_dir", format!("{} will be made", path.display())),
        Err(error) => {
            Finding::fail("data_dir", format!("{} cannot be written: {error}", existing.display()), remedy)
        }
    }
}

/// Whether there is room for documents and the database.
pub(super) fn free_space(settings: &Settings) -> Finding {
    let path = &settings.data_dir;
    let existing = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(path);
    let free = match statvfs(existing) {
        Ok(disk) => disk.blocks_available() * disk.fragment_size(),
        Err(error) => {
            let text = format!("cannot ask for the space of {}: {error}", existing.display());
            return Finding::warn("disk", text, "look with df");
        }
    };
    let text = format!("{} GiB free for {}", free >> 30, path.display());
    if free < FREE_MIN.bytes() {
        return Finding::warn(
            "disk",
            text,
            format!("make room: uploads are refused when it is full ({FREE_MIN} advised)"),
        );
    }
    Finding::ok("disk", text)
}

/// Whether the listeners' addresses can be bound. A running node holds them, which is fine.
pub(super) fn ports(settings: &Settings) -> Vec<Finding> {
    let listeners = [
        ("listen", Some(settings.listen)),
        ("ops_listen", Some(settings.ops_listen)),
        ("peer_listen", settings.peer_listen),
    ];
    listeners.into_iter().filter_map(|(key, address)| Some(port(key, address?, settings))).collect()
}

fn port(key: &'static str, address: SocketAddr, settings: &Settings) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(key, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse && node_is_running(settings) => {
            Finding::ok(key, format!("{address} is in use, and a node runs on this data directory"))
        }
        Err(error) => {
            let remedy =
                format!("stop what listens there, or set {key} (AGENT_{})", key.to_ascii_uppercase());
            Finding::fail(key, format!("{address} cannot be bound: {error}"), remedy)
        }
    }
}

/// Tells whether a node's operations socket answers in the data directory.
fn node_is_running(settings: &Settings) -> bool {
    let socket = settings.data_dir.join(crate::node::OPS_SOCKET);
    fs::exists(&socket).unwrap_or(false) && std::os::unix::net::UnixStream::connect(socket).is_ok()
}
