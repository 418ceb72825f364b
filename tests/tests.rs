//! The one integration binary: a module per topic, so that everything links once.
#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

mod answers;
mod app_auth;
mod app_chats;
mod app_collections;
mod app_documents;
mod app_errors;
mod app_schema;
mod app_search;
mod app_sessions;
mod chunk;
mod cli;
mod cluster;
mod config;
mod embed;
mod embed_install;
mod house;
mod index;
mod ingest;
mod ingest_kills;
mod locks;
mod node;
mod ops;
mod process;
mod quotes;
mod retrieval;
mod server;
mod store;
mod streams;
mod support;
