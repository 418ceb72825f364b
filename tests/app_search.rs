//! `POST /api/search/`.

use http::StatusCode;
use serde_json::{Value, json};

use super::support::api::{Browser, TestApi};
use super::support::library::{own_collection, publish};

const DIMENSION: usize = 384;

/// A vector that points along one axis.
fn axis(n: usize) -> Vec<f32> {
    (0..DIMENSION).map(|i| if i == n { 1.0 } else { 0.0 }).collect()
}

async fn texts(browser: &mut Browser, form: &Value) -> Vec<String> {
    let found = browser.post("/api/search/", form).await;
    assert_eq!(found.status, StatusCode::OK, "{}", found.text());
    let results = found.json()["results"].as_array().unwrap().clone();
    results.iter().map(|result| result["text"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_vector_finds_its_nearest_passages_with_their_place_in_the_document() {
    let api = TestApi::new().await;
    let mut ada = api.user("ada").await;
    let collection = own_collection(&mut ada).await;
    let passages = [("first", Some(axis(0))), ("second", Some(axis(1)))];
    let document = publish(&api, collection, "Handbook", &passages).await;
    let mut near = axis(1);
    near[0] = 0.5;
    let found = ada.post("/api/search/", &json!({ "vector": near, "k": 2 })).await.json();
    let first = &found["results"][0];
    assert_eq!((&first["text"], &first["title"]), (&json!("second"), &json!("Handbook")));
    assert_eq!(
        (&first["document"], &first["span"], &first["page"]),
        (&json!(document), &json!([0, 6]), &json!(null))
    );
    assert!((first["score"].as_f64().unwrap() - 0.894).abs() < 1e-3);
    assert_eq!(found["results"][1]["text"], "first");
}

#[tokio::test]
async fn words_find_passages_without_a_model_and_limits_narrow_them() {
    let api = TestApi::new().await;
    let mut ada = api.user("ada").await;
    let collection = own_collection(&mut ada).await;
    let handbook = publish(&api, collection, "Handbook", &[("notice period of three months", None)]).await;
    publish(&api, collection, "Recipes", &[("a period of boiling", None)]).await;
    assert_eq!(texts(&mut ada, &json!({ "query": "notice periods" })).await.len(), 2);
    let limited = json!({ "query": "period", "documents": [handbook] });
    assert_eq!(texts(&mut ada, &limited).await, ["notice period of three months"]);
    assert_eq!(texts(&mut ada, &json!({ "query": "period", "k": 1 })).await.len(), 1);
    let elsewhere = json!({ "query": "period", "collections": [uuid::Uuid::now_v7()] });
    assert!(texts(&mut ada, &elsewhere).await.is_empty());
}

#[tokio::test]
async fn nobody_finds_a_foreign_passage_and_nobody_a_deleted_one_however_stale_the_index() {
    let api = TestApi::new().await;
    let mut ada = api.user("ada").await;
    let mut bob = api.user("bob").await;
    let collection = own_collection(&mut ada).await;
    let document = publish(&api, collection, "Secrets", &[("the vault is blue", Some(axis(3)))]).await;
    for form in [json!({ "query": "vault" }), json!({ "vector": axis(3) })] {
        assert_eq!(texts(&mut ada, &form).await, ["the vault is blue"]);
        assert!(texts(&mut bob, &form).await.is_empty());
        let named = json!({ "query": "vault", "collections": [collection], "documents": [document] });
        assert!(texts(&mut bob, &named).await.is_empty());
    }
    // The index is not told: it still has the passage.
    let client = api.app.store.primary().await.unwrap();
    client.execute("update documents set version = 2 where id = $1", &[&document.0]).await.unwrap();
    assert!(texts(&mut ada, &json!({ "query": "vault" })).await.is_empty());
    client.execute("delete from documents where id = $1", &[&document.0]).await.unwrap();
    assert!(texts(&mut ada, &json!({ "vector": axis(3) })).await.is_empty());
}

#[tokio::test]
async fn bad_searches_are_refused_field_by_field() {
    let api = TestApi::new().await;
    let mut ada = api.user("ada").await;
    let either = json!({ "non_field_errors": ["Give either a query or a vector."] });
    let numbers = |message: &str| json!({ "vector": [message] });
    for (form, expected) in [
        (json!({}), either.clone()),
        (json!({ "query": "x", "vector": axis(0) }), either),
        (json!({ "query": "" }), json!({ "query": ["This field may not be blank."] })),
        (
            json!({ "query": "x", "k": 0 }),
            json!({ "k": ["Ensure this value is greater than or equal to 1."] }),
        ),
        (
            json!({ "query": "x", "k": 101 }),
            json!({ "k": ["Ensure this value is less than or equal to 100."] }),
        ),
        (json!({ "query": "x", "k": "ten" }), json!({ "k": ["A valid integer is required."] })),
        (
            json!({ "query": "x", "documents": ["y"] }),
            json!({ "documents": { "0": ["Must be a valid UUID."] } }),
        ),
        (json!({ "vector": "x" }), numbers("Expected a list of items but got type \"str\".")),
        (
            json!({ "vector": [1, "x", null] }),
            json!({ "vector": { "1": ["A valid number is required."], "2": ["A valid number is required."] } }),
        ),
        (json!({ "vector": vec![0.5; 3] }), numbers("Expected 384 numbers.")),
        (json!({ "vector": vec![0.0; DIMENSION] }), numbers("Expected a vector that is not zero.")),
        (json!({ "vector": vec![0.0; 8_193] }), numbers("Ensure this field has no more than 8192 elements.")),
    ] {
        let refused = ada.post("/api/search/", &form).await;
        assert_eq!((refused.status, refused.json()), (StatusCode::BAD_REQUEST, expected));
    }
    let huge = format!("[{}1e39]", "0.5,".repeat(DIMENSION - 1));
    let body = format!("{{\"vector\": {huge}}}");
    let json = Some("application/json");
    let refused = ada.send(http::Method::POST, "/api/search/", body.into(), json).await;
    assert_eq!(
        (refused.status, refused.json()),
        (StatusCode::BAD_REQUEST, numbers("Expected finite numbers."))
    );
    let beyond = ada.send(http::Method::POST, "/api/search/", "{\"vector\": [1e999, 0]}".into(), json).await;
    assert_eq!(beyond.status, StatusCode::BAD_REQUEST);
    assert_eq!(beyond.json(), json!({ "vector": { "0": ["A valid number is required."] } }));
    let nan = ada.send(http::Method::POST, "/api/search/", "{\"vector\": [NaN]}".into(), json).await;
    assert_eq!(nan.status, StatusCode::BAD_REQUEST);
    assert!(nan.json()["detail"].as_str().unwrap().starts_with("JSON parse error - "));
}
