//! The answerer without a model: quotes what fits the question best, each quote with its source.
//!
//! A sentence or table is worth how close it is to the question in meaning, where that is known, and the share of the
//! question's words that it has and no quote before it had (a word that few sentences have weighs more). Passages that
//! ranked higher and neighbours of what is already quoted are worth a little more. A second source is quoted only where
//! it says nearly as much as the first. Nothing is summed up or rephrased: every claim is a quote.

use std::collections::{HashMap, HashSet};

use super::compose::{Chosen, compose};
use super::sentences::{Quote, split};
use super::words::terms;
use super::{FinishReason, Piece, Prompt, Usage};

/// The most quotes in one answer.
const QUOTES_MAX: usize = 4;

/// A further quote of a passage must be worth at least this share of the best one.
const WORTH_SHARE_MIN: f32 = 0.6;

/// The same for the first quote of another passage.
const OTHER_SOURCE_SHARE_MIN: f32 = 0.8;

/// What a quote must be worth in any case.
const WORTH_MIN: f32 = 0.05;

/// What all words of the question together are worth, beside a closeness of 1.
const WORDS_WORTH: f32 = 0.5;

/// What is left of a word's weight once a quote has it.
const COVERED_SHARE: f32 = 0.25;

/// What a word of the previous question weighs beside one of the question.
const PREVIOUS_SHARE: f32 = 0.4;

/// What a quote loses for each rank of its passage below the first.
const RANK_STEP: f32 = 0.02;

/// What a neighbour of a quote gains.
const NEIGHBOUR_WORTH: f32 = 0.08;

/// What the opening of the best passage is worth by itself: retrieval may find by meaning what shares no word.
const OPENING_WORTH: f32 = 0.06;

/// Words in one piece of the stream.
const PIECE_WORDS: usize = 4;

const NOTE: &str = "No language model is configured, so this answer quotes your documents instead of putting them in its own words.";

const NOTHING_FOUND: &str = "I found nothing in your documents that answers this question. No language model is \
                             configured, so answers can only quote what your documents say.";

/// Writes the whole answer, cut into pieces of a few words.
pub fn answer(prompt: &Prompt) -> Vec<Piece> {
    let candidates = candidates(prompt);
    let weights = weights(prompt, &candidates);
    let chosen = choose(candidates, weights.clone());
    let text = if chosen.is_empty() {
        NOTHING_FOUND.to_owned()
    } else {
        compose(&prompt.sources, &chosen, &weights) + NOTE
    };
    let mut pieces: Vec<Piece> = pieces(&text).map(|piece| Piece::Text(piece.to_owned())).collect();
    pieces.push(Piece::Usage(Usage::default()));
    pieces.push(Piece::End(FinishReason::Stop));
    pieces
}

/// What may be quoted.
struct Candidate {
    source: usize,
    position: usize,
    quote: Quote,
    terms: HashSet<String>,
    /// How close it is to the question in meaning; 0 where that is not known.
    closeness: f32,
}

fn candidates(prompt: &Prompt) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for (source, passage) in prompt.sources.iter().enumerate() {
        // Headings answer too: "Refunds" above a sentence that does not repeat the word.
        let heading = terms(&format!("{} {}", passage.title, passage.heading));
        for (position, quote) in split(&passage.text).into_iter().enumerate() {
            let terms = terms(&quote.text()).into_iter().chain(heading.iter().cloned()).collect();
            let closeness = passage.closeness.get(position).copied().unwrap_or(0.0);
            candidates.push(Candidate { source, position, quote, terms, closeness });
        }
    }
    candidates
}

/// Weighs each word of the questions by how few of the candidates have it. All together weigh [`WORDS_WORTH`].
fn weights(prompt: &Prompt, candidates: &[Candidate]) -> HashMap<String, f32> {
    let mut weights = HashMap::new();
    let previous = prompt.previous_question.as_deref().map(terms).unwrap_or_default();
    let asked = terms(&prompt.question);
    let shares =
        asked.into_iter().map(|term| (term, 1.0)).chain(previous.into_iter().map(|t| (t, PREVIOUS_SHARE)));
    let total = as_f32(candidates.len());
    for (term, share) in shares {
        let having = as_f32(candidates.iter().filter(|candidate| candidate.terms.contains(&term)).count());
        let rarity = (1.0 + (total - having + 0.5) / (having + 0.5)).ln();
        weights.entry(term).or_insert(share * rarity);
    }
    let sum: f32 = weights.values().sum();
    weights.values_mut().for_each(|weight| *weight *= WORDS_WORTH / sum);
    weights
}

/// Chooses what to quote: passages in order of their best quote, quotes of a passage in reading order.
fn choose(mut candidates: Vec<Candidate>, mut weights: HashMap<String, f32>) -> Vec<Chosen> {
    let mut chosen: Vec<Chosen> = Vec::new();
    let mut best_worth = 0.0;
    while chosen.len() < QUOTES_MAX {
        let is_quoted = |source: usize| chosen.iter().any(|other| other.source == source);
        let minimum = |source: usize| {
            let share = if is_quoted(source) { WORTH_SHARE_MIN } else { OTHER_SOURCE_SHARE_MIN };
            f32::max(WORTH_MIN, best_worth * share)
        };
        let worths = candidates.iter().map(|candidate| worth(candidate, &weights, &chosen)).enumerate();
        let worthy = worths.filter(|(index, worth)| *worth >= minimum(candidates[*index].source));
        // Of equals the first, which is of the passage that ranks higher.
        let best = worthy.reduce(|best, other| if other.1 > best.1 { other } else { best });
        let Some((index, worth)) = best else { break };
        best_worth = f32::max(best_worth, worth);
        let Candidate { source, position, quote, terms, .. } = candidates.remove(index);
        for term in &terms {
            weights.entry(term.clone()).and_modify(|weight| *weight *= COVERED_SHARE);
        }
        // An overlap of two passages holds the same sentence twice.
        candidates.retain(|other| other.quote != quote);
        chosen.push(Chosen { source, position, quote });
    }
    let order: Vec<usize> = chosen.iter().map(|chosen| chosen.source).collect();
    chosen.sort_by_key(|c| (order.iter().position(|source| *source == c.source), c.position));
    chosen
}

/// What a candidate is worth beside what is already chosen.
fn worth(candidate: &Candidate, weights: &HashMap<String, f32>, chosen: &[Chosen]) -> f32 {
    let words: f32 = candidate.terms.iter().filter_map(|term| weights.get(term)).sum();
    let is_opening = candidate.source == 0 && candidate.position == 0;
    let is_neighbour = chosen
        .iter()
        .any(|other| other.source == candidate.source && other.position.abs_diff(candidate.position) == 1);
    let gain = |applies: bool, worth: f32| if applies { worth } else { 0.0 };
    candidate.closeness + words - RANK_STEP * as_f32(candidate.source)
        + gain(is_opening, OPENING_WORTH)
        + gain(is_neighbour, NEIGHBOUR_WORTH)
}

/// Cuts `text` after every few words; the pieces joined are the text.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let cut = rest.match_indices([' ', '\n']).nth(PIECE_WORDS - 1).map_or(rest.len(), |(at, _)| at + 1);
        let (piece, tail) = rest.split_at(cut);
        rest = tail;
        Some(piece)
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts of sentences and passages are far below 2^24")]
fn as_f32(count: usize) -> f32 {
    count as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::Source;

    fn source(title: &str, heading: &str, text: &str) -> Source {
        Source { title: title.into(), heading: heading.into(), text: text.into(), ..Source::default() }
    }

    fn text_of(prompt: &Prompt) -> String {
        answer(prompt)
            .into_iter()
            .filter_map(|piece| if let Piece::Text(t) = piece { Some(t) } else { None })
            .collect()
    }

    fn travel() -> Vec<Source> {
        vec![
            source(
                "Travel policy",
                "Hotels",
                "Book through the portal. A hotel may cost up to 180 euros per night. Breakfast is not refunded.",
            ),
            source(
                "Travel policy",
                "Trains",
                "Trains are preferred under 600 km. First class needs approval.",
            ),
        ]
    }

    #[test]
    fn the_sentence_that_answers_is_quoted_with_its_source() {
        let prompt = Prompt {
            question: "How much may a hotel cost per night?".into(),
            sources: travel(),
            ..Prompt::default()
        };
        let text = text_of(&prompt);
        assert!(text.starts_with("Travel policy (Hotels): “"), "{text}");
        assert!(
            text.contains("A hotel may cost up to 180 euros per night.") && text.contains("” [1]"),
            "{text}"
        );
        assert!(!text.contains("First class") && text.ends_with(NOTE), "{text}");
    }

    #[test]
    fn two_halves_of_a_question_are_quoted_from_two_sources() {
        let question = "What may a hotel cost, and when are trains preferred?".into();
        let text = text_of(&Prompt { question, sources: travel(), ..Prompt::default() });
        assert!(text.contains("180 euros") && text.contains("Trains are preferred under 600 km."), "{text}");
        assert!(text.contains("[1]") && text.contains("[2]"), "{text}");
    }

    #[test]
    fn a_follow_up_leans_on_the_question_before_it() {
        let prompt = Prompt {
            question: "And first class?".into(),
            previous_question: Some("When should I take trains?".into()),
            sources: travel(),
        };
        assert!(text_of(&prompt).contains("First class needs approval."));
    }

    #[test]
    fn a_passage_found_by_meaning_alone_is_quoted_from_its_beginning() {
        let sources = vec![source("FAQ", "", "You get your money back within a week. Write to us first.")];
        let text = text_of(&Prompt { question: "reimbursement?".into(), sources, ..Prompt::default() });
        assert!(text.contains("You get your money back within a week."), "{text}");
    }

    #[test]
    fn without_sources_the_answer_says_that_nothing_was_found() {
        let text = text_of(&Prompt { question: "Who won in 1966?".into(), ..Prompt::default() });
        assert_eq!(text, NOTHING_FOUND);
    }

    #[test]
    fn the_stream_ends_once_and_its_pieces_are_small() {
        let pieces = answer(&Prompt { question: "hotel".into(), sources: travel(), ..Prompt::default() });
        assert_eq!(pieces.iter().filter(|piece| matches!(piece, Piece::End(_))).count(), 1);
        assert_eq!(pieces.last(), Some(&Piece::End(FinishReason::Stop)));
        let longest =
            pieces.iter().filter_map(|p| if let Piece::Text(t) = p { Some(t.len()) } else { None }).max();
        assert!(longest.unwrap() < 100);
    }

    #[test]
    fn a_sentence_in_two_overlapping_passages_is_quoted_once() {
        let sources = vec![
            source("Handbook", "", "The deadline is Friday at noon."),
            source("Handbook", "", "The deadline is Friday at noon. Late reports wait a week."),
        ];
        let text =
            text_of(&Prompt { question: "When is the deadline?".into(), sources, ..Prompt::default() });
        assert_eq!(text.matches("Friday").count(), 1, "{text}");
    }
}
