//! The embedder gives the published model's vectors for any text, and damaged models give errors.
//!
//! `fixtures/embedding/golden.json` was computed by the model's formulas written out in numpy in 64 bits, with the
//! ids of Hugging Face's `tokenizers`: for each text its token count, the vector's first eight components, and its
//! products with four cosine waves, which see every component.

use serde::Deserialize;

use crate::support::model::embedder;

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
