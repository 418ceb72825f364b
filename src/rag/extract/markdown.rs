//! Markdown: the text stays as it was written, the outline comes from its headings and outermost blocks.

use std::ops::Range;
use std::time::Instant;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::outline::Outline;
use super::{DEPTH_MAX, Extracted, Layout, Reason, one_line};

/// Lays out a Markdown text.
pub fn extract(text: String, deadline: Instant) -> Result<Extracted, Reason> {
    refuse_deep_lines(&text)?;
    let mut walk = Walk::new(&text);
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    for (event, range) in Parser::new_ext(&text, options).into_offset_iter() {
        walk.step(event, range)?;
        if walk.outline.is_too_long() {
            return Err(Reason::TooManyPassages);
        }
        if Instant::now() > deadline {
            return Err(Reason::TooSlow);
        }
    }
    let title = walk.title.take();
    let sections = walk.outline.finish(&text);
    Ok(Extracted { media_type: "text/markdown", title, text, sections })
}

/// Refuses a line that opens more quotes or list items than are followed, before the parser spends time on it.
fn refuse_deep_lines(text: &str) -> Result<(), Reason> {
    let is_marker = |byte: u8| matches!(byte, b'>' | b'-' | b'*' | b'+');
    let depth = |line: &str| {
        let (mut count, mut previous) = (0, b' ');
        for byte in line.bytes().take_while(|byte| is_marker(*byte) || *byte == b' ') {
            // Quotes nest without spaces between them, list items only with.
            count += usize::from(byte == b'>' || (byte != b' ' && previous == b' '));
            previous = byte;
        }
        count
    };
    if text.lines().any(|line| depth(line) > DEPTH_MAX && !is_rule(line)) {
        Err(Reason::TooDeep)
    } else {
        Ok(())
    }
}

/// Whether the line is a thematic break: one of `-`, `*` repeated, with or without spaces.
fn is_rule(line: &str) -> bool {
    ['-', '*'].iter().any(|mark| line.chars().all(|c| c == *mark || c == ' '))
}

struct Walk<'a> {
    text: &'a str,
    outline: Outline,
    title: Option<String>,
    depth: usize,
    /// The words of the heading that is open, at depth 1.
    heading: Option<String>,
    in_metadata: bool,
}

impl<'a> Walk<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, outline: Outline::default(), title: None, depth: 0, heading: None, in_metadata: false }
    }

    fn step(&mut self, event: Event<'_>, range: Range<usize>) -> Result<(), Reason> {
        match event {
            Event::Start(tag) => {
                self.open(&tag, range);
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err(Reason::TooDeep);
                }
            }
            Event::End(tag) => {
                self.depth -= 1;
                self.close(tag, range);
            }
            Event::Text(words) if self.in_metadata => self.read_metadata(&words),
            Event::Text(words) | Event::Code(words) => {
                if let Some(heading) = &mut self.heading {
                    heading.push_str(&words);
                }
            }
            Event::SoftBreak | Event::HardBreak => {
                if let Some(heading) = &mut self.heading {
                    heading.push(' ');
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, tag: &Tag<'_>, range: Range<usize>) {
        match tag {
            // A list's items are blocks of their own, so that a long list is cut between them.
            Tag::Item if self.depth == 1 => self.outline.block(self.text, range, Layout::Lines),
            _ if self.depth > 0 => {}
            Tag::Heading { .. } => self.heading = Some(String::new()),
            Tag::MetadataBlock(_) => self.in_metadata = true,
            Tag::Paragraph | Tag::FootnoteDefinition(_) | Tag::BlockQuote(_) => {
                self.outline.block(self.text, range, Layout::Prose);
            }
            Tag::CodeBlock(_) => self.outline.block(self.text, range, Layout::Lines),
            Tag::Table(_) => self.outline.block(self.text, range, Layout::Table),
            Tag::HtmlBlock if !self.text[range.clone()].trim_start().starts_with("<!--") => {
                self.outline.block(self.text, range, Layout::Lines);
            }
            _ => {}
        }
    }

    fn close(&mut self, tag: TagEnd, range: Range<usize>) {
        match tag {
            TagEnd::MetadataBlock(_) => self.in_metadata = false,
            TagEnd::Heading(level) if self.depth == 0 => {
                let text = self.heading.take().unwrap_or_default();
                if self.title.is_none() && level as u8 == 1 {
                    self.title = one_line(&text);
                }
                self.outline.heading(level as u8, self.text, &text, range);
            }
            _ => {}
        }
    }

    fn read_metadata(&mut self, words: &str) {
        let title = words.lines().find_map(|line| line.strip_prefix("title:"));
        if let Some(title) = title.and_then(|title| one_line(title.trim().trim_matches(['"', '\'']))) {
            self.title = Some(title);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extract(text: String) -> Result<Extracted, Reason> {
        super::extract(text, Instant::now() + std::time::Duration::from_secs(10))
    }

    fn outline(text: &str) -> Vec<(String, Vec<String>)> {
        let extracted = extract(text.to_owned()).unwrap();
        let block = |block: &super::super::Block| extracted.text[block.range.clone()].to_owned();
        extracted.sections.iter().map(|s| (s.heading.clone(), s.blocks.iter().map(block).collect())).collect()
    }

    #[test]
    fn headings_make_a_path_and_blocks_keep_their_source() {
        let text = "intro\n\n# Guide\n\nFirst *part*.\n\n## Steps\n\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n# End\nbye\n";
        let expected = [
            ("", vec!["intro"]),
            ("Guide", vec!["First *part*."]),
            ("Guide > Steps", vec!["- one", "- two", "| a | b |\n|---|---|\n| 1 | 2 |"]),
            ("End", vec!["bye"]),
        ];
        let expected =
            expected.map(|(h, b)| (h.to_owned(), b.into_iter().map(str::to_owned).collect::<Vec<_>>()));
        assert_eq!(outline(text), expected);
        assert_eq!(extract(text.to_owned()).unwrap().title.as_deref(), Some("Guide"));
    }

    #[test]
    fn a_heading_with_nothing_below_is_text_itself() {
        let expected =
            [("A > B".to_owned(), vec!["## B".to_owned()]), ("A > C".to_owned(), vec!["## C".to_owned()])];
        assert_eq!(outline("# A\n\n## B\n\n## C\n"), expected);
    }

    #[test]
    fn front_matter_gives_the_title_and_comments_are_left_out() {
        let text = "---\ntitle: \"The plan\"\n---\n\n<!-- draft -->\n\n# Other\n\nbody\n";
        assert_eq!(extract(text.to_owned()).unwrap().title.as_deref(), Some("The plan"));
        assert_eq!(outline(text), [("Other".to_owned(), vec!["body".to_owned()])]);
    }

    #[test]
    fn deep_nesting_fails_and_long_rules_do_not() {
        assert_eq!(extract(">".repeat(100_000) + " x").unwrap_err(), Reason::TooDeep);
        assert_eq!(extract("- ".repeat(100_000) + "x").unwrap_err(), Reason::TooDeep);
        let stairs: String = (0..400).map(|i| " ".repeat(2 * i) + "- x\n").collect();
        assert_eq!(extract(stairs).unwrap_err(), Reason::TooDeep);
        assert!(extract(format!("a\n\n{}\n\nb", "- ".repeat(500))).is_ok());
        assert!(extract(format!("a\n\n{}\n\nb", "-".repeat(5000))).is_ok());
    }

    #[test]
    fn hostile_markup_is_read_within_the_deadline() {
        for unit in ["[", "*", "`", "![", "<", "*a_ ", "[a](", "&", "\\", "|", "a**b", "<!--", "$"] {
            let result = extract(unit.repeat(200_000 / unit.len()));
            assert_ne!(result.err(), Some(Reason::TooSlow), "{unit}");
        }
    }
}
