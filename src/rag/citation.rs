//! Checks citations while an answer streams: `[n]` stays only if source `n` was in the prompt.

/// The longest run of characters that may still become a citation, such as `[12, 13, 14]`.
const PENDING_CHARS_MAX: usize = 32;

/// Reads an answer piece by piece and takes out the citations of sources that do not exist.
///
/// `[2]` and `[1, 3]` are citations. A piece may end inside one; what could still become one is held back until the
/// next piece decides it.
#[derive(Debug)]
pub struct CitationFilter {
    source_count: usize,
    cited: Vec<usize>,
    pending: String,
}

/// What a piece came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Text to send; may be empty.
    pub text: String,
    /// Sources cited here for the first time, counted from 1, in order.
    pub cited: Vec<usize>,
}

impl CitationFilter {
    /// Makes a filter for an answer over sources `1 ..= source_count`.
    pub fn new(source_count: usize) -> Self {
        Self { source_count, cited: Vec::new(), pending: String::new() }
    }

    /// Takes the next piece and returns what is now decided.
    pub fn push(&mut self, piece: &str) -> Checked {
        let mut checked = Checked::default();
        for c in piece.chars() {
            self.step(c, &mut checked);
        }
        checked
    }

    /// Returns what was held back when the answer ends.
    pub fn finish(&mut self) -> Checked {
        Checked { text: std::mem::take(&mut self.pending), cited: Vec::new() }
    }

    fn step(&mut self, c: char, checked: &mut Checked) {
        let is_open = self.pending.contains('[');
        match c {
            // A space before a citation goes with it when it is dropped.
            ' ' if !is_open => {
                checked.text.push_str(&std::mem::take(&mut self.pending));
                self.pending.push(c);
            }
            '[' => {
                if is_open {
                    checked.text.push_str(&std::mem::take(&mut self.pending));
                }
                self.pending.push(c);
            }
            ']' if is_open => {
                self.pending.push(c);
                self.decide(checked);
            }
            '0'..='9' | ',' | ' ' if is_open && self.pending.len() < PENDING_CHARS_MAX => {
                self.pending.push(c)
            }
            _ => {
                checked.text.push_str(&std::mem::take(&mut self.pending));
                checked.text.push(c);
            }
        }
    }

    /// Decides over a complete `[…]` of digits, commas and spaces.
    fn decide(&mut self, checked: &mut Checked) {
        let pending = std::mem::take(&mut self.pending);
        let (space, marker) = pending.split_at(pending.find('[').unwrap_or(0));
        let inner = &marker[1..marker.len() - 1];
        let numbers: Vec<&str> =
            inner.split(',').map(str::trim).filter(|number| !number.is_empty()).collect();
        if numbers.is_empty() {
            checked.text.push_str(&pending);
            return;
        }
        let known: Vec<usize> = numbers
            .iter()
            .filter_map(|number| number.parse().ok())
            .filter(|n| (1..=self.source_count).contains(n))
            .collect();
        if known.is_empty() {
            return;
        }
        for n in &known {
            if !self.cited.contains(n) {
                self.cited.push(*n);
                checked.cited.push(*n);
            }
        }
        let written: Vec<String> = known.iter().map(usize::to_string).collect();
        checked.text.push_str(&format!("{space}[{}]", written.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(sources: usize, pieces: &[&str]) -> (String, Vec<usize>) {
        let mut filter = CitationFilter::new(sources);
        let mut text = String::new();
        let mut cited = Vec::new();
        for piece in pieces {
            let checked = filter.push(piece);
            text.push_str(&checked.text);
            cited.extend(checked.cited);
        }
        text.push_str(&filter.finish().text);
        (text, cited)
    }

    #[test]
    fn a_known_source_stays_and_is_reported_once() {
        assert_eq!(
            run(2, &["Yes [1]. No [2], and again [1]."]),
            ("Yes [1]. No [2], and again [1].".into(), vec![1, 2])
        );
    }

    #[test]
    fn an_unknown_source_is_dropped_with_its_space() {
        assert_eq!(run(2, &["Yes [3]. No [0] way [99999999999999999999]."]), ("Yes. No way.".into(), vec![]));
    }

    #[test]
    fn a_list_keeps_its_known_sources() {
        assert_eq!(run(3, &["Both [1,3, 9]."]), ("Both [1, 3].".into(), vec![1, 3]));
    }

    #[test]
    fn other_brackets_are_text() {
        for text in ["a[i] = [x]", "[]", "[ ]", "[[1", "[1", "[not a citation", "end ", "["] {
            assert_eq!(run(1, &[text]).0, text);
        }
        assert_eq!(run(1, &["[[1]]"]), ("[[1]]".into(), vec![1]));
    }

    proptest! {
        #[test]
        fn where_the_answer_is_cut_makes_no_difference(
            text in "[a\\[\\]0-3, ]{0,40}",
            cuts in proptest::collection::vec(0usize..40, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(run(2, &pieces), run(2, &[&text]));
        }
    }
}
