//! Logins and changes of one password at the same time: no session outlives the password that opened it.

use std::time::Duration;

use agent::store::sessions::{self, NewSession};
use agent::store::users::{self, Credentials};
use agent::store::{Client, Store};

use crate::support::api::TestApi;

const KEY: &str = "the key of the session";

async fn ann(store: &Store) -> Credentials {
    users::credentials(&store.primary().await.unwrap(), "ann").await.unwrap().unwrap()
}

/// Starts a session for whoever has verified the password that `ann` had.
async fn start(store: &Store, ann: &Credentials) -> bool {
    let Credentials { user, password_hash, .. } = ann;
    let age = Duration::from_secs(60);
    let session = NewSession { user: user.id, password_hash, key: KEY, age, previous: None };
    sessions::start(&store.primary().await.unwrap(), &session).await.unwrap()
}

/// Waits until this many statements of the database wait for another's lock.
async fn waiting(client: &Client, count: i64) {
    let sql = "select count(*) from pg_stat_activity
               where datname = current_database() and wait_event_type = 'Lock'";
    while client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_login_that_was_verified_before_a_change_of_the_password_is_refused_after_it() {
    let api = TestApi::new().await;
    api.user("ann").await;
    let store = &api.app.store;
    let verified = ann(store).await;
    let mut client = store.primary().await.unwrap();
    let change = client.transaction().await.unwrap();
    change.execute("update users set password = 'another'", &[]).await.unwrap();
    let watcher = store.primary().await.unwrap();
    let (started, ()) = tokio::join!(start(store, &verified), async {
        waiting(&watcher, 1).await;
        change.commit().await.unwrap();
    });
    assert!(!started);
    assert!(sessions::authenticate(&watcher, KEY).await.unwrap().is_none());
}

#[tokio::test]
async fn a_login_that_is_under_way_is_ended_by_a_change_of_the_password() {
    let api = TestApi::new().await;
    api.user("ann").await;
    let store = &api.app.store;
    let verified = ann(store).await;
    // Holds the login up at its last step: the same key, not committed.
    let mut client = store.primary().await.unwrap();
    let blocker = client.transaction().await.unwrap();
    let sql =
        "insert into sessions (key_hash, user_id, expires_at) values (sha256($1::text::bytea), $2, now())";
    blocker.execute(sql, &[&KEY, &verified.user.id.0]).await.unwrap();
    let watcher = store.primary().await.unwrap();
    let change = async {
        waiting(&watcher, 1).await;
        let (user, hash) = (verified.user.id, Some(verified.password_hash.as_str()));
        let mut client = store.primary().await.unwrap();
        users::set_password(&mut client, user, hash, "another").await.unwrap()
    };
    let release = async {
        let watcher = store.primary().await.unwrap();
        waiting(&watcher, 2).await;
        drop(blocker);
    };
    let (started, changed, ()) = tokio::join!(start(store, &verified), change, release);
    assert!(started && changed);
    assert!(sessions::authenticate(&watcher, KEY).await.unwrap().is_none());
}

#[tokio::test]
async fn of_two_changes_of_one_password_the_second_is_refused() {
    let api = TestApi::new().await;
    let mut browser = api.user("ann").await;
    let store = &api.app.store;
    let verified = ann(store).await;
    let (user, hash) = (verified.user.id, Some(verified.password_hash.as_str()));
    let mut client = store.primary().await.unwrap();
    assert!(users::set_password(&mut client, user, hash, "one").await.unwrap());
    assert!(!users::set_password(&mut client, user, hash, "two").await.unwrap());
    assert_eq!(ann(store).await.password_hash, "one");
    assert_eq!(browser.get("/api/auth/me/").await.status, http::StatusCode::UNAUTHORIZED);
}
