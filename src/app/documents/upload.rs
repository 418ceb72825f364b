//! `POST /api/documents/`: a file on its way to the object store.
//!
//! The file is hashed and stored piece by piece as it arrives. Only when all of it is on disk does the document's row
//! come into being, together with its job, and only then is the upload acknowledged; whatever ends earlier leaves
//! nothing behind.

use axum::Json;
use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::Document;
use crate::app::App;
use crate::app::body::declared_length;
use crate::app::error::ApiError;
use crate::app::request::Authenticated;
use crate::store::access::{Caller, WriteAccess};
use crate::store::blobs::Stored;
use crate::store::collections::{self, Outcome};
use crate::store::documents::{self, Added, NewDocument};
use crate::store::ids::{CollectionId, DocumentId};
use crate::telemetry::chain::chain;
use crate::telemetry::metrics;

/// What a form may have around its file, in bytes: boundaries, headers and the other fields.
const FORM_BYTES_MAX: u64 = 64 * 1024;

/// Longest value of a field that is not the file, in bytes.
const VALUE_BYTES_MAX: usize = 1024;

/// Longest file name that is kept, in characters.
const FILE_NAME_CHARS_MAX: usize = 255;

/// Longest media type that is believed, in bytes.
const MEDIA_TYPE_BYTES_MAX: usize = 127;

/// A file to search in, and where to put it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form; it is read field by field")]
struct UploadForm {
    /// Plain text, Markdown or HTML, in any encoding.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// A collection that the caller may change; by default the caller's own first one.
    collection: Option<CollectionId>,
}

/// An accepted document.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Accepted {
    #[serde(flatten)]
    document: Document,
    /// The document that has these bytes already: this one.
    duplicate_of: Option<DocumentId>,
}

/// Adds a document
///
/// 202 says that the file is stored and will end up `ready` or `failed`, whatever happens to this node. The same bytes
/// in the same collection are the same document: 200 with `duplicate_of`.
#[utoipa::path(
    post, path = "/api/documents/", tag = "documents",
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 202, body = Accepted),
        (status = 200, body = Accepted, description = "The collection has these bytes already"),
        (status = 413, description = "The file is too large"),
        (status = 503, description = "The node receives as many uploads as it may"),
    ),
)]
pub(super) async fn upload(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    request: Request,
) -> Result<(StatusCode, HeaderMap, Json<Accepted>), ApiError> {
    // Before the person's own limit: an upload that is not looked at does not count.
    let _place = app.uploads.take(caller.user())?;
    app.throttles.upload(caller.user())?;
    let (access, file) = receive(&app, &caller, request).await?;
    let new = NewDocument {
        file_name: file.name,
        media_type: file.media_type,
        size_bytes: i64::try_from(file.stored.size_bytes).unwrap_or(i64::MAX),
        sha256: file.stored.sha256,
        blob: file.stored.name,
    };
    let client = app.store.primary().await?;
    // If this fails, the row may exist all the same: then the original must stay. Otherwise the sweep finds it.
    let added = documents::add(&client, access, &new).await?;
    drop(client);
    let (status, document, duplicate_of) = match added {
        Added::New(document) => {
            app.ingest.note_upload();
            (StatusCode::ACCEPTED, document, None)
        }
        Added::Duplicate(document) => {
            discard(&app, &new.blob).await;
            let id = document.id;
            (StatusCode::OK, document, Some(id))
        }
        Added::Refused => {
            discard(&app, &new.blob).await;
            return Err(ApiError::permission_denied());
        }
    };
    let location = HeaderValue::try_from(format!("/api/documents/{}/", document.id));
    let headers = HeaderMap::from_iter([(LOCATION, location.expect("an id has only header characters"))]);
    Ok((status, headers, Json(Accepted { document: document.into(), duplicate_of })))
}

/// Removes an original that no document has.
async fn discard(app: &App, blob: &str) {
    if let Err(error) = app.blobs.delete(blob).await {
        log::debug!(blob, error:% = chain(&error); "cannot remove original {blob}, the sweep will");
    }
}

/// A file that is on disk.
struct StoredFile {
    name: String,
    media_type: String,
    stored: Stored,
}

/// Reads the form. A file that is refused for what stands after it does not stay.
async fn receive(
    app: &App,
    caller: &Caller,
    request: Request,
) -> Result<(WriteAccess, StoredFile), ApiError> {
    let form = open_form(request, app.settings.upload.bytes_max.bytes()).await?;
    let mut file = None;
    let access = match read_form(app, caller, form, &mut file).await {
        Ok(Some(access)) => Ok(access),
        Ok(None) => default_access(app, caller).await,
        Err(error) => Err(error),
    };
    match (access, file) {
        (Ok(access), Some(file)) => Ok((access, file)),
        (Ok(_), None) => Err(ApiError::validation("file", "No file was submitted.")),
        (Err(error), file) => {
            if let Some(file) = file {
                discard(app, &file.stored.name).await;
            }
            Err(error)
        }
    }
}

/// Checks what can be told before the body is read.
async fn open_form(mut request: Request, file_bytes_max: u64) -> Result<Multipart, ApiError> {
    let form_bytes_max = file_bytes_max.saturating_add(FORM_BYTES_MAX);
    let media_type =
        request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !media_type.trim_start().to_ascii_lowercase().starts_with("multipart/form-data") {
        return Err(ApiError::unsupported_media_type(media_type));
    }
    if declared_length(request.headers()).is_some_and(|length| length > form_bytes_max) {
        return Err(too_large(file_bytes_max));
    }
    DefaultBodyLimit::max(usize::try_from(form_bytes_max).unwrap_or(usize::MAX)).apply(&mut request);
    Multipart::from_request(request, &())
        .await
        .map_err(|_| ApiError::parse("Multipart form parse error - Invalid boundary in multipart: None"))
}

/// Reads the fields, the file into `file`. Returns the access to the collection that the form names.
async fn read_form(
    app: &App,
    caller: &Caller,
    mut form: Multipart,
    file: &mut Option<StoredFile>,
) -> Result<Option<WriteAccess>, ApiError> {
    let file_bytes_max = app.settings.upload.bytes_max.bytes();
    let mut access = None;
    while let Some(field) = form.next_field().await.map_err(|error| broken(&error, file_bytes_max))? {
        match field.name() {
            Some("file") if file.is_some() => {
                return Err(ApiError::validation("file", "Submit one file at a time."));
            }
            Some("file") => {
                let name = file_name(field.file_name())?;
                let media_type = media_type(field.content_type());
                let stored = store(app, field, file_bytes_max).await?;
                *file = Some(StoredFile { name, media_type, stored });
            }
            Some("collection") => access = Some(chosen(app, caller, field).await?),
            // Form fields that nobody asked for are passed over, as in DRF.
            _ => {}
        }
    }
    Ok(access)
}

/// Streams a field to the object store.
async fn store(app: &App, mut field: Field<'_>, bytes_max: u64) -> Result<Stored, ApiError> {
    let mut upload = app.blobs.upload();
    while let Some(piece) = field.chunk().await.map_err(|error| broken(&error, bytes_max))? {
        if upload.size_bytes() + piece.len() as u64 > bytes_max {
            return Err(too_large(bytes_max));
        }
        upload.write(&piece).await?;
    }
    let stored = upload.finish().await?;
    metrics::UPLOADED.add(stored.size_bytes);
    Ok(stored)
}

/// Reads the `collection` field.
async fn chosen(app: &App, caller: &Caller, mut field: Field<'_>) -> Result<WriteAccess, ApiError> {
    let mut value = Vec::new();
    while let Some(piece) = field.chunk().await.map_err(|error| broken(&error, VALUE_BYTES_MAX as u64))? {
        value.extend_from_slice(&piece);
        if value.len() > VALUE_BYTES_MAX {
            return Err(not_a_collection());
        }
    }
    let value = String::from_utf8(value).map_err(|_| not_a_collection())?;
    if value.trim().is_empty() {
        return default_access(app, caller).await;
    }
    let id = value.trim().parse().map(CollectionId).map_err(|_| not_a_collection())?;
    match collections::writable(&app.store.primary().await?, caller, id).await? {
        Outcome::Done(access) => Ok(access),
        Outcome::Forbidden => Err(ApiError::permission_denied()),
        Outcome::Missing | Outcome::LastOwner => {
            let message = format!("Invalid pk \"{id}\" - object does not exist.");
            Err(ApiError::validation("collection", message))
        }
    }
}

async fn default_access(app: &App, caller: &Caller) -> Result<WriteAccess, ApiError> {
    let access = collections::default_of(&app.store.primary().await?, caller).await?;
    access.ok_or_else(|| ApiError::validation("collection", "This field is required."))
}

fn not_a_collection() -> ApiError {
    ApiError::validation("collection", "Must be a valid UUID.")
}

/// What a body that ends early, or is no form, is answered.
fn broken(error: &MultipartError, file_bytes_max: u64) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return too_large(file_bytes_max);
    }
    ApiError::parse("Multipart form parse error - the body is malformed or incomplete.")
}

fn too_large(bytes_max: u64) -> ApiError {
    let detail = format!("The file is larger than {bytes_max} bytes.");
    ApiError::detail(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

/// Returns the name of the uploaded file without folders and control characters.
fn file_name(given: Option<&str>) -> Result<String, ApiError> {
    let Some(given) = given else {
        let message = "The submitted data was not a file. Check the encoding type on the form.";
        return Err(ApiError::validation("file", message));
    };
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String = last.chars().filter(|c| !c.is_control()).collect();
    let name = shortened(clean.trim());
    if name.is_empty() || name.chars().all(|c| c == '.') {
        return Err(ApiError::validation("file", "No filename could be determined."));
    }
    Ok(name)
}

/// Cuts a name in its middle, so that the extension stays.
fn shortened(name: &str) -> String {
    let count = name.chars().count();
    if count <= FILE_NAME_CHARS_MAX {
        return name.to_owned();
    }
    let extension = name.rfind('.').map_or("", |dot| &name[dot..]);
    let extension = if extension.chars().count() > 16 { "" } else { extension };
    let kept = FILE_NAME_CHARS_MAX - extension.chars().count();
    name.chars().take(kept).chain(extension.chars()).collect()
}

fn media_type(given: Option<&str>) -> String {
    let is_plausible = |text: &&str| {
        text.len() <= MEDIA_TYPE_BYTES_MAX
            && text.contains('/')
            && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let essence = given.and_then(|text| text.split(';').next()).map(str::trim);
    essence.filter(is_plausible).unwrap_or("application/octet-stream").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_is_a_name_and_nothing_else() {
        let name = |given: &str| file_name(Some(given)).ok();
        assert_eq!(name("notes.txt").as_deref(), Some("notes.txt"));
        assert_eq!(name("../../etc/passwd").as_deref(), Some("passwd"));
        assert_eq!(name(r"C:\Users\me\Plan für\nMai.md").as_deref(), Some("nMai.md"));
        assert_eq!(name(" a\r\n\0b.md ").as_deref(), Some("ab.md"));
        assert_eq!(name(".."), None);
        assert_eq!(name("a/"), None);
        assert!(file_name(None).is_err());
        let long = name(&format!("{}.md", "ä".repeat(400))).unwrap();
        assert_eq!((long.chars().count(), long.ends_with("ä.md")), (255, true));
    }

    #[test]
    fn a_media_type_is_believed_if_it_looks_like_one() {
        assert_eq!(media_type(Some("Text/Markdown; charset=utf-8")), "text/markdown");
        assert_eq!(media_type(Some("nonsense")), "application/octet-stream");
        assert_eq!(media_type(None), "application/octet-stream");
    }
}
