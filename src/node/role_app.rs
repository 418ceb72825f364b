//! Role app on this node: the parts of the API put together, started, and stopped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use uuid::Uuid;

use super::Error;
use crate::app::answers::{self, Answers};
use crate::app::passwords::Passwords;
use crate::app::sites::Sites;
use crate::app::throttle::Throttles;
use crate::app::uploads::Uploads;
use crate::app::{self, App, Parts, upkeep};
use crate::config::Settings;
use crate::index::sync::Follower;
use crate::index::{Index, Limits};
use crate::llm::Generator;
use crate::rag::embed::{self, Embedder};
use crate::rag::ingest::{self, Ingest};
use crate::rag::model::Model;
use crate::server::Readiness;
use crate::store::Store;
use crate::store::blobs::Blobs;
use crate::store::nodes::Node;
use crate::telemetry::tasks::Tasks;

/// The role as the database and the metrics name it.
const ROLE: &str = "app";

/// The end of the drain that is kept for storing the answers which it interrupts and for telling their readers.
const INTERRUPT_TIME: Duration = Duration::from_secs(4);

/// The running role.
pub(super) struct RoleApp {
    app: App,
    tasks: Tasks,
    /// Those of answers, which go on while the others end.
    answer_tasks: Tasks,
    follower: Arc<Follower>,
}

impl RoleApp {
    /// Loads the embedding model, if there is a usable one. Without it the node serves search by words.
    pub async fn load_model(settings: &Settings) -> Option<Embedder> {
        let (directory, threads) = (settings.model.dir.clone(), settings.model.threads);
        let loaded = tokio::task::spawn_blocking(move || Embedder::load(&directory, threads)).await;
        match loaded {
            Ok(Ok(embedder)) => Some(embedder),
            Ok(Err(error @ embed::Error::Missing { .. })) => {
                log::info!("{error}; search is by words only");
                None
            }
            Ok(Err(error)) => {
                log::error!("search is by words only: {:#}", anyhow::Error::from(error));
                None
            }
            Err(_) => {
                log::error!("search is by words only: loading the embedding model has panicked");
                None
            }
        }
    }

    /// Puts the role together on a database that has this version's schema, and starts its tasks.
    ///
    /// # Errors
    /// This machine refuses a thread, or the directory of originals.
    pub async fn start(
        settings: &Arc<Settings>,
        store: Store,
        embedder: Option<Embedder>,
        address: SocketAddr,
        readiness: &Readiness,
    ) -> Result<Self, Error> {
        let tasks = Tasks::new();
        let blobs = Blobs::open(settings.blobs.path()).with_context(|| {
            format!("cannot use {} (blobs, AGENT_BLOBS)", settings.blobs.path().display())
        })?;
        let passwords =
            Passwords::start(settings.password.hashing_threads, settings.password.hashing_queue_max)
                .context("cannot start the threads that hash passwords")?;
        let described =
            embedder.as_ref().map_or_else(|| "none".to_owned(), |model| model.identity().name.clone());
        readiness.report("model", described);
        let default = Limits::default();
        let dimension = embedder.as_ref().map_or(default.dimension, |model| model.identity().dimension);
        let limits = Limits { dimension, ..default };
        let model = Arc::new(Model::default());
        let (settled, database, stopping) = (Arc::clone(&model), store.clone(), tasks.stopping().clone());
        tasks.spawn_vital("embedding model", move || {
            Arc::clone(&settled).run(database.clone(), embedder.clone(), stopping.clone())
        });
        let index = Arc::new(Index::new(limits));
        let follower = Arc::new(Follower::new(Arc::clone(&index), store.clone()));
        let (following, stopping) = (Arc::clone(&follower), tasks.stopping().clone());
        tasks.spawn_vital("index follower", move || Arc::clone(&following).run(stopping.clone()));
        let published = Arc::clone(&follower);
        let ingest = Ingest::new(
            store.clone(),
            blobs.clone(),
            Arc::clone(&model),
            ingest::Options::of(settings),
            move || published.notify(),
        );
        ingest.start(&tasks);
        let answer_tasks = Tasks::new();
        let answers = Answers::start(
            answers::Options {
                store: store.clone(),
                index: Arc::clone(&index),
                model: Arc::clone(&model),
                generator: Generator::default(),
                lease: settings.chat.answer_lease,
                time_max: settings.chat.answer_time_max,
            },
            answer_tasks.clone(),
        );
        let app = App::new(Parts {
            settings: Arc::clone(settings),
            store,
            tasks: tasks.clone(),
            sites: Sites::from_settings(settings),
            throttles: Throttles::new(&settings.throttle, &settings.upload),
            passwords,
            uploads: Uploads::new(settings.upload.concurrent_max),
            blobs,
            model,
            ingest,
            index,
            answers,
        });
        let version = env!("CARGO_PKG_VERSION");
        let node = Node { id: Uuid::now_v7(), role: ROLE, address: address.to_string(), version };
        let kept = app.clone();
        tasks.spawn_vital("upkeep", move || upkeep::run(kept.clone(), node.clone()));
        Ok(Self { app, tasks, answer_tasks, follower })
    }

    /// Waits until the index has held all that the database had.
    pub async fn caught_up(&self) {
        // The sender lives as long as the follower, which is ours.
        let _ = self.follower.caught_up().wait_for(|caught_up| *caught_up).await;
    }

    /// Returns the API.
    pub fn router(&self) -> Router {
        app::router(self.app.clone())
    }

    /// Tells every task to finish what it holds and waits at most `deadline`. Returns how many did not make it.
    ///
    /// Answers that are being written get as long as that leaves time to store the rest as interrupted.
    pub async fn stop(self, deadline: Duration) -> usize {
        let answers = async {
            self.app.answers.drain(deadline.saturating_sub(INTERRUPT_TIME)).await;
            self.answer_tasks.stop(INTERRUPT_TIME).await
        };
        let (others, answers) = tokio::join!(self.tasks.stop(deadline), answers);
        others + answers
    }
}
