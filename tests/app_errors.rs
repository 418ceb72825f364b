//! What every endpoint answers to requests that are not right.

use axum::body::Body;
use http::{Method, StatusCode};
use serde_json::json;

use crate::support::api::TestApi;

#[tokio::test]
async fn unknown_routes_and_methods_are_json() {
    let api = TestApi::new().await;
    let mut ann = api.user("ann").await;
    let unknown = ann.get("/api/nothing/").await;
    assert_eq!((unknown.status, unknown.json()), (StatusCode::NOT_FOUND, json!({ "detail": "Not found." })));
    let put = ann.json(Method::PUT, "/api/collections/", &json!({})).await;
    assert_eq!(put.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(put.json(), json!({ "detail": "Method \"PUT\" not allowed." }));
    assert_eq!(put.header("allow"), "GET,HEAD,POST");
}

#[tokio::test]
async fn bodies_of_the_wrong_type_form_or_size_are_refused() {
    let api = TestApi::new().await;
    let mut ann = api.user("ann").await;
    let mut send = async |body: Body, kind| ann.send(Method::POST, "/api/collections/", body, kind).await;
    let xml = send(Body::from("<x/>"), Some("application/xml")).await;
    assert_eq!(xml.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(xml.json(), json!({ "detail": "Unsupported media type \"application/xml\" in request." }));
    let broken = send(Body::from("{\"name\": "), Some("application/json; charset=utf-8")).await;
    assert_eq!(broken.status, StatusCode::BAD_REQUEST);
    assert!(broken.json()["detail"].as_str().unwrap().starts_with("JSON parse error - "));
    let latin = send(Body::from(&b"{\"name\": \"\xe9\"}"[..]), Some("application/json")).await;
    assert_eq!(latin.status, StatusCode::BAD_REQUEST);
    let empty = send(Body::empty(), None).await;
    assert_eq!(empty.json(), json!({ "name": ["This field is required."] }));
    let padding = |bytes: usize| format!("{{\"name\": \"x\"{}}}", " ".repeat(bytes - 13));
    let limit = 1024 * 1024;
    assert_eq!(send(Body::from(padding(limit)), Some("application/json")).await.status, StatusCode::CREATED);
    let large = send(Body::from(padding(limit + 1)), Some("application/json")).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(large.json(), json!({ "detail": "Request body exceeded 1048576 bytes." }));
}

#[tokio::test]
async fn a_foreign_host_is_refused_and_an_unacceptable_media_type_too() {
    let api = TestApi::new().await;
    let ann = api.user("ann").await;
    let rebound = ann.with("host", "rebound.example.net").get("/api/auth/me/").await;
    assert_eq!(
        (rebound.status, rebound.json()),
        (StatusCode::BAD_REQUEST, json!({ "error": "Bad Request (400)" }))
    );
    let elsewhere = ann.clone().get("http://rebound.example.net/api/auth/me/").await;
    assert_eq!(elsewhere.status, StatusCode::BAD_REQUEST);
    let whole = ann.clone().get("http://localhost:8000/api/auth/me/").await;
    assert_eq!(whole.status, StatusCode::OK);
    let xml = ann.with("accept", "application/xml").get("/api/auth/me/").await;
    assert_eq!(xml.status, StatusCode::NOT_ACCEPTABLE);
    assert_eq!(xml.json(), json!({ "detail": "Could not satisfy the request Accept header." }));
    assert_eq!(ann.with("accept", "text/html, */*").get("/api/auth/me/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let api = TestApi::new().await;
    let mut ann = api.user("ann").await;
    for answer in [ann.get("/api/auth/me/").await, ann.get("/api/nothing/").await] {
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "same-origin");
        assert_eq!(answer.header("x-frame-options"), "DENY");
        assert_eq!(answer.header("cross-origin-opener-policy"), "same-origin");
        assert_eq!(answer.header("content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
        assert_eq!(answer.header("content-type"), "application/json");
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_503_with_a_time_to_retry_and_never_401() {
    let api = TestApi::new().await;
    let mut ann = api.user("ann").await;
    api.app.store.close();
    let answer = ann.get("/api/auth/me/").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("retry-after"), "5");
    assert_eq!(answer.json(), json!({ "detail": "Service temporarily unavailable, try again later." }));
}
