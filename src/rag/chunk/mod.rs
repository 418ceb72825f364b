//! Cuts a document into passages that fit the model's window and mean something alone.
//!
//! Each section is cut into atoms ([`split`]): sentences, lines, whole tables where they fit, and parts of those that
//! are too long. Atoms fill passages up to the limit; a passage ends rather between blocks than inside one, never
//! crosses a heading, and starts with the end of the one before, so that a sentence on a border is found from both
//! sides. A passage is always one contiguous piece of the document's text: that is what its span points at.

mod split;

use std::ops::Range;

use super::extract::{Extracted, PASSAGES_MAX, Reason, Section};
use split::Atom;

/// How long passages become, in the model's tokens. The default is 256 with the two special tokens that models add:
/// the window of small models, and short enough to mean one thing.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A passage with its headings, special tokens not counted; at most the model's window.
    pub tokens_max: usize,
    /// How much of a passage's end the next one repeats, at most.
    pub overlap_tokens_max: usize,
    /// Passages of one document, at most.
    pub passages_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { tokens_max: 254, overlap_tokens_max: 32, passages_max: PASSAGES_MAX }
    }
}

/// Longest part of the window that headings may take, as a divisor: longer ones are cut by the model, the text not.
const HEADING_SHARE: usize = 3;

/// A passage of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The headings above, outermost first, joined by ` > `; may be empty.
    pub heading: String,
    /// The passage: `text[span]` of the document.
    pub text: String,
    /// Where it stands in the document's text, in Unicode scalar values.
    pub span: Range<usize>,
    /// The page it starts on, from 1; `None` for kinds without pages.
    pub page: Option<i32>,
}

/// Cuts `document`, titled `title`, into passages in reading order.
///
/// * `count_tokens`: how many tokens of the model a text has, without special tokens; see [`approximate_tokens`].
///
/// Every visible character of every block is in at least one passage.
///
/// # Errors
/// [`Reason::TooManyPassages`].
pub fn chunk(
    document: &Extracted,
    title: &str,
    count_tokens: &dyn Fn(&str) -> usize,
    limits: Limits,
) -> Result<Vec<Chunk>, Reason> {
    let mut chunks = Vec::new();
    let mut scalars = ScalarOffsets { text: &document.text, byte: 0, scalar: 0 };
    for section in &document.sections {
        let above = passage_text(title, &section.heading, "");
        let heading_tokens = count_tokens(&above).min(limits.tokens_max / HEADING_SHARE);
        let budget = limits.tokens_max.saturating_sub(heading_tokens).max(1);
        let ranges = cut(&document.text, section, count_tokens, budget, limits.overlap_tokens_max);
        if chunks.len() + ranges.len() > limits.passages_max {
            return Err(Reason::TooManyPassages);
        }
        for range in ranges {
            let text = document.text[range.clone()].to_owned();
            let start = scalars.at(range.start);
            let span = start..start + text.chars().count();
            chunks.push(Chunk { heading: section.heading.clone(), text, span, page: None });
        }
    }
    Ok(chunks)
}

/// Returns what is embedded and indexed for a passage: its place in the document, then its text.
pub fn passage_text(title: &str, heading: &str, text: &str) -> String {
    // The outermost heading of most documents is their title.
    let above = match (title, heading) {
        ("", heading) => heading.to_owned(),
        (title, "") => title.to_owned(),
        (title, heading) if heading.starts_with(title) => heading.to_owned(),
        (title, heading) => format!("{title} > {heading}"),
    };
    if above.is_empty() { text.to_owned() } else { format!("{above}\n{text}") }
}

/// Estimates tokens where no model is loaded, rather too many than too few: passages made with it will be embedded
/// when there is one.
pub fn approximate_tokens(text: &str) -> usize {
    /// Letters of a word that a word-piece vocabulary covers with one token, on average over long words.
    const LETTERS_PER_TOKEN: usize = 5;
    let (mut tokens, mut letters) = (0, 0_usize);
    for character in text.chars() {
        if character.is_ascii_alphanumeric() || (character.is_alphabetic() && character < '\u{2e80}') {
            letters += 1;
            continue;
        }
        tokens += letters.div_ceil(LETTERS_PER_TOKEN) + usize::from(!character.is_whitespace());
        letters = 0;
    }
    tokens + letters.div_ceil(LETTERS_PER_TOKEN)
}

/// Returns the byte ranges of the passages of one section.
fn cut(
    text: &str,
    section: &Section,
    count_tokens: &dyn Fn(&str) -> usize,
    budget: usize,
    overlap: usize,
) -> Vec<Range<usize>> {
    let atoms = split::atoms(text, &section.blocks, count_tokens, budget);
    let mut ranges = Vec::new();
    let mut start = 0;
    while start < atoms.len() {
        let end = end_of_passage(&atoms, start, budget);
        ranges.push(atoms[start].range.start..atoms[end - 1].range.end);
        start = if end == atoms.len() { end } else { start_of_next(&atoms, start, end, budget, overlap) };
    }
    ranges
}

/// Finds where the passage that starts at atom `start` ends: where the next atom would not fit, or at the last border
/// between blocks before that if the passage is half full there.
fn end_of_passage(atoms: &[Atom], start: usize, budget: usize) -> usize {
    let (mut tokens, mut border) = (0, None);
    for (index, atom) in atoms.iter().enumerate().skip(start) {
        if index > start && atom.follows_gap {
            return index;
        }
        if atom.starts_block && tokens * 2 >= budget {
            border = Some(index);
        }
        tokens += atom.tokens;
        if tokens > budget && index > start {
            return border.unwrap_or(index);
        }
    }
    atoms.len()
}

/// Finds where the passage after the one at `start..end` starts: before its end by at most `overlap` tokens, and only
/// if the first new atom still fits.
fn start_of_next(atoms: &[Atom], start: usize, end: usize, budget: usize, overlap: usize) -> usize {
    let mut next = end;
    let mut tokens = 0;
    while next > start + 1 && !atoms[next].follows_gap {
        tokens += atoms[next - 1].tokens;
        if tokens > overlap || tokens + atoms[end].tokens > budget {
            break;
        }
        next -= 1;
    }
    next
}

/// Turns ascending byte offsets into scalar offsets in one pass over the text.
struct ScalarOffsets<'a> {
    text: &'a str,
    byte: usize,
    scalar: usize,
}

impl ScalarOffsets<'_> {
    fn at(&mut self, byte: usize) -> usize {
        self.scalar += self.text[self.byte..byte].chars().count();
        self.byte = byte;
        self.scalar
    }
}

#[cfg(test)]
mod tests;
