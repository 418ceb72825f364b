//! The encoder's arithmetic on rows of numbers: matrix products with prepacked weights, and the passes between them.
//!
//! Matrix products are `rten-gemm`'s; the passes are written once over `rten-simd` and run with the widest
//! instructions that the machine has.

use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_simd::functional::simd_map;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdIterable, SimdOp, SimdUnaryOp};
use rten_tensor::NdTensorView;
use rten_vecmath::{Gelu, Normalize, NormalizeOptions, Sum, SumSquareSub};

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

#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "a row has far fewer than 2^24 numbers")]
fn normalize<I: Isa>(isa: I, row: &mut [f32], norm: &Norm) {
    let count = row.len() as f32;
    let mean = Sum::new(row).eval(isa) / count;
    let variance = SumSquareSub::new(row, mean).eval(isa) / count;
    let options = NormalizeOptions {
        pre_scale_bias: mean,
        scale: (variance + norm.epsilon).sqrt().recip(),
        element_scale: Some(&norm.scale),
        element_bias: Some(&norm.shift),
        ..NormalizeOptions::default()
    };
    Normalize::new_mut(row, options).eval(isa);
}
