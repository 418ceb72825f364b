//! The answerer without a model: quotes the sentences that fit the question best, each with its source.
//!
//! A sentence is worth how close it is to the question in meaning, where that is known, plus the share of the question's
//! words that it has and no sentence before it had (a word that few sentences have weighs more). Sentences of passages
//! that ranked higher, and neighbours of what is already quoted, are worth a little more. It never sums up or rephrases:
//! every claim is a quote.

use std::collections::{HashMap, HashSet};

use super::sentences::split;
use super::words::terms;
use super::{FinishReason, Piece, Prompt, Source, Usage};

/// The most sentences that one answer quotes.
const SENTENCES_MAX: usize = 4;

/// A further sentence must be worth at least this share of the best one.
const WORTH_MIN: f32 = 0.6;

/// What all words of the question together are worth, beside a closeness of 1.
const WORDS_WORTH: f32 = 0.5;

/// What is left of a word's weight once a chosen sentence has it.
const COVERED_SHARE: f32 = 0.25;

/// What a word of the previous question weighs beside one of the question.
const PREVIOUS_SHARE: f32 = 0.4;

/// What a sentence loses for each rank of its passage below the first.
const RANK_STEP: f32 = 0.02;

/// What a neighbour of a chosen sentence gains.
const NEIGHBOUR_WORTH: f32 = 0.08;

/// What the opening of the best passage is worth by itself: retrieval may find by meaning what shares no word.
const OPENING_WORTH: f32 = 0.05;

/// Words in one piece of the stream.
const PIECE_WORDS: usize = 4;

/// What stands between the headings of a path.
const HEADING_SEPARATOR: &str = " > ";

const NOTE: &str = "No language model is configured, so this answer quotes your documents instead of putting them in its own words.";

const NOTHING_FOUND: &str = "I found nothing in your documents that answers this question. No language model is \
                             configured, so answers can only quote what your documents say.";

/// Writes the whole answer, cut into pieces of a few words.
pub fn answer(prompt: &Prompt) -> Vec<Piece> {
    let chosen = choose(prompt);
    let text = if chosen.is_empty() { NOTHING_FOUND.to_owned() } else { compose(&prompt.sources, &chosen) };
    let mut pieces: Vec<Piece> = pieces(&text).map(|piece| Piece::Text(piece.to_owned())).collect();
    pieces.push(Piece::Usage(Usage::default()));
    pieces.push(Piece::End(FinishReason::Stop));
    pieces
}

/// A sentence that may be quoted.
struct Candidate {
    /// Index of its passage in the prompt's sources.
    source: usize,
    /// Index of the sentence in its passage.
    position: usize,
    text: String,
    terms: HashSet<String>,
    /// How close it is to the question in meaning; 0 where that is not known.
    closeness: f32,
}

/// Chooses the sentences to quote: passages in order of their best sentence, sentences of a passage in reading order.
fn choose(prompt: &Prompt) -> Vec<Candidate> {
    let mut candidates = candidates(prompt);
    let mut weights = weights(prompt, &candidates);
    let mut chosen: Vec<Candidate> = Vec::new();
    let mut best_worth = 0.0;
    while chosen.len() < SENTENCES_MAX {
        let Some((index, worth)) = best(&candidates, &weights, &chosen) else { break };
        if worth <= 0.0 || worth < best_worth * WORTH_MIN {
            break;
        }
        best_worth = f32::max(best_worth, worth);
        let candidate = candidates.swap_remove(index);
        for term in &candidate.terms {
            weights.entry(term.clone()).and_modify(|weight| *weight *= COVERED_SHARE);
        }
        // An overlap of two passages holds the same sentence twice.
        candidates.retain(|other| other.text != candidate.text);
        chosen.push(candidate);
    }
    let order: Vec<usize> = chosen.iter().map(|candidate| candidate.source).collect();
    chosen.sort_by_key(|c| (order.iter().position(|source| *source == c.source), c.position));
    chosen
}

fn candidates(prompt: &Prompt) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for (index, source) in prompt.sources.iter().enumerate() {
        // Headings answer too: "Refunds" above a sentence that does not repeat the word.
        let heading = terms(&format!("{} {}", source.title, source.heading));
        for (position, text) in split(&source.text).into_iter().enumerate() {
            let terms = terms(&text).into_iter().chain(heading.iter().cloned()).collect();
            let closeness = prompt.closeness.get(index).and_then(|known| known.get(position));
            let closeness = closeness.copied().unwrap_or(0.0);
            candidates.push(Candidate {
                source: index,
                position,
                text: without_markers(&text),
                terms,
                closeness,
            });
        }
    }
    candidates
}

/// Weighs each word of the questions by how few of the candidates have it. All weights together are [`WORDS_WORTH`].
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

/// Returns the index and worth of the best candidate; of equals the one whose passage ranks first.
fn best(
    candidates: &[Candidate],
    weights: &HashMap<String, f32>,
    chosen: &[Candidate],
) -> Option<(usize, f32)> {
    let mut best: Option<(usize, f32)> = None;
    for (index, candidate) in candidates.iter().enumerate() {
        let words: f32 = candidate.terms.iter().filter_map(|term| weights.get(term)).sum();
        let is_opening = candidate.source == 0 && candidate.position == 0;
        let is_neighbour = chosen.iter().any(|other| {
            other.source == candidate.source && other.position.abs_diff(candidate.position) == 1
        });
        let mut worth = candidate.closeness + words - RANK_STEP * as_f32(candidate.source);
        worth += if is_opening { OPENING_WORTH } else { 0.0 };
        worth += if is_neighbour { NEIGHBOUR_WORTH } else { 0.0 };
        let key = |index: usize| (candidates[index].source, candidates[index].position);
        let is_better =
            best.is_none_or(|(other, value)| worth > value || (worth >= value && key(index) < key(other)));
        if is_better {
            best = Some((index, worth));
        }
    }
    best
}

/// Writes one paragraph per passage: where it is from, the quotes, the citation.
fn compose(sources: &[Source], chosen: &[Candidate]) -> String {
    let mut text = String::new();
    for group in chosen.chunk_by(|a, b| a.source == b.source) {
        let index = group[0].source;
        let source = &sources[index];
        text.push_str(&without_markers(&place(source)));
        text.push_str(": “");
        for (place, sentence) in group.iter().enumerate() {
            if place > 0 {
                let follows = sentence.position == group[place - 1].position + 1;
                text.push_str(if follows { " " } else { " … " });
            }
            text.push_str(&sentence.text);
        }
        text.push_str(&format!("” [{}]\n\n", index + 1));
    }
    text.push_str(NOTE);
    text
}

/// Where a passage is: the title and, in parentheses, the headings. A document's first heading is often its title.
fn place(Source { title, heading, .. }: &Source) -> String {
    let below = match heading.strip_prefix(title.as_str()) {
        Some("") => "",
        Some(rest) => rest.strip_prefix(HEADING_SEPARATOR).unwrap_or(heading),
        None => heading,
    };
    if below.is_empty() { title.clone() } else { format!("{title} ({below})") }
}

/// Drops `[12]` and the like from quoted text, which would read as citations of ours.
fn without_markers(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('[') {
        let inner = &rest[start + 1..];
        let end = inner.find(|c: char| !c.is_ascii_digit() && c != ',' && c != ' ').unwrap_or(inner.len());
        if end > 0 && inner[end..].starts_with(']') {
            kept.push_str(rest[..start].trim_end());
            rest = &inner[end + 1..];
        } else {
            kept.push_str(&rest[..=start]);
            rest = inner;
        }
    }
    kept.push_str(rest);
    kept
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

    fn source(title: &str, heading: &str, text: &str) -> Source {
        Source { title: title.into(), heading: heading.into(), text: text.into() }
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
    fn the_title_is_said_once_where_the_headings_begin_with_it() {
        let place_of = |heading| place(&source("Security", heading, ""));
        assert_eq!(place_of("Security > Backups > Tapes"), "Security (Backups > Tapes)");
        assert_eq!((place_of("Security"), place_of("")), ("Security".into(), "Security".into()));
        assert_eq!(place_of("Security of buildings"), "Security (Security of buildings)");
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
            ..Prompt::default()
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
    fn the_sentence_that_is_closest_in_meaning_is_quoted_although_it_shares_no_word() {
        let sources = vec![source("FAQ", "", "Write to us first. You get your money back within a week.")];
        let closeness = vec![vec![0.1, 0.6]];
        let prompt = Prompt { question: "reimbursement?".into(), sources, closeness, ..Prompt::default() };
        let text = text_of(&prompt);
        assert!(text.contains("“You get your money back within a week.”"), "{text}");
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
    fn numbers_in_brackets_of_a_quote_are_not_citations() {
        assert_eq!(
            without_markers("Water boils [3] at 100 °C [4, 5]. See [a] and x[i]."),
            "Water boils at 100 °C. See [a] and x[i]."
        );
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
