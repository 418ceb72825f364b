//! The in-memory index: exact scan, BM25 postings, fusion, kept current from the log in Postgres.
//!
//! Owns what a node needs to answer "which passages match", and returns ids only: text, membership and liveness are
//! asked of the database by the caller, so a stale index costs recall and shows nothing it should not.
//!
//! One `partition` per collection holds immutable `segment`s; a search loads the partitions' current lists through
//! atomic pointers and never waits for a writer. Vectors are scanned exactly (`codes`, `kernel`), words are ranked by
//! `bm25`, both lists are joined by `fusion`. Every result is a function of the live documents alone, not of the
//! history that brought them here, so nodes agree.

mod best;
mod bm25;
mod coded_query;
mod codes;
mod fusion;
mod kernel;
mod partition;
mod postings;
mod segment;
mod tokenize;
mod types;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwap;

use self::best::{Best, Candidate, Place};
use self::coded_query::{CodedQuery, unit};
use self::partition::Partition;
use self::segment::{Incoming, View};
pub use self::types::{ChunkEntry, DocumentEntry, Error, Hit, K_MAX, Limits, Mode, Query, Stats};
use crate::store::access::ReadAccess;
use crate::store::ids::{CollectionId, DocumentId};

/// How deep the two lists go that fusion joins; deeper ranks add less than the first ranks' rounding is worth.
const FUSION_DEPTH: usize = 50;

/// The index of one node. Shared between threads in an `Arc`.
#[derive(Debug)]
pub struct Index {
    limits: Limits,
    partitions: ArcSwap<HashMap<CollectionId, Arc<Partition>>>,
    /// Held through every change, never by a search.
    writer: Mutex<Writer>,
}

/// What only writers look at.
#[derive(Debug, Default)]
struct Writer {
    documents: HashMap<DocumentId, Held>,
    chunks: usize,
}

/// A live document.
#[derive(Debug, Clone, Copy)]
struct Held {
    collection: CollectionId,
    version: i32,
    chunks: usize,
}

impl Index {
    /// Makes an empty index.
    pub fn new(limits: Limits) -> Self {
        Self { limits, partitions: ArcSwap::default(), writer: Mutex::default() }
    }

    /// Publishes a version of a document; one with the same or a higher version already here stays.
    ///
    /// Searches that start after the return see it. Takes CPU time for tokenising, and now and then for joining
    /// segments (up to seconds in a partition of a million chunks): call it where blocking is allowed.
    ///
    /// # Errors
    /// [`Error::Dimension`], [`Error::NotFinite`], [`Error::ZeroVector`]: a vector is unusable; [`Error::Full`]. The
    /// version that was here before stays searchable.
    pub fn put(&self, entry: DocumentEntry) -> Result<(), Error> {
        let refused = self.put_all(vec![entry], Versions::Higher);
        refused.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Publishes many documents at once: much cheaper per document than [`put`](Self::put). Returns those refused.
    pub fn put_all(&self, entries: Vec<DocumentEntry>, versions: Versions) -> Vec<(DocumentId, Error)> {
        let mut refused = Vec::new();
        let mut accepted: HashMap<CollectionId, HashMap<DocumentId, (i32, Incoming)>> = HashMap::new();
        for entry in entries {
            let (collection, id, version) = (entry.collection, entry.document, entry.version);
            match self.incoming(entry) {
                Ok(incoming) => {
                    let same = accepted.entry(collection).or_default();
                    if same.get(&id).is_none_or(|(other, _)| *other < version) {
                        same.insert(id, (version, incoming));
                    }
                }
                Err(error) => refused.push((id, error)),
            }
        }
        let mut writer = self.writer();
        for (collection, documents) in accepted {
            let mut incoming = Vec::with_capacity(documents.len());
            for (id, (version, document)) in documents {
                let held = writer.documents.get(&id).copied();
                if versions == Versions::Higher && held.is_some_and(|held| held.version >= version) {
                    continue;
                }
                let chunks = document.chunks.len();
                let others = writer.chunks - held.map_or(0, |held| held.chunks);
                if others + chunks > self.limits.chunks_max {
                    refused.push((id, Error::Full { chunks_max: self.limits.chunks_max }));
                    continue;
                }
                if let Some(held) = held.filter(|held| held.collection != collection) {
                    self.hide(&held, id);
                }
                writer.chunks = others + chunks;
                writer.documents.insert(id, Held { collection, version, chunks });
                incoming.push(document);
            }
            if !incoming.is_empty() {
                self.partition(collection).put(incoming, self.limits.dimension);
            }
        }
        refused
    }

    /// Hides a document, unless a higher version than `version` is here; `None` hides any.
    pub fn remove(&self, document: DocumentId, version: Option<i32>) {
        let mut writer = self.writer();
        let Some(held) = writer.documents.get(&document).copied() else { return };
        if version.is_some_and(|version| version < held.version) {
            return;
        }
        writer.documents.remove(&document);
        writer.chunks -= held.chunks;
        self.hide(&held, document);
    }

    /// Drops a collection and all of its documents.
    pub fn remove_collection(&self, collection: CollectionId) {
        let mut writer = self.writer();
        let Writer { documents, chunks } = &mut *writer;
        documents.retain(|_, held| {
            let keep = held.collection != collection;
            if !keep {
                *chunks -= held.chunks;
            }
            keep
        });
        let mut partitions = HashMap::clone(&self.partitions.load());
        if partitions.remove(&collection).is_some() {
            self.partitions.store(Arc::new(partitions));
        }
    }

    /// Drops every document that is not in `documents`: the last step of a rebuild.
    pub fn retain(&self, documents: &HashSet<DocumentId>) {
        let gone: Vec<DocumentId> =
            self.writer().documents.keys().filter(|id| !documents.contains(id)).copied().collect();
        for document in gone {
            self.remove(document, None);
        }
    }

    /// Finds the passages that match a query best, in the collections that the caller may read.
    ///
    /// Returns `min(k, matches)` hits, best first, equal scores by ascending chunk id. Every chunk with a vector matches
    /// a query's vector; chunks that share a term match its text. Takes no lock.
    ///
    /// # Errors
    /// [`Error::K`], [`Error::Missing`] and those of an unusable vector: the caller's query is at fault.
    pub fn search(&self, access: &ReadAccess, query: &Query<'_>) -> Result<Vec<Hit>, Error> {
        if query.k == 0 || query.k > K_MAX {
            return Err(Error::K(query.k));
        }
        let vector = query.vector.map(|vector| unit(vector, self.limits.dimension)).transpose()?;
        let published = self.published(access);
        let views: Vec<&View> = published.iter().flat_map(|views| views.iter()).collect();
        let by_vector =
            |vector: &[f32], k| vector_search(&views, &CodedQuery::new(vector), k, query.documents);
        let by_text = |text: &str, k| bm25::search(&views, text, k, query.documents);
        Ok(match (query.mode, vector, query.text) {
            (Mode::Vector, Some(vector), _) => fusion::vector_hits(&views, &by_vector(&vector, query.k)),
            (Mode::Vector, None, _) => return Err(Error::Missing("vector")),
            (Mode::Text, _, Some(text)) => fusion::text_hits(&views, &by_text(text, query.k)),
            (Mode::Text, _, None) => return Err(Error::Missing("text")),
            (Mode::Fusion, None, None) => return Err(Error::Missing("text or vector")),
            (Mode::Fusion, vector, text) => {
                let depth = query.k.max(FUSION_DEPTH);
                let by_vector = vector.map(|vector| by_vector(&vector, depth)).unwrap_or_default();
                let by_text = text.map(|text| by_text(text, depth)).unwrap_or_default();
                fusion::fuse(&views, &by_vector, &by_text, query.k)
            }
        })
    }

    /// Counts the vectors that a search with `access` compares, those of tombstones included: what it will cost.
    pub fn vectors(&self, access: &ReadAccess) -> usize {
        let published = self.published(access);
        let views = published.iter().flat_map(|views| views.iter());
        views.map(|view| view.segment.codes.as_ref().map_or(0, codes::Codes::vectors)).sum()
    }

    /// Counts what the index holds.
    pub fn stats(&self) -> Stats {
        let (documents, chunks) = {
            let writer = self.writer();
            (writer.documents.len(), writer.chunks)
        };
        let mut stats = Stats { documents, chunks, ..Stats::default() };
        for partition in self.partitions.load().values() {
            for view in partition.views().iter() {
                stats.vectors += view.segment.codes.as_ref().map_or(0, codes::Codes::vectors);
                stats.postings += view.segment.text.pairs();
                stats.bytes += view.segment.bytes();
                stats.tombstones += view.dead_rows;
                stats.segments += 1;
            }
        }
        stats
    }

    /// Checks an entry's vectors and brings them to unit length.
    fn incoming(&self, entry: DocumentEntry) -> Result<Incoming, Error> {
        let chunks = entry.chunks.into_iter().map(|chunk| {
            let vector = chunk.vector.map(|vector| unit(&vector, self.limits.dimension)).transpose()?;
            Ok((chunk.id, chunk.text, vector))
        });
        Ok(Incoming { id: entry.document, chunks: chunks.collect::<Result<_, Error>>()? })
    }

    /// The segments of the collections that `access` names, each collection once.
    fn published(&self, access: &ReadAccess) -> Vec<Arc<Vec<View>>> {
        let partitions = self.partitions.load();
        let mut collections = access.collections().to_vec();
        collections.sort_unstable();
        collections.dedup();
        collections.iter().filter_map(|id| partitions.get(id)).map(|partition| partition.views()).collect()
    }

    /// Returns a collection's partition, making it first if need be. Called under the writer's lock.
    fn partition(&self, collection: CollectionId) -> Arc<Partition> {
        if let Some(partition) = self.partitions.load().get(&collection) {
            return Arc::clone(partition);
        }
        let partition = Arc::<Partition>::default();
        let mut partitions = HashMap::clone(&self.partitions.load());
        partitions.insert(collection, Arc::clone(&partition));
        self.partitions.store(Arc::new(partitions));
        partition
    }

    fn hide(&self, held: &Held, document: DocumentId) {
        if let Some(partition) = self.partitions.load().get(&held.collection) {
            partition.remove(&[document], self.limits.dimension);
        }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().expect("no writer panics: entries are checked before the lock is taken")
    }
}

/// Which versions [`Index::put_all`] takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// Higher ones than the version held.
    Higher,
    /// Any: the caller's state replaces whatever is held, as after a change of the database's epoch.
    Any,
}

/// Finds the `k` live chunks of `documents` (all, if not set) that are nearest to a query, nearest first.
fn vector_search(
    views: &[&View],
    query: &CodedQuery,
    k: usize,
    documents: Option<&[DocumentId]>,
) -> Vec<Candidate> {
    let mut best = Best::new(k);
    for (segment, view) in views.iter().enumerate() {
        let Some(codes) = &view.segment.codes else { continue };
        for rows in view.rows(documents) {
            codes.scan(
                query,
                rows,
                best.threshold(),
                |row| view.is_live(row),
                |row, score| {
                    best.offer(Candidate {
                        score,
                        chunk: view.segment.chunk(row),
                        place: Place { segment, row },
                    });
                    best.threshold()
                },
            );
        }
    }
    best.into_sorted()
}
