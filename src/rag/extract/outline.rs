//! The outline of a document: sections under headings, and the blocks in them.

use std::ops::Range;

use super::{PASSAGES_MAX, one_line};

/// What stands between two headings, in reading order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The headings above, outermost first, joined by ` > `; empty before the first heading.
    pub heading: String,
    /// Its blocks; never empty.
    pub blocks: Vec<Block>,
}

/// A paragraph, list item, table or piece of code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Where it stands in the text, in bytes; starts and ends with a visible character.
    pub range: Range<usize>,
    /// How it may be cut.
    pub layout: Layout,
}

/// How a block may be cut where it is too long for one passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Between sentences.
    Prose,
    /// Between lines: code, lists.
    Lines,
    /// Between rows, and only if it does not fit whole.
    Table,
}

/// Collects headings and blocks in reading order.
#[derive(Debug, Default)]
pub struct Outline {
    path: Vec<Heading>,
    blocks: Vec<Block>,
    sections: Vec<Section>,
}

#[derive(Debug)]
struct Heading {
    level: u8,
    text: String,
    range: Range<usize>,
}

impl Outline {
    /// Starts a section under a heading of `level` 1 (outermost) to 6, found at `range` of the text.
    pub fn heading(&mut self, level: u8, source: &str, text: &str, range: Range<usize>) {
        let Some(text) = one_line(text) else { return };
        // A heading with nothing below it is itself what the document says there.
        if self.blocks.is_empty() && self.path.last().is_some_and(|last| level <= last.level) {
            self.keep_bare_heading(source);
        }
        self.close_section();
        self.path.retain(|above| above.level < level);
        self.path.push(Heading { level, text, range });
    }

    /// Adds a block at `range` of `source`, which is trimmed; a blank one is left out.
    pub fn block(&mut self, source: &str, range: Range<usize>, layout: Layout) {
        let Some(range) = trim(source, range) else { return };
        self.blocks.push(Block { range, layout });
    }

    /// Whether there are more sections than a document may have.
    pub fn is_too_long(&self) -> bool {
        self.sections.len() > PASSAGES_MAX
    }

    /// Returns the sections.
    pub fn finish(mut self, source: &str) -> Vec<Section> {
        if self.blocks.is_empty() {
            self.keep_bare_heading(source);
        }
        self.close_section();
        self.sections
    }

    fn keep_bare_heading(&mut self, source: &str) {
        if let Some(range) = self.path.last().map(|last| last.range.clone()) {
            self.block(source, range, Layout::Prose);
        }
    }

    fn close_section(&mut self) {
        if self.blocks.is_empty() {
            return;
        }
        let heading = self.path.iter().map(|heading| heading.text.as_str()).collect::<Vec<_>>().join(" > ");
        self.sections.push(Section { heading, blocks: std::mem::take(&mut self.blocks) });
    }
}

/// Returns `range` without the white space at its ends, or `None` when nothing is left.
pub fn trim(source: &str, range: Range<usize>) -> Option<Range<usize>> {
    let text = &source[range.clone()];
    let start = range.start + (text.len() - text.trim_start().len());
    let end = start + text.trim().len();
    (start < end).then_some(start..end)
}
