//! Logging, metrics and tracked tasks.

pub mod chain;
pub mod tasks;
