//! Real parts that several topics share.

pub mod answers;
pub mod api;
pub mod documents;
pub mod fault_proxy;
pub mod library;
pub mod model;
pub mod node;
pub mod postgres;
pub mod raw_http;
pub mod tiny_model;
