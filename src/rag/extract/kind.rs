//! Which kind of text a text is.
//!
//! HTML is told by the tags it starts with, as browsers do; Markdown by its structure, or by its name where the
//! content allows it; everything else is plain text.

/// The kinds of text that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Html,
    Markdown,
    Plain,
}

/// Beginnings that only a whole page has.
const PAGE_STARTS: &[&str] = &["<!doctype html", "<html", "<head", "<body"];

/// Beginnings that a fragment of a page has, and a Markdown file with inline HTML too.
const FRAGMENT_STARTS: &[&str] = &[
    "<title", "<meta", "<h1", "<h2", "<h3", "<div", "<p", "<table", "<ul", "<ol", "<article", "<section",
    "<main", "<header", "<script", "<style", "<link", "<br", "<a", "<b", "<font", "<span", "<nav",
];

/// How much of a text is looked at for structure, in lines.
const LINES_MAX: usize = 2000;

/// Tells the kind of `text`, whose file was called `file_name`.
pub fn of(text: &str, file_name: &str) -> Kind {
    let extension = file_name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    let is_named_markdown = matches!(extension.as_deref(), Some("md" | "markdown" | "mdown" | "mkd"));
    let start = first_markup(text);
    if starts_with_tag(start, PAGE_STARTS) {
        return Kind::Html;
    }
    if is_named_markdown {
        return Kind::Markdown;
    }
    let is_named_html = matches!(extension.as_deref(), Some("html" | "htm" | "xhtml"));
    if starts_with_tag(start, FRAGMENT_STARTS) && (is_named_html || text.contains("</")) {
        return Kind::Html;
    }
    if is_structured_as_markdown(text) { Kind::Markdown } else { Kind::Plain }
}

/// Skips white space, comments and an XML declaration.
fn first_markup(text: &str) -> &str {
    let mut rest = text.trim_start();
    loop {
        let end = match rest {
            comment if comment.starts_with("<!--") => "-->",
            declaration if declaration.starts_with("<?xml") => "?>",
            _ => return rest,
        };
        match rest.split_once(end) {
            Some((_, after)) => rest = after.trim_start(),
            None => return rest,
        }
    }
}

fn starts_with_tag(text: &str, tags: &[&str]) -> bool {
    tags.iter().any(|tag| {
        let is_tag = text.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag));
        // `<a` must not match `<abc>`, nor `<b` a line such as `<bob@example.org>`.
        is_tag && text[tag.len()..].starts_with(|c: char| c.is_whitespace() || c == '>' || c == '/')
    })
}

/// A heading and one more sign of Markdown: a heading alone could be a comment in a script.
fn is_structured_as_markdown(text: &str) -> bool {
    let (mut headings, mut fences, mut tables, mut links, mut items) = (0, 0, 0, 0, 0);
    let mut previous = "";
    for line in text.lines().take(LINES_MAX) {
        let trimmed = line.trim_end();
        headings += u32::from(is_heading(trimmed) || is_underline_of(trimmed, previous));
        fences += u32::from(trimmed.starts_with("```"));
        tables += u32::from(
            trimmed.starts_with("|--") || trimmed.starts_with("| --") || trimmed.starts_with("|:-"),
        );
        links += u32::from(trimmed.contains("](http") || trimmed.contains("](/") || trimmed.contains("](#"));
        items +=
            u32::from(trimmed.starts_with("- ") || trimmed.starts_with("* ") || trimmed.starts_with("1. "));
        previous = trimmed;
    }
    headings > 0
        && (fences >= 2 || tables > 0 || links > 0 || items >= 2 || headings >= 3)
        && !text.starts_with("#!")
}

fn is_heading(line: &str) -> bool {
    let text = line.trim_start_matches('#');
    let level = line.len() - text.len();
    (1..=6).contains(&level)
        && text.starts_with(' ')
        && text.trim().chars().next().is_some_and(char::is_alphanumeric)
}

fn is_underline_of(line: &str, previous: &str) -> bool {
    line.len() >= 3
        && !previous.trim().is_empty()
        && (line.bytes().all(|byte| byte == b'=') || line.bytes().all(|byte| byte == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides_and_a_name_only_hints() {
        assert_eq!(of("<!DOCTYPE html><p>x</p>", "notes.md"), Kind::Html);
        assert_eq!(of("<?xml version=\"1.0\"?>\n<!-- made by hand -->\n<HTML><p>x", "page"), Kind::Html);
        assert_eq!(of("<p align=center>logo</p>\n\n# Name", "README.md"), Kind::Markdown);
        assert_eq!(of("<div>x</div>", "fragment.txt"), Kind::Html);
        assert_eq!(of("# Guide\n\n- one\n- two\n", "guide.txt"), Kind::Markdown);
        assert_eq!(of("Guide\n=====\n\nSee [it](http://example.org).", "guide"), Kind::Markdown);
        assert_eq!(of("<bob@example.org> wrote:\n> hello", "mail.txt"), Kind::Plain);
        assert_eq!(of("# settings\nport = 1\n# more\n", "app.conf"), Kind::Plain);
        assert_eq!(of("Just text.", "text.html"), Kind::Plain);
    }
}
