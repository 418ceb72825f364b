//! Sockets, accept loop, timers, limits and graceful close: true of any role, knows none.
//!
//! [`serve`] runs an axum router on a [`Listener`] until it is told to stop, then drains. In reading order:
//!
//! * [`listener`]: binding, TLS, accepting, and what to do when accepting fails
//! * [`accept`]: the loop around it, and the drain
//! * [`connection`]: hyper on one connection
//! * [`timed`]: the timers of a connection, under hyper
//! * [`exchange`]: what surrounds one request: id, panic, metrics, access line
//! * [`request_body`]: a body that must arrive at some speed
//! * [`readiness`], [`health`]: `/livez` and `/readyz`
//! * [`ops`], [`ops_socket`], [`host_check`]: the operations listeners
//! * [`client_address`]: who asks, behind proxies
//! * [`descriptors`]: how many files may be open

mod accept;
pub mod client_address;
mod connection;
mod descriptors;
mod exchange;
pub mod health;
pub mod host_check;
mod listener;
pub mod ops;
mod ops_socket;
mod phase;
pub mod readiness;
mod request_body;
mod request_id;
mod timed;
mod tls;

use std::time::Duration;

use crate::config;

pub use accept::{Drained, serve};
pub use client_address::PeerAddress;
pub use descriptors::raise_descriptor_limit;
pub use listener::Listener;
pub use readiness::Readiness;
pub use request_body::TooSlow;
pub use request_id::RequestId;
pub use tls::{TlsError, TlsFiles};

/// What a listener grants its clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// TLS handshakes at once: each is about a millisecond of CPU that anybody can ask for.
    pub handshakes_max: usize,
    /// How long a TLS handshake may take, the wait for its turn included.
    pub handshake_timeout: Duration,
    /// How long a connection may rest between requests. Longer than the 60 s after which an AWS load balancer closes it:
    /// were this the shorter one, requests would be sent into a closing connection and answered 502.
    pub idle_timeout: Duration,
    /// How long a request's head may take from its first byte.
    pub head_timeout: Duration,
    /// How long a body may take for each kibibyte.
    pub body_timeout: Duration,
    /// How long a client may accept no byte of an answer that is ready.
    pub write_timeout: Duration,
    /// The longest request head in bytes, at least 8 KiB; also the size of a connection's buffers. A head with more than
    /// 100 fields is refused too: that is hyper's own limit, and cheaper than one that is set.
    pub head_bytes_max: usize,
    /// How long answers in flight may take once the listener drains.
    pub drain_timeout: Duration,
}

impl Limits {
    /// Returns the limits that an operator has set.
    pub fn of(server: &config::Server, drain: &config::Drain) -> Self {
        Self {
            connections_max: server.connections_max,
            handshakes_max: server.tls_handshakes_max,
            handshake_timeout: server.tls_handshake_timeout,
            idle_timeout: server.idle_timeout,
            head_timeout: server.head_timeout,
            body_timeout: server.body_timeout,
            write_timeout: server.write_timeout,
            head_bytes_max: server.head_bytes_max.as_usize(),
            drain_timeout: drain.deadline,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            handshakes_max: 64,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            head_bytes_max: 64 * 1024,
            drain_timeout: Duration::from_secs(40),
        }
    }
}

/// What a connection was late with; the order is [`crate::telemetry::metrics::TIME_OUTS`]'s.
#[derive(Clone, Copy, Debug)]
enum Late {
    Idle,
    Head,
    Body,
    Write,
    Handshake,
}

impl Late {
    fn count(self) {
        crate::telemetry::metrics::CONNECTIONS_TIMED_OUT.at(self as usize).add(1);
    }
}
