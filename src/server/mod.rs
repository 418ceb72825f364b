//! Sockets, accept loop, timers, limits and graceful close: true of any role, knows none.
