//! Tells systemd how the node does, where systemd started it (`Type=notify`).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The way to systemd, or to nobody.
#[derive(Clone, Debug)]
pub(super) struct Supervisor(Option<String>);

impl Supervisor {
    /// * `socket`: `$NOTIFY_SOCKET`, a path or, after `@`, an abstract name; absent where nobody listens.
    pub fn new(socket: Option<String>) -> Self {
        Self(socket)
    }

    /// Says what the node is at, for `systemctl status`.
    pub fn status(&self, text: &str) {
        self.tell(&format!("STATUS={text}"));
    }

    /// Says that the node has started, and what it is at.
    pub fn ready(&self, text: &str) {
        self.tell(&format!("READY=1\nSTATUS={text}"));
    }

    /// Says that the node is on its way out.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    fn tell(&self, state: &str) {
        let Some(name) = &self.0 else { return };
        if let Err(error) = send(name, state) {
            log::warn!("cannot tell systemd how the node does: {error}");
        }
    }
}

fn send(name: &str, state: &str) -> std::io::Result<()> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_hears_that_the_node_is_ready() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        Supervisor::new(Some(path.to_str().unwrap().to_owned())).ready("serving");
        let mut state = [0; 64];
        let length = systemd.recv(&mut state).unwrap();
        assert_eq!(&state[..length], b"READY=1\nSTATUS=serving");
    }

    #[test]
    fn without_systemd_nothing_is_told() {
        Supervisor::new(None).ready("serving");
    }
}
