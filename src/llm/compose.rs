//! Writes chosen quotes down: a paragraph for each passage, with where it is from.

use std::collections::{HashMap, HashSet};

use super::Source;
use super::sentences::{Quote, Table};
use super::words::terms;

/// Characters of a table's cells at most; of a longer one only the rows that fit the question best are quoted.
const TABLE_CHARS_MAX: usize = 900;

/// What stands between the headings of a path.
const HEADING_SEPARATOR: &str = " > ";

/// A quote that was chosen.
#[derive(Debug)]
pub struct Chosen {
    /// Index of its passage in the prompt's sources.
    pub source: usize,
    /// Index of the quote in its passage.
    pub position: usize,
    /// What is quoted.
    pub quote: Quote,
}

/// Writes one paragraph for each run of quotes from the same passage, its tables below it.
///
/// * `weights`: what the question's words weigh, for the rows of long tables.
pub fn compose(sources: &[Source], chosen: &[Chosen], weights: &HashMap<String, f32>) -> String {
    let mut text = String::new();
    for group in chosen.chunk_by(|a, b| a.source == b.source) {
        let index = group[0].source;
        let prose = prose(group);
        text.push_str(&without_markers(&place(&sources[index])));
        if prose.is_empty() {
            text.push_str(&format!(" [{}]:\n\n", index + 1));
        } else {
            text.push_str(&format!(": “{prose}” [{}]\n\n", index + 1));
        }
        for chosen in group {
            if let Quote::Table(table) = &chosen.quote {
                text.push_str(&without_markers(&lines(table, weights)));
                text.push('\n');
            }
        }
    }
    text
}

/// Where a passage is: the title and, in parentheses, the headings. A document's first heading is often its title.
fn place(Source { title, heading, .. }: &Source) -> String {
    let below = match heading.strip_prefix(title.as_str()) {
        Some("") => "",
        Some(rest) => rest.strip_prefix(HEADING_SEPARATOR).unwrap_or(heading),
        None => heading,
    };
    if below.is_empty() { title.clone() } else { format!("{title} ({below})") }
}

/// Joins what is quoted of a passage's prose; an ellipsis stands for what is left out.
fn prose(group: &[Chosen]) -> String {
    let mut text = String::new();
    let mut last = None;
    for chosen in group {
        let Quote::Prose(sentence) = &chosen.quote else { continue };
        if let Some(last) = last {
            text.push_str(if chosen.position == last + 1 { " " } else { " … " });
        }
        last = Some(chosen.position);
        text.push_str(&without_markers(sentence));
    }
    text
}

/// Writes a table's rows as Markdown.
fn lines(table: &Table, weights: &HashMap<String, f32>) -> String {
    let mut text = String::new();
    if !table.head.is_empty() {
        text.push_str(&line(&table.head));
        text.push_str(&line(&vec!["---".to_owned(); table.head.len()]));
    }
    for row in rows(table, weights) {
        text.push_str(&line(row));
    }
    text
}

fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

/// The rows that are quoted, in order: all of them, or of a long table those that have most of the question's words.
fn rows<'a>(table: &'a Table, weights: &HashMap<String, f32>) -> Vec<&'a Vec<String>> {
    let worth = |row: &[String]| -> f32 {
        let words: HashSet<String> = terms(&row.join(" ")).into_iter().collect();
        words.iter().filter_map(|word| weights.get(word)).sum()
    };
    let mut best: Vec<(usize, f32)> = table.rows.iter().map(|row| worth(row)).enumerate().collect();
    best.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut chars = 0;
    let mut kept: Vec<usize> = Vec::new();
    for (index, _) in best {
        chars += table.rows[index].iter().map(|cell| cell.chars().count()).sum::<usize>();
        if chars > TABLE_CHARS_MAX && !kept.is_empty() {
            break;
        }
        kept.push(index);
    }
    kept.sort_unstable();
    kept.into_iter().map(|index| &table.rows[index]).collect()
}

/// Drops `[12]` and the like from quoted text, which would read as citations of ours.
fn without_markers(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('[') {
        let inner = &rest[start + 1..];
        let end = inner.find(|c: char| !c.is_ascii_digit() && c != ',' && c != ' ').unwrap_or(inner.len());
        if end > 0 && inner[end..].starts_with(']') {
            kept.push_str(rest[..start].trim_end());
            rest = &inner[end + 1..];
        } else {
            kept.push_str(&rest[..=start]);
            rest = inner;
        }
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[&str; 2]]) -> Table {
        let rows = rows.iter().map(|cells| cells.map(str::to_owned).to_vec()).collect();
        Table { head: ["City", "Per night"].map(str::to_owned).to_vec(), rows }
    }

    fn written(heading: &str, quotes: Vec<Quote>, question: &str) -> String {
        let sources =
            [Source { title: "Travel policy".into(), heading: heading.into(), ..Source::default() }];
        let chosen: Vec<Chosen> = quotes
            .into_iter()
            .enumerate()
            .map(|(position, quote)| Chosen { source: 0, position, quote })
            .collect();
        compose(&sources, &chosen, &terms(question).into_iter().map(|term| (term, 1.0)).collect())
    }

    #[test]
    fn a_table_is_written_below_its_label() {
        assert_eq!(
            written("Hotels", vec![Quote::Table(table(&[["Paris", "180 EUR"]]))], "hotel"),
            "Travel policy (Hotels) [1]:\n\n| City | Per night |\n| --- | --- |\n| Paris | 180 EUR |\n\n"
        );
    }

    #[test]
    fn a_table_follows_the_sentences_of_its_passage() {
        let quotes = vec![Quote::Prose("Limits hold.".into()), Quote::Table(table(&[["Rome", "90 EUR"]]))];
        let text = written("", quotes, "limit");
        assert!(text.starts_with("Travel policy: “Limits hold.” [1]\n\n| City |"), "{text}");
    }

    #[test]
    fn the_rows_of_a_long_table_that_fit_are_quoted_in_order() {
        let filler = "filler ".repeat(50);
        let rows = [["Oslo", filler.as_str()], ["Rome", "90"], ["Bonn", &filler], ["Paris", &filler]];
        let text = written("", vec![Quote::Table(table(&rows))], "Paris or Rome");
        assert!(text.contains("| City | Per night |") && !text.contains("Bonn"), "{text}");
        assert!(text.find("Rome").unwrap() < text.find("Paris").unwrap(), "{text}");
    }

    #[test]
    fn the_title_is_said_once_where_the_headings_begin_with_it() {
        let place_of = |heading: &str| {
            place(&Source { title: "Security".into(), heading: heading.into(), ..Source::default() })
        };
        assert_eq!(place_of("Security > Backups > Tapes"), "Security (Backups > Tapes)");
        assert_eq!((place_of("Security"), place_of("")), ("Security".into(), "Security".into()));
        assert_eq!(place_of("Security of buildings"), "Security (Security of buildings)");
    }

    #[test]
    fn numbers_in_brackets_of_a_quote_are_not_citations() {
        assert_eq!(
            without_markers("Water boils [3] at 100 °C [4, 5]. See [a] and x[i]."),
            "Water boils at 100 °C. See [a] and x[i]."
        );
    }
}
