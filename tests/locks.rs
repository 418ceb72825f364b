//! What waits for what in the database: rows are locked in one order everywhere, so that nobody waits in a circle.

use std::time::Duration;

use agent::store::access::Caller;
use agent::store::ids::{ChatId, MessageId};
use agent::store::jobs::{self, Kind};
use agent::store::journal::{self, Event};
use agent::store::messages::{self, Question};
use agent::store::{Client, chats, generations, sessions};

use crate::support::api::TestApi;
use crate::support::documents::accepted;

const LEASE: Duration = Duration::from_secs(30);

/// Ann, who has an account.
async fn ann(api: &TestApi) -> Caller {
    let browser = api.user("ann").await;
    let client = api.app.store.primary().await.unwrap();
    sessions::authenticate(&client, browser.cookie("sessionid").unwrap()).await.unwrap().unwrap()
}

/// A chat with a question whose answer is announced.
async fn asked(client: &Client, caller: &Caller) -> (ChatId, MessageId) {
    let chat = chats::create(client, caller, "", None).await.unwrap().id;
    let answer = MessageId::new();
    let question = Question { id: MessageId::new(), content: "?", title: "?" };
    messages::ask(client, caller, chat, question, Some(answer)).await.unwrap().unwrap();
    (chat, answer)
}

/// Waits until so many statements in this database wait for a lock.
async fn waiting(client: &Client, count: i64) {
    let sql = "select count(*) from pg_stat_activity
               where datname = current_database() and wait_event_type = 'Lock'";
    let wait = async {
        while client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("statements wait for a lock");
}

#[tokio::test]
async fn storing_events_does_not_wait_for_the_renewal_of_a_lease() {
    let api = TestApi::new().await;
    let ann = ann(&api).await;
    let (mut renewing, appending) =
        (api.app.store.primary().await.unwrap(), api.app.store.primary().await.unwrap());
    let (_, answer) = asked(&appending, &ann).await;
    let work = generations::claim(&appending, answer, LEASE).await.unwrap().unwrap();
    let transaction = renewing.transaction().await.unwrap();
    transaction.execute("update generations set lease_until = now()", &[]).await.unwrap();
    let events = [(work.claim, Event { id: 1, name: "meta".into(), data: "{}".into() })];
    let append = journal::append(&appending, &events);
    let held = tokio::time::timeout(Duration::from_secs(5), append).await.expect("does not wait").unwrap();
    assert_eq!(held, [answer]);
}

#[tokio::test]
async fn of_two_requests_to_answer_a_question_again_one_is_refused() {
    let api = TestApi::new().await;
    let ann = ann(&api).await;
    let mut client = api.app.store.primary().await.unwrap();
    let (one, two, watching) = (
        api.app.store.primary().await.unwrap(),
        api.app.store.primary().await.unwrap(),
        api.app.store.primary().await.unwrap(),
    );
    let chat = chats::create(&client, &ann, "", None).await.unwrap().id;
    let question = Question { id: MessageId::new(), content: "?", title: "?" };
    messages::ask(&client, &ann, chat, question, None).await.unwrap().unwrap();
    // Both have seen that no answer is being written before either may write.
    let both = client.transaction().await.unwrap();
    both.query("select from chats for update", &[]).await.unwrap();
    let release = async {
        waiting(&watching, 2).await;
        both.commit().await.unwrap();
    };
    let (first, second, ()) = tokio::join!(
        messages::ask_again(&one, &ann, chat, question.id, MessageId::new()),
        messages::ask_again(&two, &ann, chat, question.id, MessageId::new()),
        release
    );
    assert_eq!([first, second].into_iter().filter(|asked| asked.as_ref().unwrap().is_some()).count(), 1);
}

#[tokio::test]
async fn a_chat_can_be_deleted_while_its_answer_ends() {
    let api = TestApi::new().await;
    let ann = ann(&api).await;
    let mut client = api.app.store.primary().await.unwrap();
    let (mut deleting, watching) =
        (api.app.store.primary().await.unwrap(), api.app.store.primary().await.unwrap());
    let (chat, answer) = asked(&client, &ann).await;
    // What the end of an answer does in one statement, with the other's in between.
    let ending = client.transaction().await.unwrap();
    ending.execute("delete from generations where message_id = $1", &[&answer.0]).await.unwrap();
    let end = async {
        waiting(&watching, 1).await;
        let sql = "update messages set status = 'complete' where id = $1";
        ending.execute(sql, &[&answer.0]).await.unwrap();
        ending.commit().await.unwrap();
    };
    let (deleted, ()) = tokio::join!(chats::delete(&mut deleting, &ann, chat), end);
    assert!(deleted.unwrap());
    assert!(!chats::delete(&mut deleting, &ann, chat).await.unwrap());
}

#[tokio::test]
async fn a_document_can_be_deleted_while_its_job_is_given_back_or_fails() {
    let api = TestApi::new().await;
    let mut browser = api.user("ann").await;
    for fails in [false, true] {
        accepted(&mut browser, "a.txt", if fails { b"one" } else { b"two" }).await;
        let mut deleting = api.app.store.primary().await.unwrap();
        let (client, watching) =
            (api.app.store.primary().await.unwrap(), api.app.store.primary().await.unwrap());
        let job = jobs::claim(&client, &[Kind::Ingest], LEASE, &[], &[]).await.unwrap().unwrap();
        // What the deletion of a document does in one statement, with the job's in between.
        let deletion = deleting.transaction().await.unwrap();
        let sql = "select from documents where id = $1 for update";
        deletion.query(sql, &[&job.document.0]).await.unwrap();
        let delete = async {
            waiting(&watching, 1).await;
            deletion.execute("delete from documents where id = $1", &[&job.document.0]).await.unwrap();
            deletion.commit().await.unwrap();
        };
        let give = async {
            match fails {
                true => jobs::fail(&client, &job, "empty").await,
                false => jobs::give_back(&client, &job, LEASE, true).await,
            }
        };
        let (given, ()) = tokio::join!(give, delete);
        given.unwrap();
    }
}
