//! Collections and who shares them.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::api::{Answer, Browser, TestApi};

/// Makes a collection. Returns its path.
async fn make(browser: &mut Browser, name: &str) -> String {
    let made = browser.post("/api/collections/", &json!({ "name": name })).await;
    assert_eq!(made.status, StatusCode::CREATED);
    format!("/api/collections/{}/", made.json()["id"].as_str().unwrap())
}

async fn share(owner: &mut Browser, path: &str, username: &str, role: &str) -> Answer {
    owner.post(&format!("{path}members/"), &json!({ "username": username, "role": role })).await
}

async fn id_of(browser: &mut Browser) -> String {
    browser.get("/api/auth/me/").await.json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn everyone_starts_with_a_collection_of_their_own() {
    let api = TestApi::new().await;
    let list = api.user("ann").await.get("/api/collections/").await.json();
    assert_eq!(list["count"], 1);
    assert_eq!(list["results"][0]["name"], "My documents");
    assert_eq!(list["results"][0]["role"], "owner");
    assert_eq!((&list["next"], &list["previous"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn a_collection_is_made_renamed_paged_and_deleted() {
    let api = TestApi::new().await;
    let mut ann = api.user("ann").await;
    let path = make(&mut ann, "  Travel  ").await;
    assert_eq!(ann.get(&path).await.json()["name"], "Travel");
    assert_eq!(ann.patch(&path, &json!({ "name": "Trips" })).await.json()["name"], "Trips");
    let page = ann.get("/api/collections/?page_size=1&page=last").await.json();
    assert_eq!(page["results"][0]["name"], "Trips");
    assert_eq!(page["previous"], "http://localhost:8000/api/collections/?page_size=1");
    let beyond = ann.get("/api/collections/?page=3").await;
    assert_eq!((beyond.status, beyond.json()), (StatusCode::NOT_FOUND, json!({ "detail": "Invalid page." })));
    assert_eq!(ann.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(ann.get(&path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn members_may_do_what_their_role_says_and_others_see_nothing() {
    let api = TestApi::new().await;
    let (mut ann, mut bob, mut eve) = (api.user("ann").await, api.user("bob").await, api.user("eve").await);
    let path = make(&mut ann, "Travel").await;
    assert_eq!(share(&mut ann, &path, "Bob", "viewer").await.status, StatusCode::CREATED);
    assert_eq!(bob.get(&path).await.json()["role"], "viewer");
    assert_eq!(bob.get(&format!("{path}members/")).await.json()["count"], 2);
    assert_eq!(bob.patch(&path, &json!({ "name": "Mine" })).await.status, StatusCode::FORBIDDEN);
    assert_eq!(bob.delete(&path).await.status, StatusCode::FORBIDDEN);
    assert_eq!(share(&mut bob, &path, "eve", "viewer").await.status, StatusCode::FORBIDDEN);
    let members = format!("{path}members/");
    for refused in [
        eve.get(&path).await,
        eve.patch(&path, &json!({ "name": "Mine" })).await,
        eve.delete(&path).await,
        eve.get(&members).await,
        share(&mut eve, &path, "eve", "owner").await,
    ] {
        assert_eq!(
            (refused.status, refused.json()),
            (StatusCode::NOT_FOUND, json!({ "detail": "Not found." }))
        );
    }
}

#[tokio::test]
async fn who_cannot_be_added_is_said() {
    let api = TestApi::new().await;
    let mut ann = api.user("ann").await;
    let path = make(&mut ann, "Travel").await;
    let unknown = share(&mut ann, &path, "nobody", "viewer").await;
    assert_eq!(unknown.json(), json!({ "username": ["Object with username=nobody does not exist."] }));
    let again = share(&mut ann, &path, "ann", "viewer").await;
    assert_eq!(again.json(), json!({ "username": ["This user is already a member."] }));
    let role = share(&mut ann, &path, "ann", "king").await;
    assert_eq!(role.json(), json!({ "role": ["\"king\" is not a valid choice."] }));
}

#[tokio::test]
async fn a_collection_always_keeps_an_owner() {
    let api = TestApi::new().await;
    let (mut ann, mut bob) = (api.user("ann").await, api.user("bob").await);
    let (ann_id, bob_id) = (id_of(&mut ann).await, id_of(&mut bob).await);
    let path = make(&mut ann, "Travel").await;
    let (ann_member, bob_member) = (format!("{path}members/{ann_id}/"), format!("{path}members/{bob_id}/"));
    let last = json!({ "detail": "A collection needs at least one owner." });
    let demoted = ann.patch(&ann_member, &json!({ "role": "viewer" })).await;
    assert_eq!((demoted.status, demoted.json()), (StatusCode::CONFLICT, last.clone()));
    assert_eq!(ann.delete(&ann_member).await.status, StatusCode::CONFLICT);

    share(&mut ann, &path, "bob", "viewer").await;
    assert_eq!(bob.delete(&ann_member).await.status, StatusCode::FORBIDDEN);
    assert_eq!(ann.patch(&bob_member, &json!({ "role": "owner" })).await.json()["role"], "owner");
    let (left, thrown_out) = tokio::join!(ann.delete(&ann_member), bob.delete(&bob_member));
    let mut statuses = [left.status, thrown_out.status];
    statuses.sort();
    assert_eq!(statuses, [StatusCode::NO_CONTENT, StatusCode::CONFLICT], "one of two leaving at once stays");
}

#[tokio::test]
async fn a_viewer_may_leave() {
    let api = TestApi::new().await;
    let (mut ann, mut bob) = (api.user("ann").await, api.user("bob").await);
    let path = make(&mut ann, "Travel").await;
    share(&mut ann, &path, "bob", "viewer").await;
    let bob_id = id_of(&mut bob).await;
    assert_eq!(bob.delete(&format!("{path}members/{bob_id}/")).await.status, StatusCode::NO_CONTENT);
    assert_eq!(bob.get(&path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn deleting_a_collection_tells_every_index_and_leaves_the_originals_to_the_sweep() {
    let api = TestApi::new().await;
    let mut ann = api.user("ann").await;
    let path = make(&mut ann, "Travel").await;
    let id: uuid::Uuid = path.split('/').nth(3).unwrap().parse().unwrap();
    let client = api.app.store.primary().await.unwrap();
    let document = uuid::Uuid::now_v7();
    let sql = "insert into documents (id, collection_id, title, file_name, media_type, size_bytes, sha256, blob, status)
               values ($1, $2, 't', 't.txt', 'text/plain', 1, sha256('x'), 'a-blob', 'queued')";
    client.execute(sql, &[&document, &id]).await.unwrap();
    assert_eq!(ann.get(&path).await.json()["document_count"], 1);
    assert_eq!(ann.delete(&path).await.status, StatusCode::NO_CONTENT);
    let left = client.query_one("select count(*) from documents", &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(left, 0);
    let logged = client.query_one("select document_id from index_log", &[]).await.unwrap();
    assert_eq!(logged.get::<_, uuid::Uuid>(0), document);
    let removal = client.query_one("select blob from blob_removals", &[]).await.unwrap();
    assert_eq!(removal.get::<_, String>(0), "a-blob");
}
