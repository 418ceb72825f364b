//! Sentence embeddings in process.
