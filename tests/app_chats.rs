//! `/api/chats/` and the messages in them.

use http::StatusCode;
use serde_json::json;

use super::support::answers::chat;
use super::support::api::TestApi;
use super::support::library::own_collection;

#[tokio::test]
async fn chats_are_made_listed_changed_and_deleted() {
    let api = TestApi::new().await;
    let mut ada = api.user("ada").await;
    let collection = own_collection(&mut ada).await;
    let form = json!({ "title": " Travel ", "collections": [collection] });
    let made = ada.post("/api/chats/", &form).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let first = made.json();
    assert_eq!((&first["title"], &first["collections"]), (&json!("Travel"), &json!([collection])));
    let second = ada.post("/api/chats/", &json!({})).await.json();
    assert_eq!((&second["title"], &second["collections"]), (&json!(""), &json!(null)));

    let list = ada.get("/api/chats/").await.json();
    assert_eq!(list, json!({ "count": 2, "next": null, "previous": null, "results": [second, first] }));

    let path = format!("/api/chats/{}/", first["id"].as_str().unwrap());
    let changed = ada.patch(&path, &json!({ "title": "Trips", "collections": null })).await.json();
    assert_eq!((&changed["title"], &changed["collections"]), (&json!("Trips"), &json!(null)));
    assert_eq!(changed["updated_at"], first["updated_at"]);
    assert_eq!(ada.get(&path).await.json(), changed);
    assert_eq!(ada.patch(&path, &json!({})).await.json(), changed);
    assert_eq!(ada.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(ada.get(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(ada.delete(&path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn titles_are_searched_without_regard_to_case_and_without_wildcards() {
    let api = TestApi::new().await;
    let mut ada = api.user("ada").await;
    for title in ["Travel policy", "100% refund", "Recipes"] {
        ada.post("/api/chats/", &json!({ "title": title })).await;
    }
    for (search, titles) in [
        ("TRAVEL", vec!["Travel policy"]),
        ("0%25", vec!["100% refund"]),
        ("%25", vec!["100% refund"]),
        ("x", vec![]),
    ] {
        let list = ada.get(&format!("/api/chats/?search={search}")).await.json();
        let found: Vec<&str> =
            list["results"].as_array().unwrap().iter().map(|c| c["title"].as_str().unwrap()).collect();
        assert_eq!(found, titles, "{search}");
        assert_eq!(list["count"], titles.len());
    }
}

#[tokio::test]
async fn a_chat_cannot_be_limited_to_a_foreign_collection() {
    let api = TestApi::new().await;
    let mut ada = api.user("ada").await;
    let mut bob = api.user("bob").await;
    let foreign = own_collection(&mut bob).await;
    let expected = json!({ "collections": [format!("Invalid pk \"{foreign}\" - object does not exist.")] });
    let refused = ada.post("/api/chats/", &json!({ "collections": [foreign] })).await;
    assert_eq!((refused.status, refused.json()), (StatusCode::BAD_REQUEST, expected.clone()));
    let path = chat(&mut ada).await;
    let refused = ada.patch(&path, &json!({ "collections": [foreign] })).await;
    assert_eq!((refused.status, refused.json()), (StatusCode::BAD_REQUEST, expected));
    let wrong =
        ada.post("/api/chats/", &json!({ "title": "x".repeat(201), "collections": "all" })).await.json();
    assert_eq!(wrong["title"], json!(["Ensure this field has no more than 200 characters."]));
    assert_eq!(wrong["collections"], json!(["Expected a list of items but got type \"str\"."]));
}

#[tokio::test]
async fn a_foreign_chat_is_answered_like_an_unknown_one() {
    let api = TestApi::new().await;
    let mut ada = api.user("ada").await;
    let mut bob = api.user("bob").await;
    let foreign = chat(&mut ada).await;
    let unknown = format!("/api/chats/{}/", uuid::Uuid::now_v7());
    for path in [foreign, unknown, "/api/chats/nonsense/".to_owned()] {
        let question = json!({ "content": "?" });
        let answers = [
            bob.get(&path).await,
            bob.patch(&path, &json!({ "title": "mine" })).await,
            bob.delete(&path).await,
            bob.get(&format!("{path}messages/")).await,
            bob.post(&format!("{path}messages/"), &question).await,
        ];
        for answer in answers {
            assert_eq!(
                (answer.status, answer.json()),
                (StatusCode::NOT_FOUND, json!({ "detail": "Not found." }))
            );
        }
    }
    assert_eq!(ada.get("/api/chats/").await.json()["results"][0]["title"], "");
}

#[tokio::test]
async fn a_question_is_saved_names_the_chat_and_brings_it_to_the_top() {
    let api = TestApi::new().await;
    let mut ada = api.user("ada").await;
    let path = chat(&mut ada).await;
    let newer = chat(&mut ada).await;
    let form = json!({ "content": " How long is the notice period? \n", "answer": false });
    let asked = ada.post(&format!("{path}messages/"), &form).await;
    assert_eq!(asked.status, StatusCode::CREATED);
    let message = &asked.json()["message"];
    assert_eq!(message["content"], "How long is the notice period?");
    assert_eq!((&message["role"], &message["status"]), (&json!("user"), &json!("complete")));
    assert_eq!((&message["citations"], &message["finish_reason"]), (&json!([]), &json!(null)));
    assert_eq!(asked.json()["answer"], json!(null));
    ada.post(&format!("{path}messages/"), &json!({ "content": "Second?", "answer": false })).await;

    let list = ada.get("/api/chats/").await.json();
    assert_eq!(list["results"][0]["title"], "How long is the notice period?");
    assert!(newer.contains(list["results"][1]["id"].as_str().unwrap()));
    let messages = ada.get(&format!("{path}messages/")).await.json();
    assert_eq!(&messages["results"][0], message);
    assert_eq!(messages["results"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn bad_questions_are_refused_field_by_field() {
    let api = TestApi::with(&[("chat.question_chars_max", "100")]).await;
    let mut ada = api.user("ada").await;
    let path = format!("{}messages/", chat(&mut ada).await);
    for (form, expected) in [
        (json!({}), json!({ "content": ["This field is required."] })),
        (json!({ "content": " " }), json!({ "content": ["This field may not be blank."] })),
        (json!({ "content": null }), json!({ "content": ["This field may not be null."] })),
        (json!({ "content": [] }), json!({ "content": ["Not a valid string."] })),
        (
            json!({ "content": "x".repeat(101) }),
            json!({ "content": ["Ensure this field has no more than 100 characters."] }),
        ),
        (json!({ "content": "?", "answer": "maybe" }), json!({ "answer": ["Must be a valid boolean."] })),
    ] {
        let refused = ada.post(&path, &form).await;
        assert_eq!((refused.status, refused.json()), (StatusCode::BAD_REQUEST, expected));
    }
    let longest = json!({ "content": "é".repeat(100), "answer": false });
    assert_eq!(ada.post(&path, &longest).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn messages_are_paged_by_cursor_in_both_orders() {
    let api = TestApi::new().await;
    let mut ada = api.user("ada").await;
    let path = format!("{}messages/", chat(&mut ada).await);
    let empty = ada.get(&path).await.json();
    assert_eq!(empty, json!({ "next": null, "previous": null, "results": [] }));
    for n in 0..5 {
        ada.post(&path, &json!({ "content": format!("{n}"), "answer": false })).await;
    }
    for (query, expected) in [
        ("page_size=2", ["0", "1", "2", "3", "4"]),
        ("page_size=2&ordering=-created_at", ["4", "3", "2", "1", "0"]),
    ] {
        let mut pages = vec![ada.get(&format!("{path}?{query}")).await.json()];
        while let Some(next) = pages.last().unwrap()["next"].as_str() {
            let next = next.strip_prefix("http://localhost:8000").unwrap().to_owned();
            pages.push(ada.get(&next).await.json());
        }
        let contents = |page: &serde_json::Value| -> Vec<String> {
            page["results"]
                .as_array()
                .unwrap()
                .iter()
                .map(|m| m["content"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(pages.iter().flat_map(contents).collect::<Vec<_>>(), expected);
        let back = pages[2]["previous"].as_str().unwrap().strip_prefix("http://localhost:8000").unwrap();
        assert_eq!(contents(&ada.get(back).await.json()), expected[2..4]);
    }
    assert_eq!(ada.get(&format!("{path}?cursor=nonsense")).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn questions_that_want_an_answer_are_throttled_and_those_that_do_not_are_not() {
    let api = TestApi::with(&[("chat.question_chars_max", "100"), ("throttle.chat_per_minute", "2")]).await;
    let mut ada = api.user("ada").await;
    let path = format!("{}messages/", chat(&mut ada).await);
    let mut ask =
        async |answer: bool| ada.post(&path, &json!({ "content": "?", "answer": answer })).await.status;
    assert_eq!(ask(true).await, StatusCode::CREATED);
    assert_eq!(ask(true).await, StatusCode::CREATED);
    assert_eq!(ask(true).await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(ask(false).await, StatusCode::CREATED);
}
