//! Keeps the index equal to the database: a build from its whole state, then the log of changes, for ever.
//!
//! One task per node reads; nothing else writes to the index, so the state it loads never goes back in time. Rows of the
//! log only name documents: what is put into the index is their state at the moment of loading, and the log's position
//! moves on after that. So every step can be repeated, and a failed one is. When the database turns out to have another
//! history than the position's, the index takes the database's state as it is, in place: searches go on meanwhile.

use std::any::Any;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{ChunkEntry, DocumentEntry, Error, Index, Versions};
use crate::store::ids::DocumentId;
use crate::store::index_log::{self, DocumentSize, DocumentState, Poll, Position};
use crate::store::{self, Store};
use crate::telemetry::chain::chain;
use crate::telemetry::metrics;

/// Time between polls. A change is searchable on all nodes in about this plus the time to load it.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Rows of one poll; when it returns as many, the next follows at once.
const POLL_ROWS_MAX: usize = 1_000;
/// Passages loaded at once (a larger document is loaded alone): about 10 MB with text and vectors.
const LOAD_CHUNKS_MAX: usize = 2_000;
/// How long one statement of a build, or the work between two, may take.
const BUILD_STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait after errors of the database.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The reader of the log. Shared in an `Arc`.
#[derive(Debug)]
pub struct Follower {
    index: Arc<Index>,
    store: Store,
    wake: Notify,
    caught_up: watch::Sender<bool>,
}

impl Follower {
    /// Makes a reader that fills `index`; [`run`](Self::run) does the work.
    pub fn new(index: Arc<Index>, store: Store) -> Self {
        Self { index, store, wake: Notify::new(), caught_up: watch::Sender::new(false) }
    }

    /// Polls at once instead of at the next interval: something was published here.
    pub fn notify(&self) {
        self.wake.notify_one();
    }

    /// Watches whether the index has once held all that the log had: from then on it stays true, whatever becomes of
    /// the database.
    pub fn caught_up(&self) -> watch::Receiver<bool> {
        self.caught_up.subscribe()
    }

    /// Follows the database until `stopping` fires. Errors are logged and retried. Started again after a panic, it builds
    /// the index anew, in place.
    ///
    /// # Cancellation
    /// Between two changes of the index nothing is lost: the next run builds anew.
    pub async fn run(self: Arc<Self>, stopping: CancellationToken) {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&self) {
        let mut position = None;
        let mut failures = 0;
        loop {
            match self.step(&mut position).await {
                Ok(more) => {
                    if failures > 0 {
                        log::info!("index follows the database again after {failures} failed attempts");
                        failures = 0;
                    }
                    if more {
                        continue;
                    }
                    self.caught_up.send_if_modified(|caught_up| !std::mem::replace(caught_up, true));
                    tokio::select! {
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep(POLL_INTERVAL) => {}
                    }
                }
                Err(error) => {
                    failures += 1;
                    // The first of a row is news; the others say the same.
                    let level = if failures == 1 { log::Level::Warn } else { log::Level::Debug };
                    log::log!(level, error:% = chain(&error); "index cannot follow the database, trying again");
                    tokio::time::sleep(backoff(failures)).await;
                }
            }
        }
    }

    /// Builds the index if there is no position yet, else reads on from it. Returns whether there may be more.
    async fn step(&self, position: &mut Option<Position>) -> Result<bool, store::Error> {
        let Some(known) = position else {
            *position = Some(self.build().await?);
            return Ok(true);
        };
        let poll = index_log::poll(&self.store.primary().await?, known, POLL_ROWS_MAX).await?;
        match poll {
            Poll::EpochChanged => {
                log::warn!("the log of changes does not go on where it was read: comparing the whole index");
                *position = None;
                Ok(true)
            }
            Poll::Rows { documents, position: next } => {
                let more = documents.len() == POLL_ROWS_MAX;
                self.apply(documents.into_iter().collect()).await?;
                *position = Some(next);
                Ok(more)
            }
        }
    }

    /// Takes the whole state of one snapshot, whatever the index held. Returns where the log goes on from it.
    async fn build(&self) -> Result<Position, store::Error> {
        let started = Instant::now();
        let mut client = self.store.primary().await?;
        let mut snapshot = client.snapshot().await?;
        let position = index_log::start(&snapshot).await?;
        let sizes = index_log::list(&mut snapshot, BUILD_STATEMENT_TIMEOUT).await?;
        for batch in batches(&sizes) {
            let states = index_log::load_in(&snapshot, &batch).await?;
            self.put(states, Versions::Any).await;
        }
        snapshot.commit().await?;
        let published: HashSet<DocumentId> = sizes.iter().map(|size| size.id).collect();
        self.change(move |index| index.retain(&published)).await;
        let stats = self.index.stats();
        log::info!(
            documents = stats.documents, chunks = stats.chunks, size_bytes = stats.bytes,
            duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            "index built: {} documents, {} chunks", stats.documents, stats.chunks
        );
        Ok(position)
    }

    /// Brings documents to their state in the database: published, or gone.
    async fn apply(&self, documents: BTreeSet<DocumentId>) -> Result<(), store::Error> {
        if documents.is_empty() {
            return Ok(());
        }
        let named: Vec<DocumentId> = documents.iter().copied().collect();
        let sizes = index_log::sizes(&self.store.primary().await?, &named).await?;
        let mut gone = documents;
        for batch in batches(&sizes) {
            let states = index_log::load(&self.store.primary().await?, &batch).await?;
            for state in &states {
                gone.remove(&state.id);
            }
            self.put(states, Versions::Higher).await;
        }
        let gone: Vec<DocumentId> = gone.into_iter().collect();
        self.change(move |index| index.remove_all(&gone)).await;
        Ok(())
    }

    /// Puts one load into the index. Where that panics, its documents are put one by one, and the one at fault is left
    /// out: it must not keep all others from being found.
    async fn put(&self, states: Vec<DocumentState>, versions: Versions) {
        let states = Arc::new(states);
        let whole = Arc::clone(&states);
        if self.try_change(move |index| put(index, &whole, versions)).await.is_ok() {
            return;
        }
        for at in 0..states.len() {
            let load = Arc::clone(&states);
            // The versions may be noted already.
            let alone = move |index: &Index| put(index, &load[at..=at], Versions::Any);
            if self.try_change(alone).await.is_err() {
                metrics::PANICS.add(1);
                let document = states[at].id;
                log::error!(document:%; "the index panicked on document {document} and goes on without it");
            }
        }
    }

    /// Runs a change where it may take its time; passes its panic on.
    async fn change(&self, change: impl FnOnce(&Index) + Send + 'static) {
        if let Err(panic) = self.try_change(change).await {
            std::panic::resume_unwind(panic);
        }
    }

    /// Runs a change where it may take its time. It completes even if this future is dropped.
    async fn try_change(
        &self,
        change: impl FnOnce(&Index) + Send + 'static,
    ) -> Result<(), Box<dyn Any + Send>> {
        let index = Arc::clone(&self.index);
        match tokio::task::spawn_blocking(move || change(&index)).await {
            Err(error) if error.is_panic() => Err(error.into_panic()),
            // Cancelled with the runtime, which ends this task too.
            _ => Ok(()),
        }
    }
}

/// Puts states into the index. A document whose vectors it refuses stays searchable by its words.
fn put(index: &Index, states: &[DocumentState], versions: Versions) {
    let refused = index.put_all(states.iter().map(entry).collect(), versions);
    let mut by_words = Vec::new();
    for (mut entry, error) in refused {
        metrics::INDEX_REFUSED.add(1);
        log::warn!(document:% = entry.document, error:%; "index cannot take document {} as it is", entry.document);
        if !matches!(error, Error::Full { .. }) {
            entry.chunks.iter_mut().for_each(|chunk| chunk.vector = None);
            by_words.push(entry);
        }
    }
    index.put_all(by_words, versions);
}

fn entry(state: &DocumentState) -> DocumentEntry {
    let chunks = state.chunks.iter().map(|chunk| ChunkEntry {
        id: chunk.id,
        text: if chunk.heading.is_empty() {
            chunk.text.clone()
        } else {
            format!("{}\n{}", chunk.heading, chunk.text)
        },
        vector: chunk.vector.clone(),
    });
    DocumentEntry {
        collection: state.collection,
        document: state.id,
        version: state.version,
        chunks: chunks.collect(),
    }
}

/// Cuts a list into loads of bounded size.
fn batches(sizes: &[DocumentSize]) -> Vec<Vec<DocumentId>> {
    let mut batches: Vec<Vec<DocumentId>> = Vec::new();
    let mut room = 0;
    for size in sizes {
        // A document without passages takes room too: the number of ids in a statement stays bounded.
        let needed = size.chunks.max(1);
        match batches.last_mut() {
            Some(batch) if needed <= room => batch.push(size.id),
            _ => {
                batches.push(vec![size.id]);
                room = LOAD_CHUNKS_MAX;
            }
        }
        room = room.saturating_sub(needed);
    }
    batches
}

/// How long to wait after this many failures in a row: doubling from the poll interval, with jitter so that nodes do
/// not come back together.
fn backoff(failures: u32) -> Duration {
    let longest = POLL_INTERVAL.saturating_mul(1 << failures.min(10)).min(BACKOFF_MAX);
    longest.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(chunks: &[usize]) -> Vec<DocumentSize> {
        chunks.iter().map(|chunks| DocumentSize { id: DocumentId::new(), chunks: *chunks }).collect()
    }

    #[test]
    fn loads_are_bounded_and_complete() {
        let limit = LOAD_CHUNKS_MAX;
        let counts = |chunks: &[usize]| batches(&sizes(chunks)).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(counts(&[]), [0; 0]);
        assert_eq!(counts(&[limit - 1, 1, 1]), [2, 1]);
        assert_eq!(counts(&[limit, 1]), [1, 1]);
        assert_eq!(counts(&[limit + 5, limit + 5]), [1, 1]);
        assert_eq!(counts(&vec![0; limit + 1]), [limit, 1]);
    }

    #[test]
    fn waits_grow_up_to_the_longest() {
        for failures in 1..50 {
            let wait = backoff(failures);
            assert!(wait >= POLL_INTERVAL && wait <= BACKOFF_MAX, "{wait:?} after {failures}");
        }
    }
}
