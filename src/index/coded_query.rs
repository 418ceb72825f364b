//! A query's vector in the precisions that a scan compares.

use super::kernel::{self, LINE_DIMENSIONS, QueryLine};
use super::types::Error;

/// Largest magnitude of a query byte.
const QUERY_MAX: f32 = 127.0;
/// What float rounding in the bounds can amount to, with a margin: they are sums of a few terms near 1.
const ROUNDING: f32 = 1e-5;

/// A query in the precisions that a scan compares.
#[derive(Debug, Clone)]
pub(super) struct CodedQuery {
    /// Unit length, padded with zeros to whole lines.
    pub unit: Vec<f32>,
    pub lines: Vec<QueryLine>,
    /// Value of one unit of the query's bytes.
    pub scale: f32,
    /// Sum of the query's bytes.
    pub sum: i32,
    /// Length of the difference between `unit` and its bytes.
    pub error: f32,
}

impl CodedQuery {
    /// Codes a vector that [`unit()`] returned.
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
            let (line, b, shift) = kernel::position(i);
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
    pub fn slack(&self) -> f32 {
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

#[expect(clippy::cast_possible_truncation, reason = "clamped to the range of the type")]
fn query_byte(units: f32) -> i8 {
    units.round().clamp(-QUERY_MAX, QUERY_MAX) as i8
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "magnitudes near 1; the rounding is part of every bound's slack"
)]
pub(super) fn narrow(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

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
