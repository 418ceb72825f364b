//! Text to the terms that BM25 counts.
//!
//! Unicode words, lower case, accents folded, English words stemmed. What carries a digit, dot or underscore is kept
//! whole beside its parts: `max_connections` is found by itself and by "connections".

use std::cell::RefCell;

use rust_stemmers::{Algorithm, Stemmer};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_segmentation::UnicodeSegmentation;

/// Longest term kept, in bytes; what is longer (encoded data, as a rule) is cut here.
const TERM_BYTES_MAX: usize = 64;

thread_local! {
    /// The stemmer is a table of functions, cheap to keep and not shareable between threads.
    static STEMMER: RefCell<Stemmer> = RefCell::new(Stemmer::create(Algorithm::English));
}

/// Calls `emit` for every term of `text`, in order, repeats included.
pub(super) fn terms(text: &str, mut emit: impl FnMut(&str)) {
    STEMMER.with_borrow(|stemmer| {
        for word in text.unicode_words() {
            let folded = fold(word);
            if folded.contains(['_', '.']) {
                emit(shorten(&folded));
                for part in folded.split(['_', '.']).filter(|part| !part.is_empty()) {
                    emit_word(stemmer, part, &mut emit);
                }
            } else {
                emit_word(stemmer, &folded, &mut emit);
            }
        }
    });
}

fn emit_word(stemmer: &Stemmer, word: &str, emit: &mut impl FnMut(&str)) {
    let word = shorten(word);
    if word.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'\'') {
        emit(&stemmer.stem(word));
    } else {
        emit(word);
    }
}

/// Lower case, compatibility forms resolved, accents dropped, one kind of apostrophe.
fn fold(word: &str) -> String {
    if word.is_ascii() {
        return word.to_ascii_lowercase();
    }
    word.nfkd()
        .filter(|letter| !is_combining_mark(*letter))
        .flat_map(char::to_lowercase)
        .map(|letter| if letter == '\u{2019}' { '\'' } else { letter })
        .collect()
}

fn shorten(term: &str) -> &str {
    &term[..term.floor_char_boundary(TERM_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        terms(text, |term| found.push(term.to_owned()));
        found
    }

    #[test]
    fn words_are_folded_and_stemmed() {
        assert_eq!(all("The Connections, connecting; CONNECTED!"), ["the", "connect", "connect", "connect"]);
        assert_eq!(all("Crème brûlée ﬁlled Straße"), ["creme", "brule", "fill", "straße"]);
        assert_eq!(all("the node\u{2019}s node's"), ["the", "node", "node"]);
    }

    #[test]
    fn numbers_and_identifiers_stay_whole() {
        assert_eq!(all("RFC 9110, 3.14 and x86"), ["rfc", "9110", "3.14", "3", "14", "and", "x86"]);
        assert_eq!(all("max_connections"), ["max_connections", "max", "connect"]);
    }

    #[test]
    fn other_scripts_give_terms_too() {
        assert_eq!(all("東京 Москва"), ["東", "京", "москва"]);
        assert!(all("  … —\n").is_empty());
    }

    #[test]
    fn a_long_run_is_cut_between_letters() {
        let term = &all(&"é".repeat(100))[0];
        assert_eq!(term.len(), TERM_BYTES_MAX);
        let term = &all(&"ж".repeat(100))[0];
        assert_eq!(term.len(), TERM_BYTES_MAX);
    }
}
