//! Sentence embeddings in process: a BERT encoder in pure Rust that reads the model's published files.
//!
//! A model directory holds `config.json`, `tokenizer.json` and `model.safetensors` as their authors publish them,
//! and may hold `sentence_bert_config.json` and `1_Pooling/config.json`; [`install`] fills it. This module owns its
//! own threads and a bounded queue in front of them; it knows nothing of documents, chunks or the index.
//!
//! Reading order: [`settings`] (what the directory says), `tokenizer` (text to ids), `weights` (the file),
//! `layer` and `encoder` (ids to vectors), `request`, `queue` and `worker` (who computes when).

mod encoder;
pub mod install;
mod kernels;
mod layer;
mod queue;
mod request;
mod settings;
mod tokenizer;
mod weights;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::queue::{Priority, Queue};
use self::request::Reply;
use self::tokenizer::Tokenizer;
use self::worker::Model;

/// What identifies vectors that may be compared with each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelIdentity {
    /// The model's public name, as `sentence-transformers/all-MiniLM-L6-v2`.
    pub name: String,
    /// How token vectors become one: `mean` or `cls`.
    pub pooling: String,
    /// Components of a vector.
    pub dimension: usize,
    /// SHA-256 of the weights file that was loaded.
    pub sha256: [u8; 32],
}

/// What a caller can do about a failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no model where one was expected.
    #[error("no embedding model in {}: fill it with `agent model install`", directory.display())]
    Missing {
        /// Where the model was looked for.
        directory: PathBuf,
    },
    /// The files are there but are damaged or of a kind that this module does not run.
    #[error("unusable embedding model file {}: {reason}; fetch it again with `agent model install`", path.display())]
    Unusable {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file could not be read or written, or a thread not started.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// What was to be installed is not a whole model, or not to be had.
    #[error("cannot install a model from {}: {reason}; the installed model is unchanged", source_name.display())]
    Source {
        /// The directory, archive or URL.
        source_name: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What was to be installed is another file than expected.
    #[error("the SHA-256 is {found} where {expected} was expected; the installed model is unchanged")]
    Digest {
        /// In hex.
        expected: String,
        /// In hex, of the archive and of the weights.
        found: String,
    },
    /// Another process installs a model in the same place.
    #[error("another installation into {} is running; wait for its end", target.display())]
    Installing {
        /// The model directory.
        target: PathBuf,
    },
    /// Too much work is waiting; the same request may succeed later.
    #[error("the embedding queue is full: {limit} texts are waiting")]
    Busy {
        /// The limit that was reached, in texts.
        limit: usize,
    },
    /// The work was given up, because the computation failed; the log says why.
    #[error("the embedding was given up")]
    Stopped,
}

impl Error {
    /// Says whether the same request may succeed later without anybody's help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }

    fn unusable(path: &Path, reason: impl Into<String>) -> Self {
        Self::Unusable { path: path.to_owned(), reason: reason.into() }
    }

    fn source(source: &Path, reason: impl Into<String>) -> Self {
        Self::Source { source_name: source.to_owned(), reason: reason.into() }
    }

    fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}

/// A loaded model with its threads. Clones share them; the threads end when the last clone is dropped.
#[derive(Clone)]
pub struct Embedder {
    handle: Arc<Handle>,
}

struct Handle {
    model: Arc<Model>,
    queue: Arc<Queue>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Embedder {
    /// Loads the model in `directory` and starts `threads` threads (at least one) named `embed-0` and so on.
    ///
    /// Reads the whole weights file once, hashes it and embeds one short text to prove that the model works.
    /// Blocking; about 0.1 s and 90 MB for all-MiniLM-L6-v2.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Unusable`], [`Error::Io`].
    pub fn load(directory: &Path, threads: usize) -> Result<Self, Error> {
        let model = Arc::new(Model::load(directory)?);
        let queue = Arc::new(Queue::default());
        worker::start(&model, &queue, threads.max(1))
            .map_err(|e| Error::io("start threads for", directory, e))?;
        let embedder = Self { handle: Arc::new(Handle { model, queue }) };
        embedder.check_usable(&directory.join(settings::WEIGHTS))?;
        Ok(embedder)
    }

    /// Returns what identifies this model's vectors.
    pub fn identity(&self) -> &ModelIdentity {
        &self.handle.model.identity
    }

    /// Returns how many tokens of a text the model reads, special tokens not counted; it ignores the rest.
    pub fn window(&self) -> usize {
        self.tokenizer().window()
    }

    /// Counts the tokens of `text`, without special tokens and without the window's limit.
    ///
    /// Linear in the text: about 50 ms of CPU per MB of prose.
    pub fn count_tokens(&self, text: &str) -> usize {
        self.tokenizer().count(text)
    }

    /// Embeds `texts` behind the queries that wait and beside other documents' passages, without the queue's limit.
    ///
    /// Returns one vector of unit length per text, in order. Blocks until it is done: for commands, tests and
    /// benches, not for the async runtime.
    ///
    /// # Panics
    /// When the computation itself is at fault (a broken invariant, not an odd text).
    pub fn embed_blocking(&self, texts: &[&str]) -> Vec<Vec<f32>> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let texts = texts.iter().map(|&text| text.to_owned()).collect();
        self.handle.queue.push_unlimited(texts, Reply::Blocking(sender));
        receiver.recv().expect("a batch fails only on a broken invariant, which the log names")
    }

    /// Embeds what a person waits for, before any passage: at most one layer of a running batch delays it.
    ///
    /// Returns a vector of unit length, for every text, the empty one included.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Stopped`].
    ///
    /// # Cancellation
    /// A dropped future takes its text out of the queue unless a thread already computes it.
    pub async fn query(&self, text: String) -> Result<Vec<f32>, Error> {
        let mut vectors = self.submit(vec![text], Priority::Query).await?;
        vectors.pop().ok_or(Error::Stopped)
    }

    /// Embeds passages of documents, in order, each to unit length. Queries overtake them.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Stopped`].
    ///
    /// # Cancellation
    /// A dropped future takes the texts that are still waiting out of the queue.
    pub async fn passages(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, Error> {
        self.submit(texts, Priority::Passage).await
    }

    async fn submit(&self, texts: Vec<String>, priority: Priority) -> Result<Vec<Vec<f32>>, Error> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.handle.queue.push(texts, priority, Reply::Async(sender))?;
        receiver.await.map_err(|_| Error::Stopped)
    }

    fn tokenizer(&self) -> &Tokenizer {
        &self.handle.model.tokenizer
    }

    /// Damaged weights load like any others, but their vectors are not finite.
    fn check_usable(&self, weights: &Path) -> Result<(), Error> {
        let vector =
            self.embed_blocking(&["The model embeds this sentence to prove that it works."]).remove(0);
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        if (length - 1.0).abs() < 1e-3 {
            Ok(())
        } else {
            Err(Error::unusable(weights, "its vectors are not finite"))
        }
    }
}
