//! Words as the extractive answerer compares them: folded, stemmed, without the ones that every sentence has.

use rust_stemmers::{Algorithm, Stemmer};
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};
use unicode_segmentation::UnicodeSegmentation;

/// Words that say nothing about what a question is about, sorted.
const STOP_WORDS: [&str; 119] = [
    "a", "about", "after", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "because",
    "been", "before", "being", "between", "but", "by", "can", "could", "d", "did", "do", "does", "doing",
    "explain", "for", "from", "get", "give", "had", "has", "have", "having", "he", "her", "here", "him",
    "his", "how", "i", "if", "in", "into", "is", "it", "its", "just", "know", "ll", "many", "may", "me",
    "might", "more", "most", "much", "must", "my", "need", "no", "not", "of", "on", "or", "other", "our",
    "out", "over", "please", "s", "shall", "she", "should", "show", "so", "some", "such", "t", "tell",
    "than", "that", "the", "their", "them", "then", "there", "these", "they", "this", "those", "to", "too",
    "under", "up", "us", "very", "want", "was", "we", "were", "what", "when", "where", "which", "while",
    "who", "whom", "whose", "why", "will", "with", "would", "yes", "you", "your", "yours",
];

/// Returns the stems of the meaningful words of `text`, in order, with repetitions.
///
/// Lower case, accents folded, English stems; numbers and identifiers stay as they are. Empty when `text` has only
/// stop words.
pub fn terms(text: &str) -> Vec<String> {
    let stemmer = Stemmer::create(Algorithm::English);
    text.unicode_words()
        .map(|word| {
            word.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase).collect::<String>()
        })
        .map(|word| {
            word.strip_suffix("'s").or_else(|| word.strip_suffix("’s")).map(str::to_owned).unwrap_or(word)
        })
        .filter(|word| STOP_WORDS.binary_search(&word.as_str()).is_err())
        .map(|word| stemmer.stem(&word).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_fold_case_accents_and_endings_and_drop_stop_words() {
        assert_eq!(terms("What are the Refunds for cancelled Cafés?"), ["refund", "cancel", "cafe"]);
    }

    #[test]
    fn numbers_and_identifiers_are_kept() {
        assert_eq!(terms("error E4012 in 2026"), ["error", "e4012", "2026"]);
    }

    #[test]
    fn a_question_of_stop_words_has_no_terms() {
        assert!(terms("What is it, and why?").is_empty());
    }
}
