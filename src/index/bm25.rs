//! Text ranking: Okapi BM25 with statistics over everything that is searched.
//!
//! Document frequency, count and mean length are those of the live chunks in all segments of all collections searched.
//! They do not depend on how the chunks are spread over segments, so nodes with different histories rank alike.

use std::collections::BTreeMap;

use super::best::{Best, Candidate, Place};
use super::segment::View;
use super::tokenize;
use crate::store::ids::DocumentId;

/// How soon repeats of a term stop to count; the usual value.
const SATURATION: f32 = 1.2;
/// How much a chunk's length counts against it, 0 to 1; the usual value.
const LENGTH_WEIGHT: f32 = 0.75;

/// A query term that occurs in what is searched.
struct Term {
    /// Its list in each view.
    lists: Vec<Option<usize>>,
    /// Inverse document frequency, times how often the query has it.
    weight: f32,
}

/// Finds the `k` live chunks of `documents` (all, if not set) that match `text` best, best first.
pub(super) fn search(
    views: &[&View],
    text: &str,
    k: usize,
    documents: Option<&[DocumentId]>,
) -> Vec<Candidate> {
    let count: usize = views.iter().map(|view| view.live_rows()).sum();
    let length: u64 = views.iter().map(|view| view.live_length).sum();
    if count == 0 || length == 0 {
        return Vec::new();
    }
    let terms = query_terms(views, text, count);
    let mean_length = length as f32 / count as f32;
    let mut best = Best::new(k);
    for (segment, view) in views.iter().enumerate() {
        let Some(scores) = segment_scores(view, segment, &terms, mean_length) else { continue };
        for row in view.rows(documents).into_iter().flatten() {
            let score = f64::from(scores[row]);
            if score > 0.0 && score >= best.threshold() && view.is_live(row) {
                let place = Place { segment, row };
                best.offer(Candidate { score, chunk: view.segment.chunk(row), place });
            }
        }
    }
    best.into_sorted()
}

/// Looks the query's terms up, in alphabetical order so that sums round alike everywhere.
fn query_terms(views: &[&View], text: &str, count: usize) -> Vec<Term> {
    let mut repeats: BTreeMap<String, u32> = BTreeMap::new();
    tokenize::terms(text, |term| *repeats.entry(term.to_owned()).or_default() += 1);
    let mut terms = Vec::new();
    for (term, repeats) in repeats {
        let lists: Vec<Option<usize>> = views.iter().map(|view| view.segment.text.find(&term)).collect();
        let frequency: usize = views.iter().zip(&lists).map(|(view, list)| live_frequency(view, *list)).sum();
        if frequency > 0 {
            let rarity = (count - frequency) as f32 + 0.5;
            let weight = (1.0 + rarity / (frequency as f32 + 0.5)).ln() * repeats as f32;
            terms.push(Term { lists, weight });
        }
    }
    terms
}

/// Live rows that have a term.
fn live_frequency(view: &View, list: Option<usize>) -> usize {
    let text = &view.segment.text;
    match list {
        None => 0,
        Some(list) if view.dead_rows == 0 => text.rows_in(list),
        Some(list) => text.iter(list).filter(|(row, _)| view.is_live(*row as usize)).count(),
    }
}

/// Scores all rows of one segment, tombstones included; `None` when no row has a term.
fn segment_scores(view: &View, segment: usize, terms: &[Term], mean_length: f32) -> Option<Vec<f32>> {
    if terms.iter().all(|term| term.lists[segment].is_none()) {
        return None;
    }
    let text = &view.segment.text;
    let mut scores = vec![0.0; view.segment.rows()];
    for term in terms {
        for (row, repeats) in term.lists[segment].into_iter().flat_map(|list| text.iter(list)) {
            let repeats = repeats as f32;
            let length = text.length(row as usize) as f32 / mean_length;
            let damping = SATURATION * (1.0 - LENGTH_WEIGHT + LENGTH_WEIGHT * length);
            scores[row as usize] += term.weight * repeats * (SATURATION + 1.0) / (repeats + damping);
        }
    }
    Some(scores)
}
