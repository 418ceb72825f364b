//! Retrieval-augmented generation: extract, chunk, embed, retrieve, answer. Meaning only: no HTTP, no SQL.

pub mod citation;
pub mod embed;
