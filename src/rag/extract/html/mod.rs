//! HTML: its visible text, block by block.
//!
//! The browser's tokenizer drives one flat pass: no tree is built, so hostile nesting costs neither stack nor memory,
//! and a stack of open element names is enough to know what is hidden. Scripts, styles, navigation and embedded
//! content are left out. A table becomes one line for each row, cells separated by ` | `.

use std::cell::RefCell;
use std::time::Instant;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer};

use super::outline::{Outline, trim};
use super::{DEPTH_MAX, Extracted, Layout, Reason, one_line};

/// How much is parsed between two looks at the clock, in bytes.
const PIECE_BYTES: usize = 16 * 1024;

/// Elements whose content nobody reads.
const HIDDEN: &[&str] = &[
    "script", "style", "nav", "noscript", "template", "svg", "iframe", "object", "math", "select", "button",
    "noframes", "noembed", "textarea", "canvas", "audio", "video",
];

/// Elements without content.
const VOID: &[&str] = &[
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track",
    "wbr",
];

/// Elements that pages leave open, by right or by habit, and that hide nothing: they are not counted as nesting.
const LOOSE: &[&str] = &[
    "html", "head", "body", "p", "li", "dt", "dd", "tr", "td", "th", "thead", "tbody", "tfoot", "caption",
    "colgroup", "option", "optgroup", "rp", "rt", "a", "b", "big", "code", "em", "font", "i", "nobr", "s",
    "small", "strike", "strong", "tt", "u", "title",
];

/// Elements that begin and end a block of text.
const BLOCKS: &[&str] = &[
    "address",
    "article",
    "aside",
    "blockquote",
    "body",
    "caption",
    "center",
    "dd",
    "details",
    "dialog",
    "dir",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hgroup",
    "hr",
    "li",
    "main",
    "menu",
    "ol",
    "p",
    "pre",
    "search",
    "section",
    "summary",
    "table",
    "ul",
];

/// Lays out the visible text of a page.
pub fn extract(page: &str, text_bytes_max: usize, deadline: Instant) -> Result<Extracted, Reason> {
    let tokenizer =
        Tokenizer::new(Sink { page: RefCell::new(Page::new(text_bytes_max)) }, Default::default());
    let input = BufferQueue::default();
    let mut rest = page;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
        rest = after;
        input.push_back(StrTendril::from_slice(piece));
        // It pauses only where the sink asks for it, to run a script; this one never does.
        let _ = tokenizer.feed(&input);
        if let Some(reason) = tokenizer.sink.page.borrow().failed {
            return Err(reason);
        }
        if Instant::now() > deadline {
            return Err(Reason::TooSlow);
        }
    }
    tokenizer.end();
    tokenizer.sink.page.into_inner().finish()
}

struct Sink {
    page: RefCell<Page>,
}

impl TokenSink for Sink {
    type Handle = ();

    fn process_token(&self, token: Token, _line_number: u64) -> TokenSinkResult<()> {
        let mut page = self.page.borrow_mut();
        if page.failed.is_some() {
            return TokenSinkResult::Continue;
        }
        match token {
            Token::TagToken(tag) if tag.kind == TagKind::StartTag => {
                page.open(&tag);
                return raw_content(&tag);
            }
            Token::TagToken(tag) => page.close(&tag.name),
            Token::CharacterTokens(text) => page.characters(&text),
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

/// Tells the tokenizer about elements whose content holds no tags, as the HTML standard's tree builder does.
fn raw_content(tag: &Tag) -> TokenSinkResult<()> {
    match &*tag.name {
        "script" => TokenSinkResult::RawData(RawKind::ScriptData),
        "style" | "iframe" | "noembed" | "noframes" => TokenSinkResult::RawData(RawKind::Rawtext),
        "title" | "textarea" => TokenSinkResult::RawData(RawKind::Rcdata),
        _ => TokenSinkResult::Continue,
    }
}

/// What has been read of a page.
struct Page {
    text: String,
    text_bytes_max: usize,
    outline: Outline,
    /// The open elements that are not in [`LOOSE`].
    open: Vec<String>,
    /// How many elements were open outside the outermost hidden one.
    hidden_from: Option<usize>,
    /// Where the block that is being read starts in `text`.
    block_start: usize,
    heading: Option<u8>,
    tables: usize,
    preformatted: bool,
    /// White space was read since the last visible character.
    is_spaced: bool,
    in_title: bool,
    title: String,
    first_heading: Option<String>,
    failed: Option<Reason>,
}

impl Page {
    fn new(text_bytes_max: usize) -> Self {
        Self {
            text: String::new(),
            text_bytes_max,
            outline: Outline::default(),
            open: Vec::new(),
            hidden_from: None,
            block_start: 0,
            heading: None,
            tables: 0,
            preformatted: false,
            is_spaced: false,
            in_title: false,
            title: String::new(),
            first_heading: None,
            failed: None,
        }
    }

    fn open(&mut self, tag: &Tag) {
        let name = &*tag.name;
        if VOID.contains(&name) {
            if self.hidden_from.is_none() {
                self.void(name);
            }
            return;
        }
        if HIDDEN.contains(&name) && !tag.self_closing {
            self.hidden_from.get_or_insert(self.open.len());
        }
        if !LOOSE.contains(&name) && !tag.self_closing {
            self.open.push(name.to_owned());
            if self.open.len() > DEPTH_MAX {
                self.failed = Some(Reason::TooDeep);
            }
        }
        if self.hidden_from.is_some() {
            return;
        }
        match name {
            "title" => self.in_title = true,
            "tr" if self.tables > 0 => self.line_break(),
            "td" | "th" if self.tables > 0 => self.cell(),
            "table" => {
                if self.tables == 0 {
                    self.end_block();
                }
                self.tables += 1;
            }
            _ if self.tables > 0 => self.is_spaced |= BLOCKS.contains(&name),
            _ if BLOCKS.contains(&name) => {
                self.end_block();
                self.heading = heading_level(name);
                self.preformatted = name == "pre";
            }
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        // An end tag closes everything opened since its element; one without an element closes nothing.
        if let Some(depth) = self.open.iter().rposition(|open| open == name) {
            self.open.truncate(depth);
            if self.hidden_from.is_some_and(|outside| depth <= outside) {
                self.hidden_from = None;
            }
        }
        if self.hidden_from.is_some() {
            return;
        }
        match name {
            "title" => self.in_title = false,
            "table" if self.tables > 0 => {
                if self.tables == 1 {
                    self.end_block();
                }
                self.tables -= 1;
            }
            _ if self.tables > 0 => self.is_spaced |= BLOCKS.contains(&name),
            _ if BLOCKS.contains(&name) => self.end_block(),
            _ => {}
        }
    }

    fn void(&mut self, name: &str) {
        match name {
            "br" if self.tables == 0 => self.line_break(),
            "br" | "img" => self.is_spaced = true,
            "hr" if self.tables == 0 => self.end_block(),
            _ => {}
        }
    }

    fn characters(&mut self, characters: &str) {
        if self.hidden_from.is_some() {
            return;
        }
        if self.in_title {
            self.title.push_str(characters);
            return;
        }
        if self.preformatted {
            self.text.push_str(characters);
        } else {
            for character in characters.chars() {
                if character.is_whitespace() {
                    self.is_spaced = true;
                } else {
                    self.visible(character);
                }
            }
        }
        if self.text.len() > self.text_bytes_max {
            self.failed = Some(Reason::TextTooLong);
        } else if self.outline.is_too_long() {
            self.failed = Some(Reason::TooManyPassages);
        }
    }

    fn visible(&mut self, character: char) {
        if self.is_spaced && self.text.len() > self.block_start && !self.text.ends_with(char::is_whitespace) {
            self.text.push(' ');
        }
        self.is_spaced = false;
        self.text.push(character);
    }

    fn line_break(&mut self) {
        self.is_spaced = false;
        if self.text.len() > self.block_start && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }

    fn cell(&mut self) {
        self.is_spaced = false;
        if self.text.len() > self.block_start && !self.text.ends_with('\n') {
            self.text.push_str(" | ");
        }
    }

    /// Ends the block that is being read, if it holds anything visible.
    fn end_block(&mut self) {
        self.is_spaced = false;
        let heading = self.heading.take();
        let range = trim(&self.text, self.block_start..self.text.len());
        let layout = match (self.tables > 0, std::mem::take(&mut self.preformatted)) {
            (true, _) => Layout::Table,
            (false, true) => Layout::Lines,
            (false, false) => Layout::Prose,
        };
        let Some(range) = range else {
            self.text.truncate(self.block_start);
            return;
        };
        self.text.truncate(range.end);
        if let Some(level) = heading {
            let words = self.text[range.clone()].to_owned();
            if level == 1 && self.first_heading.is_none() {
                self.first_heading = one_line(&words);
            }
            self.outline.heading(level, &self.text, &words, range);
        } else {
            self.outline.block(&self.text, range, layout);
        }
        self.text.push_str("\n\n");
        self.block_start = self.text.len();
    }

    fn finish(mut self) -> Result<Extracted, Reason> {
        self.end_block();
        if let Some(reason) = self.failed {
            return Err(reason);
        }
        let title = one_line(&self.title).or(self.first_heading);
        let sections = self.outline.finish(&self.text);
        Ok(Extracted { media_type: "text/html", title, text: self.text, sections })
    }
}

fn heading_level(name: &str) -> Option<u8> {
    match name.as_bytes() {
        [b'h', level @ b'1'..=b'6'] => Some(level - b'0'),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
