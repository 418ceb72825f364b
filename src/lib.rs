//! `agent`: one binary for every node of a two-AZ, three-tier deployment.
//!
//! The crate map, in reading order; imports go downwards only (`tests/house.rs` enforces it):
//!
//! * [`cli`]: arguments and exit codes
//! * [`node`]: which role this is, start and drain order
//! * [`app`]: role app, one file per REST resource
//! * [`rag`]: extract, chunk, embed, retrieve, answer: meaning, no HTTP, no SQL
//! * [`llm`]: where answers are generated
//! * [`index`]: the in-memory index: exact scan, BM25, fusion, kept current from Postgres
//! * [`store`]: Postgres, original files, the private cluster
//! * [`process`]: child processes
//! * [`server`]: sockets, accept loop, timers, graceful close
//! * [`telemetry`]: logging, metrics, tracked tasks
//! * [`config`]: typed settings

pub mod app;
pub mod cli;
pub mod config;
pub mod index;
pub mod llm;
pub mod node;
pub mod process;
pub mod rag;
pub mod server;
pub mod store;
pub mod telemetry;
