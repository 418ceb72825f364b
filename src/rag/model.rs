//! Whether this node may use its embedding model: only if the database's vectors come from the same one.
//!
//! The first node with a model registers it; a node whose model differs searches by words only, takes no documents and
//! says so. A node without a model takes documents only while no other node has one either.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::embed::{Embedder, ModelIdentity};
use crate::store::embedding_model::{self, ActiveModel};
use crate::store::{Error, Store};
use crate::telemetry::chain::chain;

/// How often a node that may not embed looks whether that has changed.
const RECHECK_INTERVAL: Duration = Duration::from_secs(10);

/// The number of the first set of vectors. A change of model will make a second one.
const FIRST_GENERATION: i32 = 1;

/// What this node can do with documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// Not known yet: the model is loading, or the database does not answer.
    Unknown,
    /// Publish passages without vectors: nobody has a model.
    WordsOnly,
    /// Publish passages with vectors of this generation.
    Vectors {
        /// The set that the vectors belong to.
        generation: i32,
    },
    /// Nothing: the database has vectors that this node cannot make.
    Nothing,
}

/// The node's model once it may be used. Shared in an `Arc`.
pub struct Model {
    usable: OnceLock<Embedder>,
    ability: watch::Sender<Ability>,
}

impl Default for Model {
    fn default() -> Self {
        Self { usable: OnceLock::new(), ability: watch::Sender::new(Ability::Unknown) }
    }
}

impl Model {
    /// Returns the model if its vectors may be compared with the database's.
    pub fn get(&self) -> Option<&Embedder> {
        self.usable.get()
    }

    /// Returns what this node can do now.
    pub fn ability(&self) -> Ability {
        *self.ability.borrow()
    }

    /// Watches what this node can do.
    pub fn watch(&self) -> watch::Receiver<Ability> {
        self.ability.subscribe()
    }

    /// Settles with the database whether `loaded` may be used. Ends when it may, or when `stopping` fires.
    pub async fn run(self: Arc<Self>, store: Store, loaded: Option<Embedder>, stopping: CancellationToken) {
        loop {
            match settle(&store, loaded.as_ref()).await {
                Ok(ability) => {
                    self.note(ability, loaded.as_ref());
                    if let (Ability::Vectors { .. }, Some(embedder)) = (ability, loaded.clone()) {
                        let _ = self.usable.set(embedder);
                        self.ability.send_replace(ability);
                        return;
                    }
                    self.ability.send_replace(ability);
                }
                Err(error) => {
                    log::debug!(error:% = chain(&error); "cannot read the database's embedding model")
                }
            }
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(RECHECK_INTERVAL) => {}
            }
        }
    }

    /// Says once what was settled.
    fn note(&self, ability: Ability, loaded: Option<&Embedder>) {
        if ability == self.ability() {
            return;
        }
        let name = loaded.map_or("none", |embedder| embedder.identity().name.as_str());
        match ability {
            Ability::Vectors { generation } => {
                log::info!(model = name, generation; "embedding with {name}, generation {generation}");
            }
            Ability::WordsOnly => log::info!("no embedding model, documents are searched by words only"),
            Ability::Nothing => log::warn!(
                model = name;
                "the database's vectors come from another embedding model than this node's ({name}): searching by \
                 words only, taking no documents"
            ),
            Ability::Unknown => {}
        }
    }
}

async fn settle(store: &Store, loaded: Option<&Embedder>) -> Result<Ability, Error> {
    let client = store.primary().await?;
    let mut active = embedding_model::active(&client).await?;
    if let (None, Some(embedder)) = (&active, loaded) {
        embedding_model::register(&client, &describe(embedder.identity())).await?;
        active = embedding_model::active(&client).await?;
    }
    Ok(match (active, loaded) {
        (None, _) => Ability::WordsOnly,
        (Some(active), Some(embedder)) if is_same(&active, embedder.identity()) => {
            Ability::Vectors { generation: active.generation }
        }
        (Some(_), _) => Ability::Nothing,
    })
}

fn describe(identity: &ModelIdentity) -> ActiveModel {
    ActiveModel {
        generation: FIRST_GENERATION,
        name: identity.name.clone(),
        pooling: identity.pooling.clone(),
        dimension: i32::try_from(identity.dimension).unwrap_or(i32::MAX),
        sha256: identity.sha256.to_vec(),
    }
}

/// The weights decide; a name may be written differently.
fn is_same(active: &ActiveModel, identity: &ModelIdentity) -> bool {
    let own = describe(identity);
    (&active.sha256, &active.pooling, active.dimension) == (&own.sha256, &own.pooling, own.dimension)
}
