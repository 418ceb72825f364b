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
pub mod sync;
mod tokenize;
mod types;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

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
    /// By collection; those that became empty are dropped.
    partitions: ArcSwap<Partitions>,
    /// Held through every change, never by a search.
    writer: Mutex<Writer>,
}

type Partitions = HashMap<CollectionId, Arc<Partition>>;

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
    pub fn put_all(&self, entries: Vec<DocumentEntry>, versions: Versions) -> Vec<(DocumentEntry, Error)> {
        let mut refused = Vec::new();
        let mut accepted: HashMap<DocumentId, (CollectionId, Incoming)> = HashMap::new();
        let mut writer = self.writer();
        for entry in entries {
            let (id, collection, version) = (entry.document, entry.collection, entry.version);
            let held = writer.documents.get(&id).copied();
            if versions == Versions::Higher && held.is_some_and(|held| held.version >= version) {
                continue;
            }
            let chunks = entry.chunks.len();
            let total = writer.chunks - held.map_or(0, |held| held.chunks) + chunks;
            match self.check(&entry, total) {
                Ok(units) => {
                    if let Some(held) = held.filter(|held| held.collection != collection) {
                        self.hide(&HashMap::from([(held.collection, vec![id])]));
                    }
                    writer.chunks = total;
                    writer.documents.insert(id, Held { collection, version, chunks });
                    accepted.insert(id, (collection, incoming(entry, units)));
                }
                Err(error) => refused.push((entry, error)),
            }
        }
        let mut by_collection: HashMap<CollectionId, Vec<Incoming>> = HashMap::new();
        for (collection, incoming) in accepted.into_values() {
            by_collection.entry(collection).or_default().push(incoming);
        }
        let partitions = self.with_partitions(by_collection.keys());
        for (collection, incoming) in by_collection {
            partitions[&collection].put(incoming, self.limits.dimension);
        }
        refused
    }

    /// Returns the version of a document that searches find; `None` also while a change is being made, for which this
    /// does not wait: ask again.
    pub fn version(&self, document: DocumentId) -> Option<i32> {
        let writer = match self.writer.try_lock() {
            Ok(writer) => writer,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        writer.documents.get(&document).map(|held| held.version)
    }

    /// Hides a document, unless a higher version than `version` is here; `None` hides any.
    pub fn remove(&self, document: DocumentId, version: Option<i32>) {
        let mut writer = self.writer();
        let held = writer.documents.get(&document);
        if held.is_some_and(|held| version.is_none_or(|version| version >= held.version)) {
            self.remove_from(&mut writer, &[document]);
        }
    }

    /// Hides documents, whatever their version.
    pub fn remove_all(&self, documents: &[DocumentId]) {
        self.remove_from(&mut self.writer(), documents);
    }

    /// Drops every document that is not in `documents`: the last step of a rebuild.
    pub fn retain(&self, documents: &HashSet<DocumentId>) {
        let mut writer = self.writer();
        let gone: Vec<DocumentId> =
            writer.documents.keys().filter(|id| !documents.contains(id)).copied().collect();
        self.remove_from(&mut writer, &gone);
    }

    /// Finds the passages that match a query best, in the collections that the caller may read.
    ///
    /// Returns `min(k, matches)` hits, best first, equal scores by ascending chunk id. Every chunk with a vector matches
    /// a query's vector; chunks that share a term match its text. Takes no lock, and per 100,000 chunks in reach about
    /// 1 ms of CPU for the vector and 1 ms for the words of a sentence (figures: `benches/search.sh`).
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

    /// Counts the passages that a search with `access` may look at, tombstones included: what it may cost.
    pub fn rows(&self, access: &ReadAccess) -> usize {
        let published = self.published(access);
        published.iter().flat_map(|views| views.iter()).map(|view| view.segment.rows()).sum()
    }

    /// Counts what the index holds. Waits for a change that is under way.
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

    /// Returns the entry's vectors at unit length, if they and `total` chunks can be had.
    fn check(&self, entry: &DocumentEntry, total: usize) -> Result<Vec<Option<Vec<f32>>>, Error> {
        if total > self.limits.chunks_max {
            return Err(Error::Full { chunks_max: self.limits.chunks_max });
        }
        let vectors = entry.chunks.iter().map(|chunk| chunk.vector.as_deref());
        vectors.map(|vector| vector.map(|vector| unit(vector, self.limits.dimension)).transpose()).collect()
    }

    /// The segments of the collections that `access` names, each collection once.
    fn published(&self, access: &ReadAccess) -> Vec<Arc<Vec<View>>> {
        let partitions = self.partitions.load();
        let mut collections = access.collections().to_vec();
        collections.sort_unstable();
        collections.dedup();
        collections.iter().filter_map(|id| partitions.get(id)).map(|partition| partition.views()).collect()
    }

    /// Returns the partitions with those of `collections` that were missing, made in one copy of the map: everybody has
    /// a collection of their own. Called under the writer's lock.
    fn with_partitions<'a>(&self, collections: impl Iterator<Item = &'a CollectionId>) -> Arc<Partitions> {
        let known = self.partitions.load_full();
        let missing: Vec<CollectionId> = collections.filter(|id| !known.contains_key(id)).copied().collect();
        if missing.is_empty() {
            return known;
        }
        let mut partitions = Partitions::clone(&known);
        partitions.extend(missing.into_iter().map(|collection| (collection, Arc::default())));
        let partitions = Arc::new(partitions);
        self.partitions.store(Arc::clone(&partitions));
        partitions
    }

    fn remove_from(&self, writer: &mut Writer, documents: &[DocumentId]) {
        let mut by_collection: HashMap<CollectionId, Vec<DocumentId>> = HashMap::new();
        for document in documents {
            if let Some(held) = writer.documents.get(document) {
                by_collection.entry(held.collection).or_default().push(*document);
            }
        }
        self.hide(&by_collection);
        // Forgotten last: after a panic on the way, a rebuild still knows what is to be hidden.
        for document in documents {
            if let Some(held) = writer.documents.remove(document) {
                writer.chunks -= held.chunks;
            }
        }
    }

    /// Hides documents and drops the partitions that became empty. Called under the writer's lock.
    fn hide(&self, by_collection: &HashMap<CollectionId, Vec<DocumentId>>) {
        let partitions = self.partitions.load_full();
        let mut empty = HashSet::new();
        for (collection, documents) in by_collection {
            let Some(partition) = partitions.get(collection) else { continue };
            partition.remove(documents, self.limits.dimension);
            if partition.views().is_empty() {
                empty.insert(collection);
            }
        }
        if !empty.is_empty() {
            let mut partitions = Partitions::clone(&partitions);
            partitions.retain(|collection, _| !empty.contains(collection));
            self.partitions.store(Arc::new(partitions));
        }
    }

    /// A panic of another writer is borne: what it left half done is mended by a build with [`Versions::Any`], which the
    /// reader of the log then starts.
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
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

fn incoming(entry: DocumentEntry, units: Vec<Option<Vec<f32>>>) -> Incoming {
    let chunks = entry.chunks.into_iter().zip(units).map(|(chunk, unit)| (chunk.id, chunk.text, unit));
    Incoming { id: entry.document, chunks: chunks.collect() }
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
