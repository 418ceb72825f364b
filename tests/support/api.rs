//! The API on a database of its own, and browsers that talk to it.
//!
//! Requests go through the whole router, without a socket: what the accept loop adds has tests of its own.

use std::path::Path;
use std::sync::Arc;

use agent::app::answers::{self, Answers};
use agent::app::passwords::Passwords;
use agent::app::sites::Sites;
use agent::app::throttle::Throttles;
use agent::app::uploads::Uploads;
use agent::app::{self, App, Parts};
use agent::config::Settings;
use agent::index::sync::Follower;
use agent::index::{Index, Limits};
use agent::llm::Generator;
use agent::rag::embed::Embedder;
use agent::rag::ingest::{self, Ingest};
use agent::rag::model::Model;
use agent::store::blobs::Blobs;
use agent::store::{Options, Store, migrate};
use agent::telemetry::tasks::Tasks;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use http::header::{CONTENT_TYPE, COOKIE, HOST, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

use super::postgres::TestDatabase;

/// The password of every test user.
pub const PASSWORD: &str = "blue-kettle-71";

/// One node's API.
pub struct TestApi {
    /// What the handlers share.
    pub app: App,
    /// The routes.
    pub router: Router,
    database: Arc<TestDatabase>,
    originals: Arc<TempDir>,
    follower: Arc<Follower>,
}

impl TestApi {
    /// Starts the API with default settings.
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// Starts the API with some settings on an empty database.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        Self::answering(settings, Generator::default()).await
    }

    /// Starts the API with another generator of answers on an empty database.
    pub async fn answering(settings: &[(&str, &str)], generator: Generator) -> Self {
        let database = Arc::new(TestDatabase::new().await);
        let originals = Arc::new(tempfile::tempdir().unwrap());
        let api = Self::on(database, originals, settings, generator);
        migrate::migrate(&api.app.store).await.unwrap();
        api
    }

    /// Starts another node on the same database and originals.
    pub fn second_node(&self, settings: &[(&str, &str)]) -> Self {
        let originals = Arc::clone(&self.originals);
        Self::on(Arc::clone(&self.database), originals, settings, Generator::default())
    }

    /// Returns the same person's browser, talking to this node.
    pub fn adopt(&self, browser: &Browser) -> Browser {
        Browser { router: self.router.clone(), ..browser.clone() }
    }

    /// Starts another node on the same database, reached by `url`, and the same originals.
    pub fn node_at(&self, url: &str, settings: &[(&str, &str)]) -> Self {
        Self::at(url, Arc::clone(&self.database), Arc::clone(&self.originals), settings, Generator::default())
    }

    /// Starts making documents searchable, with a model or by words only, and following what is published.
    pub fn start_ingestion(&self, embedder: Option<Embedder>) {
        let Parts { tasks, store, model, ingest, .. } = &*self.app;
        tasks.spawn(Arc::clone(model).run(store.clone(), embedder, tasks.stopping().clone()));
        tasks.spawn(Arc::clone(&self.follower).run(tasks.stopping().clone()));
        ingest.start(tasks);
    }

    /// The folder that originals are in.
    pub fn originals(&self) -> &Path {
        self.originals.path()
    }

    fn on(
        database: Arc<TestDatabase>,
        originals: Arc<TempDir>,
        settings: &[(&str, &str)],
        generator: Generator,
    ) -> Self {
        let url = database.url().to_owned();
        Self::at(&url, database, originals, settings, generator)
    }

    fn at(
        url: &str,
        database: Arc<TestDatabase>,
        originals: Arc<TempDir>,
        settings: &[(&str, &str)],
        generator: Generator,
    ) -> Self {
        let mut pairs = vec![("role", "app"), ("profile", "local")];
        pairs.extend_from_slice(settings);
        let settings = Arc::new(Settings::from_pairs(&pairs).unwrap_or_else(|problems| panic!("{problems}")));
        let store = Store::new(options(&settings, url)).unwrap();
        let blobs = Blobs::open(originals.path()).unwrap();
        let model = Arc::new(Model::default());
        let index = Arc::new(Index::new(Limits::default()));
        let follower = Arc::new(Follower::new(Arc::clone(&index), store.clone()));
        let published = Arc::clone(&follower);
        let ingest = Ingest::new(
            store.clone(),
            blobs.clone(),
            Arc::clone(&model),
            ingest::Options::of(&settings),
            move || published.notify(),
        );
        let tasks = Tasks::new();
        let answers = Answers::start(
            answers::Options {
                store: store.clone(),
                index: Arc::clone(&index),
                model: Arc::clone(&model),
                generator,
                lease: settings.chat.answer_lease,
                time_max: settings.chat.answer_time_max,
            },
            tasks.clone(),
        );
        let app = App::new(Parts {
            sites: Sites::from_settings(&settings),
            throttles: Throttles::new(&settings.throttle, &settings.upload),
            passwords: Passwords::start(1, settings.password.hashing_queue_max).unwrap(),
            tasks,
            uploads: Uploads::new(settings.upload.concurrent_max),
            blobs,
            model,
            ingest,
            index,
            answers,
            store,
            settings,
        });
        Self { router: app::router(app.clone()), app, database, originals, follower }
    }

    /// Where the database is.
    pub fn database_url(&self) -> &str {
        self.database.url()
    }

    /// Returns somebody who has no account yet.
    pub fn visitor(&self) -> Browser {
        Browser { router: self.router.clone(), cookies: Vec::new(), headers: HeaderMap::new() }
    }

    /// Registers a user and logs them in.
    pub async fn user(&self, username: &str) -> Browser {
        let mut browser = self.visitor();
        let account = serde_json::json!({ "username": username, "password": PASSWORD });
        assert_eq!(browser.post("/api/auth/register/", &account).await.status, StatusCode::CREATED);
        assert_eq!(browser.post("/api/auth/login/", &account).await.status, StatusCode::OK);
        browser
    }
}

fn options(settings: &Settings, url: &str) -> Options {
    Options {
        url: url.to_owned(),
        ca_file: None,
        pool_max: 8,
        connect_timeout: settings.database_connect_timeout,
        acquire_timeout: settings.database_acquire_timeout,
        statement_timeout: settings.database_statement_timeout,
        connection_age_max: settings.database_connection_age_max,
        tcp_user_timeout: settings.database_tcp_user_timeout,
    }
}

/// A client that keeps its cookies and sends the CSRF token, as a page's script does.
#[derive(Clone)]
pub struct Browser {
    router: Router,
    cookies: Vec<(String, String)>,
    /// Sent with every request, over what the browser sends by itself.
    pub headers: HeaderMap,
}

impl Browser {
    /// Returns the same browser with one more header.
    pub fn with(&self, name: &'static str, value: &str) -> Self {
        let mut changed = self.clone();
        changed.headers.insert(HeaderName::from_static(name), HeaderValue::try_from(value).unwrap());
        changed
    }

    /// Returns the value of a cookie.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.iter().find_map(|(key, value)| (key == name).then_some(&**value))
    }

    /// Sets a cookie, or with an empty value drops it.
    pub fn set_cookie(&mut self, name: &str, value: &str) {
        self.cookies.retain(|(key, _)| key != name);
        if !value.is_empty() {
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Asks for a path.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, Body::empty(), None).await
    }

    /// Posts JSON.
    pub async fn post(&mut self, path: &str, json: &Value) -> Answer {
        self.json(Method::POST, path, json).await
    }

    /// Patches with JSON.
    pub async fn patch(&mut self, path: &str, json: &Value) -> Answer {
        self.json(Method::PATCH, path, json).await
    }

    /// Deletes.
    pub async fn delete(&mut self, path: &str) -> Answer {
        self.send(Method::DELETE, path, Body::empty(), None).await
    }

    /// Sends JSON by any method.
    pub async fn json(&mut self, method: Method, path: &str, json: &Value) -> Answer {
        self.send(method, path, Body::from(json.to_string()), Some("application/json")).await
    }

    /// Sends any body of any type and reads the whole answer.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Body,
        content_type: Option<&str>,
    ) -> Answer {
        let request = self.request(method, path, body, content_type);
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        self.keep_cookies(&parts.headers);
        let body = axum::body::to_bytes(body, 64 * 1024 * 1024).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// Asks for a path and returns the answer without reading it: for streams.
    pub async fn open(&self, path: &str) -> Response {
        let request = self.request(Method::GET, path, Body::empty(), None);
        self.router.clone().oneshot(request).await.unwrap()
    }

    fn request(&self, method: Method, path: &str, body: Body, content_type: Option<&str>) -> Request<Body> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, "localhost:8000");
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request = request.header(COOKIE, cookies.join("; "));
        }
        if let Some(token) = self.cookie("csrftoken") {
            request = request.header("x-csrftoken", token);
        }
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        let mut request = request.body(body).unwrap();
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        request
    }

    fn keep_cookies(&mut self, headers: &HeaderMap) {
        for cookie in headers.get_all(SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
            let (name, value) = pair.split_once('=').unwrap();
            self.set_cookie(name, value.trim_matches('"'));
        }
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// Reads the body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Reads the body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Returns a header as text, empty where it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}
