//! Cuts a passage into what can be quoted by itself: sentences, list items, table rows.

use unicode_segmentation::UnicodeSegmentation;

/// The longest quote in characters; a longer sentence is cut at a word.
const QUOTE_CHARS_MAX: usize = 420;

/// The shortest sentence in words; less is a label or a fragment.
const QUOTE_WORDS_MIN: usize = 3;

/// Returns the quotable sentences of `passage` in reading order.
///
/// Lines of one paragraph are joined, list items and table rows stand alone, headings and rules are left out. A line
/// that introduces a list ("You need:") stays with its first items.
pub fn split(passage: &str) -> Vec<String> {
    let mut sentences: Vec<String> = Vec::new();
    for block in blocks(passage) {
        for sentence in block.unicode_sentences().map(str::trim).filter(|sentence| !sentence.is_empty()) {
            match sentences.last_mut() {
                Some(last) if last.ends_with(':') && last.chars().count() < QUOTE_CHARS_MAX / 2 => {
                    last.push(' ');
                    last.push_str(sentence);
                }
                _ => sentences.push(sentence.to_owned()),
            }
        }
    }
    sentences.retain(|sentence| sentence.unicode_words().nth(QUOTE_WORDS_MIN - 1).is_some());
    sentences.into_iter().map(shorten).collect()
}

/// Joins the lines of each paragraph; every list item is a block of its own, and so is every row of a table, its cells
/// named by the table's first row.
fn blocks(passage: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut open = false;
    let mut columns: Option<Vec<&str>> = None;
    for line in passage.lines().map(str::trim) {
        if let Some(row) = line.strip_prefix('|') {
            open = false;
            let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
            match &columns {
                _ if is_rule(line) => {}
                None => columns = Some(cells),
                Some(columns) => blocks.push(table_row(columns, &cells)),
            }
            continue;
        }
        columns = None;
        if line.is_empty() || line.starts_with('#') || is_rule(line) {
            open = false;
        } else if let Some(item) = list_item(line) {
            blocks.push(item.to_owned());
            open = true;
        } else {
            let line = line.trim_start_matches('>').trim_start();
            match blocks.last_mut().filter(|_| open) {
                Some(block) => {
                    block.push(' ');
                    block.push_str(line);
                }
                None => blocks.push(line.to_owned()),
            }
            open = true;
        }
    }
    blocks
}

fn table_row(columns: &[&str], cells: &[&str]) -> String {
    let named = cells.iter().enumerate().filter(|(_, cell)| !cell.is_empty()).map(|(index, cell)| {
        match columns.get(index).filter(|column| !column.is_empty()) {
            Some(column) => format!("{column}: {cell}"),
            None => (*cell).to_owned(),
        }
    });
    named.collect::<Vec<_>>().join("; ")
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

fn shorten(sentence: String) -> String {
    let Some((cut, _)) = sentence.char_indices().nth(QUOTE_CHARS_MAX) else { return sentence };
    let head = &sentence[..cut];
    let end = head.rfind(' ').unwrap_or(cut);
    format!("{}…", head[..end].trim_end_matches([',', ';', ':']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_lines_are_one_sentence() {
        assert_eq!(
            split("The office opens\nat nine. It closes at five."),
            ["The office opens at nine.", "It closes at five.",]
        );
    }

    #[test]
    fn headings_and_rules_are_left_out() {
        assert_eq!(split("# Opening hours\n\n---\nThe office opens at nine."), ["The office opens at nine."]);
    }

    #[test]
    fn list_items_stand_alone_but_stay_with_their_introduction() {
        let sentences = split("You need:\n- a passport that is valid\n- two photos of yourself\n");
        assert_eq!(sentences, ["You need: a passport that is valid", "two photos of yourself"]);
    }

    #[test]
    fn the_cells_of_a_table_row_are_named_by_its_columns() {
        let table = "Limits:\n\n| City | Per night |\n|---|---|\n| Paris | 180 EUR |\n| Rome | |\n\nAsk first, please.";
        assert_eq!(split(table), ["Limits: City: Paris; Per night: 180 EUR", "Ask first, please."]);
    }

    #[test]
    fn a_sentence_over_the_limit_is_cut_at_a_word() {
        let sentence = "word ".repeat(QUOTE_CHARS_MAX);
        let cut = split(&sentence).remove(0);
        assert!(cut.ends_with("word…"));
        assert!(cut.chars().count() <= QUOTE_CHARS_MAX);
    }

    #[test]
    fn fragments_and_nothing_give_no_sentence() {
        assert!(split("").is_empty());
        assert!(split("Page 3").is_empty());
    }
}
