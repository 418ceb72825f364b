//! JSON bodies: limited, media type checked, read by their [`Form`].

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::App;
use super::error::ApiError;
use super::fields::{Fields, Form};

/// Bytes of a JSON body at most; the largest honest one is a question or a vector, far below.
pub const JSON_BYTES_MAX: usize = 1024 * 1024;

/// The form read from a request's JSON body; an empty body counts as `{}`.
pub struct Body<T>(pub T);

impl<T: Form> FromRequest<App> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _app: &App) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let too_large = || ApiError::too_large(JSON_BYTES_MAX as u64);
        // Known too large: refused before the first byte of it is read.
        if declared_length(&parts.headers).is_some_and(|length| length > JSON_BYTES_MAX as u64) {
            return Err(too_large());
        }
        let bytes = match Limited::new(body, JSON_BYTES_MAX).collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(too_large()),
            Err(_) => return Err(ApiError::parse("Malformed request.")),
        };
        if bytes.is_empty() {
            return Fields::parse(&Bytes::from_static(b"{}")).map(Self);
        }
        require_json(&parts.headers)?;
        Fields::parse(&bytes).map(Self)
    }
}

/// Returns the length that the client announced, in bytes.
pub fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let full = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = full.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(ApiError::unsupported_media_type(full))
    }
}
