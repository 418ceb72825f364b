//! The in-memory index: exact scan, BM25 postings, fusion, kept current from the log in Postgres.
