//! The index behind a real database: what the log's reader does when transactions, histories and wires misbehave.

use std::sync::Arc;
use std::time::Duration;

use agent::index::sync::Follower;
use agent::index::{Index, Limits, Mode, Query};
use agent::store::access::{Caller, ReadAccess};
use agent::store::ids::{CollectionId, DocumentId};
use agent::store::sessions::NewSession;
use agent::store::users::NewUser;
use agent::store::{Options, Store, collections, index_log, migrate, sessions, users};
use agent::telemetry::tasks::Tasks;
use uuid::Uuid;

use crate::support::fault_proxy::FaultProxy;
use crate::support::postgres::TestDatabase;

/// Far longer than a change takes to arrive.
const PATIENCE: Duration = Duration::from_secs(20);

/// A database with one user and their collection, and one node's index.
struct Node {
    _database: TestDatabase,
    wire: FaultProxy,
    /// Writes to the database directly.
    store: Store,
    access: ReadAccess,
    index: Arc<Index>,
    follower: Arc<Follower>,
    tasks: Tasks,
}

fn open(url: String) -> Store {
    let second = Duration::from_secs(1);
    Store::new(Options {
        url,
        ca_file: None,
        pool_max: 4,
        connect_timeout: 2 * second,
        acquire_timeout: 2 * second,
        statement_timeout: 5 * second,
        connection_age_max: 600 * second,
        tcp_user_timeout: 5 * second,
    })
    .unwrap()
}

impl Node {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let store = open(database.url().to_owned());
        migrate::migrate(&store).await.unwrap();
        let wire = FaultProxy::new(database.url()).await;
        let index = Arc::new(Index::new(Limits { dimension: 2, chunks_max: 10_000 }));
        let follower = Arc::new(Follower::new(Arc::clone(&index), open(wire.url())));
        let access = access(&store).await;
        Self { _database: database, wire, store, access, index, follower, tasks: Tasks::new() }
    }

    fn collection(&self) -> CollectionId {
        self.access.collections()[0]
    }

    /// Starts following and waits until the index has what the database had.
    async fn start(&self) {
        let mut caught_up = self.follower.caught_up();
        self.tasks.spawn(Arc::clone(&self.follower).run(self.tasks.stopping().clone()));
        tokio::time::timeout(PATIENCE, caught_up.wait_for(|caught_up| *caught_up)).await.unwrap().unwrap();
    }

    async fn run(&self, sql: &str, document: DocumentId) {
        self.store.primary().await.unwrap().execute(sql, &[&document.0]).await.unwrap();
    }

    async fn publish(&self, document: DocumentId, version: i32, text: &str) {
        let client = self.store.primary().await.unwrap();
        let params: agent::store::client::Params<'_> =
            &[&document.0, &self.collection().0, &version, &text, &Uuid::now_v7()];
        client.execute(PUBLISH, params).await.unwrap();
        self.follower.notify();
    }

    /// Waits until no row of the log is held back by a transaction that runs, in whatever test.
    async fn is_settled(&self) {
        let sql =
            "select exists (select from index_log where xid >= pg_snapshot_xmin(pg_current_snapshot()))";
        let client = self.store.primary().await.unwrap();
        while client.query_one(sql, &[]).await.unwrap().get(0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn finds(&self, text: &str) -> Vec<DocumentId> {
        let query = Query { text: Some(text), vector: None, k: 100, documents: None, mode: Mode::Text };
        self.index.search(&self.access, &query).unwrap().iter().map(|hit| hit.document).collect()
    }

    /// Waits until a search for `text` finds exactly `documents`.
    async fn comes_to_find(&self, text: &str, documents: &[DocumentId]) {
        let arrived = async {
            while self.finds(text) != documents {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, arrived).await.unwrap_or_else(|_| {
            panic!("{text} finds {:?} and not {documents:?}", self.finds(text));
        });
    }
}

/// Publishes a version of one passage, whether the document is there already or not, and logs it.
const PUBLISH: &str = "
    with d as (
        insert into documents (id, collection_id, title, file_name, media_type, size_bytes, sha256, blob, status,
                               version, chunk_count)
        values ($1::uuid, $2, 'Atlas', 't.txt', 'text/plain', 1, sha256($1::uuid::text::bytea), $1::uuid::text, 'ready', $3, 1)
        on conflict (id) do update set version = $3
        returning id
    ), c as (
        insert into chunks (id, document_id, version, ordinal, heading, text, span_start, span_end)
        select $5, id, $3, 0, 'Heading', $4, 0, 1 from d
    )
    insert into index_log (document_id) select id from d";

async fn access(store: &Store) -> ReadAccess {
    let mut client = store.primary().await.unwrap();
    let new =
        NewUser { username: "ann", email: "", password_hash: "!", is_staff: false, collection: "Documents" };
    let user = users::create(&mut client, &new, None).await.unwrap();
    let age = Duration::from_secs(60);
    let session = NewSession { user: user.id, password_hash: "!", key: "key", age, previous: None };
    assert!(sessions::start(&client, &session).await.unwrap());
    let caller: Caller = sessions::authenticate(&client, "key").await.unwrap().unwrap();
    collections::readable(&client, &caller).await.unwrap()
}

#[tokio::test]
async fn the_index_holds_what_was_published_before_and_after_its_start() {
    let node = Node::new().await;
    let (before, after) = (DocumentId::new(), DocumentId::new());
    node.publish(before, 1, "river").await;
    node.start().await;
    assert_eq!(node.finds("river"), [before]);
    assert_eq!(node.finds("heading"), [before]);
    assert_eq!(node.finds("atlas"), [before]);
    node.publish(after, 1, "mountain").await;
    node.comes_to_find("mountain", &[after]).await;
    node.publish(before, 2, "valley").await;
    node.comes_to_find("valley", &[before]).await;
    assert_eq!(node.finds("river"), []);
}

#[tokio::test]
async fn deleted_documents_and_collections_leave_the_index() {
    let node = Node::new().await;
    let (one, two) = (DocumentId::new(), DocumentId::new());
    node.publish(one, 1, "river").await;
    node.publish(two, 1, "river").await;
    node.start().await;
    let delete = "with gone as (delete from documents where id = $1 returning id)
                  insert into index_log (document_id) select id from gone";
    node.run(delete, one).await;
    node.comes_to_find("river", &[two]).await;
    node.run(delete, two).await;
    node.comes_to_find("river", &[]).await;
    assert_eq!(node.index.stats().documents, 0);
}

#[tokio::test]
async fn transactions_that_commit_in_another_order_than_they_log_are_all_applied() {
    let node = Node::new().await;
    node.start().await;
    let (slow, fast) = (DocumentId::new(), DocumentId::new());
    let mut client = node.store.primary().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let collection = node.collection().0;
    transaction.execute(PUBLISH, &[&slow.0, &collection, &1, &"river", &Uuid::now_v7()]).await.unwrap();
    // Takes the later sequence number and commits first.
    node.publish(fast, 1, "mountain").await;
    // A poll in between must not move the cursor past the row that is still to come.
    node.publish(DocumentId::new(), 1, "other").await;
    // Two polls pass; there is nothing to see of them.
    tokio::time::sleep(Duration::from_millis(600)).await;
    transaction.commit().await.unwrap();
    node.comes_to_find("river", &[slow]).await;
    node.comes_to_find("mountain", &[fast]).await;
}

#[tokio::test]
async fn the_highest_version_wins_whatever_the_order_of_transactions_was() {
    let node = Node::new().await;
    let document = DocumentId::new();
    node.publish(document, 1, "first").await;
    node.start().await;
    let mut client = node.store.primary().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    // An early transaction id, used late: its log row sorts before those of versions that it replaces.
    transaction.query_one("select pg_current_xact_id()::text", &[]).await.unwrap();
    node.publish(document, 2, "second").await;
    let collection = node.collection().0;
    transaction.execute(PUBLISH, &[&document.0, &collection, &3, &"third", &Uuid::now_v7()]).await.unwrap();
    transaction.commit().await.unwrap();
    node.comes_to_find("third", &[document]).await;
    assert_eq!(node.finds("first second"), []);
}

#[tokio::test]
async fn a_change_of_epoch_takes_the_databases_state_even_where_versions_went_back() {
    for other_history in [
        "update epoch set id = gen_random_uuid() where $1::uuid is not null",
        // The same transaction ids with other rows, as after a restore.
        "update index_log set token = gen_random_uuid() where $1::uuid is not null",
        "delete from index_log where $1::uuid is not null",
    ] {
        let node = Node::new().await;
        let (kept, lost) = (DocumentId::new(), DocumentId::new());
        node.publish(kept, 7, "river").await;
        node.publish(lost, 1, "mountain").await;
        node.is_settled().await;
        node.start().await;
        node.comes_to_find("river mountain", &[kept, lost]).await;
        let mut client = node.store.primary().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        for sql in [
            "update chunks set version = 3, text = 'valley' where document_id = $1",
            "update documents set version = 3 where id = $1",
            other_history,
        ] {
            transaction.execute(sql, &[&kept.0]).await.unwrap();
        }
        transaction.execute("delete from documents where id = $1", &[&lost.0]).await.unwrap();
        transaction.commit().await.unwrap();
        node.comes_to_find("valley", &[kept]).await;
        node.comes_to_find("mountain", &[]).await;
        assert_eq!(node.finds("river"), [], "{other_history}");
    }
}

#[tokio::test]
async fn a_lost_database_is_waited_for_and_the_index_stays_caught_up() {
    let node = Node::new().await;
    let (before, during) = (DocumentId::new(), DocumentId::new());
    node.publish(before, 1, "river").await;
    node.start().await;
    node.wire.cut();
    node.publish(during, 1, "mountain").await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(*node.follower.caught_up().borrow());
    assert_eq!(node.finds("river mountain"), [before]);
    node.wire.restore();
    node.comes_to_find("mountain", &[during]).await;
}

#[tokio::test]
async fn vectors_count_only_if_they_fit_and_are_of_the_active_generation() {
    let node = Node::new().await;
    let documents: Vec<DocumentId> = (0..3).map(|_| DocumentId::new()).collect();
    let client = node.store.primary().await.unwrap();
    client
        .batch(
            "insert into embedding_model values (1, 'old', 'mean', 2, sha256('a'), 'retired'),
                                                (2, 'new', 'mean', 2, sha256('b'), 'active')",
        )
        .await
        .unwrap();
    let vectors: [(i32, &[f32]); 3] = [(2, &[0.6, 0.8]), (1, &[0.6, 0.8]), (2, &[0.6, 0.8, 0.0])];
    for (document, (generation, vector)) in documents.iter().zip(vectors) {
        node.publish(*document, 1, "river").await;
        let bytes: Vec<u8> = vector.iter().flat_map(|component| component.to_le_bytes()).collect();
        let set = "with c as (update chunks set embedding = $2 where document_id = $1)
                   update documents set generation = $3 where id = $1";
        client.execute(set, &[&document.0, &bytes, &generation]).await.unwrap();
    }
    node.start().await;
    let query = Query { text: None, vector: Some(&[0.6, 0.8]), k: 10, documents: None, mode: Mode::Vector };
    let hits = node.index.search(&node.access, &query).unwrap();
    assert_eq!(hits.iter().map(|hit| (hit.document, hit.score)).collect::<Vec<_>>(), [(documents[0], 1.0)]);
    assert_eq!(node.finds("river").len(), 3);
}

#[tokio::test]
async fn a_large_build_arrives_whole() {
    let node = Node::new().await;
    let client = node.store.primary().await.unwrap();
    let sql = "
        with d as (
            insert into documents (id, collection_id, title, file_name, media_type, size_bytes, sha256, blob, status,
                                   version, chunk_count)
            select gen_random_uuid(), $1, 't', 't', 'text/plain', 1, sha256(n::text::bytea), n::text, 'ready', 1, 3
            from generate_series(1, 1500) n returning id
        )
        insert into chunks (id, document_id, version, ordinal, heading, text, span_start, span_end)
        select gen_random_uuid(), id, 1, n, '', 'passage ' || n, 0, 1 from d, generate_series(0, 2) n";
    client.execute(sql, &[&node.collection().0]).await.unwrap();
    client.batch("insert into index_log (document_id) select id from documents").await.unwrap();
    node.start().await;
    let stats = node.index.stats();
    assert_eq!((stats.documents, stats.chunks), (1_500, 4_500));
    assert_eq!(node.finds("2").len(), 100);
}

#[tokio::test]
async fn pruning_keeps_the_newest_rows_and_whoever_is_further_behind_builds_anew() {
    let node = Node::new().await;
    let (kept, gone) = (DocumentId::new(), DocumentId::new());
    node.publish(gone, 1, "river").await;
    node.is_settled().await;
    node.start().await;
    node.wire.cut();
    let client = node.store.primary().await.unwrap();
    node.run("delete from documents where id = $1", gone).await;
    for version in 1..=5 {
        node.publish(kept, version, "mountain").await;
    }
    node.is_settled().await;
    assert_eq!(index_log::prune(&client, 6).await.unwrap(), 0);
    assert_eq!(index_log::prune(&client, 2).await.unwrap(), 4);
    node.wire.restore();
    node.comes_to_find("river mountain", &[kept]).await;
    // Read on from a row that is kept.
    assert_eq!(index_log::prune(&client, 0).await.unwrap(), 1, "the newest row always stays");
    node.publish(gone, 2, "valley").await;
    node.comes_to_find("valley", &[gone]).await;
}

#[tokio::test]
async fn a_reader_that_found_the_log_empty_notices_that_rows_were_pruned() {
    let node = Node::new().await;
    node.start().await;
    node.wire.cut();
    let document = DocumentId::new();
    node.publish(document, 1, "river").await;
    let client = node.store.primary().await.unwrap();
    let others = "insert into index_log (document_id) select gen_random_uuid() from generate_series(1, 1500)";
    client.batch(others).await.unwrap();
    node.is_settled().await;
    assert_eq!(index_log::prune(&client, 1000).await.unwrap(), 501);
    node.wire.restore();
    node.comes_to_find("river", &[document]).await;
}
