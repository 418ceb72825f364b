//! An immutable inverted index: which rows contain a term, how often, and how long each row is.
//!
//! Terms lie sorted in one string, lists in one byte array as pairs of row distance and frequency (about 2 bytes a pair
//! where a struct would take 8).

use std::collections::BTreeMap;

use super::tokenize;

/// One (row, frequency) pair.
type Posting = (u32, u32);

/// The terms of one segment.
#[derive(Debug, Clone, Default)]
pub(super) struct Postings {
    /// All terms, sorted, one after the other.
    terms: String,
    lists: Vec<List>,
    encoded: Vec<u8>,
    /// Terms per row, repeats included.
    lengths: Vec<u32>,
    pairs: usize,
}

/// Where a term and its list end, and how many rows the list has.
#[derive(Debug, Clone, Copy)]
struct List {
    term_end: u32,
    encoded_end: u32,
    rows: u32,
}

impl Postings {
    /// Tokenises `texts`, row by row.
    pub fn build<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut lists: BTreeMap<String, Vec<Posting>> = BTreeMap::new();
        let mut lengths = Vec::new();
        for (row, text) in texts.enumerate() {
            let row = number(row);
            let mut length = 0;
            tokenize::terms(text, |term| {
                length += 1;
                match lists.get_mut(term) {
                    Some(list) => match list.last_mut() {
                        Some((last, frequency)) if *last == row => *frequency += 1,
                        _ => list.push((row, 1)),
                    },
                    None => drop(lists.insert(term.to_owned(), vec![(row, 1)])),
                }
            });
            lengths.push(length);
        }
        let mut postings = Self { lengths, ..Self::default() };
        for (term, list) in &lists {
            postings.push(term, list);
        }
        postings.shrink();
        postings
    }

    /// Joins several indexes. `rows[i]` maps the rows of `parts[i]`: the new row, or `None` to drop it; the new rows are
    /// 0 to `count` - 1.
    pub fn merge(parts: &[&Self], rows: &[Vec<Option<u32>>], count: usize) -> Self {
        let mut merged = Self { lengths: vec![0; count], ..Self::default() };
        for (part, rows) in parts.iter().zip(rows) {
            for (length, row) in part.lengths.iter().zip(rows) {
                if let Some(row) = row {
                    merged.lengths[*row as usize] = *length;
                }
            }
        }
        let mut terms: Vec<(&str, usize, usize)> = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            terms.extend((0..part.lists.len()).map(|list| (part.term(list), i, list)));
        }
        // Stable and adaptive: every part's terms are a sorted run already.
        terms.sort();
        let mut list = Vec::new();
        for same in terms.chunk_by(|a, b| a.0 == b.0) {
            list.clear();
            for (_, part, index) in same {
                let rows = &rows[*part];
                list.extend(
                    parts[*part].iter(*index).filter_map(|(row, often)| Some((rows[row as usize]?, often))),
                );
            }
            list.sort_unstable();
            merged.push(same[0].0, &list);
        }
        merged.shrink();
        merged
    }

    /// Finds a term's list.
    pub fn find(&self, term: &str) -> Option<usize> {
        let index = self.partition_point(|index| self.term(index) < term);
        (index < self.lists.len() && self.term(index) == term).then_some(index)
    }

    /// Rows in a list, tombstones included.
    pub fn rows_in(&self, list: usize) -> usize {
        self.lists[list].rows as usize
    }

    /// Returns the (row, frequency) pairs of a list, rows ascending.
    pub fn iter(&self, list: usize) -> impl Iterator<Item = Posting> + '_ {
        let start = if list == 0 { 0 } else { self.lists[list - 1].encoded_end };
        let mut rest = &self.encoded[start as usize..self.lists[list].encoded_end as usize];
        let mut row = 0;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            row += take_number(&mut rest);
            Some((row, take_number(&mut rest)))
        })
    }

    /// Terms in a row, repeats included.
    pub fn length(&self, row: usize) -> u32 {
        self.lengths[row]
    }

    /// Terms in all rows, repeats and tombstones included.
    pub fn length_sum(&self) -> u64 {
        self.lengths.iter().map(|length| u64::from(*length)).sum()
    }

    /// Stored (term, row) pairs.
    pub fn pairs(&self) -> usize {
        self.pairs
    }

    /// Heap bytes.
    pub fn bytes(&self) -> usize {
        self.terms.capacity()
            + self.encoded.capacity()
            + self.lists.capacity() * size_of::<List>()
            + self.lengths.capacity() * size_of::<u32>()
    }

    fn term(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.lists[index - 1].term_end };
        &self.terms[start as usize..self.lists[index].term_end as usize]
    }

    /// Binary search over the indexes of the lists.
    fn partition_point(&self, before: impl Fn(usize) -> bool) -> usize {
        let (mut low, mut high) = (0, self.lists.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if before(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Appends a term, greater than those before it, unless no row has it.
    fn push(&mut self, term: &str, list: &[Posting]) {
        if list.is_empty() {
            return;
        }
        let mut last = 0;
        for (row, frequency) in list {
            put_number(&mut self.encoded, row - last);
            put_number(&mut self.encoded, *frequency);
            last = *row;
        }
        self.terms.push_str(term);
        self.pairs += list.len();
        self.lists.push(List {
            term_end: number(self.terms.len()),
            encoded_end: number(self.encoded.len()),
            rows: number(list.len()),
        });
    }

    fn shrink(&mut self) {
        self.terms.shrink_to_fit();
        self.lists.shrink_to_fit();
        self.encoded.shrink_to_fit();
    }
}

/// Appends a number, 7 bits per byte, lowest first, the top bit set on all but the last.
fn put_number(bytes: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

fn take_number(bytes: &mut &[u8]) -> u32 {
    let (mut value, mut shift) = (0, 0);
    while let Some((byte, rest)) = bytes.split_first() {
        *bytes = rest;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
    }
    value
}

/// Rows and offsets of one segment as 32 bits.
fn number(value: usize) -> u32 {
    u32::try_from(value).expect("a segment is split long before its postings reach 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(postings: &Postings, term: &str) -> Vec<Posting> {
        postings.find(term).map(|list| postings.iter(list).collect()).unwrap_or_default()
    }

    #[test]
    fn a_term_lists_its_rows_with_frequencies() {
        let postings = Postings::build(["red red blue", "", "blue"].into_iter());
        assert_eq!(rows(&postings, "red"), [(0, 2)]);
        assert_eq!(rows(&postings, "blue"), [(0, 1), (2, 1)]);
        assert_eq!(rows(&postings, "green"), []);
        assert_eq!((postings.length(0), postings.length(1), postings.length_sum()), (3, 0, 4));
    }

    #[test]
    fn merging_equals_building_from_what_is_left() {
        let left = Postings::build(["red blue", "gone only"].into_iter());
        let right = Postings::build(["blue blue", "red"].into_iter());
        let merged = Postings::merge(&[&left, &right], &[vec![Some(1), None], vec![Some(0), Some(2)]], 3);
        let built = Postings::build(["blue blue", "red blue", "red"].into_iter());
        assert_eq!(merged.terms, built.terms);
        assert_eq!(merged.encoded, built.encoded);
        assert_eq!(merged.lengths, built.lengths);
        assert_eq!(merged.pairs(), built.pairs());
    }

    #[test]
    fn numbers_of_every_size_survive() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u32::MAX] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, value);
            let mut rest = bytes.as_slice();
            assert_eq!(take_number(&mut rest), value);
            assert!(rest.is_empty());
        }
    }
}
