//! How close each sentence of the sources is in meaning to the question: what an answerer needs that cannot read.

use std::time::Duration;

use super::chunk::passage_text;
use super::embed::{Embedder, Error};
use crate::llm::{Prompt, Source, sentences};

/// Sentences that are embedded for one question at most, those of the best sources first: about 3 ms of one core each, and more of
/// them changed no answer in `tests/quotes.rs`.
const SENTENCES_MAX: usize = 24;

/// How long a person is kept waiting for it while others are embedded too; then words alone decide.
const PATIENCE: Duration = Duration::from_secs(1);

/// Fills [`Source::closeness`] of the best sources with one batch; leaves it empty where
/// that takes too long or fails.
///
/// * `questions`: the vectors that the sources were searched with. A sentence counts as close as to the closest.
pub async fn weigh(prompt: &mut Prompt, questions: &[Vec<f32>], embedder: &Embedder) {
    match tokio::time::timeout(PATIENCE, embedder.passages(texts(prompt))).await {
        Ok(Ok(vectors)) => fill(prompt, questions, &vectors),
        Ok(Err(error @ (Error::Busy { .. } | Error::Stopped))) => {
            log::debug!(error:% = error; "cannot embed the sentences of the sources");
        }
        Ok(Err(error)) => log::warn!(error:% = error; "cannot embed the sentences of the sources"),
        Err(_) => log::debug!("embedding the sentences of the sources took too long"),
    }
}

/// Returns what is embedded for `prompt`: the sentences of its sources in order, each below its headings, since what it
/// is about often stands above it only: "There is none." under "Monthly fee".
pub fn texts(prompt: &Prompt) -> Vec<String> {
    let of_source = |source: &Source| {
        let heading = source.heading.clone();
        sentences(&source.text).into_iter().map(move |sentence| passage_text("", &heading, &sentence))
    };
    prompt.sources.iter().flat_map(of_source).take(SENTENCES_MAX).collect()
}

/// Fills [`Source::closeness`] in.
///
/// * `questions`: as for [`weigh`].
/// * `vectors`: those of [`texts`], in order.
pub fn fill(prompt: &mut Prompt, questions: &[Vec<f32>], vectors: &[Vec<f32>]) {
    let mut values = vectors.iter().map(|vector| {
        questions.iter().map(|question| dot(question, vector)).fold(f32::NEG_INFINITY, f32::max)
    });
    for source in &mut prompt.sources {
        source.closeness = values.by_ref().take(sentences(&source.text).len()).collect();
    }
}

/// Cosine, for vectors of unit length.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
