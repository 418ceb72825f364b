//! Which of the passages found go into a prompt, and as which number.

use std::collections::HashSet;

use crate::llm::{Prompt, Source, terms};
use crate::rag::retrieve::Found;
use crate::store::passages::Passage;

/// Passages searched for; more than are used, because some will be left out.
pub const CANDIDATES: usize = 30;

/// Sources in a prompt at most.
const SOURCES_MAX: usize = 8;

/// Sources of one document at most, so that one long document does not crowd out the others.
const SOURCES_PER_DOCUMENT_MAX: usize = 3;

/// Characters of all sources together: about 4,500 tokens, what a window of 8,000 leaves beside history and answer.
const SOURCE_CHARS_MAX: usize = 18_000;

/// Below this cosine the best passage has nothing to do with the question. Specific to MiniLM: measured on
/// `tests/fixtures/retrieval` by `tests/retrieval.rs`.
const COSINE_MIN: f32 = 0.35;

/// A passage with at least this share of the question's words is relevant whatever its cosine; identifiers and names
/// are found by this alone.
const WORDS_SHARE_MIN: f32 = 0.5;

/// A prompt and the passages behind its sources, in the same order.
#[derive(Debug)]
pub struct Grounded {
    /// What the generator is asked.
    pub prompt: Prompt,
    /// `passages[n - 1]` is what `[n]` cites.
    pub passages: Vec<Passage>,
}

/// Builds the prompt of a question from what was found for it, best first. No sources are left where nothing found is
/// relevant: the generator then says so.
pub fn build(question: String, previous_question: Option<String>, found: Vec<Found>) -> Grounded {
    let asked: HashSet<String> = terms(&question)
        .into_iter()
        .chain(previous_question.as_deref().map(terms).unwrap_or_default())
        .collect();
    let mut passages: Vec<Passage> = Vec::new();
    let mut chars = 0;
    for found in found {
        let passage = &found.passage;
        let of_document = passages.iter().filter(|other| other.document == passage.document);
        let length = passage.text.chars().count();
        let fits = passages.len() < SOURCES_MAX && chars + length <= SOURCE_CHARS_MAX;
        let repeats = passages.iter().any(|other| other.text == passage.text);
        if fits && !repeats && of_document.count() < SOURCES_PER_DOCUMENT_MAX && is_relevant(&found, &asked) {
            chars += length;
            passages.push(found.passage);
        }
    }
    let sources = passages.iter().map(|passage| Source {
        title: passage.title.clone(),
        heading: passage.heading.clone(),
        text: passage.text.clone(),
    });
    Grounded { prompt: Prompt { question, previous_question, sources: sources.collect() }, passages }
}

fn is_relevant(found: &Found, asked: &HashSet<String>) -> bool {
    if found.cosine.is_some_and(|cosine| cosine >= COSINE_MIN) {
        return true;
    }
    let Passage { title, heading, text, .. } = &found.passage;
    let words: HashSet<String> = terms(&format!("{title} {heading} {text}")).into_iter().collect();
    let shared = asked.intersection(&words).count();
    shared > 0 && as_f32(shared) >= WORDS_SHARE_MIN * as_f32(asked.len())
}

#[expect(clippy::cast_precision_loss, reason = "a question has far fewer than 2^24 words")]
fn as_f32(count: usize) -> f32 {
    count as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ids::{ChunkId, DocumentId};

    fn found(document: DocumentId, text: &str, cosine: f32) -> Found {
        let passage = Passage {
            chunk: ChunkId::new(),
            document,
            title: "Handbook".into(),
            heading: String::new(),
            text: text.into(),
            span: [0, 1],
            page: None,
        };
        Found { passage, score: 1.0, cosine: Some(cosine) }
    }

    fn texts(grounded: &Grounded) -> Vec<&str> {
        grounded.prompt.sources.iter().map(|source| source.text.as_str()).collect()
    }

    #[test]
    fn what_is_relevant_by_meaning_or_by_words_is_kept_in_order() {
        let document = DocumentId::new();
        let list = vec![
            found(document, "far off", 0.1),
            found(document, "the E4012 fault", 0.1),
            found(document, "near", 0.8),
        ];
        let grounded = build("error E4012".into(), None, list);
        assert_eq!(texts(&grounded), ["the E4012 fault", "near"]);
        assert_eq!(grounded.passages[0].text, "the E4012 fault");
    }

    #[test]
    fn nothing_relevant_leaves_no_source() {
        let grounded =
            build("weather on Mars".into(), None, vec![found(DocumentId::new(), "paid leave", 0.1)]);
        assert!(grounded.prompt.sources.is_empty());
    }

    #[test]
    fn a_document_gives_three_sources_at_most_and_no_text_twice() {
        let (long, short) = (DocumentId::new(), DocumentId::new());
        let list = [("a", long), ("a", long), ("b", long), ("c", long), ("d", long), ("e", short)];
        let grounded =
            build("x".into(), None, list.map(|(text, document)| found(document, text, 0.9)).to_vec());
        assert_eq!(texts(&grounded), ["a", "b", "c", "e"]);
    }

    #[test]
    fn sources_stay_within_the_budget() {
        let text = |n: usize| format!("{n}{}", "x".repeat(SOURCE_CHARS_MAX / 4 - 1));
        let list = (0..SOURCES_MAX).map(|n| found(DocumentId::new(), &text(n), 0.9)).collect();
        assert_eq!(build("x".into(), None, list).passages.len(), 4);
    }
}
