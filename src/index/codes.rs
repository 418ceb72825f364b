//! Vectors as integers that are read in three precisions, most significant bits first.
//!
//! A unit vector's components become 24-bit integers times one scale per vector. Their bits are stored in planes: the top
//! 4 bits of all rows side by side (what a scan reads), the next 4 and the last 16 bits apart (what a few rows need). A
//! score from the top bits differs from the full score by at most the length of what was left out (Cauchy-Schwarz), and
//! that length is stored per row. So a row whose upper bound is below the k-th best full score known so far is left out
//! with proof, and the k best are exactly those of scoring every row in full.
//!
//! A full score differs from the cosine of the float vectors by at most `√dimension / 2^24` (384 dimensions: 1.2e-6 when a
//! vector is a single spike, 2e-7 for a sentence's, 1e-8 on average): what summing floats loses too. With 16 bits
//! (2e-6 on average) about one query in 500 over 100,000 vectors swapped its tenth hit with its eleventh.
//!
//! Cost per vector of 384 dimensions: 192 + 192 + 768 bytes and three floats, against 1,536 bytes of the floats alone.
//! Only the first 192 are read for every row, so the others can move to a mapped file, and a graph over the same planes
//! can replace [`Codes::scan`] for large segments.

use super::coded_query::{CodedQuery, narrow};
use super::kernel::{self, CODE_OFFSET, LINE_DIMENSIONS, Line, Planes};

/// Largest magnitude of a code; they are stored with [`CODE_OFFSET`] added, as 24 bits without a sign.
const CODE_MAX: f64 = 8_388_607.0;
/// Bits below the top 4, and below the top 8.
const TOP_SHIFT: u32 = 20;
const MIDDLE_SHIFT: u32 = 16;
/// Lines of [`Codes::rest`] per line of [`Codes::top`]: two for each of the last two bytes.
const REST_LINES: usize = 4;
/// Where more than one of this many rows are promising, their middle bits are read as a run with the others in between:
/// scattered reads wait for memory, runs do not.
const SPARSE_FACTOR: usize = 8;
/// Rows whose products are computed before their bounds are looked at: their integers stay in the first-level cache.
const BLOCK_ROWS: usize = 256;

/// The coded vectors of one segment, by row.
#[derive(Debug, Clone)]
pub(super) struct Codes {
    /// Lines per row in `top`.
    lines: usize,
    /// The top 4 bits: `lines` lines per row.
    top: Vec<Line>,
    /// The next 4 bits: `lines` lines per row.
    middle: Vec<Line>,
    /// In natural order the second byte, then the last byte of the codes: `2 lines` lines each per row.
    rest: Vec<Line>,
    /// Value of one unit of a row's codes; 0 in a row without a vector.
    scales: Vec<f32>,
    /// Length of what the top 4 bits leave out; minus infinity in a row without a vector, so that no bound reaches it.
    top_errors: Vec<f32>,
    /// Length of what the top 8 bits leave out.
    middle_errors: Vec<f32>,
    /// Rows that have a vector.
    vectors: usize,
}

/// What a scan notes about the rows that it works on at once.
struct Block {
    dots: [i32; BLOCK_ROWS],
    middle_dots: [i32; BLOCK_ROWS],
    /// Highest score that a row can have, where it was computed.
    bounds: [f64; BLOCK_ROWS],
    /// Rows that may still reach the threshold.
    promising: Vec<usize>,
}

impl Default for Block {
    fn default() -> Self {
        Self {
            dots: [0; BLOCK_ROWS],
            middle_dots: [0; BLOCK_ROWS],
            bounds: [0.0; BLOCK_ROWS],
            promising: Vec::with_capacity(BLOCK_ROWS),
        }
    }
}

impl Codes {
    /// Makes an empty store for vectors of `dimension`.
    pub fn new(dimension: usize, rows: usize) -> Self {
        let lines = dimension.div_ceil(LINE_DIMENSIONS);
        Self {
            lines,
            top: Vec::with_capacity(rows * lines),
            middle: Vec::with_capacity(rows * lines),
            rest: Vec::with_capacity(rows * lines * REST_LINES),
            scales: Vec::with_capacity(rows),
            top_errors: Vec::with_capacity(rows),
            middle_errors: Vec::with_capacity(rows),
            vectors: 0,
        }
    }

    /// Appends a row: a vector that [`super::coded_query::unit`] returned, or none.
    pub fn push(&mut self, vector: Option<&[f32]>) {
        let first = self.top.len();
        let first_rest = self.rest.len();
        self.top.resize(first + self.lines, Line::ZERO);
        self.middle.resize(first + self.lines, Line::ZERO);
        self.rest.resize(first_rest + self.lines * REST_LINES, Line::ZERO);
        let Some(vector) = vector else {
            self.scales.push(0.0);
            self.top_errors.push(f32::NEG_INFINITY);
            self.middle_errors.push(0.0);
            return;
        };
        let largest = vector.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let step = f64::from(largest) / CODE_MAX;
        let (mut top_error, mut middle_error) = (0.0, 0.0);
        let (second, last) = self.rest[first_rest..].split_at_mut(2 * self.lines);
        for (i, value) in vector.iter().enumerate() {
            let code = code(f64::from(*value) / step);
            let (line, byte, shift) = kernel::position(i);
            let bytes = code.to_le_bytes();
            self.top[first + line].0[byte] |= (bytes[2] >> 4) << shift;
            self.middle[first + line].0[byte] |= (bytes[2] & 15) << shift;
            second[i / 64].0[i % 64] = bytes[1];
            last[i / 64].0[i % 64] = bytes[0];
            top_error += left_out(code, TOP_SHIFT).powi(2);
            middle_error += left_out(code, MIDDLE_SHIFT).powi(2);
        }
        self.scales.push(narrow(step));
        self.top_errors.push(narrow(step * top_error.sqrt()));
        self.middle_errors.push(narrow(step * middle_error.sqrt()));
        self.vectors += 1;
    }

    /// Appends a copy of another store's row.
    pub fn push_row(&mut self, from: &Self, row: usize) {
        for (lines, to, from) in [
            (self.lines, &mut self.top, &from.top),
            (self.lines, &mut self.middle, &from.middle),
            (self.lines * REST_LINES, &mut self.rest, &from.rest),
        ] {
            to.extend_from_slice(&from[row * lines..(row + 1) * lines]);
        }
        self.scales.push(from.scales[row]);
        self.top_errors.push(from.top_errors[row]);
        self.middle_errors.push(from.middle_errors[row]);
        self.vectors += usize::from(from.scales[row] > 0.0);
    }

    /// Rows that have a vector.
    pub fn vectors(&self) -> usize {
        self.vectors
    }

    /// Heap bytes.
    pub fn bytes(&self) -> usize {
        (self.top.capacity() + self.middle.capacity() + self.rest.capacity()) * size_of::<Line>()
            + (self.scales.capacity() + self.top_errors.capacity() + self.middle_errors.capacity())
                * size_of::<f32>()
    }

    /// Calls `visit(row, score)` for every row in `rows` whose full score may reach `threshold`, in no certain order.
    ///
    /// `visit` returns the threshold for the rows after it, usually raised by the score; `accept` says whether a row
    /// counts at all (it is asked late, so it may cost something). Scores are cosines, equal to the last bit on every
    /// machine.
    pub fn scan(
        &self,
        query: &CodedQuery,
        rows: std::ops::Range<usize>,
        mut threshold: f64,
        accept: impl Fn(usize) -> bool,
        mut visit: impl FnMut(usize, f64) -> f64,
    ) {
        let mut block = Block::default();
        let mut start = rows.start;
        while start < rows.end {
            let end = rows.end.min(start + BLOCK_ROWS);
            self.look_at_top(query, start, end, threshold, &mut block);
            self.look_at_middle(query, start, end, threshold, &mut block);
            for &i in &block.promising {
                // In descending order of the bounds: the best raise the threshold for the others.
                if block.bounds[i] < threshold {
                    break;
                }
                if accept(start + i) {
                    threshold = visit(start + i, self.score(query, start + i));
                }
            }
            start = end;
        }
    }

    /// Leaves in `block` the rows whose top bits allow `threshold`.
    fn look_at_top(&self, query: &CodedQuery, start: usize, end: usize, threshold: f64, block: &mut Block) {
        let dots = &mut block.dots[..end - start];
        kernel::dots(&query.lines, &self.top[start * self.lines..end * self.lines], dots);
        // The 4 bits t stand for the middle of their interval: 2^20 (t - 7.5) after the codes' offset is taken off.
        let (factor, offset) = (query.scale * as_float(1 << TOP_SHIFT), 7.5 * as_float(query.sum));
        let (stretch, slack) = (1.0 + query.error, query.slack());
        let (scales, errors) = (&self.scales[start..end], &self.top_errors[start..end]);
        block.promising.clear();
        for (i, ((dot, scale), error)) in dots.iter().zip(scales).zip(errors).enumerate() {
            let bound = scale * factor * (as_float(*dot) - offset) + error * stretch + slack;
            if f64::from(bound) >= threshold {
                block.promising.push(i);
            }
        }
    }

    /// Leaves in `block` those of its rows whose top 8 bits allow `threshold`, by descending bounds.
    fn look_at_middle(
        &self,
        query: &CodedQuery,
        start: usize,
        end: usize,
        threshold: f64,
        block: &mut Block,
    ) {
        let Block { dots, middle_dots, bounds, promising } = block;
        let middle =
            |rows: std::ops::Range<usize>| &self.middle[rows.start * self.lines..rows.end * self.lines];
        if promising.len() * SPARSE_FACTOR > end - start {
            kernel::dots(&query.lines, middle(start..end), &mut middle_dots[..end - start]);
        } else {
            for &i in promising.iter() {
                kernel::dots(&query.lines, middle(start + i..start + i + 1), &mut middle_dots[i..=i]);
            }
        }
        // As above for the top 8 bits, 16 t + m: 2^16 (16 t + m - 127.5).
        let (factor, offset) =
            (f64::from(query.scale) * f64::from(1 << MIDDLE_SHIFT), 127.5 * f64::from(query.sum));
        promising.retain(|&i| {
            let estimate = f64::from(self.scales[start + i])
                * factor
                * (f64::from(16 * dots[i] + middle_dots[i]) - offset);
            let error = self.middle_errors[start + i] * (1.0 + query.error) + query.slack();
            bounds[i] = estimate + f64::from(error);
            bounds[i] >= threshold
        });
        promising.sort_unstable_by(|a, b| bounds[*b].total_cmp(&bounds[*a]));
    }

    /// The full score of a row, the same on every machine.
    fn score(&self, query: &CodedQuery, row: usize) -> f64 {
        let half = row * self.lines..(row + 1) * self.lines;
        let rest = &self.rest[row * self.lines * REST_LINES..(row + 1) * self.lines * REST_LINES];
        let (second, last) = rest.split_at(2 * self.lines);
        let planes = Planes { top: &self.top[half.clone()], middle: &self.middle[half], second, last };
        kernel::product(&query.unit, &planes) * f64::from(self.scales[row])
    }
}

/// Rounds a component in units of its scale to its code, offset included.
#[expect(clippy::cast_possible_truncation, reason = "clamped to 24 bits")]
fn code(units: f64) -> i32 {
    units.round().clamp(-CODE_MAX, CODE_MAX) as i32 + CODE_OFFSET
}

/// How far a code is from the middle of the codes that share its bits from `shift` upwards.
fn left_out(code: i32, shift: u32) -> f64 {
    f64::from((code & ((1 << shift) - 1)) - (1 << (shift - 1)))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "what rounding adds above 2^24 is covered by the bound's slack"
)]
fn as_float(integer: i32) -> f32 {
    integer as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::coded_query::unit;
    use super::*;

    /// Points of the kinds that break nearest-neighbour code: few, equal, repeated, clustered, spiked, and plain ones.
    fn points() -> impl Strategy<Value = Vec<Vec<f32>>> {
        let dimension = prop_oneof![Just(1_usize), Just(3), Just(64), Just(130), Just(384)];
        (dimension, prop_oneof![1..=5_usize, 250..=600_usize], 0..5, any::<u64>()).prop_map(
            |(dimension, count, kind, seed)| {
                let mut state = seed;
                let mut next = move || {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    f32::from(u16::try_from(state >> 48).unwrap()) / 32_768.0 - 1.0 + 1e-4
                };
                let base: Vec<f32> = (0..dimension).map(|_| next()).collect();
                let mut point = |i: usize| -> Vec<f32> {
                    match kind {
                        0 => base.clone(),
                        1 => base.iter().map(|value| value + 1e-3 * next()).collect(),
                        2 => (0..dimension).map(|d| if d == i % dimension { 1.0 } else { 0.0 }).collect(),
                        3 => base
                            .iter()
                            .map(|value| value + f32::from(u8::try_from(i % 7).unwrap()) * 0.1)
                            .collect(),
                        _ => (0..dimension).map(|_| next()).collect(),
                    }
                };
                (0..count).map(|i| unit(&point(i), dimension).unwrap()).collect()
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_scan_visits_every_row_that_reaches_the_final_threshold(points in points(), k in 1..20_usize) {
            let mut codes = Codes::new(points[0].len(), points.len());
            points.iter().for_each(|point| codes.push(Some(point)));
            for query in points.iter().step_by(97) {
                let query = CodedQuery::new(query);
                let mut all: Vec<f64> = (0..points.len()).map(|row| codes.score(&query, row)).collect();
                let mut seen: Vec<(usize, f64)> = Vec::new();
                codes.scan(&query, 0..points.len(), f64::MIN, |_| true, |row, score| {
                    seen.push((row, score));
                    let mut scores: Vec<f64> = seen.iter().map(|found| found.1).collect();
                    scores.sort_by(|a, b| b.total_cmp(a));
                    scores.get(k - 1).copied().unwrap_or(f64::MIN)
                });
                let unsorted = all.clone();
                all.sort_by(|a, b| b.total_cmp(a));
                let threshold = all[k.min(all.len()) - 1];
                for (row, score) in unsorted.iter().enumerate().filter(|(_, score)| **score >= threshold) {
                    prop_assert!(seen.contains(&(row, *score)), "row {row} with {score} is missing");
                }
            }
        }

        #[test]
        fn a_score_is_the_cosine_up_to_the_documented_rounding(points in points()) {
            let mut codes = Codes::new(points[0].len(), points.len());
            points.iter().for_each(|point| codes.push(Some(point)));
            let query = CodedQuery::new(&points[0]);
            let limit = (points[0].len() as f64).sqrt() / 16_777_216.0 + 3e-7;
            for (row, point) in points.iter().enumerate() {
                let cosine: f64 = point.iter().zip(&points[0]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                prop_assert!((codes.score(&query, row) - cosine).abs() <= limit);
            }
        }
    }

    #[test]
    fn a_row_without_a_vector_is_never_visited() {
        let mut codes = Codes::new(2, 2);
        codes.push(None);
        codes.push(Some(&[-1.0, 0.0]));
        let mut seen = Vec::new();
        codes.scan(
            &CodedQuery::new(&[1.0, 0.0]),
            0..2,
            f64::MIN,
            |_| true,
            |row, _| {
                seen.push(row);
                f64::MIN
            },
        );
        assert_eq!((seen, codes.vectors()), (vec![1], 1));
    }
}
