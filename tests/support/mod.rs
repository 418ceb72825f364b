//! Real parts that several topics share.

pub mod model;
pub mod postgres;
