//! What is done from time to time: removing originals, finding orphans, embedding what was published without a model.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::{Parts, jittered};
use crate::rag::model::Ability;
use crate::store::{blob_removals, jobs};
use crate::telemetry::chain::chain;
use crate::telemetry::metrics;

/// How often removals of other nodes are looked for; this node's own are done at once.
const PURGE_INTERVAL: Duration = Duration::from_secs(30);

/// Originals that are removed between two looks at the database.
const PURGE_BATCH: i64 = 100;

/// How often documents without vectors are looked for.
const EMBED_INTERVAL: Duration = Duration::from_secs(10);

/// Documents that are queued for embedding at a time.
const EMBED_BATCH: i64 = 1000;

/// How often the waiting documents are counted, for the metrics.
const COUNT_INTERVAL: Duration = Duration::from_secs(15);

/// When the first sweep for orphans runs after a start, and how often then.
const SWEEP_DELAY: Duration = Duration::from_secs(600);
const SWEEP_INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// An original older than this without a document will never get one: an upload that is under way is younger.
const ORPHAN_AGE: Duration = Duration::from_secs(3600);

/// Originals that are compared with the database at a time.
const SWEEP_BATCH: usize = 1000;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Runs until `stopping` fires.
pub async fn run(parts: Arc<Parts>, stopping: CancellationToken) {
    let every = |delay: Duration, period: Duration| {
        let mut ticks = interval_at(Instant::now() + jittered(delay), period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    let mut purge = every(Duration::from_secs(1), PURGE_INTERVAL);
    let mut embed = every(Duration::from_secs(1), EMBED_INTERVAL);
    let mut count = every(Duration::from_secs(1), COUNT_INTERVAL);
    let mut sweep = every(SWEEP_DELAY, SWEEP_INTERVAL);
    loop {
        let (task, result) = tokio::select! {
            () = stopping.cancelled() => return,
            _ = purge.tick() => ("remove originals", remove_originals(&parts).await),
            () = parts.deleted.notified() => ("remove originals", remove_originals(&parts).await),
            _ = embed.tick() => ("queue embeddings", queue_embeddings(&parts).await),
            _ = count.tick() => ("count jobs", count_jobs(&parts).await),
            _ = sweep.tick() => ("sweep originals", sweep_orphans(&parts).await),
        };
        if let Err(error) = result {
            log::debug!(error:% = chain(&*error); "cannot {task}");
        }
    }
}

/// Removes the originals of deleted documents. What fails goes to the end of the queue.
async fn remove_originals(parts: &Parts) -> Result<()> {
    loop {
        let due = blob_removals::due(&parts.store.primary().await?, PURGE_BATCH).await?;
        let is_last = i64::try_from(due.len()).is_ok_and(|count| count < PURGE_BATCH);
        let (mut removed, mut stuck) = (Vec::new(), Vec::new());
        for blob in due {
            match parts.blobs.delete(&blob).await {
                Ok(()) => removed.push(blob),
                Err(error) => {
                    log::warn!(blob, error:% = chain(&error); "cannot remove original {blob}");
                    stuck.push(blob);
                }
            }
        }
        let client = parts.store.primary().await?;
        blob_removals::done(&client, &removed).await?;
        blob_removals::postpone(&client, &stuck).await?;
        // What is stuck is tried again at the next interval, not at once.
        if is_last || !stuck.is_empty() {
            return Ok(());
        }
    }
}

/// Queues the documents that were published while there was no model.
async fn queue_embeddings(parts: &Parts) -> Result<()> {
    if let Ability::Vectors { .. } = parts.model.ability() {
        let queued = jobs::queue_embeddings(&parts.store.primary().await?, EMBED_BATCH).await?;
        if queued > 0 {
            log::info!(count = queued; "embedding {queued} documents that were searchable by words only");
            parts.uploaded.notify_waiters();
        }
    }
    Ok(())
}

async fn count_jobs(parts: &Parts) -> Result<()> {
    let waiting = jobs::count_waiting(&parts.store.primary().await?).await?;
    metrics::DOCUMENTS_WAITING.set(waiting);
    Ok(())
}

/// Finds originals that a crash left without a document.
async fn sweep_orphans(parts: &Parts) -> Result<()> {
    let blobs = parts.blobs.clone();
    tokio::task::spawn_blocking(move || blobs.sweep_unfinished(ORPHAN_AGE)).await?;
    let mut groups = parts.blobs.older_than(ORPHAN_AGE, SWEEP_BATCH);
    while let Some(group) = groups.next().await {
        let orphans = blob_removals::add_orphans(&parts.store.primary().await?, &group?).await?;
        if orphans > 0 {
            log::info!(count = orphans; "found {orphans} originals without a document");
        }
    }
    remove_originals(parts).await
}
