//! Makes uploaded documents searchable: workers that take jobs, and upkeep beside them.
//!
//! A worker holds one job at a time, under a lease that it renews ([`crate::store::jobs`]); whatever happens to this
//! process, another takes the job when the lease runs out. [`work`] is what is done with one document, [`upkeep`] what
//! is done from time to time. Nobody is told of a change directly: watchers are woken and read the database.

mod turns;
mod upkeep;
mod work;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, watch};
use tokio_util::sync::CancellationToken;

use super::extract::Reason;
use super::model::{Ability, Model};
use crate::config::Settings;
use crate::store::jobs::{self, Job, Kind};
use crate::store::{Error, Store, blobs::Blobs};
use crate::telemetry::chain::chain;
use crate::telemetry::metrics;
use crate::telemetry::tasks::Tasks;
use turns::{Turn, Turns};
use work::Trouble;

/// How often a worker without work looks for jobs of other nodes and for expired leases.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How long a worker waits after the database failed it.
const DATABASE_RETRY: Duration = Duration::from_secs(2);

/// How long a document waits after an attempt that failed for a reason that may pass.
const ATTEMPT_RETRY: Duration = Duration::from_secs(5);

/// Positions in [`metrics::DOCUMENT_OUTCOMES`].
const READY: usize = 0;
const FAILED: usize = 1;

/// Limits of ingestion.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Documents that are worked on at a time.
    pub workers: usize,
    /// How long a silent node keeps a document.
    pub lease: Duration,
    /// Times that a document is tried.
    pub attempts_max: u32,
    /// Longest text of a document, in bytes.
    pub text_bytes_max: usize,
    /// How long one statement of a publication may take.
    pub statement_timeout: Duration,
}

impl Options {
    /// Takes the limits out of the settings.
    pub fn of(settings: &Settings) -> Self {
        Self {
            workers: settings.ingest.workers,
            lease: settings.ingest.lease,
            attempts_max: settings.ingest.attempts_max,
            text_bytes_max: usize::try_from(settings.upload.text_bytes_max.bytes()).unwrap_or(usize::MAX),
            statement_timeout: settings.database_ingest_timeout,
        }
    }
}

/// Ingestion on this node. Clones are the same.
#[derive(Clone)]
pub struct Ingest(Arc<Parts>);

struct Parts {
    store: Store,
    blobs: Blobs,
    model: Arc<Model>,
    options: Options,
    on_published: Box<dyn Fn() + Send + Sync>,
    uploaded: Notify,
    deleted: Notify,
    changes: watch::Sender<u64>,
    claiming: Mutex<()>,
    turns: Turns,
}

impl Ingest {
    /// Puts ingestion together; nothing runs yet.
    ///
    /// * `on_published`: called after each publication, to wake this node's index.
    pub fn new(
        store: Store,
        blobs: Blobs,
        model: Arc<Model>,
        options: Options,
        on_published: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Parts {
            store,
            blobs,
            model,
            options,
            on_published: Box::new(on_published),
            uploaded: Notify::new(),
            deleted: Notify::new(),
            changes: watch::Sender::new(0),
            claiming: Mutex::default(),
            turns: Turns::new(options.workers),
        }))
    }

    /// Starts the workers and the upkeep in `tasks`. They give their jobs back and end when the group stops.
    pub fn start(&self, tasks: &Tasks) {
        for _ in 0..self.0.options.workers {
            let (parts, stopping) = (Arc::clone(&self.0), tasks.stopping().clone());
            let work = move || Arc::clone(&parts).run_worker(stopping.clone());
            tasks.spawn_vital("ingestion worker", work);
        }
        let (parts, stopping) = (Arc::clone(&self.0), tasks.stopping().clone());
        tasks.spawn_vital("ingestion upkeep", move || upkeep::run(Arc::clone(&parts), stopping.clone()));
    }

    /// Says that a document was queued: a worker takes it at once.
    pub fn note_upload(&self) {
        self.0.uploaded.notify_one();
        self.0.note_change();
    }

    /// Says that a document was deleted: its original is removed soon.
    pub fn note_deletion(&self) {
        self.0.deleted.notify_one();
        self.0.note_change();
    }

    /// Watches for changes of documents that this node made; the number has no meaning but that it changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }
}

impl Parts {
    fn note_change(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    async fn run_worker(self: Arc<Self>, stopping: CancellationToken) {
        while !stopping.is_cancelled() {
            let wait = match self.claim().await {
                Ok(Some((job, _turn))) => {
                    self.process(job, &stopping).await;
                    continue;
                }
                Ok(None) => POLL_INTERVAL,
                Err(error) => {
                    log::debug!(error:% = chain(&error); "cannot take an ingestion job");
                    DATABASE_RETRY
                }
            };
            tokio::select! {
                () = stopping.cancelled() => {}
                () = self.uploaded.notified() => {}
                () = tokio::time::sleep(jittered(wait)) => {}
            }
        }
    }

    async fn claim(&self) -> Result<Option<(Job, Turn<'_>)>, Error> {
        let kinds: &[Kind] = match self.model.ability() {
            Ability::Unknown | Ability::Nothing => return Ok(None),
            Ability::WordsOnly => &[Kind::Ingest],
            Ability::Vectors { .. } => &[Kind::Ingest, Kind::Embed],
        };
        let client = self.store.primary().await?;
        // One after the other, so that each knows whose documents the others took.
        let _claiming = self.claiming.lock().await;
        let (served, barred) = (self.turns.served(), self.turns.barred());
        let job = jobs::claim(&client, kinds, self.options.lease, &served, &barred).await?;
        Ok(job.map(|job| {
            let turn = self.turns.begin(job.owner);
            (job, turn)
        }))
    }

    /// Does one job, whatever comes of it.
    async fn process(&self, job: Job, stopping: &CancellationToken) {
        let started = std::time::Instant::now();
        let result = if u32::try_from(job.attempts).unwrap_or(u32::MAX) > self.options.attempts_max {
            Err(Trouble::Document(Reason::Crashed))
        } else {
            tokio::select! {
                result = work::perform(self, &job) => result,
                () = self.keep(&job) => Err(Trouble::Lost),
                () = stopping.cancelled() => Err(Trouble::Stopping),
            }
        };
        let document = job.document;
        let duration = started.elapsed();
        let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        match &result {
            Ok(version) => {
                (self.on_published)();
                metrics::INGEST_DURATION.record(duration);
                metrics::DOCUMENTS_SETTLED.at(READY).add(1);
                log::info!(document:%, version, duration_ms; "document {document} is searchable");
            }
            Err(trouble) => log::info!(document:%, duration_ms; "document {document}: {trouble}"),
        }
        if let Err(trouble) = result {
            self.settle(&job, trouble, stopping).await;
        }
        self.note_change();
    }

    /// Renews the lease until it is lost.
    async fn keep(&self, job: &Job) {
        let mut valid_until = tokio::time::Instant::now() + self.options.lease;
        loop {
            tokio::time::sleep(self.options.lease / 3).await;
            let asked = tokio::time::Instant::now();
            let renewed = match self.store.primary().await {
                Ok(client) => jobs::renew(&client, job, self.options.lease).await,
                Err(error) => Err(error),
            };
            match renewed {
                Ok(true) => valid_until = asked + self.options.lease,
                Ok(false) => return,
                Err(_) if tokio::time::Instant::now() >= valid_until => return,
                Err(_) => {}
            }
        }
    }

    /// Writes down that a job ended without a result; tries until the database takes it, because a lease that only
    /// runs out would count against the document.
    async fn settle(&self, job: &Job, trouble: Trouble, stopping: &CancellationToken) {
        let attempts_are_left = u32::try_from(job.attempts).unwrap_or(u32::MAX) < self.options.attempts_max;
        loop {
            let written = match self.store.primary().await {
                Ok(client) => match &trouble {
                    Trouble::Lost => return,
                    Trouble::Attempt(_) if attempts_are_left => {
                        jobs::give_back(&client, job, jittered(ATTEMPT_RETRY), true).await
                    }
                    Trouble::Document(reason) | Trouble::Attempt(reason) => {
                        let failed = jobs::fail(&client, job, reason.code()).await;
                        metrics::DOCUMENTS_SETTLED.at(FAILED).add(u64::from(failed.is_ok()));
                        failed
                    }
                    Trouble::Stopping => jobs::give_back(&client, job, Duration::ZERO, false).await,
                    Trouble::Outside(_) => {
                        jobs::give_back(&client, job, jittered(ATTEMPT_RETRY), false).await
                    }
                },
                Err(error) => Err(error),
            };
            match written {
                Ok(()) => return,
                Err(error) if !error.is_transient() || stopping.is_cancelled() => {
                    log::warn!(document:% = job.document, error:% = chain(&error); "cannot settle an ingestion job");
                    return;
                }
                Err(_) => tokio::time::sleep(jittered(DATABASE_RETRY)).await,
            }
        }
    }
}

/// Spreads waits by a quarter, so that nodes do not ask in step.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.75..1.25))
}
