//! Retrieval-augmented generation: extract, chunk, embed, retrieve, answer. Meaning only: no HTTP, no SQL.

pub mod answer;
pub mod chunk;
pub mod citation;
pub mod embed;
pub mod evidence;
pub mod extract;
pub mod ingest;
pub mod model;
pub mod prompt;
pub mod retrieve;
