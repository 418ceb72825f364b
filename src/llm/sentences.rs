//! Cuts a passage into what can be quoted by itself: sentences, list items, tables.

use unicode_segmentation::UnicodeSegmentation;

/// The longest quote of prose in characters; a longer sentence is cut at a word.
const QUOTE_CHARS_MAX: usize = 420;

/// The shortest sentence in words; less is a label or a fragment.
const QUOTE_WORDS_MIN: usize = 3;

/// What can be quoted by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quote {
    /// A sentence or a list item on one line.
    Prose(String),
    /// A table: a row by itself says nothing without its head.
    Table(Table),
}

/// Rows with their cells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// What the columns are; empty where the table's beginning is in another passage.
    pub head: Vec<String>,
    /// The other rows in order.
    pub rows: Vec<Vec<String>>,
}

impl Quote {
    /// The words in it, for comparing: a table's rows are lines.
    pub fn text(&self) -> String {
        match self {
            Self::Prose(text) => text.clone(),
            Self::Table(table) => {
                let rows = std::iter::once(&table.head).chain(&table.rows).filter(|row| !row.is_empty());
                rows.map(|row| row.join(", ")).collect::<Vec<_>>().join("\n")
            }
        }
    }
}

/// Returns the texts of what can be quoted of `passage`, in reading order.
pub fn sentences(passage: &str) -> Vec<String> {
    split(passage).iter().map(Quote::text).collect()
}

/// Returns what can be quoted of `passage`, in reading order.
///
/// Lines of one paragraph are joined, list items stand alone, tables stay whole, headings and rules are left out. What
/// introduces a list ("You need:") stays with all of its items, or with the first if they are long.
pub fn split(passage: &str) -> Vec<Quote> {
    let mut quotes: Vec<Quote> = Vec::new();
    let mut blocks = blocks(passage).into_iter().peekable();
    while let Some(block) = blocks.next() {
        match block {
            // A line of a shell's pipe looks like a row.
            Block::Table(table) if table.head.is_empty() && table.rows.len() == 1 => {
                quotes.push(Quote::Prose(table.rows[0].join(" | ")));
            }
            Block::Table(table) => quotes.push(Quote::Table(table)),
            Block::Paragraph(text) => {
                let mut sentences: Vec<String> = text
                    .unicode_sentences()
                    .map(str::trim)
                    .filter(|s| !s.is_empty())
                    .map(str::to_owned)
                    .collect();
                if let Some(last) = sentences.last_mut().filter(|last| last.ends_with(':')) {
                    while let Some(Block::Item(item)) =
                        blocks.next_if(|next| matches!(next, Block::Item(item) if fits(last, item)))
                    {
                        last.push_str(if last.ends_with(':') { " " } else { "; " });
                        last.push_str(item.trim_end_matches([';', ',']));
                    }
                }
                quotes.extend(sentences.into_iter().map(Quote::Prose));
            }
            Block::Item(text) => {
                quotes.extend(
                    text.unicode_sentences().map(|sentence| Quote::Prose(sentence.trim().to_owned())),
                );
            }
        }
    }
    quotes.retain(|quote| match quote {
        Quote::Prose(text) => text.unicode_words().nth(QUOTE_WORDS_MIN - 1).is_some(),
        Quote::Table(table) => !table.rows.is_empty(),
    });
    for quote in &mut quotes {
        if let Quote::Prose(text) = quote {
            shorten(text);
        }
    }
    quotes
}

/// Whether a list's item still fits behind what stands before it. The first one always does.
fn fits(before: &str, item: &str) -> bool {
    before.ends_with(':') || before.chars().count() + item.chars().count() <= QUOTE_CHARS_MAX
}

/// A piece of a passage's layout.
enum Block {
    Paragraph(String),
    Item(String),
    Table(Table),
}

/// Joins the lines of each paragraph and list item and the rows of each table.
fn blocks(passage: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    // Whether the next line goes on with the last block.
    let mut open = false;
    for line in passage.lines().map(str::trim) {
        if let Some(row) = row(line) {
            match blocks.last_mut().filter(|_| open) {
                Some(Block::Table(table)) => table.rows.push(row),
                _ => blocks.push(Block::Table(Table { head: Vec::new(), rows: vec![row] })),
            }
            open = true;
        } else if is_rule(line) && line.contains('|') {
            // Below the first row only, where it says that this row is the head.
            if let Some(Block::Table(table)) = blocks.last_mut().filter(|_| open)
                && table.head.is_empty()
                && table.rows.len() == 1
            {
                table.head = table.rows.remove(0);
            }
        } else if line.is_empty() || line.starts_with('#') || is_rule(line) {
            open = false;
        } else if let Some(item) = list_item(line) {
            blocks.push(Block::Item(item.to_owned()));
            open = true;
        } else {
            let line = line.trim_start_matches('>').trim_start();
            match blocks.last_mut().filter(|_| open) {
                Some(Block::Paragraph(text) | Block::Item(text)) => {
                    text.push(' ');
                    text.push_str(line);
                }
                _ => blocks.push(Block::Paragraph(line.to_owned())),
            }
            open = true;
        }
    }
    blocks
}

/// The cells of a table's row: `| a | b |` as in Markdown, `a | b` as tables of web pages are extracted.
fn row(line: &str) -> Option<Vec<String>> {
    let is_row = (line.starts_with('|') || line.contains(" | ")) && !is_rule(line);
    let line = line.strip_prefix('|').unwrap_or(line);
    let line = line.strip_suffix('|').unwrap_or(line);
    is_row.then(|| line.split('|').map(|cell| cell.trim().to_owned()).collect())
}

/// Whether the line only draws: a table's separator, a thematic break, an underline of a heading.
fn is_rule(line: &str) -> bool {
    line.chars().all(|c| matches!(c, '-' | '=' | '_' | '*' | '|' | ':' | '+' | ' ' | '`' | '~'))
}

/// The text of a list item without its bullet or number.
fn list_item(line: &str) -> Option<&str> {
    if let Some(item) = ["- ", "* ", "+ ", "• "].iter().find_map(|bullet| line.strip_prefix(bullet)) {
        return Some(item.trim());
    }
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = line.len() - rest.len();
    let item = rest.strip_prefix(". ").or_else(|| rest.strip_prefix(") "))?;
    (1..=3).contains(&digits).then(|| item.trim())
}

fn shorten(sentence: &mut String) {
    let Some((cut, _)) = sentence.char_indices().nth(QUOTE_CHARS_MAX) else { return };
    let end = sentence[..cut].rfind(' ').unwrap_or(cut);
    sentence.truncate(end);
    sentence.truncate(sentence.trim_end_matches([',', ';', ':']).len());
    sentence.push('…');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_lines_are_one_sentence() {
        assert_eq!(
            sentences("The office opens\nat nine. It closes at five."),
            ["The office opens at nine.", "It closes at five.",]
        );
    }

    #[test]
    fn headings_and_rules_are_left_out() {
        assert_eq!(
            sentences("# Opening hours\n\n---\nThe office opens at nine."),
            ["The office opens at nine."]
        );
    }

    #[test]
    fn a_list_stays_with_its_introduction() {
        let list = "Please apply here. You need:\n- a passport;\n- two photos of\n  yourself\n\nNothing else is needed.";
        let expected =
            ["Please apply here. You need: a passport; two photos of yourself", "Nothing else is needed."];
        assert_eq!(sentences(list).join(" "), expected.join(" "));
        assert_eq!(sentences(list).last().unwrap(), expected[1]);
    }

    #[test]
    fn items_of_a_long_list_stand_alone() {
        let item = format!("- {}\n", "word ".repeat(60));
        let sentences = sentences(&format!("You need:\n{}", item.repeat(3)));
        assert_eq!(sentences.len(), 3);
        assert!(sentences[0].starts_with("You need: word") && sentences[1].starts_with("word"));
    }

    #[test]
    fn a_table_is_one_quote_with_its_head() {
        let quotes =
            split("Limits are these.\n\n| City | Per night |\n|---|:--|\n| Paris | 180 EUR |\n| Rome | |");
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let table = Table {
            head: row(["City", "Per night"]),
            rows: vec![row(["Paris", "180 EUR"]), row(["Rome", ""])],
        };
        assert_eq!(quotes, [Quote::Prose("Limits are these.".into()), Quote::Table(table)]);
        assert_eq!(quotes[1].text(), "City, Per night\nParis, 180 EUR\nRome, ");
    }

    #[test]
    fn a_table_of_a_web_page_has_no_head() {
        let quotes = split("City | Per night\nParis | 180 EUR");
        assert!(
            matches!(&quotes[..], [Quote::Table(table)] if table.head.is_empty() && table.rows.len() == 2)
        );
    }

    #[test]
    fn a_sentence_over_the_limit_is_cut_at_a_word() {
        let sentence = "word ".repeat(QUOTE_CHARS_MAX);
        let cut = sentences(&sentence).remove(0);
        assert!(cut.ends_with("word…"));
        assert!(cut.chars().count() <= QUOTE_CHARS_MAX);
    }

    #[test]
    fn fragments_and_nothing_give_no_quote() {
        assert!(split("").is_empty());
        assert!(split("Page 3").is_empty());
        assert!(split("| City | Per night |\n|---|---|").is_empty());
    }
}
