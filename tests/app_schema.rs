//! What holds for every endpoint of the API's description: it is reachable, closed to strangers, and does not tell
//! somebody else's things from things that do not exist.

use std::time::Duration;

use agent::app::schema;
use axum::body::Body;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::api::{Answer, Browser, TestApi};

/// Satisfies the form of every endpoint that takes JSON; forms ignore what they do not know.
const ANY_BODY: &str = r#"{"name": "x", "title": "x", "content": "x", "username": "ann", "role": "viewer",
    "password": "blue-kettle-71", "current_password": "x", "new_password": "x", "query": "x"}"#;

/// Method, path and description of every endpoint.
fn endpoints() -> Vec<(Method, String, Value)> {
    let document = schema::document();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            found.push((method, path.clone(), operation.clone()));
        }
    }
    found
}

async fn ask(browser: &mut Browser, method: &Method, path: &str) -> Answer {
    let (body, kind) = match *method {
        Method::GET | Method::DELETE => (Body::empty(), None),
        _ => (Body::from(ANY_BODY), Some("application/json")),
    };
    let answer = browser.send(method.clone(), path, body, kind);
    tokio::time::timeout(Duration::from_secs(20), answer)
        .await
        .expect("a refused request is answered at once")
}

/// The path with every id in it replaced by what `id` returns for the resource that stands before it.
fn filled(path: &str, id: impl Fn(&str) -> String) -> String {
    let mut resource = "";
    let parts = path.split('/').map(|part| {
        let shown = if part.starts_with('{') { id(resource) } else { part.to_owned() };
        resource = part;
        shown
    });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_endpoint_but_a_few_is_closed_to_strangers() {
    let open = ["/api/auth/csrf/", "/api/auth/register/", "/api/auth/login/", "/api/schema/", "/api/docs/"];
    let api = TestApi::with(&[("throttle.enabled", "false")]).await;
    let mut stranger = api.visitor();
    let mut session = api.visitor();
    session.set_cookie("sessionid", "nosuchsessionnosuchsessionnosuch");
    let mut token = api.visitor().with("authorization", &format!("Token {}", "0".repeat(40)));
    for (method, path, operation) in endpoints() {
        let is_open = open.contains(&&*path);
        assert_eq!(operation["security"] == json!([{}]), is_open, "{method} {path}");
        if is_open {
            continue;
        }
        let path = filled(&path, |_| Uuid::now_v7().to_string());
        let missing = json!({ "detail": "Authentication credentials were not provided." });
        for (browser, detail) in [
            (&mut stranger, &missing),
            (&mut session, &missing),
            (&mut token, &json!({ "detail": "Invalid token." })),
        ] {
            let answer = ask(browser, &method, &path).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
            assert_eq!(&answer.json(), detail, "{method} {path}");
            assert_eq!(answer.header("www-authenticate"), "Token");
        }
    }
}

/// Makes one of each thing for the user `ann`. Returns the id of the one that a path segment names.
async fn belongings(api: &TestApi, ann: &mut Browser) -> impl Fn(&str) -> String + use<> {
    let text = |json: &Value| json.as_str().unwrap().to_owned();
    let user = text(&ann.get("/api/auth/me/").await.json()["id"]);
    let collection = text(&ann.get("/api/collections/").await.json()["results"][0]["id"]);
    let token = text(&ann.post("/api/auth/tokens/", &json!({ "name": "x" })).await.json()["id"]);
    let [document, chat, question, answer] = [(); 4].map(|()| Uuid::now_v7());
    let client = api.app.store.primary().await.unwrap();
    let owner: Uuid = user.parse().unwrap();
    let sql = "insert into documents (id, collection_id, owner_id, title, file_name, media_type, size_bytes, sha256,
                                      blob, status)
               values ($1, $2, $3, 't', 't.txt', 'text/plain', 1, sha256('x'), 'no-such-blob', 'failed')";
    client.execute(sql, &[&document, &collection.parse::<Uuid>().unwrap(), &owner]).await.unwrap();
    let sql = "insert into chats (id, owner_id, title) values ($1, $2, 't')";
    client.execute(sql, &[&chat, &owner]).await.unwrap();
    let sql = "insert into messages (id, chat_id, role, question_id, content, status)
               values ($1, $3, 'user', null, 'q', 'complete'), ($2, $3, 'assistant', $1, 'a', 'complete')";
    client.execute(sql, &[&question, &answer, &chat]).await.unwrap();
    move |resource| match resource {
        "collections" => collection.clone(),
        "members" => user.clone(),
        "tokens" => token.clone(),
        "documents" => document.to_string(),
        "chats" => chat.to_string(),
        "messages" => answer.to_string(),
        other => panic!("say here how to make one of {other}, so that foreign ones are tested"),
    }
}

#[tokio::test]
async fn what_is_somebody_elses_answers_exactly_as_what_does_not_exist() {
    let api = TestApi::with(&[("throttle.enabled", "false")]).await;
    let mut ann = api.user("ann").await;
    let mut bob = api.user("bob").await;
    let anns = belongings(&api, &mut ann).await;
    for (method, path, _) in endpoints().into_iter().filter(|(_, path, _)| path.contains('{')) {
        let foreign = ask(&mut bob, &method, &filled(&path, &anns)).await;
        let unknown = ask(&mut bob, &method, &filled(&path, |_| Uuid::now_v7().to_string())).await;
        let malformed = ask(&mut bob, &method, &filled(&path, |_| "not-an-id".to_owned())).await;
        for answer in [&foreign, &unknown, &malformed] {
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}: {}", answer.text());
            assert_eq!(answer.json(), json!({ "detail": "Not found." }), "{method} {path}");
        }
        assert_eq!(foreign.headers, unknown.headers, "{method} {path}");
    }
}

#[tokio::test]
async fn the_description_is_open_api_3_1_and_the_page_loads_nothing_from_elsewhere() {
    let api = TestApi::new().await;
    let schema = api.visitor().get("/api/schema/").await;
    assert_eq!(schema.status, StatusCode::OK);
    assert!(schema.json()["openapi"].as_str().unwrap().starts_with("3.1."));
    let page = api.visitor().with("accept", "text/html").get("/api/docs/").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(!page.text().contains("http://") && !page.text().contains("https://"));
    let policy = page.header("content-security-policy");
    assert!(policy.contains("script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
}

#[test]
fn every_answer_is_described_and_every_operation_has_a_name_of_its_own() {
    let mut names = std::collections::HashSet::new();
    for (method, path, operation) in endpoints() {
        let answers = operation["responses"].as_object().unwrap();
        assert!(answers.keys().any(|status| status.starts_with('2')), "{method} {path}");
        for (status, answer) in answers {
            let described = answer["$ref"].is_string()
                || answer["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(described, "{method} {path} {status}");
        }
        assert!(operation["summary"].is_string(), "{method} {path}");
        assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
    }
}

#[test]
fn every_reference_of_the_description_leads_somewhere() {
    fn check(document: &Value, value: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                    let target = document.pointer(reference.trim_start_matches('#'));
                    assert!(target.is_some(), "{reference}");
                }
                map.values().for_each(|value| check(document, value));
            }
            Value::Array(items) => items.iter().for_each(|item| check(document, item)),
            _ => {}
        }
    }
    let document = schema::document();
    check(&document, &document);
}

#[test]
fn every_route_is_in_the_description() {
    // A route that goes to axum's router directly would be served and described nowhere.
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/app");
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(!text.contains(".route("), "{} adds a route outside of `routes!`", path.display());
            }
        }
    }
}

#[test]
fn the_documentation_lists_exactly_the_endpoints_that_exist() {
    let page = include_str!("../docs/api.md");
    let mut documented: Vec<&str> = page
        .lines()
        .filter_map(|line| {
            line.strip_prefix("| `")?.split_once('`').filter(|(text, _)| text.contains(" /api"))
        })
        .map(|(endpoint, _)| endpoint)
        .collect();
    let mut existing: Vec<String> =
        endpoints().into_iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    documented.sort_unstable();
    existing.sort_unstable();
    assert_eq!(documented, existing);
}

#[test]
fn the_documentation_lists_every_reason_of_a_failed_document() {
    let page = include_str!("../docs/api.md");
    for reason in agent::rag::extract::Reason::ALL {
        assert!(page.contains(&format!("| `{reason}` |")), "{reason}");
    }
}
