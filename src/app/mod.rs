//! Role app: the REST API, one file per resource.
//!
//! A request passes [`edge`] (host, media type, security headers), its extractors ([`request`], [`body`], [`page`]) and
//! one handler, which makes one call into `rag` or `store` and shapes the answer. [`error`] is the only place that
//! turns a failure into a status. Each resource file offers `routes()`, from which the router and the OpenAPI
//! description come alike.

mod account_rules;
pub mod accounts;
pub mod answers;
mod auth;
pub mod body;
mod chats;
mod collections;
pub mod cookies;
pub mod csrf;
mod documents;
pub mod edge;
pub mod error;
pub mod fields;
mod invitations;
mod json_error;
mod members;
mod messages;
pub mod page;
pub mod passwords;
pub mod request;
pub mod schema;
mod search;
pub mod secrets;
pub mod sites;
mod sse;
mod stream;
pub mod throttle;
pub mod time;
mod tokens;
pub mod upkeep;
pub mod uploads;
pub mod visitor;

use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use http::Method;
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;

use crate::config::Settings;
use crate::index::Index;
use crate::rag::ingest::Ingest;
use crate::rag::model::Model;
use crate::store::Store;
use crate::store::blobs::Blobs;
use crate::telemetry::tasks::Tasks;
use answers::Answers;
use error::ApiError;
use passwords::Passwords;
use sites::Sites;
use throttle::Throttles;
use uploads::Uploads;

/// What the handlers share. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts that an [`App`] is made of.
pub struct Parts {
    /// What was configured.
    pub settings: Arc<Settings>,
    /// The database.
    pub store: Store,
    /// Tasks that outlive the request that starts them.
    pub tasks: Tasks,
    /// The names under which the service is reached.
    pub sites: Sites,
    /// How often somebody may ask.
    pub throttles: Throttles,
    /// The threads that hash passwords.
    pub passwords: Passwords,
    /// Originals of documents.
    pub blobs: Blobs,
    /// The uploads that are being received.
    pub uploads: Uploads,
    /// The embedding model, once it may be used.
    pub model: Arc<Model>,
    /// What makes documents searchable.
    pub ingest: Ingest,
    /// What finds passages.
    pub index: Arc<Index>,
    /// The answers that this node writes and relays.
    pub answers: Answers,
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Makes the API's router.
pub fn router(app: App) -> Router {
    let (router, _) = resources().split_for_parts();
    router
        .fallback(async || ApiError::not_found())
        .method_not_allowed_fallback(async |method: Method| ApiError::method_not_allowed(&method))
        .layer(from_fn_with_state(app.clone(), edge::edge))
        .with_state(app)
}

/// Describes every endpoint of the API.
pub fn openapi() -> OpenApi {
    resources().into_openapi()
}

fn resources() -> OpenApiRouter<App> {
    let info = InfoBuilder::new().title("agent").version(env!("CARGO_PKG_VERSION"));
    OpenApiRouter::with_openapi(OpenApiBuilder::new().info(info.build()).build())
        .merge(auth::routes())
        .merge(tokens::routes())
        .merge(invitations::routes())
        .merge(collections::routes())
        .merge(documents::routes())
        .merge(members::routes())
        .merge(chats::routes())
        .merge(messages::routes())
        .merge(schema::routes())
        .merge(search::routes())
        .merge(stream::routes())
}
