//! How close each sentence of the sources is to the question: what an answerer needs that cannot read.

use std::time::Duration;

use super::embed::{Embedder, Error};
use crate::llm::{Prompt, sentences};

/// Sentences that are embedded for one question at most, of the best sources first; about 3 ms of one core each.
const SENTENCES_MAX: usize = 60;

/// How long a person is kept waiting for it, while documents are being embedded too; then words alone decide.
const PATIENCE: Duration = Duration::from_secs(2);

/// Fills [`Prompt::closeness`]; leaves it empty where that takes too long or fails.
pub async fn weigh(prompt: &mut Prompt, embedder: &Embedder) {
    match tokio::time::timeout(PATIENCE, closeness(prompt, embedder)).await {
        Ok(Ok(closeness)) => prompt.closeness = closeness,
        Ok(Err(error)) => log::debug!(error:% = error; "cannot embed the sentences of the sources"),
        Err(_) => log::debug!("embedding the sentences of the sources took too long"),
    }
}

async fn closeness(prompt: &Prompt, embedder: &Embedder) -> Result<Vec<Vec<f32>>, Error> {
    let mut texts = Vec::new();
    let mut counts = Vec::new();
    for source in &prompt.sources {
        // What a sentence is about often stands above it only: "There is none." under "Monthly fee".
        let heading = source.heading.rsplit(" > ").next().unwrap_or_default();
        let room = SENTENCES_MAX - texts.len();
        let before = texts.len();
        texts.extend(sentences(&source.text).into_iter().take(room).map(|text| format!("{heading}\n{text}")));
        counts.push(texts.len() - before);
    }
    let mut questions = vec![embedder.query(prompt.question.clone()).await?];
    if let Some(previous) = &prompt.previous_question {
        questions.push(embedder.query(format!("{previous}\n{}", prompt.question)).await?);
    }
    let vectors = embedder.passages(texts).await?;
    let mut values = vectors.iter().map(|vector| {
        questions.iter().map(|question| dot(question, vector)).fold(f32::NEG_INFINITY, f32::max)
    });
    Ok(counts.into_iter().map(|count| values.by_ref().take(count).collect()).collect())
}

/// Cosine, for vectors of unit length.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
