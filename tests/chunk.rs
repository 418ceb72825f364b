//! The sample documents and the labelled questions hold together: every text is read as what it is, and every labelled
//! passage is in exactly the document that is named, whole in one chunk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::rag::chunk::{self, approximate_tokens};
use agent::rag::extract::{self, Extracted};
use serde::Deserialize;

#[derive(Deserialize)]
struct Labelled {
    question: String,
    document: String,
    passage: String,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn read(name: &str) -> Extracted {
    let bytes = fs::read(fixtures().join("documents").join(name)).unwrap();
    let limits = extract::Limits { text_bytes_max: 1 << 20, time_max: Duration::from_secs(10) };
    extract::extract(&bytes, name, limits).unwrap_or_else(|reason| panic!("{name}: {reason}"))
}

#[test]
fn the_sample_documents_are_told_by_their_content() {
    for (name, media_type, title) in [
        ("operations-handbook.md", "text/markdown", Some("Marlow Bay Plant: Operations Handbook")),
        ("travel-policy.md", "text/markdown", Some("Travel and Expenses Policy")),
        ("thermostat-faq.html", "text/html", Some("Hearth 2 thermostat: questions and answers")),
        ("balcony-garden.html", "text/html", Some("A balcony garden through the year")),
        ("incident-report.txt", "text/plain", None),
    ] {
        let extracted = read(name);
        assert_eq!((extracted.media_type, extracted.title.as_deref()), (media_type, title), "{name}");
        // Navigation, style and script are no text.
        assert!(!extracted.text.contains("font-family") && !extracted.text.contains("classList"));
    }
}

#[test]
fn every_labelled_passage_is_whole_in_a_chunk_of_its_document() {
    let labels: Vec<Labelled> =
        serde_json::from_slice(&fs::read(fixtures().join("retrieval/questions.json")).unwrap()).unwrap();
    assert!(labels.len() >= 40);
    for label in &labels {
        let extracted = read(&label.document);
        let chunks = chunk::chunk(&extracted, "", &approximate_tokens, chunk::Limits::default()).unwrap();
        let holding = chunks.iter().filter(|chunk| chunk.text.contains(&label.passage)).count();
        assert!((1..=2).contains(&holding), "{}: {holding} passages for {}", label.document, label.question);
    }
}
