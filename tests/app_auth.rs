//! Registering, logging in and out, sessions, CSRF, tokens, and the limits on all of it.

use agent::app::accounts;
use http::{Method, StatusCode};
use serde_json::json;

use crate::support::api::{PASSWORD, TestApi};

#[tokio::test]
async fn a_person_registers_logs_in_sees_themself_and_logs_out() {
    let api = TestApi::new().await;
    let mut ann = api.visitor();
    let account = json!({ "username": "ann", "email": "ann@example.org", "password": PASSWORD });
    let registered = ann.post("/api/auth/register/", &account).await;
    assert_eq!(registered.status, StatusCode::CREATED);
    assert_eq!(registered.json()["username"], "ann");
    assert!(!registered.text().contains(PASSWORD));
    assert_eq!(ann.get("/api/auth/me/").await.status, StatusCode::UNAUTHORIZED);

    let login = ann.post("/api/auth/login/", &json!({ "username": "ANN", "password": PASSWORD })).await;
    assert_eq!(login.status, StatusCode::OK);
    let me = ann.get("/api/auth/me/").await;
    assert_eq!(me.json(), login.json());
    assert_eq!(me.json()["email"], "ann@example.org");

    let session = ann.cookie("sessionid").unwrap().to_owned();
    assert_eq!(ann.post("/api/auth/logout/", &json!({})).await.status, StatusCode::NO_CONTENT);
    assert_eq!(ann.cookie("sessionid"), None);
    ann.set_cookie("sessionid", &session);
    assert_eq!(ann.get("/api/auth/me/").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn cookies_have_djangos_names_and_flags_and_change_at_login() {
    let api = TestApi::new().await;
    let mut ann = api.user("ann").await;
    let (session, secret) =
        (ann.cookie("sessionid").unwrap().to_owned(), ann.cookie("csrftoken").unwrap().to_owned());
    assert!(
        session.len() == 32 && session.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    );
    assert_eq!(secret.len(), 32);
    let again = ann.post("/api/auth/login/", &json!({ "username": "ann", "password": PASSWORD })).await;
    assert_ne!(ann.cookie("sessionid").unwrap(), session);
    assert_ne!(ann.cookie("csrftoken").unwrap(), secret);
    let cookies: Vec<_> =
        again.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    assert!(cookies[0].ends_with("; Path=/; Max-Age=1209600; SameSite=Lax; HttpOnly"), "{cookies:?}");
    assert!(cookies[1].ends_with("; Path=/; Max-Age=31449600; SameSite=Lax"), "{cookies:?}");
    ann.set_cookie("sessionid", &session);
    assert_eq!(ann.get("/api/auth/me/").await.status, StatusCode::UNAUTHORIZED, "the session before is over");
}

#[tokio::test]
async fn behind_https_cookies_are_secure_and_a_foreign_page_is_refused() {
    let api = TestApi::with(&[("public_urls", "https://chat.example.org")]).await;
    let mut page = api.visitor().with("host", "chat.example.org").with("origin", "https://chat.example.org");
    let account = json!({ "username": "ann", "password": PASSWORD });
    page.post("/api/auth/register/", &account).await;
    let login = page.post("/api/auth/login/", &account).await;
    for cookie in login.headers.get_all("set-cookie") {
        assert!(cookie.to_str().unwrap().ends_with("; Secure"));
    }
    let mut foreign = page.with("origin", "https://evil.example.net");
    for path in ["/api/auth/login/", "/api/auth/register/", "/api/auth/logout/"] {
        let refused = foreign.post(path, &account).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}");
        let why = "CSRF Failed: Origin checking failed - https://evil.example.net does not match any trusted origins.";
        assert_eq!(refused.json(), json!({ "detail": why }));
    }
    assert_eq!(page.get("/api/auth/me/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_unsafe_request_of_a_session_needs_the_csrf_token_and_one_with_a_token_does_not() {
    let api = TestApi::new().await;
    let mut ann = api.user("ann").await;
    let token = ann.post("/api/auth/tokens/", &json!({ "name": "script" })).await.json();
    let secret = ann.cookie("csrftoken").unwrap().to_owned();
    ann.set_cookie("csrftoken", "");
    let refused = ann.post("/api/collections/", &json!({ "name": "x" })).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(refused.json(), json!({ "detail": "CSRF Failed: CSRF cookie not set." }));
    let mut forged = ann.with("x-csrftoken", &secret.to_uppercase());
    forged.set_cookie("csrftoken", &secret);
    let refused = forged.post("/api/collections/", &json!({ "name": "x" })).await;
    let why = "CSRF Failed: CSRF token from the 'X-Csrftoken' HTTP header incorrect.";
    assert_eq!(refused.json(), json!({ "detail": why }));
    let mut script =
        api.visitor().with("authorization", &format!("Token {}", token["token"].as_str().unwrap()));
    assert_eq!(script.post("/api/collections/", &json!({ "name": "x" })).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn the_csrf_endpoint_keeps_a_good_secret_and_replaces_a_bad_one() {
    let api = TestApi::new().await;
    let mut ann = api.visitor();
    assert_eq!(ann.get("/api/auth/csrf/").await.status, StatusCode::NO_CONTENT);
    let secret = ann.cookie("csrftoken").unwrap().to_owned();
    ann.get("/api/auth/csrf/").await;
    assert_eq!(ann.cookie("csrftoken"), Some(&*secret));
    ann.set_cookie("csrftoken", "short");
    ann.get("/api/auth/csrf/").await;
    assert_eq!(ann.cookie("csrftoken").unwrap().len(), 32);
}

#[tokio::test]
async fn what_is_wrong_with_a_registration_is_said_per_field_in_djangos_words() {
    let api = TestApi::new().await;
    api.user("ann").await;
    let mut visitor = api.visitor();
    let mut refused = async |body| {
        let answer = visitor.post("/api/auth/register/", &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        answer.json()
    };
    assert_eq!(
        refused(json!({})).await,
        json!({ "username": ["This field is required."], "password": ["This field is required."] })
    );
    assert_eq!(
        refused(json!({ "username": "Ann", "password": PASSWORD })).await,
        json!({ "username": ["A user with that username already exists."] })
    );
    assert_eq!(
        refused(json!({ "username": "a b", "email": "x", "password": "password1" })).await,
        json!({
            "username": ["Enter a valid username. This value may contain only letters, numbers, and @/./+/-/_ characters."],
            "email": ["Enter a valid email address."],
            "password": ["This password is too common."],
        })
    );
    assert_eq!(
        refused(json!({ "username": "x".repeat(151), "password": "1234567" })).await["username"],
        json!(["Ensure this field has no more than 150 characters."])
    );
}

#[tokio::test]
async fn registration_is_closed_or_by_invitation_where_it_is_set_so() {
    let open = TestApi::new().await;
    let closed = open.second_node(&[("registration", "closed")]);
    let account = json!({ "username": "ann", "password": PASSWORD });
    let refused = closed.visitor().post("/api/auth/register/", &account).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);

    let invite = open.second_node(&[("registration", "invite")]);
    let mut visitor = invite.visitor();
    let refused = visitor.post("/api/auth/register/", &account).await;
    assert_eq!(refused.json(), json!({ "invitation": ["This field is required."] }));

    accounts::create_superuser(&open.app.store, "root", "", PASSWORD).await.unwrap();
    let mut root = open.visitor();
    root.post("/api/auth/login/", &json!({ "username": "root", "password": PASSWORD })).await;
    let code = root.post("/api/auth/invitations/", &json!({})).await.json()["code"].clone();
    let mut invited = json!({ "username": "ann", "password": PASSWORD, "invitation": code });
    assert_eq!(visitor.post("/api/auth/register/", &invited).await.status, StatusCode::CREATED);
    invited["username"] = json!("bob");
    let used = visitor.post("/api/auth/register/", &invited).await;
    assert_eq!(used.json(), json!({ "invitation": ["This invitation is unknown, used or expired."] }));
    let mut bob = open.user("bob").await;
    assert_eq!(bob.post("/api/auth/invitations/", &json!({})).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_new_password_ends_every_other_session_on_every_node() {
    let api = TestApi::new().await;
    let other_node = api.second_node(&[]);
    let mut laptop = api.user("ann").await;
    let mut phone = other_node.visitor();
    phone.post("/api/auth/login/", &json!({ "username": "ann", "password": PASSWORD })).await;
    assert_eq!(phone.get("/api/auth/me/").await.status, StatusCode::OK);

    let wrong = json!({ "current_password": "no", "new_password": "green-kettle-72" });
    let refused = laptop.post("/api/auth/password/", &wrong).await;
    let why = "Your old password was entered incorrectly. Please enter it again.";
    assert_eq!(refused.json(), json!({ "current_password": [why] }));
    let weak = json!({ "current_password": PASSWORD, "new_password": "12345678" });
    let refused = laptop.post("/api/auth/password/", &weak).await;
    assert_eq!(
        refused.json(),
        json!({ "new_password": ["This password is too common.", "This password is entirely numeric."] })
    );
    let change = json!({ "current_password": PASSWORD, "new_password": "green-kettle-72" });
    assert_eq!(laptop.post("/api/auth/password/", &change).await.status, StatusCode::NO_CONTENT);
    assert_eq!(laptop.get("/api/auth/me/").await.status, StatusCode::OK);
    assert_eq!(phone.get("/api/auth/me/").await.status, StatusCode::UNAUTHORIZED);
    let old = phone.post("/api/auth/login/", &json!({ "username": "ann", "password": PASSWORD })).await;
    assert_eq!(old.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_are_one_answer_and_are_limited() {
    let api = TestApi::new().await;
    api.user("ann").await;
    let mut visitor = api.visitor();
    for username in ["ann", "nobody"] {
        for _ in 0..5 {
            let body = json!({ "username": username, "password": "wrong-kettle-1" });
            let refused = visitor.post("/api/auth/login/", &body).await;
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
            assert_eq!(refused.header("www-authenticate"), "Token");
            assert_eq!(refused.json(), json!({ "detail": "Incorrect authentication credentials." }));
        }
        let right = json!({ "username": username, "password": PASSWORD });
        let limited = api.second_node(&[]).visitor().post("/api/auth/login/", &right).await;
        assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS, "counted for all nodes");
        let wait: u64 = limited.header("retry-after").parse().unwrap();
        assert!((1..=60).contains(&wait));
    }
}

#[tokio::test]
async fn many_login_attempts_at_once_do_not_slip_past_the_limit() {
    let api = TestApi::new().await;
    let attempts = (0..20).map(|_| {
        let mut visitor = api.visitor();
        async move {
            let body = json!({ "username": "ann", "password": "wrong-kettle-1" });
            visitor.post("/api/auth/login/", &body).await.status
        }
    });
    let statuses = futures_util::future::join_all(attempts).await;
    let tried = statuses.iter().filter(|status| **status == StatusCode::UNAUTHORIZED).count();
    assert_eq!(tried, 5);
}

#[tokio::test]
async fn more_logins_than_the_queue_holds_are_told_to_come_back_and_the_rest_of_the_api_goes_on() {
    let api = TestApi::with(&[("password.hashing_queue_max", "2"), ("throttle.enabled", "false")]).await;
    let mut ann = api.user("ann").await;
    let logins =
        (0..30).map(|_| {
            let mut visitor = api.visitor();
            async move {
                visitor.post("/api/auth/login/", &json!({ "username": "ann", "password": PASSWORD })).await
            }
        });
    let (answers, me) = tokio::join!(futures_util::future::join_all(logins), ann.get("/api/auth/me/"));
    assert_eq!(me.status, StatusCode::OK);
    let (logged_in, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == StatusCode::OK);
    assert!(!logged_in.is_empty() && !refused.is_empty());
    for answer in refused {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.header("retry-after"), "2");
    }
}

#[tokio::test]
async fn a_token_is_shown_once_works_until_revoked_and_opens_no_other_door() {
    let api = TestApi::new().await;
    let mut ann = api.user("ann").await;
    let made = ann.post("/api/auth/tokens/", &json!({ "name": "script" })).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let token = made.json()["token"].as_str().unwrap().to_owned();
    assert!(token.len() == 40 && token.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let mut script = api.visitor().with("authorization", &format!("Token {token}"));
    assert_eq!(script.get("/api/auth/me/").await.json()["username"], "ann");
    assert_eq!(
        script.post("/api/auth/tokens/", &json!({ "name": "more" })).await.status,
        StatusCode::FORBIDDEN
    );

    let listed = ann.get("/api/auth/tokens/").await;
    assert!(!listed.text().contains(&token));
    let row = &listed.json()["results"][0];
    assert!(row["last_used_at"].is_string());
    let path = format!("/api/auth/tokens/{}/", row["id"].as_str().unwrap());
    assert_eq!(script.delete(&path).await.status, StatusCode::FORBIDDEN);
    let mut bob = api.user("bob").await;
    assert_eq!(bob.delete(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(ann.delete(&path).await.status, StatusCode::NO_CONTENT);
    let refused = script.get("/api/auth/me/").await;
    assert_eq!(
        (refused.status, refused.json()),
        (StatusCode::UNAUTHORIZED, json!({ "detail": "Invalid token." }))
    );
}

#[tokio::test]
async fn a_token_expires_and_must_expire_in_the_future() {
    let api = TestApi::new().await;
    let mut ann = api.user("ann").await;
    let past = json!({ "name": "x", "expires_at": "2020-01-01T00:00:00Z" });
    let refused = ann.post("/api/auth/tokens/", &past).await;
    assert_eq!(refused.json(), json!({ "expires_at": ["Ensure this moment is in the future."] }));
    let soon = jiff::Timestamp::now() + std::time::Duration::from_secs(3600);
    let made =
        ann.post("/api/auth/tokens/", &json!({ "name": "x", "expires_at": soon.to_string() })).await.json();
    let mut script =
        api.visitor().with("authorization", &format!("Token {}", made["token"].as_str().unwrap()));
    assert_eq!(script.get("/api/auth/me/").await.status, StatusCode::OK);
    let client = api.app.store.primary().await.unwrap();
    client.execute("update api_tokens set expires_at = now()", &[]).await.unwrap();
    assert_eq!(script.get("/api/auth/me/").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_inactive_user_is_out_at_once() {
    let api = TestApi::new().await;
    let mut ann = api.user("ann").await;
    let token = ann.post("/api/auth/tokens/", &json!({ "name": "x" })).await.json()["token"].clone();
    let client = api.app.store.primary().await.unwrap();
    client.execute("update users set is_active = false", &[]).await.unwrap();
    assert_eq!(ann.get("/api/auth/me/").await.status, StatusCode::UNAUTHORIZED);
    let mut script = api.visitor().with("authorization", &format!("Token {}", token.as_str().unwrap()));
    assert_eq!(script.get("/api/auth/me/").await.json(), json!({ "detail": "User inactive or deleted." }));
    let login =
        api.visitor().post("/api/auth/login/", &json!({ "username": "ann", "password": PASSWORD })).await;
    assert_eq!(login.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_user_and_an_address_have_their_limits_and_a_forged_address_does_not_help() {
    let limits = [("throttle.user_per_minute", "3"), ("throttle.anonymous_per_minute", "6")];
    let api = TestApi::with(&limits).await;
    let mut ann = api.user("ann").await;
    for _ in 0..3 {
        assert_eq!(ann.get("/api/auth/me/").await.status, StatusCode::OK);
    }
    let limited = ann.get("/api/auth/me/").await;
    assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(
        limited.json()["detail"]
            .as_str()
            .unwrap()
            .starts_with("Request was throttled. Expected available in ")
    );
    let mut forger = api.visitor();
    let mut statuses = Vec::new();
    for index in 0..6 {
        forger = forger.with("x-forwarded-for", &format!("203.0.113.{index}"));
        statuses.push(forger.get("/api/auth/csrf/").await.status);
    }
    assert_eq!(statuses.last(), Some(&StatusCode::TOO_MANY_REQUESTS), "the peer is no trusted proxy");
}

#[tokio::test]
async fn commands_make_staff_change_passwords_and_sweep() {
    let api = TestApi::new().await;
    let store = &api.app.store;
    let root = accounts::create_superuser(store, "root", "", PASSWORD).await.unwrap();
    assert!(root.is_staff);
    let taken = accounts::create_superuser(store, "Root", "", PASSWORD).await.unwrap_err();
    assert!(matches!(taken, accounts::Error::UsernameTaken));
    let weak = accounts::create_superuser(store, "x y", "", "root").await.unwrap_err();
    assert!(matches!(weak, accounts::Error::Invalid(wrong) if wrong.len() == 3));
    let unknown = accounts::change_password(store, "nobody", PASSWORD).await.unwrap_err();
    assert!(matches!(unknown, accounts::Error::UnknownUser));

    let mut browser = api.visitor();
    browser.post("/api/auth/login/", &json!({ "username": "root", "password": PASSWORD })).await;
    accounts::change_password(store, "root", "green-kettle-72").await.unwrap();
    assert_eq!(browser.get("/api/auth/me/").await.status, StatusCode::UNAUTHORIZED);
    let login = json!({ "username": "root", "password": "green-kettle-72" });
    assert_eq!(browser.json(Method::POST, "/api/auth/login/", &login).await.status, StatusCode::OK);
    let client = store.primary().await.unwrap();
    client.execute("update sessions set expires_at = now()", &[]).await.unwrap();
    assert_eq!(accounts::clear_sessions(store).await.unwrap(), 1);
}
