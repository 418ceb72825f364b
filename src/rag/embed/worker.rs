//! The embedding threads: each takes small batches from the queue and computes them alone.
//!
//! One batch per thread was chosen over one batch on all threads: the threads never wait for each other, and a
//! waiting query is computed between two layers of a running batch instead of behind it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use super::encoder::{Batch, Encoder, Scratch};
use super::queue::{Priority, Queue};
use super::request::Item;
use super::settings::{Settings, WEIGHTS};
use super::tokenizer::Tokenizer;
use super::weights::Weights;
use super::{Error, ModelIdentity};
use crate::telemetry::metrics;

/// A batch takes texts until it has this many tokens. Short texts one by one ran at about half the speed of batches of
/// 128 tokens and more; for passages no size stood out, and a smaller batch keeps a query waiting less.
const BATCH_TOKENS: usize = 256;

/// Published weights by SHA-256, so that a model has one name wherever it came from.
const KNOWN: [(&str, &str); 1] = [(
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "sentence-transformers/all-MiniLM-L6-v2",
)];

/// What all threads share and never change.
pub struct Model {
    pub identity: ModelIdentity,
    pub tokenizer: Tokenizer,
    encoder: Encoder,
}

impl Model {
    /// Reads a model directory.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        let settings = Settings::read(directory)?;
        let tokenizer = Tokenizer::read(directory, settings.bert.vocab_size, settings.window)?;
        let weights = Weights::open(&directory.join(WEIGHTS))?;
        let sha256 = weights.sha256()?;
        let hash = hex::encode(sha256);
        let known = KNOWN.iter().find(|(sha256, _)| *sha256 == hash);
        let identity = ModelIdentity {
            name: known.map_or_else(|| settings.published_name(), |(_, name)| name).to_owned(),
            pooling: settings.pooling.name().to_owned(),
            dimension: settings.bert.hidden_size,
            sha256,
        };
        let encoder = Encoder::read(&weights, &settings)?;
        Ok(Self { identity, tokenizer, encoder })
    }
}

/// Starts `count` threads that serve `queue` until it is closed; none stay if one cannot be started.
pub fn start(model: &Arc<Model>, queue: &Arc<Queue>, count: usize) -> std::io::Result<()> {
    let start_one = |index: usize| {
        let (model, queue) = (Arc::clone(model), Arc::clone(queue));
        thread::Builder::new().name(format!("embed-{index}")).spawn(move || serve(&model, &queue)).map(drop)
    };
    (0..count).try_for_each(start_one).inspect_err(|_| queue.close())
}

fn serve(model: &Model, queue: &Queue) {
    // The matrix kernels ask rayon how many threads they have; on this one the answer must be one.
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    if let Err(e) = &alone {
        log::warn!("an embedding thread shares its kernels with others: {e}");
    }
    while catch_unwind(AssertUnwindSafe(|| serve_until_closed(model, queue))).is_err() {
        log::error!("embedding broke an invariant; its batch is given up and the thread goes on");
    }
}

fn serve_until_closed(model: &Model, queue: &Queue) {
    let (mut passages, mut queries) = (Desk::default(), Desk::default());
    while let Some((item, priority)) = queue.wait() {
        match priority {
            Priority::Query => queries.answer(model, item),
            Priority::Passage => {
                let items = passages.gather(model, queue, item);
                let mut answer_queries = || {
                    while let Some(item) = queue.take(Priority::Query) {
                        queries.answer(model, item);
                    }
                };
                passages.compute(model, items, &mut answer_queries);
            }
        }
    }
}

/// A thread's place for one batch.
#[derive(Default)]
struct Desk {
    batch: Batch,
    scratch: Scratch,
}

impl Desk {
    /// Computes one query alone.
    fn answer(&mut self, model: &Model, query: Item) {
        self.batch.push(|ids| model.tokenizer.encode(query.text(), ids));
        self.compute(model, vec![query], &mut || {});
    }

    /// Takes texts after `first` until the batch is large enough.
    fn gather(&mut self, model: &Model, queue: &Queue, first: Item) -> Vec<Item> {
        let mut items = vec![first];
        self.batch.push(|ids| model.tokenizer.encode(items[0].text(), ids));
        while self.batch.tokens() < BATCH_TOKENS {
            let Some(item) = queue.take(Priority::Passage) else { break };
            self.batch.push(|ids| model.tokenizer.encode(item.text(), ids));
            items.push(item);
        }
        items
    }

    /// Computes the batch and hands its vectors in.
    fn compute(&mut self, model: &Model, items: Vec<Item>, between_layers: &mut dyn FnMut()) {
        metrics::EMBEDDING_TOKENS.add(self.batch.tokens() as u64);
        let vectors = model.encoder.embed(&self.batch, &mut self.scratch, between_layers);
        self.batch.clear();
        for (item, vector) in items.into_iter().zip(vectors) {
            item.finish(vector);
        }
    }
}
