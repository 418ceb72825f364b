//! BERT's tokenizer: normalises text, splits it into words and the words into pieces of the vocabulary.
//!
//! It gives the ids of Hugging Face's `tokenizers` for the same `tokenizer.json` (compared over every character and
//! over real text), reads a text as a stream, and stops at the window. One difference is meant: `[SEP]` and the
//! like in a text are plain characters here, so that a document cannot inject the model's control tokens.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use unicode_categories::UnicodeCategories;
use unicode_normalization::UnicodeNormalization;

use super::Error;
use super::settings::{TOKENIZER, read_json};

/// Text to ids, for one vocabulary.
pub struct Tokenizer {
    starts: HashMap<Box<str>, u32>,
    continuations: HashMap<Box<str>, u32>,
    normalizer: Normalizer,
    word_chars_max: usize,
    unknown: u32,
    first: u32,
    last: u32,
    window: usize,
}

#[derive(Deserialize)]
struct File {
    normalizer: Normalizer,
    pre_tokenizer: Kind,
    model: WordPiece,
}

#[derive(Deserialize)]
struct Kind {
    r#type: String,
}

#[derive(Deserialize)]
struct Normalizer {
    r#type: String,
    clean_text: bool,
    handle_chinese_chars: bool,
    strip_accents: Option<bool>,
    lowercase: bool,
}

#[derive(Deserialize)]
struct WordPiece {
    r#type: String,
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
    vocab: HashMap<Box<str>, u32>,
}

impl Tokenizer {
    /// Reads `tokenizer.json` in `directory` for a model with `vocabulary` pieces and `window` tokens.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Unusable`] for anything but a BERT tokenizer whose ids the model has.
    pub fn read(directory: &Path, vocabulary: usize, window: usize) -> Result<Self, Error> {
        let path = directory.join(TOKENIZER);
        let file: File = read_json(&path)?;
        Self::new(file, vocabulary, window).map_err(|reason| Error::unusable(&path, reason))
    }

    fn new(file: File, vocabulary: usize, window: usize) -> Result<Self, String> {
        let kinds = [&file.normalizer.r#type, &file.pre_tokenizer.r#type, &file.model.r#type];
        if kinds != ["BertNormalizer", "BertPreTokenizer", "WordPiece"] {
            return Err(format!("a tokenizer of {kinds:?} is not BERT's"));
        }
        let id =
            |piece: &str| file.model.vocab.get(piece).copied().ok_or_else(|| format!("it has no {piece}"));
        let (unknown, first, last) = (id(&file.model.unk_token)?, id("[CLS]")?, id("[SEP]")?);
        if let Some((piece, id)) = file.model.vocab.iter().find(|&(_, &id)| id as usize >= vocabulary) {
            return Err(format!("{piece:?} has id {id}, the model knows {vocabulary} ids"));
        }
        let prefix = file.model.continuing_subword_prefix;
        let mut starts = HashMap::new();
        let mut continuations = HashMap::new();
        for (piece, id) in file.model.vocab {
            // No word starts with the prefix, because `#` is punctuation and stands alone.
            match piece.strip_prefix(prefix.as_str()) {
                Some(rest) => continuations.insert(rest.into(), id),
                None => starts.insert(piece, id),
            };
        }
        let word_chars_max = file.model.max_input_chars_per_word;
        Ok(Self {
            starts,
            continuations,
            normalizer: file.normalizer,
            word_chars_max,
            unknown,
            first,
            last,
            window,
        })
    }

    /// Returns how many tokens of a text fit the model's window beside the two special ones.
    pub fn window(&self) -> usize {
        self.window - 2
    }

    /// Counts the tokens of `text` without special ones, however many they are.
    pub fn count(&self, text: &str) -> usize {
        let mut count = 0;
        self.pieces(text, |_| {
            count += 1;
            true
        });
        count
    }

    /// Appends the ids of `text` between the two special tokens, cut at the window, to `ids`.
    pub fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let end = ids.len() + 1 + self.window();
        ids.push(self.first);
        self.pieces(text, |id| {
            ids.push(id);
            ids.len() < end
        });
        ids.push(self.last);
    }

    /// Gives every piece's id to `keep` until it returns false.
    fn pieces(&self, text: &str, mut keep: impl FnMut(u32) -> bool) {
        let mut word = Word::default();
        let mut ids = Vec::new();
        let mut go_on = |word: &mut Word| {
            ids.clear();
            self.split_word(word, &mut ids);
            word.clear();
            ids.iter().all(|&id| keep(id))
        };
        for c in self.normalizer.normalize(text) {
            if c.is_whitespace() {
                if !go_on(&mut word) {
                    return;
                }
            } else if is_punctuation(c) {
                if !go_on(&mut word) {
                    return;
                }
                word.push(c, self.word_chars_max);
                if !go_on(&mut word) {
                    return;
                }
            } else {
                word.push(c, self.word_chars_max);
            }
        }
        go_on(&mut word);
    }

    /// Splits a word into the longest pieces from the left; a word that cannot be split so is one unknown piece.
    fn split_word(&self, word: &Word, ids: &mut Vec<u32>) {
        if word.chars > self.word_chars_max {
            ids.push(self.unknown);
            return;
        }
        let mut rest = word.text.as_str();
        while !rest.is_empty() {
            let pieces = if rest.len() == word.text.len() { &self.starts } else { &self.continuations };
            let Some((id, length)) = longest_piece(pieces, rest) else {
                ids.clear();
                ids.push(self.unknown);
                return;
            };
            ids.push(id);
            rest = &rest[length..];
        }
    }
}

fn longest_piece(pieces: &HashMap<Box<str>, u32>, text: &str) -> Option<(u32, usize)> {
    if let Some(&id) = pieces.get(text) {
        return Some((id, text.len()));
    }
    text.char_indices().rev().find_map(|(end, _)| pieces.get(&text[..end]).map(|&id| (id, end)))
}

/// A word as it is read; a megabyte without a space is counted, not kept.
#[derive(Default)]
struct Word {
    text: String,
    chars: usize,
}

impl Word {
    fn push(&mut self, c: char, chars_max: usize) {
        self.chars += 1;
        if self.chars <= chars_max {
            self.text.push(c);
        }
    }

    fn clear(&mut self) {
        self.text.clear();
        self.chars = 0;
    }
}

impl Normalizer {
    /// Streams the characters of `text` in the order of the original's steps: clean, space out, strip, lower.
    fn normalize<'a>(&'a self, text: &'a str) -> impl Iterator<Item = char> + 'a {
        let strip = self.strip_accents.unwrap_or(self.lowercase);
        let cleaned = text.chars().filter(|&c| !self.clean_text || !is_removed(c));
        let spaced = cleaned.flat_map(|c| {
            let space = (self.handle_chinese_chars && is_chinese(c)).then_some(' ');
            space.into_iter().chain(Some(c)).chain(space)
        });
        let stripped: Box<dyn Iterator<Item = char> + 'a> = if strip {
            Box::new(spaced.nfd().filter(|&c| c.is_ascii() || !c.is_mark_nonspacing()))
        } else {
            Box::new(spaced)
        };
        stripped.flat_map(|c| {
            let lower = self.lowercase.then(|| c.to_lowercase());
            let same = (!self.lowercase).then_some(c);
            lower.into_iter().flatten().chain(same)
        })
    }
}

fn is_removed(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => false,
        '\0' | '\u{fffd}' => true,
        c if c.is_ascii() => c.is_ascii_control(),
        c => c.is_other(),
    }
}

fn is_punctuation(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_punctuation() } else { c.is_punctuation() }
}

/// The CJK ideographs, which BERT reads one by one; Japanese kana and Korean are written in words.
fn is_chinese(c: char) -> bool {
    matches!(u32::from(c),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F | 0x2B740..=0x2B81F
        | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Ids are positions in this list.
    const PIECES: [&str; 13] = [
        "[UNK]", "[CLS]", "[SEP]", "new", "##s", "##pa", "##per", ".", "creme", "\u{4eac}", "\u{90fd}", "$",
        "a",
    ];

    fn tokenizer(window: usize) -> Tokenizer {
        let vocabulary: serde_json::Value =
            PIECES.iter().enumerate().map(|(id, piece)| ((*piece).to_owned(), json!(id))).collect();
        let file = json!({
            "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": null, "lowercase": true },
            "pre_tokenizer": { "type": "BertPreTokenizer" },
            "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 12, "vocab": vocabulary },
        });
        Tokenizer::new(serde_json::from_value(file).unwrap(), PIECES.len(), window).ok().unwrap()
    }

    fn ids(text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        tokenizer(16).encode(text, &mut ids);
        assert_eq!((ids.first(), ids.last()), (Some(&1), Some(&2)));
        assert_eq!(tokenizer(16).count(text), ids.len() - 2);
        ids[1..ids.len() - 1].to_vec()
    }

    #[test]
    fn words_are_split_into_the_longest_pieces() {
        assert_eq!(ids("News newspaper"), [3, 4, 3, 4, 5, 6]);
        assert_eq!(ids(""), [] as [u32; 0]);
    }

    #[test]
    fn a_word_that_no_pieces_make_up_is_one_unknown() {
        assert_eq!(ids("newsx new"), [0, 3]);
        assert_eq!(ids("s"), [0]);
    }

    #[test]
    fn a_word_is_unknown_beyond_its_longest_length() {
        assert_eq!(ids("newssssssss."), [3, 4, 4, 4, 4, 4, 4, 4, 4, 7]);
        assert_eq!(ids("newsssssssss"), [3, 4, 4, 4, 4, 4, 4, 4, 4, 4]);
        assert_eq!(ids("newssssssssss a"), [0, 12]);
    }

    #[test]
    fn punctuation_and_ideographs_stand_alone() {
        assert_eq!(ids("new.a..$a"), [3, 7, 12, 7, 7, 11, 12]);
        assert_eq!(ids("a\u{4eac}\u{90fd}new"), [12, 9, 10, 3]);
    }

    #[test]
    fn accents_case_and_control_characters_do_not_count() {
        assert_eq!(ids("Cr\u{e8}me CRE\u{300}ME c\u{0}r\u{200b}e\u{fffd}me"), [8, 8, 8]);
        assert_eq!(ids("new\u{a0}a\u{3000}a\ta\u{2028}a"), [3, 12, 12, 12, 12]);
    }

    #[test]
    fn a_text_is_cut_at_the_window_and_counted_beyond() {
        for (text, expected) in [("a a", 4), ("a a a", 5), ("a a a a", 5), ("new newspaper", 5)] {
            let mut ids = vec![9; 3];
            tokenizer(5).encode(text, &mut ids);
            assert_eq!((ids.len() - 3, ids.last()), (expected, Some(&2)), "{text}");
        }
        assert_eq!(tokenizer(5).count("a a a a"), 4);
        assert_eq!(tokenizer(5).window(), 3);
    }
}
