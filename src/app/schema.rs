//! `/api/schema/`, the OpenAPI description of every endpoint, and `/api/docs/`, a page that shows it.
//!
//! Handlers describe what they answer when all is well; what every endpoint may answer otherwise is added here once.
//! The page's style and script are part of the page, allowed by their hashes, so nothing is loaded from elsewhere.

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::ApiError;
use super::visitor::Visitor;

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(document().to_string()));

static PAGE: LazyLock<(String, HeaderValue)> = LazyLock::new(page);

const STYLE: &str = include_str!("docs/page.css");
const SCRIPT: &str = include_str!("docs/page.js");

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(schema)).routes(routes!(docs))
}

/// Describes the API
#[utoipa::path(
    get, path = "/api/schema/", tag = "schema", security(()),
    responses((status = 200, description = "This document.", content_type = "application/json", body = Object)),
)]
async fn schema(_visitor: Visitor) -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")];
    (headers, DOCUMENT.clone()).into_response()
}

/// Shows the API's description
#[utoipa::path(
    get, path = "/api/docs/", tag = "schema", security(()),
    responses((status = 200, description = "A page for people.", content_type = "text/html", body = String)),
)]
async fn docs(_visitor: Visitor) -> Result<Response, ApiError> {
    let (page, policy) = &*PAGE;
    let mut response = ([(CONTENT_TYPE, "text/html; charset=utf-8")], page.as_str()).into_response();
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy.clone());
    Ok(response)
}

/// Makes the whole description: the handlers' own, how to log in, and the answers that all endpoints share.
pub fn document() -> Value {
    let mut document = serde_json::to_value(super::openapi()).expect("a description always serialises");
    document["security"] = json!([{ "session": [] }, { "token": [] }]);
    let components = &mut document["components"];
    components["securitySchemes"] = json!({
        "session": {
            "type": "apiKey", "in": "cookie", "name": "sessionid",
            "description": "Set by `login/`. Unsafe requests also need `X-CSRFToken`, the value of the cookie `csrftoken`.",
        },
        "token": {
            "type": "apiKey", "in": "header", "name": "Authorization",
            "description": "`Token` and a space before an API token.",
        },
    });
    components["responses"] = shared_responses();
    for (path, item) in document["paths"].as_object_mut().into_iter().flatten() {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            operation["operationId"] = operation_id(path, operation).into();
            add_shared(path, method, operation);
        }
    }
    document
}

/// The failures of DRF that any endpoint may answer, by the name under which operations refer to them.
fn shared_responses() -> Value {
    let detail = |description: &str| {
        let schema = json!({ "type": "object", "properties": { "detail": { "type": "string" } } });
        json!({ "description": description, "content": { "application/json": { "schema": schema } } })
    };
    json!({
        "400": {
            "description": "Something is wrong with the request: sentences per field, or one `detail`.",
            "content": { "application/json": { "schema": {
                "type": "object",
                "additionalProperties": { "type": "array", "items": { "type": "string" } },
            } } },
        },
        "401": detail("No credentials, or wrong ones."),
        "403": detail("The caller may see this but not do that, or the CSRF check failed."),
        "404": detail("Unknown, or not the caller's: one answer for both."),
        "413": detail("The body is too large."),
        "415": detail("The body's media type is not supported."),
        "429": detail("Too many requests; `Retry-After` says when to come back, in seconds."),
        "503": detail("The database or a queue is unavailable; `Retry-After` says when to come back, in seconds."),
    })
}

/// A name for generated clients: the path's words and the handler's, such as `auth_tokens_create`.
fn operation_id(path: &str, operation: &Value) -> String {
    let words = path.split('/').filter(|word| !word.is_empty() && *word != "api" && !word.starts_with('{'));
    let mut words: Vec<&str> = words.collect();
    let handler = operation["operationId"].as_str().unwrap_or_default();
    if words.last() != Some(&handler) {
        words.push(handler);
    }
    words.join("_")
}

fn add_shared(path: &str, method: &str, operation: &mut Value) {
    let is_public = operation["security"] == json!([{}]);
    let has_body = !operation["requestBody"].is_null();
    let is_safe = method == "get";
    let mut statuses = vec!["429", "503"];
    statuses.extend(["400", "413", "415"].iter().filter(|_| has_body));
    statuses.extend((!is_public).then_some("401"));
    statuses.extend((!is_safe).then_some("403"));
    statuses.extend(path.contains('{').then_some("404"));
    if !operation["responses"].is_object() {
        operation["responses"] = Value::Object(Map::new());
    }
    for (status, response) in operation["responses"].as_object_mut().into_iter().flatten() {
        // The specification demands a description even where the status says it all.
        if response["description"].is_null() && response["$ref"].is_null() {
            let status = status.parse().unwrap_or(StatusCode::OK);
            response["description"] = status.canonical_reason().unwrap_or_default().into();
        }
    }
    for status in statuses {
        if operation["responses"][status].is_null() {
            operation["responses"][status] = json!({ "$ref": format!("#/components/responses/{status}") });
        }
    }
}

/// Puts the page together with the policy that admits exactly its own style and script.
fn page() -> (String, HeaderValue) {
    let page = include_str!("docs/page.html").replace("/*style*/", STYLE).replace("/*script*/", SCRIPT);
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; connect-src 'self'; style-src 'sha256-{}'; script-src 'sha256-{}'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT),
    );
    (page, HeaderValue::try_from(policy).expect("base64 and directives are header-safe"))
}
