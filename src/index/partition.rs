//! One collection: segments that readers see through one atomic pointer.
//!
//! Every put adds a small segment; four of a size are merged into one of the next, so a row is copied once per size and
//! nothing large is copied for a small change. A segment is rewritten when too many of its rows are tombstones. Readers
//! hold the list that they started with.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::segment::{Incoming, Segment, View};
use crate::store::ids::DocumentId;

/// Segments of about the same size that trigger a merge, and the ratio between sizes. Fewer copies when larger, fewer
/// segments to visit in a search when smaller.
const MERGE_COUNT: usize = 4;
/// One of how many rows may be a tombstone before a segment is rewritten.
const DEAD_ROWS_MAX_PER: usize = 5;
/// Segments of this many rows are final: a merge of several would hold up the writer for seconds and double their memory
/// meanwhile.
const MERGE_ROWS_MAX: usize = 1 << 18;

/// The published state of one collection.
#[derive(Debug, Default)]
pub(super) struct Partition {
    views: ArcSwap<Vec<View>>,
}

impl Partition {
    /// What a search works on.
    pub fn views(&self) -> Arc<Vec<View>> {
        self.views.load_full()
    }

    /// Publishes `incoming`, hiding earlier versions of those documents. One writer at a time.
    pub fn put(&self, incoming: Vec<Incoming>, dimension: usize) {
        let mut views = self.views().to_vec();
        for document in &incoming {
            hide(&mut views, document.id);
        }
        if incoming.iter().any(|document| !document.chunks.is_empty()) {
            let with_rows = incoming.into_iter().filter(|document| !document.chunks.is_empty()).collect();
            views.push(View::new(Segment::build(with_rows, dimension)));
        }
        self.publish_and_tidy(views, dimension);
    }

    /// Hides documents. One writer at a time.
    pub fn remove(&self, documents: &[DocumentId], dimension: usize) {
        let mut views = self.views().to_vec();
        for document in documents {
            hide(&mut views, *document);
        }
        self.publish_and_tidy(views, dimension);
    }

    /// Readers see the change before the work on the segments' shape starts.
    fn publish_and_tidy(&self, mut views: Vec<View>, dimension: usize) {
        self.views.store(Arc::new(views.clone()));
        let mut tidied = false;
        while let Some(chosen) = next_merge(&views) {
            let merged: Vec<View> = chosen.iter().rev().map(|at| views.swap_remove(*at)).collect();
            views.extend(Segment::merge(&merged, dimension).map(View::new));
            tidied = true;
        }
        if tidied {
            self.views.store(Arc::new(views));
        }
    }
}

fn hide(views: &mut [View], document: DocumentId) {
    // A document lives in one segment at most.
    let _found = views.iter_mut().any(|view| view.hide(document));
}

/// Chooses segments to rewrite as one, as ascending indexes; `None` when the shape is right.
fn next_merge(views: &[View]) -> Option<Vec<usize>> {
    if let Some(at) = views.iter().position(|view| view.dead_rows * DEAD_ROWS_MAX_PER > view.segment.rows()) {
        return Some(vec![at]);
    }
    let size = |view: &View| view.live_rows().max(1).ilog(MERGE_COUNT);
    views.iter().filter(|view| view.live_rows() < MERGE_ROWS_MAX).map(size).find_map(|wanted| {
        let same: Vec<usize> = (0..views.len()).filter(|at| size(&views[*at]) == wanted).collect();
        (same.len() >= MERGE_COUNT).then_some(same)
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::store::ids::ChunkId;

    fn document(id: u128) -> Incoming {
        let chunk = (ChunkId(Uuid::from_u128(id)), format!("text {id}"), Some(vec![1.0, 0.0]));
        Incoming { id: DocumentId(Uuid::from_u128(id)), chunks: vec![chunk] }
    }

    #[test]
    fn single_documents_are_merged_into_few_segments() {
        let partition = Partition::default();
        for id in 0..1_000 {
            partition.put(vec![document(id)], 2);
        }
        let views = partition.views();
        assert_eq!(views.iter().map(View::live_rows).sum::<usize>(), 1_000);
        assert!(views.len() <= 3 * 5, "{} segments", views.len());
    }

    #[test]
    fn tombstones_are_compacted_away() {
        let partition = Partition::default();
        partition.put((0..100).map(document).collect(), 2);
        let gone = |range: std::ops::Range<u128>| {
            range.map(|id| DocumentId(Uuid::from_u128(id))).collect::<Vec<_>>()
        };
        partition.remove(&gone(0..20), 2);
        assert_eq!(partition.views()[0].dead_rows, 20);
        partition.remove(&gone(20..21), 2);
        assert_eq!((partition.views()[0].dead_rows, partition.views()[0].segment.rows()), (0, 79));
        partition.remove(&gone(0..100), 2);
        assert!(partition.views().is_empty());
    }

    #[test]
    fn a_reader_keeps_what_it_started_with() {
        let partition = Partition::default();
        partition.put(vec![document(1)], 2);
        let before = partition.views();
        partition.remove(&[DocumentId(Uuid::from_u128(1))], 2);
        assert_eq!(before[0].live_rows(), 1);
        assert!(partition.views().is_empty());
    }
}
