//! Pages in, visible text with its structure out.

use std::time::Duration;

use super::*;

fn read(page: &str) -> Result<Extracted, Reason> {
    extract(page, 1 << 20, Instant::now() + Duration::from_secs(10))
}

fn blocks(page: &str) -> Vec<(String, String)> {
    let extracted = read(page).unwrap();
    let mut all = Vec::new();
    for section in &extracted.sections {
        for block in &section.blocks {
            all.push((section.heading.clone(), extracted.text[block.range.clone()].to_owned()));
        }
    }
    all
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(heading, text)| ((*heading).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn a_page_becomes_its_visible_text() {
    let page = "<!doctype html><html><head><title> The\n page </title><style>p{}</style>\
        <script>if (a < b) { document.write('<p>no</p>') }</script></head><body>\
        <nav><ul><li><a href=/>Home</a></ul></nav><h1>Top</h1><p>One &amp; <b>two</b>\n  three.<p>Next\
        <h2>List</h2><ul><li>first<li>second</ul>\
        <table><tr><th>Name<th>Price<tr><td>Tea<td><p>2 €</p></table><pre>a\n  b</pre>tail";
    assert_eq!(read(page).unwrap().title.as_deref(), Some("The page"));
    let expected = [
        ("Top", "One & two three."),
        ("Top", "Next"),
        ("Top > List", "first"),
        ("Top > List", "second"),
        ("Top > List", "Name | Price\nTea | 2 €"),
        ("Top > List", "a\n  b"),
        ("Top > List", "tail"),
    ];
    assert_eq!(blocks(page), pairs(&expected));
}

#[test]
fn unclosed_and_misnested_tags_lose_no_text() {
    assert_eq!(blocks("<p>a<b>b<i>c</b>d</i></div><p>e"), pairs(&[("", "abcd"), ("", "e")]));
    assert_eq!(blocks("<div>a<nav>hidden</div>b"), pairs(&[("", "a"), ("", "b")]));
    assert_eq!(blocks(&format!("<body>{}x", "<p><font>".repeat(5000))), pairs(&[("", "x")]));
}

#[test]
fn deep_nesting_fails() {
    let nested = |depth: usize| format!("{}x{}", "<div>".repeat(depth), "</div>".repeat(depth));
    assert!(read(&nested(DEPTH_MAX)).is_ok());
    assert_eq!(read(&nested(DEPTH_MAX + 1)).unwrap_err(), Reason::TooDeep);
    assert_eq!(read(&nested(300_000)).unwrap_err(), Reason::TooDeep);
}

#[test]
fn too_much_text_fails_while_reading() {
    assert_eq!(read(&"<p>word".repeat(300_000)).unwrap_err(), Reason::TextTooLong);
}

#[test]
fn a_hostile_tag_is_stopped_by_the_clock() {
    let attributes: String = (0..200_000).map(|i| format!(" a{i}")).collect();
    let page = format!("<p>x<div{attributes}>");
    assert_eq!(extract(&page, 1 << 20, Instant::now()).unwrap_err(), Reason::TooSlow);
}
