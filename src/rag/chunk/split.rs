//! Cuts blocks into the atoms that passages are made of.

use std::ops::Range;

use crate::rag::extract::{Block, Layout};

/// A piece of text that stays whole.
#[derive(Debug)]
pub struct Atom {
    /// Where it stands in the text, in bytes, without white space at its ends.
    pub range: Range<usize>,
    /// What it takes of a passage's budget.
    pub tokens: usize,
    /// It is the first of its block.
    pub starts_block: bool,
    /// Something that belongs to no block stands before it: a passage must not reach across.
    pub follows_gap: bool,
}

/// Longest run of characters that counts as one token. A vocabulary of word pieces gives one token to any word that
/// is too long for it, so a megabyte of base64 would be one atom.
const CHARACTERS_PER_TOKEN_MAX: usize = 8;

/// Parts of an atom that was too long are this part of the budget, so that overlaps stay possible.
const PARTS_PER_BUDGET: usize = 8;

/// Characters that end a sentence in scripts that put no space after it.
const FULL_WIDTH_ENDS: &[char] = &['。', '！', '？', '．', '｡'];

/// Returns the atoms of `blocks` in reading order; none takes more than `budget` tokens.
pub fn atoms(text: &str, blocks: &[Block], count_tokens: &dyn Fn(&str) -> usize, budget: usize) -> Vec<Atom> {
    let cutter = Cutter { text, count_tokens, budget };
    let mut atoms: Vec<Atom> = Vec::new();
    for block in blocks {
        let first = atoms.len();
        cutter.cut(block.range.clone(), first_cut(block.layout), &mut atoms);
        let before = first.checked_sub(1).map(|last| atoms[last].range.end);
        if let Some(atom) = atoms.get_mut(first) {
            atom.starts_block = true;
            atom.follows_gap = before.is_some_and(|end| !text[end..block.range.start].trim().is_empty());
        }
    }
    atoms
}

/// Where a piece may be cut, from coarse to fine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Whole,
    Lines,
    Sentences,
    LinesOfSentence,
    Words,
    Characters,
}

fn first_cut(layout: Layout) -> Cut {
    match layout {
        Layout::Table => Cut::Whole,
        Layout::Lines => Cut::Lines,
        Layout::Prose => Cut::Sentences,
    }
}

struct Cutter<'a> {
    text: &'a str,
    count_tokens: &'a dyn Fn(&str) -> usize,
    budget: usize,
}

impl Cutter<'_> {
    /// Cuts `range` as `how` says, and whatever is still too long one step finer. At most six deep.
    fn cut(&self, range: Range<usize>, how: Cut, atoms: &mut Vec<Atom>) {
        let text = &self.text[range.clone()];
        let (pieces, finer) = match how {
            Cut::Whole => (std::iter::once(0..text.len()).collect(), Cut::Lines),
            Cut::Lines => (ends(text, line_ends), Cut::Sentences),
            Cut::Sentences => (ends(text, sentence_ends), Cut::LinesOfSentence),
            Cut::LinesOfSentence => (ends(text, line_ends), Cut::Words),
            Cut::Words => (self.grouped(text, ends(text, word_ends)), Cut::Characters),
            Cut::Characters => return self.cut_characters(range, atoms),
        };
        for piece in pieces {
            let Some(piece) = trim(text, piece) else { continue };
            let tokens = self.cost(&text[piece.clone()]);
            let piece = range.start + piece.start..range.start + piece.end;
            if tokens > self.budget {
                self.cut(piece, finer, atoms);
            } else {
                atoms.push(Atom { range: piece, tokens, starts_block: false, follows_gap: false });
            }
        }
    }

    /// Joins neighbouring words into parts of an eighth of the budget.
    fn grouped(&self, text: &str, words: Vec<Range<usize>>) -> Vec<Range<usize>> {
        let target = (self.budget / PARTS_PER_BUDGET).max(1);
        let mut groups: Vec<Range<usize>> = Vec::new();
        let mut tokens = target;
        for word in words {
            let cost = self.cost(text[word.clone()].trim());
            match groups.last_mut() {
                Some(group) if tokens + cost <= target => {
                    group.end = word.end;
                    tokens += cost;
                }
                _ => {
                    groups.push(word);
                    tokens = cost;
                }
            }
        }
        groups
    }

    /// Cuts a word without borders: as many characters as certainly fit, each at most one token.
    fn cut_characters(&self, range: Range<usize>, atoms: &mut Vec<Atom>) {
        let text = &self.text[range.clone()];
        let mut start = 0;
        while start < text.len() {
            let end =
                text[start..].char_indices().nth(self.budget).map_or(text.len(), |(end, _)| start + end);
            let tokens = self.cost(&text[start..end]).min(self.budget);
            let range = range.start + start..range.start + end;
            atoms.push(Atom { range, tokens, starts_block: false, follows_gap: false });
            start = end;
        }
    }

    fn cost(&self, text: &str) -> usize {
        (self.count_tokens)(text).max(text.len() / (CHARACTERS_PER_TOKEN_MAX * 2)).max(1)
    }
}

/// Splits `text` after each of the ends that `find` reports.
fn ends(text: &str, find: fn(&str, &mut dyn FnMut(usize))) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    find(text, &mut |end| {
        pieces.push(start..end);
        start = end;
    });
    if start < text.len() {
        pieces.push(start..text.len());
    }
    pieces
}

fn line_ends(text: &str, found: &mut dyn FnMut(usize)) {
    text.match_indices('\n').for_each(|(at, _)| found(at + 1));
}

fn word_ends(text: &str, found: &mut dyn FnMut(usize)) {
    let mut previous_is_space = false;
    for (at, character) in text.char_indices() {
        if previous_is_space && !character.is_whitespace() {
            found(at);
        }
        previous_is_space = character.is_whitespace();
    }
}

/// A sentence ends at `.`, `!` or `?` (and closing quotes or brackets) before white space, unless a small letter
/// follows, as after an abbreviation. Unicode's own rule ends one at every line break, which cuts wrapped text.
fn sentence_ends(text: &str, found: &mut dyn FnMut(usize)) {
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if FULL_WIDTH_ENDS.contains(&character) {
            found(at + character.len_utf8());
            continue;
        }
        if !matches!(character, '.' | '!' | '?' | '…') {
            continue;
        }
        while characters
            .next_if(|(_, c)| matches!(c, '"' | '\'' | ')' | ']' | '»' | '”' | '’' | '*' | '_'))
            .is_some()
        {}
        let mut end = None;
        while let Some((at, space)) = characters.next_if(|(_, c)| c.is_whitespace()) {
            end = Some(at + space.len_utf8());
        }
        let is_small = characters.peek().is_some_and(|(_, next)| next.is_lowercase());
        if let Some(end) = end.filter(|end| *end < text.len() && !is_small) {
            found(end);
        }
    }
}

fn trim(text: &str, piece: Range<usize>) -> Option<Range<usize>> {
    let inner = &text[piece.clone()];
    let start = piece.start + (inner.len() - inner.trim_start().len());
    let end = start + inner.trim().len();
    (start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences(text: &str) -> Vec<&str> {
        ends(text, sentence_ends).into_iter().map(|range| text[range].trim()).collect()
    }

    #[test]
    fn sentences_end_where_a_reader_ends_them() {
        assert_eq!(sentences("One. Two! (Three?) Four"), ["One.", "Two!", "(Three?)", "Four"]);
        assert_eq!(
            sentences("See e.g. the plan\nof 3.5 t. Then go."),
            ["See e.g. the plan\nof 3.5 t.", "Then go."]
        );
        assert_eq!(sentences("一つ。二つ。"), ["一つ。", "二つ。"]);
        assert_eq!(sentences("..."), ["..."]);
    }
}
