//! The encoder's arithmetic on rows of numbers: matrix products with prepacked weights, and the passes between them.
//!
//! Matrix products are `rten-gemm`'s; the passes are written once over `rten-simd` and run with the widest
//! instructions that the machine has. Everything in a pass is inlined by force: what is not would be compiled for the
//! oldest machine. That is why `rten-vecmath`'s own sums and softmax are not used here.

use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_simd::functional::simd_map;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, Simd, SimdIterable, SimdOp, SimdUnaryOp};
use rten_tensor::NdTensorView;
use rten_vecmath::{Exp, Gelu, Normalize, NormalizeOptions};

const SHAPES: &str = "shapes were checked when the weights were read";

/// A matrix view: a shape, and a slice with the distances between neighbours down and across.
pub fn view(data: &[f32], shape: [usize; 2], strides: [usize; 2]) -> NdTensorView<'_, f32, 2> {
    NdTensorView::from_slice_with_strides(shape, data, strides).expect(SHAPES)
}

/// The weights of a linear step, laid out for the kernels; its bias is added by the pass that follows.
pub struct Linear {
    weights: PackedBMatrix<f32>,
    /// One number for each output.
    pub bias: Vec<f32>,
}

impl Linear {
    /// Lays out `weights`, of shape `[bias.len(), inputs]` as published.
    pub fn new(gemm: &GemmExecutor, weights: &[f32], inputs: usize, bias: Vec<f32>) -> Self {
        let transposed = view(weights, [inputs, bias.len()], [1, inputs]);
        Self { weights: gemm.prepack_b(transposed), bias }
    }

    /// Multiplies each row of `rows` with the weights, without the bias. Resizes `out` to fit.
    pub fn multiply(&self, gemm: &GemmExecutor, rows: &[f32], out: &mut Vec<f32>) {
        let inputs = self.weights.rows();
        let count = rows.len() / inputs;
        out.resize(count * self.bias.len(), 0.0);
        let rows = view(rows, [count, inputs], [inputs, 1]);
        multiply(gemm, GemmInputA::Unpacked(rows), GemmInputB::Packed(&self.weights), out);
    }
}

/// Writes the product of two matrices to `out`, row by row.
pub fn multiply(gemm: &GemmExecutor, left: GemmInputA<'_, f32>, right: GemmInputB<'_, f32>, out: &mut [f32]) {
    gemm.gemm(out, left, right, GemmOptions::default()).expect(SHAPES);
}

/// Adds `bias` to every row of `rows` and takes GELU of the sum.
pub struct BiasGelu<'a> {
    pub rows: &'a mut [f32],
    pub bias: &'a [f32],
}

impl SimdOp for BiasGelu<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        for row in self.rows.chunks_exact_mut(self.bias.len()) {
            let mut bias = self.bias.simd_iter_pad(ops);
            simd_map(
                ops,
                row,
                #[inline(always)]
                |x| Gelu {}.eval(isa, ops.add(x, bias.next().unwrap_or(ops.zero()))),
            );
        }
    }
}

/// A layer norm's parameters.
pub struct Norm {
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
    pub epsilon: f32,
}

/// Adds `changes` and `bias` to `rows` and normalises each row to mean 0 and variance 1, scaled and shifted.
pub struct AddNorm<'a> {
    pub rows: &'a mut [f32],
    pub changes: &'a [f32],
    pub bias: &'a [f32],
    pub norm: &'a Norm,
}

impl SimdOp for AddNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let width = self.bias.len();
        for (row, change) in self.rows.chunks_exact_mut(width).zip(self.changes.chunks_exact(width)) {
            let mut change = change.simd_iter_pad(ops);
            let mut bias = self.bias.simd_iter_pad(ops);
            simd_map(
                ops,
                &mut *row,
                #[inline(always)]
                |x| {
                    let change =
                        ops.add(change.next().unwrap_or(ops.zero()), bias.next().unwrap_or(ops.zero()));
                    ops.add(x, change)
                },
            );
            normalize(isa, row, self.norm);
        }
    }
}

/// Normalises every row of `rows`.
pub struct NormRows<'a> {
    pub rows: &'a mut [f32],
    pub norm: &'a Norm,
}

impl SimdOp for NormRows<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        for row in self.rows.chunks_exact_mut(self.norm.scale.len()) {
            normalize(isa, row, self.norm);
        }
    }
}

/// Turns every row of `width` scores into weights that sum to one.
pub struct Softmax<'a> {
    pub rows: &'a mut [f32],
    pub width: usize,
}

impl SimdOp for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        for row in self.rows.chunks_exact_mut(self.width) {
            let largest = reduce(
                isa,
                row,
                ops.splat(f32::MIN),
                #[inline(always)]
                |largest, x| ops.max(largest, x),
            );
            let largest = largest.to_array().into_iter().fold(f32::MIN, f32::max);
            // Without the largest taken off, a large score would overflow.
            let largest = ops.splat(largest);
            simd_map(
                ops,
                &mut *row,
                #[inline(always)]
                |x| Exp::apply(isa, ops.sub(x, largest)),
            );
            let share = ops.splat(sum(isa, row).recip());
            simd_map(
                ops,
                &mut *row,
                #[inline(always)]
                |x| ops.mul(x, share),
            );
        }
    }
}

#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "a row has far fewer than 2^24 numbers")]
fn normalize<I: Isa>(isa: I, row: &mut [f32], norm: &Norm) {
    let ops = isa.f32();
    let count = row.len() as f32;
    let mean = sum(isa, row) / count;
    let mean_everywhere = ops.splat(mean);
    let squares = reduce(
        isa,
        row,
        ops.zero(),
        #[inline(always)]
        |total, x| {
            let distance = ops.sub(x, mean_everywhere);
            ops.mul_add(distance, distance, total)
        },
    );
    let variance = squares.to_array().into_iter().sum::<f32>() / count;
    let options = NormalizeOptions {
        pre_scale_bias: mean,
        scale: (variance + norm.epsilon).sqrt().recip(),
        element_scale: Some(&norm.scale),
        element_bias: Some(&norm.shift),
        ..NormalizeOptions::default()
    };
    Normalize::new_mut(row, options).eval(isa);
}

#[inline(always)]
fn sum<I: Isa>(isa: I, row: &[f32]) -> f32 {
    let ops = isa.f32();
    let lanes = reduce(
        isa,
        row,
        ops.zero(),
        #[inline(always)]
        |total, x| ops.add(total, x),
    );
    lanes.to_array().into_iter().sum()
}

/// Folds a row lane by lane.
#[inline(always)]
fn reduce<I: Isa>(
    isa: I,
    row: &[f32],
    start: I::F32,
    mut step: impl FnMut(I::F32, I::F32) -> I::F32,
) -> I::F32 {
    let ops = isa.f32();
    let mut lanes = start;
    let mut chunks = row.chunks_exact(ops.len());
    for chunk in &mut chunks {
        lanes = step(lanes, ops.load(chunk));
    }
    if !chunks.remainder().is_empty() {
        let (x, is_in_row) = ops.load_pad(chunks.remainder());
        lanes = ops.select(step(lanes, x), lanes, is_in_row);
    }
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Odd widths have lanes outside of the row.
    const WIDTHS: [usize; 6] = [1, 7, 16, 33, 64, 100];

    fn rows(width: usize) -> Vec<f32> {
        (0..3 * width).map(|index| ((index * 37 % 101) as f32 - 50.0) / 7.0).collect()
    }

    fn assert_close(found: &[f32], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-4, "{found} is not {expected}");
        }
    }

    #[test]
    fn softmax_weights_are_shares_of_the_exponentials() {
        for width in WIDTHS {
            let mut weights = rows(width);
            let expected: Vec<f64> = weights
                .chunks(width)
                .flat_map(|row| {
                    let total: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
                    row.iter().map(move |&x| f64::from(x).exp() / total)
                })
                .collect();
            Softmax { rows: &mut weights, width }.dispatch();
            assert_close(&weights, &expected);
        }
    }

    #[test]
    fn softmax_takes_scores_whose_exponentials_overflow() {
        let mut row = [1e4, 1e4, -1e4];
        Softmax { rows: &mut row, width: 3 }.dispatch();
        assert_close(&row, &[0.5, 0.5, 0.0]);
    }

    #[test]
    fn add_norm_adds_both_and_normalises() {
        // One number alone has no variance, and rounding decides its sign.
        for width in WIDTHS.into_iter().skip(1) {
            let (state, changes) = (rows(width), rows(width).into_iter().rev().collect::<Vec<f32>>());
            let bias: Vec<f32> = (0..width).map(|index| index as f32 / 10.0).collect();
            let norm =
                Norm { scale: bias.iter().map(|x| x + 1.0).collect(), shift: bias.clone(), epsilon: 1e-12 };
            let sums: Vec<f64> = (0..state.len())
                .map(|index| f64::from(state[index] + changes[index] + bias[index % width]))
                .collect();
            let expected: Vec<f64> = sums
                .chunks(width)
                .flat_map(|row| {
                    let mean = row.iter().sum::<f64>() / width as f64;
                    let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
                    let (bias, deviation) = (bias.clone(), (variance + 1e-12).sqrt());
                    row.iter().zip(bias).map(move |(x, bias)| {
                        let bias = f64::from(bias);
                        (x - mean) / deviation * (bias + 1.0) + bias
                    })
                })
                .collect();
            let mut found = state;
            AddNorm { rows: &mut found, changes: &changes, bias: &bias, norm: &norm }.dispatch();
            assert_close(&found, &expected);
        }
    }

    #[test]
    fn gelu_is_taken_of_the_biased_rows() {
        let mut rows = [-1.5_f32, 0.0, 0.5, 2.0];
        BiasGelu { rows: &mut rows, bias: &[0.5, 1.0] }.dispatch();
        // x/2 (1 + erf(x/sqrt 2)) of -1, 1, 1 and 3.
        assert_close(&rows, &[-0.158_655_25, 0.841_344_75, 0.841_344_75, 2.995_950_3]);
    }
}
