//! What is done with one document: read, extract, cut, embed, publish.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use super::{Parts, jittered};
use crate::rag::chunk::{self, passage_text};
use crate::rag::embed::{self, Embedder};
use crate::rag::extract::{self, Extracted, Reason};
use crate::rag::model::Ability;
use crate::store::chunks::{self, Published, Version};
use crate::store::documents::Status;
use crate::store::jobs::{self, Job, Kind};
use crate::store::{self, blobs};
use crate::telemetry::chain::chain;

/// How long extraction may keep a thread busy.
const EXTRACTION_TIME_MAX: Duration = Duration::from_secs(30);

/// Largest original of a text kind, as a multiple of the longest text: UTF-16 takes twice the bytes, HTML has markup.
const SOURCE_BYTES_PER_TEXT_BYTE: usize = 4;

/// Passages that are handed to the model at a time: about a second of work for two cores.
const PASSAGES_PER_BATCH: usize = 32;

/// Batches that are handed in before the first is back, so that the model's threads never wait for the next.
const BATCHES_IN_FLIGHT: usize = 2;

/// Progress is written down at most this often: each time costs a row version.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// How long to wait for room in the model's queue.
const QUEUE_RETRY: Duration = Duration::from_millis(200);

/// Why a job ended without a result.
#[derive(Debug)]
pub enum Trouble {
    /// The document is at fault: it fails.
    Document(Reason),
    /// This attempt is at fault: after the last one the document fails with the reason.
    Attempt(Reason),
    /// The database or the object store is at fault: the attempt does not count.
    Outside(Box<dyn std::error::Error + Send + Sync>),
    /// The job is not ours any more, or its document is gone.
    Lost,
    /// This node stops.
    Stopping,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document(reason) => write!(f, "failed: {reason}"),
            Self::Attempt(reason) => write!(f, "attempt failed: {reason}"),
            Self::Outside(error) => write!(f, "interrupted: {error}"),
            Self::Lost => f.write_str("given up: deleted or taken by another node"),
            Self::Stopping => f.write_str("given back: the node stops"),
        }
    }
}

impl From<store::Error> for Trouble {
    fn from(error: store::Error) -> Self {
        match error {
            error if error.is_transient() => Self::Outside(Box::new(error)),
            // A constraint that our own row violates, or a statement that Postgres refuses: trying the same again is
            // no use for long.
            error => {
                log::error!(error:% = chain(&error); "cannot store a document's passages");
                Self::Attempt(Reason::Crashed)
            }
        }
    }
}

impl From<blobs::Error> for Trouble {
    fn from(error: blobs::Error) -> Self {
        match error {
            blobs::Error::Missing { .. } => Self::Document(Reason::StorageLost),
            error => Self::Outside(Box::new(error)),
        }
    }
}

impl From<Reason> for Trouble {
    fn from(reason: Reason) -> Self {
        Self::Document(reason)
    }
}

/// Does `job`. Returns the published version.
///
/// # Cancellation
/// Dropped, it leaves the document as it was; extraction that has begun goes on for its deadline at most.
pub async fn perform(parts: &Parts, job: &Job) -> Result<i32, Trouble> {
    let published = match (job.kind, parts.model.ability()) {
        (Kind::Ingest, ability) => ingest(parts, job, ability).await?,
        (Kind::Embed, Ability::Vectors { generation }) => embed_published(parts, job, generation).await?,
        (Kind::Embed, _) => return Err(Trouble::Lost),
    };
    match published {
        Published::Done { version } => Ok(version),
        Published::Lost => Err(Trouble::Lost),
    }
}

async fn ingest(parts: &Parts, job: &Job, ability: Ability) -> Result<Published, Trouble> {
    let mut progress = Progress::new(parts, job);
    progress.note(Status::Extracting, 0.0).await?;
    let embedder = match ability {
        Ability::Vectors { .. } => parts.model.get().cloned(),
        _ => None,
    };
    let Prepared { title, extracted, cut } = prepare(parts, job, embedder.clone()).await?;
    let mut vectors = Vec::new();
    if let Some(embedder) = &embedder {
        progress.note(Status::Embedding, 0.0).await?;
        let texts = cut.iter().map(|chunk| passage_text(&title, &chunk.heading, &chunk.text)).collect();
        vectors = embed_all(embedder, texts, &mut progress).await?;
    }
    let generation = match ability {
        Ability::Vectors { generation } if embedder.is_some() => Some(generation),
        _ => None,
    };
    let mut vectors = vectors.into_iter();
    let chunks = cut.into_iter().map(|chunk| chunks::Chunk {
        span: [chunk.span.start, chunk.span.end].map(|offset| i32::try_from(offset).unwrap_or(i32::MAX)),
        heading: chunk.heading,
        text: chunk.text,
        page: chunk.page,
        vector: vectors.next(),
    });
    let chunks = chunks.collect();
    let media_type = extracted.media_type.to_owned();
    let next = Version { title, media_type, text: extracted.text, chunks, generation };
    Ok(chunks::publish(&parts.store, job, &next, parts.options.statement_timeout).await?)
}

/// A document's text, cut.
struct Prepared {
    title: String,
    extracted: Extracted,
    cut: Vec<chunk::Chunk>,
}

/// Reads the original, extracts its text and cuts it, on a blocking thread.
async fn prepare(parts: &Parts, job: &Job, embedder: Option<Embedder>) -> Result<Prepared, Trouble> {
    let text_bytes_max = parts.options.text_bytes_max;
    let source_bytes_max = text_bytes_max.saturating_mul(SOURCE_BYTES_PER_TEXT_BYTE);
    if usize::try_from(job.size_bytes).unwrap_or(usize::MAX) > source_bytes_max {
        return Err(Reason::TooLarge.into());
    }
    let bytes = parts.blobs.read(&job.blob).await?;
    let file_name = job.file_name.clone();
    let limits = extract::Limits { text_bytes_max, time_max: EXTRACTION_TIME_MAX };
    let task = tokio::task::spawn_blocking(move || {
        let extracted = extract::extract(&bytes, &file_name, limits)?;
        drop(bytes);
        let title = extracted.title.clone().unwrap_or_else(|| stem(&file_name).to_owned());
        let cut = match &embedder {
            Some(embedder) => {
                let mut limits = chunk::Limits::default();
                limits.tokens_max = limits.tokens_max.min(embedder.window());
                chunk::chunk(&extracted, &title, &|text| embedder.count_tokens(text), limits)
            }
            None => chunk::chunk(&extracted, &title, &chunk::approximate_tokens, chunk::Limits::default()),
        }?;
        Ok(Prepared { title, extracted, cut })
    });
    // A panic in a parser says something about this document only.
    task.await.unwrap_or(Err(Trouble::Attempt(Reason::Crashed)))
}

async fn embed_published(parts: &Parts, job: &Job, generation: i32) -> Result<Published, Trouble> {
    let Some(embedder) = parts.model.get() else { return Err(Trouble::Lost) };
    let passages = chunks::of_job(&parts.store, job).await?;
    let texts = passages.iter().map(|chunk| passage_text(&job.title, &chunk.heading, &chunk.text)).collect();
    let vectors = embed_all(embedder, texts, &mut Progress::silent(parts, job)).await?;
    let vectors: Vec<_> = passages.iter().map(|chunk| chunk.id).zip(vectors).collect();
    let timeout = parts.options.statement_timeout;
    Ok(chunks::publish_vectors(&parts.store, job, &vectors, generation, timeout).await?)
}

/// Embeds `texts` in order, a few batches ahead of what has come back.
async fn embed_all(
    embedder: &Embedder,
    texts: Vec<String>,
    progress: &mut Progress<'_>,
) -> Result<Vec<Vec<f32>>, Trouble> {
    let total = texts.len();
    let mut vectors = Vec::with_capacity(total);
    let texts: Arc<[String]> = texts.into();
    let starts = (0..total).step_by(PASSAGES_PER_BATCH);
    let batches = starts.map(|start| texts[start..total.min(start + PASSAGES_PER_BATCH)].to_vec());
    let mut batches =
        stream::iter(batches).map(|batch| embed_batch(embedder, batch)).buffered(BATCHES_IN_FLIGHT);
    while let Some(batch) = batches.next().await {
        vectors.extend(batch?);
        #[expect(clippy::cast_precision_loss, reason = "a share for people")]
        progress.note(Status::Embedding, vectors.len() as f32 / total as f32).await?;
    }
    Ok(vectors)
}

async fn embed_batch(embedder: &Embedder, batch: Vec<String>) -> Result<Vec<Vec<f32>>, Trouble> {
    loop {
        match embedder.passages(batch.clone()).await {
            Ok(vectors) => return Ok(vectors),
            Err(embed::Error::Busy { .. }) => tokio::time::sleep(jittered(QUEUE_RETRY)).await,
            Err(error) => {
                log::error!(error:% = chain(&error); "cannot embed a document's passages");
                return Err(Trouble::Attempt(Reason::EmbeddingFailed));
            }
        }
    }
}

/// Writes down how far a job is, not too often.
struct Progress<'a> {
    parts: &'a Parts,
    job: &'a Job,
    last: Option<(Status, Instant)>,
    is_silent: bool,
}

impl<'a> Progress<'a> {
    fn new(parts: &'a Parts, job: &'a Job) -> Self {
        Self { parts, job, last: None, is_silent: false }
    }

    /// Progress of a job whose document is searchable meanwhile.
    fn silent(parts: &'a Parts, job: &'a Job) -> Self {
        Self { is_silent: true, ..Self::new(parts, job) }
    }

    async fn note(&mut self, status: Status, share: f32) -> Result<(), Trouble> {
        let is_early =
            self.last.is_some_and(|(previous, at)| previous == status && at.elapsed() < PROGRESS_INTERVAL);
        if self.is_silent || is_early {
            return Ok(());
        }
        self.last = Some((status, Instant::now()));
        let client = self.parts.store.primary().await?;
        let is_ours = jobs::note_progress(&client, self.job, status, share).await?;
        drop(client);
        if !is_ours {
            return Err(Trouble::Lost);
        }
        self.parts.note_change();
        Ok(())
    }
}

/// Returns a file's name without its extension.
fn stem(file_name: &str) -> &str {
    match file_name.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => file_name,
    }
}
