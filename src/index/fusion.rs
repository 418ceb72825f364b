//! Joins the vector list and the text list into one.

use std::collections::BTreeMap;

use super::best::{Candidate, Place};
use super::segment::View;
use super::types::Hit;
use crate::store::ids::ChunkId;

/// What is added to a rank before it is inverted: how little the first places are preferred. The value of the original
/// paper (Cormack, Clarke and Büttcher 2009), which nobody has found to matter much.
const RANK_OFFSET: u32 = 60;

/// Places of one chunk in the two lists, from 1.
#[derive(Default)]
struct Ranks {
    place: Option<Place>,
    vector: Option<(u32, f64)>,
    text: Option<u32>,
}

/// Orders all candidates by reciprocal rank sum, then by id, and returns the best `k`.
pub(super) fn fuse(views: &[&View], vector: &[Candidate], text: &[Candidate], k: usize) -> Vec<Hit> {
    let mut ranks: BTreeMap<ChunkId, Ranks> = BTreeMap::new();
    for (rank, candidate) in (1..).zip(vector) {
        let entry = ranks.entry(candidate.chunk).or_default();
        entry.place = Some(candidate.place);
        entry.vector = Some((rank, candidate.score));
    }
    for (rank, candidate) in (1..).zip(text) {
        let entry = ranks.entry(candidate.chunk).or_default();
        entry.place = Some(candidate.place);
        entry.text = Some(rank);
    }
    let mut hits: Vec<Hit> = ranks
        .into_iter()
        .filter_map(|(chunk, ranks)| {
            let place = ranks.place?;
            let vector_rank = ranks.vector.map(|(rank, _)| rank);
            let reciprocal = |rank: Option<u32>| rank.map_or(0.0, |rank| 1.0 / (RANK_OFFSET + rank) as f32);
            Some(Hit {
                chunk,
                document: views[place.segment].segment.document(place.row),
                score: reciprocal(vector_rank) + reciprocal(ranks.text),
                vector_rank,
                text_rank: ranks.text,
                cosine: ranks.vector.map(|(_, score)| cosine(score)),
            })
        })
        .collect();
    // Stable: equal scores stay in the map's order, by id.
    hits.sort_by(|a, b| b.score.total_cmp(&a.score));
    hits.truncate(k);
    hits
}

/// The hits of the vector list alone.
pub(super) fn vector_hits(views: &[&View], list: &[Candidate]) -> Vec<Hit> {
    (1..)
        .zip(list)
        .map(|(rank, candidate)| {
            let cosine = cosine(candidate.score);
            Hit { vector_rank: Some(rank), cosine: Some(cosine), ..hit(views, candidate, cosine) }
        })
        .collect()
}

/// The hits of the text list alone.
pub(super) fn text_hits(views: &[&View], list: &[Candidate]) -> Vec<Hit> {
    (1..)
        .zip(list)
        .map(|(rank, candidate)| Hit {
            text_rank: Some(rank),
            ..hit(views, candidate, narrow(candidate.score))
        })
        .collect()
}

fn hit(views: &[&View], candidate: &Candidate, score: f32) -> Hit {
    let document = views[candidate.place.segment].segment.document(candidate.place.row);
    Hit { chunk: candidate.chunk, document, score, vector_rank: None, text_rank: None, cosine: None }
}

/// Rounding may carry a score past the ends.
fn cosine(score: f64) -> f32 {
    narrow(score.clamp(-1.0, 1.0))
}

#[expect(clippy::cast_possible_truncation, reason = "scores are small and f32 is what callers compare")]
fn narrow(score: f64) -> f32 {
    score as f32
}
