//! Which role this node runs, and the order in which it starts and drains.
//!
//! * [`mod@run`]: start and stop as a list to read from top to bottom
//! * [`database`]: the private cluster or the server that the settings name, waited for as long as it takes
//! * [`commands`]: what the binary does besides running the node
//! * [`doctor`]: what works on this machine

pub mod commands;
mod database;
pub mod doctor;
mod error;
mod front;
mod role_app;
mod run;
mod signals;
mod supervisor;
mod watch;

pub use error::{Error, explain};
pub use run::run;

/// The operations socket's name in the data directory.
const OPS_SOCKET: &str = "ops.sock";
