//! `…/content/` and `…/text/`: the original as it was uploaded, and the text that spans point into.

use std::fmt::Write as _;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

use crate::app::App;
use crate::app::error::ApiError;
use crate::app::request::{Authenticated, Id};
use crate::store::blobs;
use crate::store::documents;
use crate::store::ids::DocumentId;

/// An uploaded page must never run in this origin, however it is opened.
const SANDBOX: HeaderValue = HeaderValue::from_static("sandbox; default-src 'none'; frame-ancestors 'none'");

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Returns the original, as a download
#[utoipa::path(
    get, path = "/api/documents/{id}/content/", tag = "documents", params(("id" = DocumentId, Path)),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>)),
)]
pub(super) async fn content(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Id(id): Id<DocumentId>,
) -> Result<Response, ApiError> {
    let found = documents::find(&app.store.primary().await?, &caller, id).await?;
    let document = found.ok_or_else(ApiError::not_found)?;
    let (size_bytes, pieces) = match app.blobs.stream(&document.blob).await {
        Ok(opened) => opened,
        // Deleted between the two looks, or lost: there is nothing to show either way.
        Err(blobs::Error::Missing { .. }) => return Err(ApiError::not_found()),
        Err(error) => return Err(error.into()),
    };
    let headers = HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::try_from(&document.media_type).unwrap_or(OCTETS)),
        (CONTENT_DISPOSITION, attachment(&document.file_name)),
        (CONTENT_LENGTH, size_bytes.into()),
        (CONTENT_SECURITY_POLICY, SANDBOX),
    ]);
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// Returns the extracted text that spans point into
///
/// Spans count Unicode scalar values of exactly this text. 404 until the document is `ready`.
#[utoipa::path(
    get, path = "/api/documents/{id}/text/", tag = "documents", params(("id" = DocumentId, Path)),
    responses((status = 200, content_type = "text/plain; charset=utf-8", body = String)),
)]
pub(super) async fn text(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Id(id): Id<DocumentId>,
) -> Result<Response, ApiError> {
    let text = documents::text(&app.store.primary().await?, &caller, id).await?;
    let text = text.ok_or_else(ApiError::not_found)?;
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, TEXT), (CONTENT_SECURITY_POLICY, SANDBOX)]);
    Ok((headers, text).into_response())
}

/// Names a download, for old clients in ASCII and for the others as it is (RFC 6266).
fn attachment(file_name: &str) -> HeaderValue {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " .-_()".contains(c);
    let ascii: String = file_name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let mut header = format!("attachment; filename=\"{ascii}\"");
    if ascii != file_name {
        header.push_str("; filename*=UTF-8''");
        for byte in file_name.bytes() {
            if byte.is_ascii_alphanumeric() || b".-_~".contains(&byte) {
                header.push(char::from(byte));
            } else {
                write!(header, "%{byte:02X}").expect("writing to a string does not fail");
            }
        }
    }
    HeaderValue::try_from(header).expect("only printable ASCII was written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_cannot_break_out_of_its_header() {
        assert_eq!(attachment("notes.txt"), "attachment; filename=\"notes.txt\"");
        let odd = attachment("a\"; x=\\ü.md");
        assert_eq!(odd, "attachment; filename=\"a__ x___.md\"; filename*=UTF-8''a%22%3B%20x%3D%5C%C3%BC.md");
    }
}
