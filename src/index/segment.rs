//! An immutable run of documents, and the view of it that a partition publishes.

use std::ops::Range;
use std::sync::Arc;

use super::codes::Codes;
use super::postings::Postings;
use crate::store::ids::{ChunkId, DocumentId};

/// Documents with their chunks, codes and postings. A chunk is a row; a document's rows are adjacent.
#[derive(Debug)]
pub(super) struct Segment {
    /// By id, and so in the order of their rows.
    documents: Vec<DocumentRows>,
    chunks: Vec<ChunkId>,
    /// Absent when no chunk has a vector.
    pub codes: Option<Codes>,
    pub text: Postings,
}

/// A document's rows are `first` up to the next document's.
#[derive(Debug, Clone, Copy)]
struct DocumentRows {
    id: DocumentId,
    first: usize,
}

/// A document on its way into a segment; vectors are of unit length.
#[derive(Debug)]
pub(super) struct Incoming {
    pub id: DocumentId,
    pub chunks: Vec<(ChunkId, String, Option<Vec<f32>>)>,
}

/// A segment with its tombstones. Cheap to copy: published anew for every change.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub segment: Arc<Segment>,
    /// One bit per row, shared until the next delete; `None` while all rows live.
    dead: Option<Arc<Vec<u64>>>,
    /// Rows with their bit set.
    pub dead_rows: usize,
    /// Terms in live rows, repeats included.
    pub live_length: u64,
}

impl Segment {
    /// Builds a segment from at least one row.
    pub fn build(mut incoming: Vec<Incoming>, dimension: usize) -> Self {
        incoming.sort_by_key(|document| document.id);
        let rows = incoming.iter().map(|document| document.chunks.len()).sum();
        let chunks = || incoming.iter().flat_map(|document| &document.chunks);
        let mut codes = chunks().any(|chunk| chunk.2.is_some()).then(|| Codes::new(dimension, rows));
        if let Some(codes) = &mut codes {
            chunks().for_each(|chunk| codes.push(chunk.2.as_deref()));
        }
        let mut first = 0;
        let documents = incoming
            .iter()
            .map(|document| {
                let rows = DocumentRows { id: document.id, first };
                first += document.chunks.len();
                rows
            })
            .collect();
        Self {
            documents,
            chunks: chunks().map(|chunk| chunk.0).collect(),
            codes,
            text: Postings::build(chunks().map(|chunk| chunk.1.as_str())),
        }
    }

    /// Joins the live documents of several views; `None` when there are none.
    pub fn merge(views: &[View], dimension: usize) -> Option<Self> {
        let mut sources: Vec<(DocumentId, usize, Range<usize>)> = Vec::new();
        for (i, view) in views.iter().enumerate() {
            let documents = (0..view.segment.documents.len()).map(|at| view.segment.document_rows(at));
            let live = documents.filter(|(_, rows)| view.is_live(rows.start));
            sources.extend(live.map(|(id, rows)| (id, i, rows)));
        }
        sources.sort_by_key(|(id, ..)| *id);
        let count = sources.iter().map(|(.., rows)| rows.len()).sum();
        if count == 0 {
            return None;
        }
        let mut merged = Self {
            documents: Vec::new(),
            chunks: Vec::with_capacity(count),
            codes: None,
            text: Postings::default(),
        };
        let mut codes =
            views.iter().any(|view| view.segment.codes.is_some()).then(|| Codes::new(dimension, count));
        let mut moves: Vec<Vec<Option<u32>>> =
            views.iter().map(|view| vec![None; view.segment.rows()]).collect();
        for (id, i, rows) in sources {
            let from = &views[i].segment;
            merged.documents.push(DocumentRows { id, first: merged.chunks.len() });
            for row in rows {
                moves[i][row] = u32::try_from(merged.chunks.len()).ok();
                merged.chunks.push(from.chunks[row]);
                match (&mut codes, &from.codes) {
                    (Some(codes), Some(from)) => codes.push_row(from, row),
                    (Some(codes), None) => codes.push(None),
                    (None, _) => {}
                }
            }
        }
        let texts: Vec<&Postings> = views.iter().map(|view| &view.segment.text).collect();
        merged.text = Postings::merge(&texts, &moves, count);
        merged.codes = codes;
        Some(merged)
    }

    /// Rows, tombstones included.
    pub fn rows(&self) -> usize {
        self.chunks.len()
    }

    pub fn chunk(&self, row: usize) -> ChunkId {
        self.chunks[row]
    }

    /// The document that owns a row.
    pub fn document(&self, row: usize) -> DocumentId {
        let after = self.documents.partition_point(|document| document.first <= row);
        self.documents[after - 1].id
    }

    /// A document's rows, if it is here, tombstone or not.
    pub fn find(&self, document: DocumentId) -> Option<Range<usize>> {
        let at = self.documents.binary_search_by_key(&document, |rows| rows.id).ok()?;
        Some(self.document_rows(at).1)
    }

    /// Heap bytes.
    pub fn bytes(&self) -> usize {
        self.documents.capacity() * size_of::<DocumentRows>()
            + self.chunks.capacity() * size_of::<ChunkId>()
            + self.codes.as_ref().map_or(0, Codes::bytes)
            + self.text.bytes()
    }

    fn document_rows(&self, at: usize) -> (DocumentId, Range<usize>) {
        let end = self.documents.get(at + 1).map_or(self.rows(), |next| next.first);
        (self.documents[at].id, self.documents[at].first..end)
    }
}

impl View {
    /// Shows all of a segment.
    pub fn new(segment: Segment) -> Self {
        Self { live_length: segment.text.length_sum(), segment: Arc::new(segment), dead: None, dead_rows: 0 }
    }

    pub fn is_live(&self, row: usize) -> bool {
        self.dead.as_ref().is_none_or(|dead| dead[row / 64] >> (row % 64) & 1 == 0)
    }

    pub fn live_rows(&self) -> usize {
        self.segment.rows() - self.dead_rows
    }

    /// Hides a document. Returns whether it was here and alive.
    pub fn hide(&mut self, document: DocumentId) -> bool {
        let Some(rows) = self.segment.find(document) else { return false };
        if !self.is_live(rows.start) {
            return false;
        }
        let words = self.segment.rows().div_ceil(64);
        let dead = Arc::make_mut(self.dead.get_or_insert_with(|| Arc::new(vec![0; words])));
        self.dead_rows += rows.len();
        for row in rows {
            dead[row / 64] |= 1 << (row % 64);
            self.live_length -= u64::from(self.segment.text.length(row));
        }
        true
    }

    /// The rows that a search looks at: all, or those of `documents`, without repeats. Tombstones are included.
    pub fn rows(&self, documents: Option<&[DocumentId]>) -> Vec<Range<usize>> {
        let Some(documents) = documents else { return std::iter::once(0..self.segment.rows()).collect() };
        let mut rows: Vec<_> = documents.iter().filter_map(|document| self.segment.find(*document)).collect();
        rows.sort_by_key(|range| range.start);
        rows.dedup();
        rows
    }
}
