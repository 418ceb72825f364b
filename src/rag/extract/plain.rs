//! Plain text: paragraphs between blank lines, no headings.

use super::outline::Outline;
use super::{Extracted, Layout};

/// Lays out plain text.
pub fn extract(text: String) -> Extracted {
    let mut outline = Outline::default();
    let (mut start, mut position) = (0, 0);
    for line in text.split_inclusive('\n') {
        if line.trim().is_empty() {
            outline.block(&text, start..position, Layout::Prose);
            start = position + line.len();
        }
        position += line.len();
    }
    outline.block(&text, start..position, Layout::Prose);
    let sections = outline.finish(&text);
    Extracted { media_type: "text/plain", title: None, text, sections }
}
