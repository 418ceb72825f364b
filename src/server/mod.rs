//! Sockets, accept loop, timers, limits and graceful close: true of any role, knows none.

pub mod client_address;
