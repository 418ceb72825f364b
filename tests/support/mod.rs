//! Real parts that several topics share.

pub mod model;
