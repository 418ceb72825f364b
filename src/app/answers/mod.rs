//! Answers in the making: who writes them, how they reach their readers, and what happens when a node stops.
//!
//! An answer is announced by the statement that saves its question. The node that gets the first request for its stream
//! claims it, else after [`CLAIM_DELAY`] the node that announced it. The holder of the claim runs [`generate`]; its steps
//! go through the one [`journal`] writer of the node and are shown to readers ([`live`]) once they are committed. Every
//! other node reads the journal ([`follow`]). Claims are leases ([`lease`]): a node that dies lets them run out, and
//! whichever node sees that first ends the answer as `interrupted`. So each stream has exactly one terminal event, and
//! none depends on its reader staying.

mod failure;
mod follow;
mod generate;
mod hub;
mod journal;
mod lease;
pub mod live;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::index::Index;
use crate::llm::Generator;
use crate::rag::model::Model;
use crate::store::ids::MessageId;
use crate::store::{self, Store, generations};
use crate::telemetry::chain::chain;
use crate::telemetry::metrics;
use crate::telemetry::tasks::Tasks;

pub use failure::Failure;
use hub::{Hub, Stop};
use live::Live;

/// How long an announced answer waits for a reader's node to claim it.
const CLAIM_DELAY: Duration = Duration::from_secs(1);

/// Answers that one node writes at a time; more wait for their turn.
const GENERATIONS_MAX: usize = 64;

/// How long interrupted answers have to be stored when the node stops.
const INTERRUPT_DEADLINE: Duration = Duration::from_secs(3);

/// What answers are made from.
#[derive(Clone)]
pub struct Options {
    /// The database.
    pub store: Store,
    /// What finds passages.
    pub index: Arc<Index>,
    /// What understands questions, once it may be used.
    pub model: Arc<Model>,
    /// What writes.
    pub generator: Generator,
    /// How long a node that went silent keeps an answer.
    pub lease: Duration,
    /// How long an answer may take, from search to last word.
    pub time_max: Duration,
}

/// The answers of this node. Clones are the same.
#[derive(Clone)]
pub struct Answers {
    parts: Arc<Parts>,
    tasks: Tasks,
}

struct Parts {
    store: Store,
    index: Arc<Index>,
    model: Arc<Model>,
    generator: Generator,
    lease: Duration,
    time_max: Duration,
    hub: Arc<Hub>,
    journal: mpsc::Sender<journal::Entry>,
    permits: Arc<Semaphore>,
}

impl Answers {
    /// Starts what keeps answers going. When `tasks` are told to stop, running answers are interrupted at once: they
    /// are a group of their own, so that [`drain`](Self::drain) comes first.
    pub fn start(options: Options, tasks: Tasks) -> Self {
        let Options { store, index, model, generator, lease, time_max } = options;
        let (journal, entries) = journal::channel();
        let hub = Arc::new(Hub::default());
        let permits = Arc::new(Semaphore::new(GENERATIONS_MAX));
        let parts =
            Arc::new(Parts { store, index, model, generator, lease, time_max, hub, journal, permits });
        let answers = Self { parts, tasks };
        answers.start_background(entries);
        answers
    }

    /// Starts the loops, which go on until the running answers are interrupted and stored.
    fn start_background(&self, entries: mpsc::Receiver<journal::Entry>) {
        let over = CancellationToken::new();
        let (answers, over_then) = (self.clone(), over.clone().drop_guard());
        self.tasks.spawn(async move {
            answers.tasks.stopping().cancelled().await;
            answers.interrupt().await;
            drop(over_then);
        });
        let inbox = Arc::new(Mutex::new(journal::Inbox::of(entries)));
        self.spawn_loop("journal writer", &over, move |parts| {
            let (store, hub) = (parts.store.clone(), Arc::clone(&parts.hub));
            journal::run(store, hub, parts.lease, Arc::clone(&inbox))
        });
        self.spawn_loop("journal reader", &over, |parts| async move { follow::run(&parts).await });
        self.spawn_loop("lease renewal", &over, |parts| async move { lease::renew(&parts).await });
        self.spawn_loop("answer sweep", &over, |parts| async move { lease::sweep(&parts).await });
    }

    fn spawn_loop<F>(
        &self,
        name: &'static str,
        over: &CancellationToken,
        run: impl Fn(Arc<Parts>) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let (parts, over) = (Arc::clone(&self.parts), over.clone());
        self.tasks.spawn_vital(name, move || {
            let (run, over) = (run(Arc::clone(&parts)), over.clone());
            async move {
                over.run_until_cancelled(run).await;
            }
        });
    }

    /// Notes that an answer was announced here: if nobody reads its stream soon, this node writes it, and
    /// [`drain`](Self::drain) waits for it.
    pub fn announce(&self, message: MessageId) {
        let answers = self.clone();
        let expected = self.parts.hub.expect();
        self.tasks.spawn(async move {
            // Until the claim counts by itself.
            let _expected = expected;
            tokio::time::sleep(CLAIM_DELAY).await;
            if answers.parts.permits.available_permits() == 0 {
                metrics::ANSWER_LIMIT_HIT.add(1);
            }
            // Closed when draining took too long; the sweep of another node, or of this one's next start, ends it.
            let Ok(permit) = Arc::clone(&answers.parts.permits).acquire_owned().await else { return };
            if let Err(error) = answers.claim(message, permit).await {
                log::warn!(error:% = chain(&error); "cannot claim an answer, it will be interrupted");
            }
        });
    }

    /// Returns the stream of an answer that has not ended: written here if nobody writes it yet, else followed.
    ///
    /// # Errors
    /// The database's.
    pub async fn attach(&self, message: MessageId) -> Result<Arc<Live>, store::Error> {
        if let Some(live) = self.parts.hub.get(message) {
            return Ok(live);
        }
        // Without a permit the announcing node, which waits for one, claims it.
        if let Ok(permit) = Arc::clone(&self.parts.permits).try_acquire_owned()
            && let Some(live) = self.claim(message, permit).await?
        {
            return Ok(live);
        }
        Ok(self.parts.hub.follow(message))
    }

    /// Tells the generation of an answer to stop if it runs here; elsewhere the renewal of its lease tells it.
    pub fn cancel(&self, message: MessageId) {
        self.parts.hub.stop(message, Stop::Cancelled);
    }

    /// Waits until the answers written or announced here are done, at most `deadline`; those still running are then
    /// stored as `interrupted`, and none is begun any more.
    pub async fn drain(&self, deadline: Duration) {
        let _ = tokio::time::timeout(deadline, self.parts.hub.idle()).await;
        self.interrupt().await;
    }

    /// Claims an answer and starts to write it. `None` where it is not to be had.
    async fn claim(
        &self,
        message: MessageId,
        permit: OwnedSemaphorePermit,
    ) -> Result<Option<Arc<Live>>, store::Error> {
        let client = self.parts.store.primary().await?;
        let work = generations::claim(&client, message, self.parts.lease).await?;
        drop(client);
        let Some(work) = work else { return Ok(None) };
        let (live, stop) = self.parts.hub.start(work.claim);
        let (parts, stream) = (Arc::clone(&self.parts), Arc::clone(&live));
        self.tasks.spawn(async move {
            generate::run(parts, work, stream, stop).await;
            drop(permit);
        });
        Ok(Some(live))
    }

    async fn interrupt(&self) {
        self.parts.permits.close();
        for claim in self.parts.hub.claims() {
            self.parts.hub.stop(claim.message, Stop::Interrupted);
        }
        let _ = tokio::time::timeout(INTERRUPT_DEADLINE, self.parts.hub.idle()).await;
    }
}
