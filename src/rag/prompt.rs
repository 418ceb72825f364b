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

/// A passage at least this close to the question has to do with it. This and [`SENTENCE_COSINE_MIN`] are MiniLM's:
/// `tests/quotes.rs` shows what they keep and what they let through.
const COSINE_MIN: f32 = 0.38;

/// A passage with a sentence at least this close has to do with the question, however much else is in it.
const SENTENCE_COSINE_MIN: f32 = 0.40;

/// A passage with at least this share of the question's words is relevant whatever its cosine; identifiers and names
/// are found by this alone.
const WORDS_SHARE_MIN: f32 = 0.6;

/// The same where there is no model that finds the passages in other words.
const WORDS_ALONE_SHARE_MIN: f32 = 0.5;

/// A prompt and the passages behind its sources, in the same order.
#[derive(Debug)]
pub struct Grounded {
    /// What the generator is asked.
    pub prompt: Prompt,
    /// `passages[n - 1]` is what `[n]` cites.
    pub passages: Vec<Passage>,
    /// Which of them are relevant as a whole.
    relevant: Vec<bool>,
}

/// Builds the prompt of a question from what was found for it, best first.
pub fn build(question: String, previous_question: Option<String>, found: Vec<Found>) -> Grounded {
    let asked: HashSet<String> = terms(&question)
        .into_iter()
        .chain(previous_question.as_deref().map(terms).unwrap_or_default())
        .collect();
    let prompt = Prompt { question, previous_question, ..Prompt::default() };
    let mut grounded = Grounded { prompt, passages: Vec::new(), relevant: Vec::new() };
    let has_meaning = found.iter().any(|found| found.cosine.is_some());
    let share_min = if has_meaning { WORDS_SHARE_MIN } else { WORDS_ALONE_SHARE_MIN };
    let mut chars = 0;
    for found in found {
        let passages = &grounded.passages;
        let of_document = passages.iter().filter(|other| other.document == found.passage.document).count();
        let length = found.passage.text.chars().count();
        let fits = passages.len() < SOURCES_MAX && chars + length <= SOURCE_CHARS_MAX;
        let repeats = passages.iter().any(|other| other.text == found.passage.text);
        if fits && !repeats && of_document < SOURCES_PER_DOCUMENT_MAX {
            chars += length;
            grounded.relevant.push(is_relevant(&found, &asked, share_min));
            grounded.push(found.passage);
        }
    }
    grounded
}

impl Grounded {
    fn push(&mut self, passage: Passage) {
        let Passage { title, heading, text, .. } = &passage;
        let source = Source {
            title: title.clone(),
            heading: heading.clone(),
            text: text.clone(),
            ..Source::default()
        };
        self.prompt.sources.push(source);
        self.passages.push(passage);
    }

    /// Drops the sources that have nothing to do with the question. With none left, the generator says so.
    #[must_use]
    pub fn only_relevant(mut self) -> Self {
        let is_close = |source: &Source| source.closeness.iter().any(|cosine| *cosine >= SENTENCE_COSINE_MIN);
        let sources = self.prompt.sources.iter().zip(&self.relevant);
        let keep: Vec<bool> = sources.map(|(source, relevant)| *relevant || is_close(source)).collect();
        self.prompt.sources = kept(self.prompt.sources, &keep);
        self.passages = kept(self.passages, &keep);
        self.relevant = kept(self.relevant, &keep);
        self
    }
}

fn kept<T>(items: Vec<T>, keep: &[bool]) -> Vec<T> {
    items.into_iter().zip(keep).filter(|(_, keep)| **keep).map(|(item, _)| item).collect()
}

fn is_relevant(found: &Found, asked: &HashSet<String>, share_min: f32) -> bool {
    if found.cosine.is_some_and(|cosine| cosine >= COSINE_MIN) {
        return true;
    }
    let Passage { title, heading, text, .. } = &found.passage;
    let words: HashSet<String> = terms(&format!("{title} {heading} {text}")).into_iter().collect();
    let shared = asked.intersection(&words).count();
    shared > 0 && as_f32(shared) >= share_min * as_f32(asked.len())
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
            found(document, "the error E4012", 0.1),
            found(document, "near", 0.8),
        ];
        let grounded = build("error E4012".into(), None, list).only_relevant();
        assert_eq!(texts(&grounded), ["the error E4012", "near"]);
        assert_eq!(grounded.passages[0].text, "the error E4012");
    }

    #[test]
    fn nothing_relevant_leaves_no_source() {
        let grounded =
            build("weather on Mars".into(), None, vec![found(DocumentId::new(), "paid leave", 0.1)])
                .only_relevant();
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
