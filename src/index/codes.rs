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

use super::kernel::{self, LINE_DIMENSIONS, Line, QueryLine};
use super::types::Error;

/// Largest magnitude of a code; they are stored with [`CODE_OFFSET`] added, as 24 bits without a sign.
const CODE_MAX: f64 = 8_388_607.0;
const CODE_OFFSET: i32 = 1 << 23;
/// Bits below the top 4, and below the top 8.
const TOP_SHIFT: u32 = 20;
const MIDDLE_SHIFT: u32 = 16;
/// Lines of [`Codes::rest`] per line of [`Codes::top`]: one for the middle bits, two each for the last two bytes.
const REST_LINES: usize = 5;
/// Largest magnitude of a query byte.
const QUERY_MAX: f32 = 127.0;
/// What float rounding in the bounds can amount to, with a margin: they are sums of a few terms near 1.
const ROUNDING: f32 = 1e-5;
/// Rows whose products are computed before their bounds are looked at: their integers stay in the first-level cache.
const BLOCK_ROWS: usize = 256;

/// The coded vectors of one segment, by row.
#[derive(Debug, Clone)]
pub(super) struct Codes {
    /// Lines per row in `top`.
    lines: usize,
    /// The top 4 bits: `lines` lines per row.
    top: Vec<Line>,
    /// Per row: the next 4 bits (`lines` lines), then in natural order the second byte and the last byte of the codes
    /// (`2 lines` lines each).
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

/// A query in the precisions that [`Codes::scan`] compares.
#[derive(Debug, Clone)]
pub(super) struct CodedQuery {
    /// Unit length, padded with zeros to whole lines.
    unit: Vec<f32>,
    lines: Vec<QueryLine>,
    /// Value of one unit of the query's bytes.
    scale: f32,
    /// Sum of the query's bytes.
    sum: i32,
    /// Length of the difference between `unit` and its bytes.
    error: f32,
}

impl Codes {
    /// Makes an empty store for vectors of `dimension`.
    pub fn new(dimension: usize, rows: usize) -> Self {
        let lines = dimension.div_ceil(LINE_DIMENSIONS);
        Self {
            lines,
            top: Vec::with_capacity(rows * lines),
            rest: Vec::with_capacity(rows * lines * REST_LINES),
            scales: Vec::with_capacity(rows),
            top_errors: Vec::with_capacity(rows),
            middle_errors: Vec::with_capacity(rows),
            vectors: 0,
        }
    }

    /// Appends a row: a vector that [`unit`] returned, or none.
    pub fn push(&mut self, vector: Option<&[f32]>) {
        let first = self.top.len();
        let first_rest = self.rest.len();
        self.top.resize(first + self.lines, Line::ZERO);
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
        let (middle, last) = self.rest[first_rest..].split_at_mut(self.lines);
        let (second, last) = last.split_at_mut(2 * self.lines);
        for (i, value) in vector.iter().enumerate() {
            let code = code(f64::from(*value) / step);
            let (line, byte, shift) = position(i);
            let bytes = code.to_le_bytes();
            self.top[first + line].0[byte] |= (bytes[2] >> 4) << shift;
            middle[line].0[byte] |= (bytes[2] & 15) << shift;
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
        self.top.extend_from_slice(from.top_lines(row, row + 1));
        self.rest.extend_from_slice(from.rest_lines(row));
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
        (self.top.capacity() + self.rest.capacity()) * size_of::<Line>()
            + (self.scales.capacity() + self.top_errors.capacity() + self.middle_errors.capacity())
                * size_of::<f32>()
    }

    /// Calls `visit(row, score)` for every row in `rows` whose full score may reach `threshold`, in ascending order.
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
        let mut dots = [0_i32; BLOCK_ROWS];
        let mut bounds = [0.0_f32; BLOCK_ROWS];
        let mut start = rows.start;
        while start < rows.end {
            let end = rows.end.min(start + BLOCK_ROWS);
            let (dots, bounds) = (&mut dots[..end - start], &mut bounds[..end - start]);
            kernel::dots(&query.lines, self.top_lines(start, end), dots);
            self.upper_bounds(query, start, dots, bounds);
            for (i, bound) in bounds.iter().enumerate() {
                if f64::from(*bound) < threshold {
                    continue;
                }
                let row = start + i;
                if accept(row) && self.middle_bound(query, row, dots[i]) >= threshold {
                    threshold = visit(row, self.score(query, row));
                }
            }
            start = end;
        }
    }

    /// Computes the highest score that each row can have, given the product with its top 4 bits.
    fn upper_bounds(&self, query: &CodedQuery, start: usize, dots: &[i32], bounds: &mut [f32]) {
        let rows = start..start + dots.len();
        let (scales, errors) = (&self.scales[rows.clone()], &self.top_errors[rows]);
        let (factor, slack) = (query.scale * as_float(1 << TOP_SHIFT), query.slack());
        let stretch = 1.0 + query.error;
        // The 4 bits t stand for the middle of their interval: 2^20 (t - 7.5) after the codes' offset is taken off.
        let offset = 7.5 * as_float(query.sum);
        for (((bound, dot), scale), error) in bounds.iter_mut().zip(dots).zip(scales).zip(errors) {
            *bound = scale * factor * (as_float(*dot) - offset) + error * stretch + slack;
        }
    }

    /// The highest score that a row can have, given its top 8 bits.
    fn middle_bound(&self, query: &CodedQuery, row: usize, top_dot: i32) -> f64 {
        let mut dot = [0];
        kernel::dots(&query.lines, &self.rest_lines(row)[..self.lines], &mut dot);
        // As above for the top 8 bits, 16 t + m: 2^16 (16 t + m - 127.5).
        let units =
            f64::from(1 << MIDDLE_SHIFT) * (f64::from(16 * top_dot + dot[0]) - 127.5 * f64::from(query.sum));
        let estimate = f64::from(self.scales[row]) * f64::from(query.scale) * units;
        estimate + f64::from(self.middle_errors[row] * (1.0 + query.error) + query.slack())
    }

    /// The full score of a row. The sum runs over eight lanes in a fixed order, the same on every machine.
    fn score(&self, query: &CodedQuery, row: usize) -> f64 {
        let mut lanes = [0.0_f64; 8];
        let top = self.top_lines(row, row + 1);
        let (middle, last) = self.rest_lines(row).split_at(self.lines);
        let (second, last) = last.split_at(2 * self.lines);
        for (part, unit) in query.unit.as_chunks::<64>().0.iter().enumerate() {
            let (top, middle) = (&top[part / 2].0, &middle[part / 2].0);
            let (second, last) = (&second[part].0, &last[part].0);
            let shift = part % 2 * 4;
            for b in 0..64 {
                let high = (top[b] >> shift & 15) << 4 | (middle[b] >> shift & 15);
                let code = i32::from(high) << 16 | i32::from(second[b]) << 8 | i32::from(last[b]);
                lanes[b % 8] += f64::from(unit[b]) * f64::from(code - CODE_OFFSET);
            }
        }
        lanes.iter().sum::<f64>() * f64::from(self.scales[row])
    }

    fn top_lines(&self, start: usize, end: usize) -> &[Line] {
        &self.top[start * self.lines..end * self.lines]
    }

    fn rest_lines(&self, row: usize) -> &[Line] {
        &self.rest[row * self.lines * REST_LINES..(row + 1) * self.lines * REST_LINES]
    }
}

impl CodedQuery {
    /// Codes a vector that [`unit`] returned.
    pub fn new(unit: &[f32]) -> Self {
        let lines = unit.len().div_ceil(LINE_DIMENSIONS);
        let largest = unit.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let scale = largest / QUERY_MAX;
        let mut coded = Self {
            unit: unit.to_vec(),
            lines: vec![QueryLine { low: [0; 64], high: [0; 64] }; lines],
            scale,
            sum: 0,
            error: 0.0,
        };
        coded.unit.resize(lines * LINE_DIMENSIONS, 0.0);
        let mut error = 0.0;
        for (i, value) in unit.iter().enumerate() {
            let byte = query_byte(value / scale);
            let (line, b, shift) = position(i);
            let part = if shift == 0 { &mut coded.lines[line].low } else { &mut coded.lines[line].high };
            part[b] = byte;
            coded.sum += i32::from(byte);
            error += (f64::from(*value) - f64::from(scale) * f64::from(byte)).powi(2);
        }
        coded.error = narrow(error.sqrt());
        coded
    }

    /// The part of a bound that does not depend on the row: the query's own rounding times a coded row's length (at most
    /// 1 + the row's error, whose share is in the caller's factor; 1 % covers the rounding of the codes).
    fn slack(&self) -> f32 {
        self.error * 1.01 + ROUNDING
    }
}

/// Returns `vector` scaled to unit length.
///
/// # Errors
/// [`Error::Dimension`], [`Error::NotFinite`], [`Error::ZeroVector`]: it cannot be compared with the others.
pub(super) fn unit(vector: &[f32], dimension: usize) -> Result<Vec<f32>, Error> {
    if vector.len() != dimension {
        return Err(Error::Dimension { expected: dimension, found: vector.len() });
    }
    if vector.iter().any(|value| !value.is_finite()) {
        return Err(Error::NotFinite);
    }
    // In f64 the squares of the largest and of the smallest f32 are both representable.
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if length == 0.0 {
        return Err(Error::ZeroVector);
    }
    Ok(vector.iter().map(|value| narrow(f64::from(*value) / length)).collect())
}

/// Line, byte and shift of dimension `i` in a packed plane.
fn position(i: usize) -> (usize, usize, u32) {
    let shift = if i % LINE_DIMENSIONS < 64 { 0 } else { 4 };
    (i / LINE_DIMENSIONS, i % 64, shift)
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

#[expect(clippy::cast_possible_truncation, reason = "clamped to the range of the type")]
fn query_byte(units: f32) -> i8 {
    units.round().clamp(-QUERY_MAX, QUERY_MAX) as i8
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "magnitudes near 1; the rounding is part of every bound's slack"
)]
fn narrow(value: f64) -> f32 {
    value as f32
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

    #[test]
    fn vectors_that_cannot_be_compared_are_refused() {
        assert_eq!(unit(&[1.0], 2), Err(Error::Dimension { expected: 2, found: 1 }));
        assert_eq!(unit(&[1.0, f32::NAN], 2), Err(Error::NotFinite));
        assert_eq!(unit(&[f32::NEG_INFINITY, 0.0], 2), Err(Error::NotFinite));
        assert_eq!(unit(&[0.0, -0.0], 2), Err(Error::ZeroVector));
        assert_eq!(unit(&[f32::MAX, 0.0], 2), Ok(vec![1.0, 0.0]));
        assert_eq!(unit(&[f32::from_bits(1), 0.0], 2), Ok(vec![1.0, 0.0]));
    }
}
