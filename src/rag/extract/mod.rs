//! Turns the bytes of an uploaded file into text with an outline, or says why it cannot.
//!
//! What a file is, its content decides; its name is only a hint where content is ambiguous (`kind`). Each kind has one
//! file here. Everything runs in one pass without recursion, so that deep nesting costs no stack, and on a blocking
//! thread, because a large file takes hundreds of milliseconds. Cutting text into passages is [`super::chunk`].

mod decode;
mod html;
mod kind;
mod markdown;
mod outline;
mod plain;
mod reason;

use std::time::{Duration, Instant};

pub use outline::{Block, Layout, Section};
pub use reason::Reason;

/// Deepest nesting of elements, lists or quotes that is followed; deeper files are made to break parsers.
const DEPTH_MAX: usize = 256;

/// What one extraction may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest text that is accepted, in bytes of UTF-8.
    pub text_bytes_max: usize,
    /// How long a hostile file may keep a thread busy; ordinary ones take about 10 ms for each megabyte.
    pub time_max: Duration,
}

/// Most passages of a document: twice those of 20 MiB of prose. A worker holds them with their vectors, 100 MB in all,
/// and each section is at least one, so extraction stops there too.
pub const PASSAGES_MAX: usize = 50_000;

/// Longest title and longest heading that are kept, in characters: both precede every passage's text.
const TITLE_CHARS_MAX: usize = 200;

/// The text of a document and how it is laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extracted {
    /// What the content turned out to be.
    pub media_type: &'static str,
    /// The title that the document gives itself.
    pub title: Option<String>,
    /// The text that spans point into: UTF-8, lines end in `\n`, no NUL.
    pub text: String,
    /// The outline in reading order; never empty, ranges ascend and do not overlap.
    pub sections: Vec<Section>,
}

/// Extracts the text of one file.
///
/// * `bytes`: the whole file.
/// * `file_name`: a hint where the content alone is ambiguous (Markdown or plain text).
///
/// Takes about 10 ms of CPU for each megabyte; call it on a blocking thread.
///
/// # Errors
/// The [`Reason`] why the document fails, which its owner will see.
pub fn extract(bytes: &[u8], file_name: &str, limits: Limits) -> Result<Extracted, Reason> {
    let deadline = Instant::now() + limits.time_max;
    let source = decode::decode(bytes)?;
    let extracted = match kind::of(&source, file_name) {
        kind::Kind::Html => html::extract(&source, limits.text_bytes_max, deadline)?,
        kind::Kind::Markdown => markdown::extract(source, deadline)?,
        kind::Kind::Plain => plain::extract(source),
    };
    if extracted.text.len() > limits.text_bytes_max {
        return Err(Reason::TextTooLong);
    }
    if extracted.sections.is_empty() {
        return Err(Reason::Empty);
    }
    Ok(extracted)
}

/// Returns `text` on one line with single spaces, cut to [`TITLE_CHARS_MAX`]; `None` when nothing is left.
fn one_line(text: &str) -> Option<String> {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if let Some((end, _)) = line.char_indices().nth(TITLE_CHARS_MAX) {
        line.truncate(end);
        line.truncate(line.trim_end().len());
    }
    (!line.is_empty()).then_some(line)
}
