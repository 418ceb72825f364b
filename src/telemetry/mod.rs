//! Logging, metrics and tracked tasks.

pub mod chain;
mod line;
pub mod logging;
pub mod metrics;
pub mod tasks;
