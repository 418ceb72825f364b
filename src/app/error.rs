//! Failures as Django REST framework words them; the only place that turns an error into a status.
//!
//! A client sees a stable sentence and never a cause. The cause of a 5xx travels in the response's extensions
//! ([`Failure`]) to the edge, which logs it once, beside the request id.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::store;

/// How long a client should wait when nothing better is known: a failover takes longer, a busy moment less.
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(5);

/// A refused or failed request.
#[derive(Debug)]
pub struct ApiError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    status: StatusCode,
    body: Body,
    retry_after: Option<Duration>,
    cause: Option<Failure>,
}

#[derive(Debug)]
enum Body {
    Detail(Cow<'static, str>),
    Fields(FieldErrors),
    Error(&'static str),
}

/// Why a 5xx was answered, for the log; an extension of the response.
#[derive(Clone, Debug)]
pub struct Failure(pub String);

impl ApiError {
    fn new(status: StatusCode, body: Body) -> Self {
        Self(Box::new(Inner { status, body, retry_after: None, cause: None }))
    }

    /// An error of this status with a `detail` sentence.
    pub fn detail(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(status, Body::Detail(detail.into()))
    }

    /// 404, for the absent and for what belongs to somebody else alike.
    pub fn not_found() -> Self {
        Self::detail(StatusCode::NOT_FOUND, "Not found.")
    }

    /// 401: no credentials came with the request.
    pub fn not_authenticated() -> Self {
        Self::detail(StatusCode::UNAUTHORIZED, "Authentication credentials were not provided.")
    }

    /// 401: credentials came and are wrong in the way that `detail` says.
    pub fn authentication_failed(detail: &'static str) -> Self {
        Self::detail(StatusCode::UNAUTHORIZED, detail)
    }

    /// 403: the caller may see the thing but not do this to it.
    pub fn permission_denied() -> Self {
        Self::detail(StatusCode::FORBIDDEN, "You do not have permission to perform this action.")
    }

    /// 403: the request may come from another site.
    pub fn csrf(reason: &str) -> Self {
        Self::detail(StatusCode::FORBIDDEN, format!("CSRF Failed: {reason}"))
    }

    /// 400: the body is not what its media type says.
    pub fn parse(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::detail(StatusCode::BAD_REQUEST, detail)
    }

    /// 400: one field is wrong.
    pub fn validation(field: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        let mut errors = FieldErrors::default();
        errors.push(field, message);
        errors.into()
    }

    /// 400: one field is wrong in several ways.
    pub fn field(field: &'static str, messages: impl IntoIterator<Item = &'static str>) -> Self {
        let mut errors = FieldErrors::default();
        messages.into_iter().for_each(|message| errors.push(field, message));
        errors.into()
    }

    /// 405; axum adds `Allow`.
    pub fn method_not_allowed(method: &Method) -> Self {
        Self::detail(StatusCode::METHOD_NOT_ALLOWED, format!("Method \"{method}\" not allowed."))
    }

    /// 406: none of the media types that the client accepts is offered.
    pub fn not_acceptable() -> Self {
        Self::detail(StatusCode::NOT_ACCEPTABLE, "Could not satisfy the request Accept header.")
    }

    /// 409: the state of things forbids it.
    pub fn conflict(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::detail(StatusCode::CONFLICT, detail)
    }

    /// 413: the body is larger than `bytes_max`.
    pub fn too_large(bytes_max: u64) -> Self {
        Self::detail(StatusCode::PAYLOAD_TOO_LARGE, format!("Request body exceeded {bytes_max} bytes."))
    }

    /// 415: no parser for this content type.
    pub fn unsupported_media_type(media_type: &str) -> Self {
        let detail = format!("Unsupported media type \"{media_type}\" in request.");
        Self::detail(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    }

    /// 429: the bucket has a token again after `wait`.
    pub fn throttled(wait: Duration) -> Self {
        let seconds = seconds_up(wait);
        let plural = if seconds == 1 { "" } else { "s" };
        let detail = format!("Request was throttled. Expected available in {seconds} second{plural}.");
        Self::detail(StatusCode::TOO_MANY_REQUESTS, detail).after(wait)
    }

    /// 503: something this needs is away or overloaded; the same request may succeed after `wait`.
    pub fn unavailable(wait: Duration) -> Self {
        let detail = "Service temporarily unavailable, try again later.";
        Self::detail(StatusCode::SERVICE_UNAVAILABLE, detail).after(wait)
    }

    /// 507: nothing was stored because the disk is full.
    pub fn insufficient_storage() -> Self {
        Self::detail(StatusCode::INSUFFICIENT_STORAGE, "Insufficient storage.")
    }

    /// 400 as Django words it before it looks at the URL.
    pub fn bad_request() -> Self {
        Self::new(StatusCode::BAD_REQUEST, Body::Error("Bad Request (400)"))
    }

    /// 500: a defect of ours; `cause` is logged and never shown.
    pub fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        let body = Body::Error("Server Error (500)");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, body).because(cause)
    }

    /// Notes what led here, for the log.
    #[must_use]
    pub fn because(mut self, cause: &(dyn std::error::Error + 'static)) -> Self {
        self.0.cause = Some(Failure(chain(cause)));
        self
    }

    /// The status that will be answered.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    fn after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }
}

impl From<store::Error> for ApiError {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Unavailable(_) | store::Error::Busy(_) => {
                Self::unavailable(UNAVAILABLE_RETRY).because(&error)
            }
            store::Error::Full(_) => Self::insufficient_storage().because(&error),
            store::Error::Conflict { .. } | store::Error::Unexpected(_) => Self::internal(&error),
        }
    }
}

impl From<store::blobs::Error> for ApiError {
    fn from(error: store::blobs::Error) -> Self {
        match error {
            store::blobs::Error::Full(_) => Self::insufficient_storage().because(&error),
            store::blobs::Error::Unavailable(_) => Self::unavailable(UNAVAILABLE_RETRY).because(&error),
            store::blobs::Error::Missing { .. } => Self::internal(&error),
        }
    }
}

impl From<FieldErrors> for ApiError {
    fn from(errors: FieldErrors) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Body::Fields(errors))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Inner { status, body, retry_after, cause } = *self.0;
        let json = serde_json::to_vec(&body).expect("maps of strings always serialise");
        let mut response = (status, json).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Token"));
        }
        if let Some(wait) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds_up(wait)));
        }
        if let Some(cause) = cause {
            response.extensions_mut().insert(cause);
        }
        response
    }
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (key, text) = match self {
            Self::Fields(errors) => return errors.serialize(serializer),
            Self::Detail(text) => ("detail", &**text),
            Self::Error(text) => ("error", *text),
        };
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(key, text)?;
        map.end()
    }
}

/// What is wrong with the fields of a request, in the order in which it was found.
#[derive(Debug, Default)]
pub struct FieldErrors(Vec<(&'static str, Messages)>);

#[derive(Debug)]
enum Messages {
    Field(Vec<Cow<'static, str>>),
    Items(Vec<(usize, Cow<'static, str>)>),
}

impl FieldErrors {
    /// The key for what concerns no single field.
    pub const NON_FIELD: &'static str = "non_field_errors";

    /// Adds a message to `field`.
    pub fn push(&mut self, field: &'static str, message: impl Into<Cow<'static, str>>) {
        let message = message.into();
        match self.0.iter_mut().find(|(name, _)| *name == field) {
            Some((_, Messages::Field(messages))) => messages.push(message),
            Some((_, Messages::Items(_))) => {}
            None => self.0.push((field, Messages::Field(vec![message]))),
        }
    }

    /// Says which items of the list `field` are wrong.
    pub fn push_items(&mut self, field: &'static str, items: Vec<(usize, Cow<'static, str>)>) {
        self.0.push((field, Messages::Items(items)));
    }

    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for FieldErrors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (field, messages) in &self.0 {
            map.serialize_entry(field, messages)?;
        }
        map.end()
    }
}

impl Serialize for Messages {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Field(messages) => messages.serialize(serializer),
            Self::Items(items) => {
                serializer.collect_map(items.iter().map(|(index, message)| (index, [message])))
            }
        }
    }
}

/// Whole seconds, rounded up, at least one: a client that waits this long finds a token.
fn seconds_up(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// An error and its sources in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        write!(text, ": {error}").expect("writing to a string does not fail");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(error: &ApiError) -> String {
        serde_json::to_string(&error.0.body).unwrap()
    }

    #[test]
    fn throttled_rounds_up_and_knows_the_singular() {
        let second = ApiError::throttled(Duration::from_millis(300));
        assert_eq!(json(&second), r#"{"detail":"Request was throttled. Expected available in 1 second."}"#);
        let more = ApiError::throttled(Duration::from_millis(12_001));
        assert_eq!(json(&more), r#"{"detail":"Request was throttled. Expected available in 13 seconds."}"#);
        assert_eq!(more.into_response().headers()[RETRY_AFTER], "13");
    }

    #[test]
    fn field_errors_keep_their_order_and_gather_per_field() {
        let mut errors = FieldErrors::default();
        errors.push("username", "This field is required.");
        errors.push("password", "This password is too common.");
        errors.push("password", "This password is entirely numeric.");
        errors.push_items("collections", vec![(1, "Must be a valid UUID.".into())]);
        assert_eq!(
            json(&errors.into()),
            r#"{"username":["This field is required."],"password":["This password is too common.","This password is entirely numeric."],"collections":{"1":["Must be a valid UUID."]}}"#
        );
    }

    #[test]
    fn unauthorized_carries_the_challenge_and_a_failure_its_cause_but_not_in_the_body() {
        let response = ApiError::not_authenticated().into_response();
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Token");
        let error = ApiError::internal(&std::io::Error::other("the inner reason"));
        assert_eq!(json(&error), r#"{"error":"Server Error (500)"}"#);
        let failure = error.into_response().extensions().get::<Failure>().cloned();
        assert_eq!(failure.map(|failure| failure.0).as_deref(), Some("the inner reason"));
    }
}
