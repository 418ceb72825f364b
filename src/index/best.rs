//! The best k candidates seen so far.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::store::ids::ChunkId;

/// Where a candidate is stored: which segment of the search, and which row of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub segment: usize,
    pub row: usize,
}

/// One candidate; orders worse than another when its score is lower, or at equal scores its id is higher.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub score: f64,
    pub chunk: ChunkId,
    pub place: Place,
}

/// A heap with the worst of the best `k` on top.
#[derive(Debug)]
pub(super) struct Best {
    k: usize,
    heap: BinaryHeap<Candidate>,
}

impl Best {
    pub fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::with_capacity(k + 1) }
    }

    /// The score that a candidate must at least reach to matter; `f64::MIN` while fewer than `k` are known.
    pub fn threshold(&self) -> f64 {
        match self.heap.peek() {
            Some(worst) if self.heap.len() == self.k => worst.score,
            _ => f64::MIN,
        }
    }

    /// Keeps `candidate` if it is among the best `k`.
    pub fn offer(&mut self, candidate: Candidate) {
        if self.heap.len() < self.k {
            self.heap.push(candidate);
        } else if self.heap.peek().is_some_and(|worst| candidate < *worst) {
            self.heap.pop();
            self.heap.push(candidate);
        }
    }

    /// Returns the candidates, best first.
    pub fn into_sorted(self) -> Vec<Candidate> {
        self.heap.into_sorted_vec()
    }
}

impl Ord for Candidate {
    /// Greater is worse, so that the heap's top is the one to replace.
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.chunk.cmp(&other.chunk))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn candidate(score: f64, id: u128) -> Candidate {
        Candidate { score, chunk: ChunkId(Uuid::from_u128(id)), place: Place { segment: 0, row: 0 } }
    }

    #[test]
    fn keeps_the_highest_scores_and_at_equal_scores_the_lowest_ids() {
        let mut best = Best::new(3);
        for (score, id) in [(0.5, 9), (0.5, 2), (0.1, 1), (0.9, 7), (0.5, 3)] {
            best.offer(candidate(score, id));
        }
        let ids: Vec<u128> = best.into_sorted().iter().map(|found| found.chunk.0.as_u128()).collect();
        assert_eq!(ids, [7, 2, 3]);
    }

    #[test]
    fn has_no_threshold_until_it_is_full() {
        let mut best = Best::new(2);
        best.offer(candidate(0.7, 1));
        assert_eq!(best.threshold(), f64::MIN);
        best.offer(candidate(0.4, 2));
        assert_eq!(best.threshold(), 0.4);
    }
}
