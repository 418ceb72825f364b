use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::rag::extract;

fn extracted(text: &str, name: &str) -> Extracted {
    let limits = extract::Limits { text_bytes_max: 1 << 22, time_max: Duration::from_secs(30) };
    extract::extract(text.as_bytes(), name, limits).unwrap()
}

fn chunks(text: &str, name: &str) -> Vec<Chunk> {
    chunk(&extracted(text, name), "", &approximate_tokens, Limits::default()).unwrap()
}

fn prose(words: usize) -> String {
    (0..words)
        .map(|i| if i % 11 == 10 { "pump. The ".to_owned() } else { format!("valve{} ", i % 7) })
        .collect()
}

#[test]
fn a_short_document_is_one_passage() {
    let [only] = &chunks("Just one line.\n", "a.txt")[..] else { panic!("not one passage") };
    assert_eq!((only.text.as_str(), only.span.clone(), only.heading.as_str()), ("Just one line.", 0..14, ""));
}

#[test]
fn passages_never_cross_headings_and_carry_their_path() {
    let text = format!("# A\n\n{}\n\n## B\n\nshort\n\n# C\n\nlast\n", prose(20));
    let headings: Vec<_> = chunks(&text, "a.md").into_iter().map(|chunk| chunk.heading).collect();
    assert_eq!(headings, ["A", "A > B", "C"]);
}

#[test]
fn a_long_paragraph_is_cut_between_sentences_with_overlap() {
    let found = chunks(&prose(2000), "a.txt");
    assert!(found.len() > 5);
    for pair in found.windows(2) {
        assert!(pair[0].text.ends_with('.'), "cut inside a sentence: {:?}", pair[0].text);
        assert!(pair[1].span.start < pair[0].span.end, "no overlap");
        assert!(pair[1].span.end > pair[0].span.end, "nothing new");
    }
}

#[test]
fn a_table_that_fits_stays_whole() {
    let table = format!("| a | b |\n|---|---|\n{}", "| 1. One | 2. Two |\n".repeat(12));
    let text = format!("# T\n\n{}\n\n{table}\n\n{}\n", prose(150), prose(150));
    assert!(chunks(&text, "t.md").iter().any(|chunk| chunk.text.contains(table.trim())));
}

#[test]
fn a_document_has_as_many_passages_as_the_limit_and_no_more() {
    let count = |passages_max, text: &str, name| {
        let limits = Limits { passages_max, ..Limits::default() };
        chunk(&extracted(text, name), "", &approximate_tokens, limits).map(|chunks| chunks.len())
    };
    let sections = "# A\n\nshort\n\n".repeat(3);
    assert_eq!(count(3, &sections, "a.md"), Ok(3));
    assert_eq!(count(2, &sections, "a.md"), Err(Reason::TooManyPassages));
    let long = prose(2000);
    let passages = chunks(&long, "a.txt").len();
    assert_eq!(count(passages, &long, "a.txt"), Ok(passages));
    assert_eq!(count(passages - 1, &long, "a.txt"), Err(Reason::TooManyPassages));
}

#[test]
fn a_file_of_nothing_but_headings_is_refused_while_it_is_read() {
    let limits = extract::Limits { text_bytes_max: 1 << 22, time_max: Duration::from_secs(30) };
    let refused = |text: &str, name| extract::extract(text.as_bytes(), name, limits).unwrap_err();
    assert_eq!(refused(&"# a\nb\n".repeat(PASSAGES_MAX + 10), "a.md"), Reason::TooManyPassages);
    assert_eq!(refused(&"<h1>a</h1>b".repeat(PASSAGES_MAX + 10), "a.html"), Reason::TooManyPassages);
}

#[test]
fn one_word_of_a_megabyte_becomes_many_passages() {
    let found = chunks(&"x".repeat(1 << 20), "a.txt");
    assert!(found.len() > 500);
    assert!(found.iter().all(|chunk| chunk.text.len() <= 256 * 16));
}

#[test]
fn the_title_is_said_once() {
    assert_eq!(passage_text("Guide", "Guide > Steps", "x"), "Guide > Steps\nx");
    assert_eq!(passage_text("Guide", "Steps", "x"), "Guide > Steps\nx");
    assert_eq!(passage_text("Guide", "", "x"), "Guide\nx");
    assert_eq!(passage_text("", "", "x"), "x");
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-zé漢\u{1f600} .!?\n]{0,80}",
        Just("\n\n# Head\n\n".to_owned()),
        Just("\n\n## Sub *x*\n\n".to_owned()),
        Just("\n\n- item. One\n- two\n  - three\n\n".to_owned()),
        Just("\n\n| a | b |\n|---|---|\n| c | d |\n\n".to_owned()),
        Just("\n\n```\ncode\n\n# no heading\n```\n\n".to_owned()),
        Just("\n\n<!-- note -->\n\n".to_owned()),
        Just("\n\n> quote\n> more\n\n---\n".to_owned()),
        Just("<p>html &amp; <b>bold</b></p><table><tr><td>x<td>y</table>".to_owned()),
        Just("word ".repeat(400)),
        Just("長い文章です。".repeat(60)),
    ];
    proptest::collection::vec(piece, 1..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn spans_point_at_the_passages_and_nothing_is_lost(text in pieces(), name in "a\\.(md|txt|html)", tokens_max in 8_usize..300) {
        let limits = extract::Limits { text_bytes_max: 1 << 22, time_max: Duration::from_secs(30) };
        let Ok(document) = extract::extract(text.as_bytes(), &name, limits) else { return Ok(()) };
        let limits = Limits { tokens_max, overlap_tokens_max: tokens_max / 8, ..Limits::default() };
        let found = chunk(&document, "Title", &approximate_tokens, limits).unwrap();
        let scalars: Vec<char> = document.text.chars().collect();
        let mut covered = vec![false; scalars.len()];
        for chunk in &found {
            let spanned: String = scalars[chunk.span.clone()].iter().collect();
            prop_assert_eq!(&spanned, &chunk.text);
            prop_assert!(!chunk.text.trim().is_empty());
            prop_assert!(approximate_tokens(&chunk.text) <= tokens_max);
            covered[chunk.span.clone()].fill(true);
        }
        prop_assert!(found.windows(2).all(|pair| pair[0].span.start < pair[1].span.start && pair[0].span.end < pair[1].span.end));
        for block in document.sections.iter().flat_map(|section| &section.blocks) {
            let start = document.text[..block.range.start].chars().count();
            for (index, character) in document.text[block.range.clone()].chars().enumerate() {
                prop_assert!(covered[start + index] || character.is_whitespace(), "{:?} is lost", character);
            }
        }
    }
}
