//! Real parts that several topics share.

pub mod api;
pub mod documents;
pub mod fault_proxy;
pub mod model;
pub mod node;
pub mod postgres;
pub mod raw_http;
pub mod tiny_model;
