//! Texts that were handed in together, and the way of their vectors back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Where a request's vectors go. Dropping it unused tells the other side that the work was given up.
pub enum Reply {
    /// To a task.
    Async(oneshot::Sender<Vec<Vec<f32>>>),
    /// To a thread.
    Blocking(std::sync::mpsc::SyncSender<Vec<Vec<f32>>>),
}

impl Reply {
    /// Sends a request's vectors.
    pub fn send(self, vectors: Vec<Vec<f32>>) {
        // Whoever asked may have gone; then nobody misses the vectors.
        match self {
            Self::Async(sender) => drop(sender.send(vectors)),
            Self::Blocking(sender) => drop(sender.send(vectors)),
        }
    }

    fn is_abandoned(&self) -> bool {
        matches!(self, Self::Async(sender) if sender.is_closed())
    }
}

/// Texts that were handed in together and whose vectors go back together.
pub struct Request {
    texts: Vec<String>,
    progress: Mutex<Progress>,
}

struct Progress {
    vectors: Vec<Vec<f32>>,
    left: usize,
    reply: Option<Reply>,
}

impl Request {
    /// Makes a request of at least one text.
    pub fn new(texts: Vec<String>, reply: Reply) -> Self {
        let progress =
            Progress { vectors: vec![Vec::new(); texts.len()], left: texts.len(), reply: Some(reply) };
        Self { texts, progress: Mutex::new(progress) }
    }

    /// Texts in it.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Says whether nobody waits for it: its caller has gone, or one of its texts was given up.
    pub fn is_abandoned(&self) -> bool {
        lock(&self.progress).reply.as_ref().is_none_or(Reply::is_abandoned)
    }
}

/// One text to embed. Dropped without [`Item::finish`] it takes its whole request with it.
pub struct Item {
    request: Arc<Request>,
    index: usize,
    done: bool,
}

impl Item {
    /// Takes the text at `index` out of `request`.
    pub fn new(request: &Arc<Request>, index: usize) -> Self {
        Self { request: Arc::clone(request), index, done: false }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.request.texts[self.index]
    }

    /// Hands in the text's vector; the request's last one sends the reply.
    pub fn finish(mut self, vector: Vec<f32>) {
        self.done = true;
        let mut progress = lock(&self.request.progress);
        progress.vectors[self.index] = vector;
        progress.left -= 1;
        if progress.left == 0 {
            let vectors = std::mem::take(&mut progress.vectors);
            if let Some(reply) = progress.reply.take() {
                reply.send(vectors);
            }
        }
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        if !self.done {
            lock(&self.request.progress).reply = None;
        }
    }
}

/// Locks. Every critical section leaves the state whole, so a panic elsewhere does not make it unusable.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
