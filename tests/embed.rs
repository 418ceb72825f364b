//! The embedder gives the published model's vectors for any text, and damaged models give errors.
//!
//! `fixtures/embedding/golden.json` was computed by the model's formulas written out in numpy in 64 bits, with the
//! ids of Hugging Face's `tokenizers`: for each text its token count, the vector's first eight components, and its
//! products with four cosine waves, which see every component.

use std::fs;
use std::path::Path;

use agent::rag::embed::{Embedder, Error};
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;

use crate::support::model::embedder;
use crate::support::tiny_model;

const TOLERANCE: f32 = 1e-4;

#[derive(Deserialize)]
struct Golden {
    text: String,
    tokens: usize,
    first: Vec<f32>,
    waves: Vec<f32>,
}

fn golden() -> Vec<Golden> {
    serde_json::from_str(include_str!("fixtures/embedding/golden.json")).unwrap()
}

fn wave(vector: &[f32], frequency: f32) -> f32 {
    vector.iter().enumerate().map(|(j, x)| x * ((j as f32 + 0.5) * frequency).cos()).sum()
}

fn assert_golden(golden: &Golden, vector: &[f32]) {
    let waves = [0.1, 0.7, 1.3, 2.9].map(|frequency| wave(vector, frequency));
    let found = vector[..8].iter().chain(&waves);
    for (found, expected) in found.zip(golden.first.iter().chain(&golden.waves)) {
        assert!((found - expected).abs() < TOLERANCE, "{found} is not {expected} for {:?}", golden.text);
    }
}

#[test]
fn vectors_are_those_of_the_published_model() {
    let golden = golden();
    let texts: Vec<&str> = golden.iter().map(|golden| golden.text.as_str()).collect();
    let together = embedder().embed_blocking(&texts);
    for (golden, vector) in golden.iter().zip(&together) {
        assert_golden(golden, vector);
        assert_golden(golden, &embedder().embed_blocking(&[&golden.text])[0]);
    }
}

#[test]
fn tokens_are_counted_without_special_ones() {
    for golden in golden() {
        let counted = embedder().count_tokens(&golden.text);
        // The reference cuts at the window.
        assert_eq!(counted.min(embedder().window()), golden.tokens, "{:?}", golden.text);
    }
}

#[test]
fn every_text_has_a_vector_of_unit_length() {
    let word = "x".repeat(1 << 20);
    let accents = "e".to_owned() + &"\u{301}".repeat(1 << 20);
    let spaces = " \n\t".repeat(1 << 18);
    let prose = "It was a dark and stormy night. ".repeat(1 << 15);
    let texts = ["", "\0\0\0", "[CLS] [SEP] [PAD] [MASK]", "👩‍👩‍👧‍👦🇩🇪", "##", &word, &accents, &spaces, &prose];
    for (text, vector) in texts.iter().zip(embedder().embed_blocking(&texts)) {
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!(
            (length - 1.0).abs() < 1e-5,
            "length {length} for {:?}…",
            text.chars().take(20).collect::<String>()
        );
    }
}

#[test]
fn control_tokens_in_a_text_are_plain_characters() {
    assert_eq!(embedder().count_tokens("[SEP]"), 3);
}

#[tokio::test]
async fn a_query_overtakes_the_passages_that_wait() {
    let passages = vec!["The river rose over night and took the bridge with it. ".repeat(12); 24];
    let embedder = embedder();
    let mut ingestion = std::pin::pin!(embedder.passages(passages));
    // The first poll hands the passages in.
    assert!(futures_util::poll!(&mut ingestion).is_pending());
    let vector = embedder.query("What took the bridge?".to_owned()).await.unwrap();
    assert!(futures_util::poll!(&mut ingestion).is_pending(), "the passages were embedded before the query");
    let alone = embedder.embed_blocking(&["What took the bridge?"]).remove(0);
    assert!(vector.iter().zip(&alone).all(|(x, y)| (x - y).abs() < 1e-5));
    assert_eq!(ingestion.await.unwrap().len(), 24);
}

#[tokio::test]
async fn no_passages_give_no_vectors() {
    assert!(embedder().passages(Vec::new()).await.unwrap().is_empty());
}

#[test]
fn the_model_is_known_by_its_weights() {
    let embedder = embedder();
    let identity = embedder.identity();
    assert_eq!(identity.name, "sentence-transformers/all-MiniLM-L6-v2");
    assert_eq!((identity.pooling.as_str(), identity.dimension, embedder.window()), ("mean", 384, 254));
}

/// Writes a tiny model, damages it and returns the error of loading it.
fn load_damaged(damage: impl FnOnce(&Path)) -> Error {
    let directory = TempDir::new().unwrap();
    tiny_model::write(directory.path());
    damage(directory.path());
    Embedder::load(directory.path(), 1).err().expect("a damaged model does not load")
}

fn overwrite(directory: &Path, at: usize, bytes: &[u8]) {
    let path = directory.join("model.safetensors");
    let mut weights = fs::read(&path).unwrap();
    weights[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(path, weights).unwrap();
}

#[test]
fn damaged_weights_are_an_error_that_names_the_remedy() {
    let damages: [&dyn Fn(&Path); 6] = [
        &|directory| fs::write(directory.join("model.safetensors"), b"").unwrap(),
        &|directory| fs::write(directory.join("model.safetensors"), [255; 100]).unwrap(),
        &|directory| {
            let path = directory.join("model.safetensors");
            let weights = fs::read(&path).unwrap();
            fs::write(path, &weights[..weights.len() - 1]).unwrap();
        },
        &|directory| overwrite(directory, 0, &u64::MAX.to_le_bytes()),
        &|directory| overwrite(directory, 8, b"]"),
        &|directory| {
            fs::write(directory.join("model.safetensors"), tiny_model::weights(f32::INFINITY)).unwrap()
        },
    ];
    for damage in damages {
        let error = load_damaged(damage);
        assert!(matches!(error, Error::Unusable { .. }), "{error}");
        assert!(error.to_string().contains("agent model install"), "{error}");
    }
}

#[test]
fn another_kind_of_model_is_an_error_that_names_the_setting() {
    for (key, value) in
        [("model_type", json!("roberta")), ("hidden_act", json!("relu")), ("hidden_size", json!(9))]
    {
        let mut config = tiny_model::config();
        config[key] = value;
        let error =
            load_damaged(|directory| tiny_model::write_json(directory, "config.json", &config)).to_string();
        assert!(error.contains(key), "{error}");
    }
    let pooling = json!({ "pooling_mode_max_tokens": true });
    let damage = |directory: &Path| {
        fs::create_dir(directory.join("1_Pooling")).unwrap();
        tiny_model::write_json(directory, "1_Pooling/config.json", &pooling);
    };
    assert!(load_damaged(damage).to_string().contains("pooling"));
}

#[test]
fn a_missing_model_is_not_a_damaged_one() {
    assert!(matches!(Embedder::load(Path::new("/nonexistent"), 1), Err(Error::Missing { .. })));
}
