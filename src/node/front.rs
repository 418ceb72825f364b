//! What the traffic listener answers: health always, the role's API once it is there, 503 before.
//!
//! The listener opens before the database does, so that balancers get an answer from `/readyz` and clients are told to
//! come back, however long the start takes.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use tower::ServiceExt;

use crate::server::{Readiness, health};

/// When clients that come too early should come back.
const RETRY_AFTER_S: &str = "2";

/// The place where the role's router goes when it is ready to answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Front(Arc<OnceLock<Router>>);

impl Front {
    /// Lets the role answer from now on.
    pub fn open(&self, role: Router) {
        // Opened once per start; a second router would mean a second start.
        let _ = self.0.set(role);
    }

    /// Returns the traffic listener's router.
    pub fn router(&self, readiness: Readiness) -> Router {
        let role = Arc::clone(&self.0);
        health::router(readiness).fallback(move |request: Request| {
            let role = role.get().cloned();
            async move {
                match role {
                    Some(role) => role.oneshot(request).await.unwrap_or_else(|never| match never {}),
                    None => starting(),
                }
            }
        })
    }
}

fn starting() -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (RETRY_AFTER, RETRY_AFTER_S)];
    (StatusCode::SERVICE_UNAVAILABLE, headers, r#"{"detail":"The node is starting."}"#).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::routing::get;

    async fn status(router: &Router, path: &str) -> StatusCode {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn health_answers_from_the_start_and_the_role_once_it_is_there() {
        let front = Front::default();
        let router = front.router(Readiness::new("app", &["database"]));
        assert_eq!(status(&router, "/livez").await, StatusCode::OK);
        assert_eq!(status(&router, "/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(&router, "/api/").await, StatusCode::SERVICE_UNAVAILABLE);
        front.open(Router::new().route("/api/", get(|| async { "here" })));
        assert_eq!(status(&router, "/api/").await, StatusCode::OK);
        assert_eq!(status(&router, "/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
    }
}
