//! Logging, metrics and tracked tasks.

pub mod tasks;
