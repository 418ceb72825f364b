//! Logging, metrics and tracked tasks.

pub mod chain;
pub mod metrics;
pub mod tasks;
