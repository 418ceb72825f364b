//! The BERT encoder: token ids in, one vector of unit length per text out.
//!
//! The tokens of all texts in a batch stand in one matrix without padding; only attention looks at each text alone.

use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB};
use rten_simd::SimdOp;

use super::Error;
use super::kernels::{AddNorm, BiasGelu, Norm, NormRows, Softmax, multiply, view};
use super::layer::{Layer, Reader};
use super::settings::{Pooling, Settings};
use super::weights::Weights;

/// A model's weights, laid out for the kernels.
pub struct Encoder {
    words: Vec<f32>,
    positions: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    width: usize,
    heads: usize,
    pooling: Pooling,
}

/// The token ids of some texts, one after the other.
#[derive(Default)]
pub struct Batch {
    ids: Vec<u32>,
    ends: Vec<usize>,
}

impl Batch {
    /// Adds a text: `encode` appends its ids.
    pub fn push(&mut self, encode: impl FnOnce(&mut Vec<u32>)) {
        encode(&mut self.ids);
        self.ends.push(self.ids.len());
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.ids.clear();
        self.ends.clear();
    }

    /// Tokens in the batch.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// The rows of each text.
    fn texts(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| start..end)
    }
}

/// A thread's kernels and buffers, reused from batch to batch.
#[derive(Default)]
pub struct Scratch {
    gemm: GemmExecutor,
    /// Each token's vector.
    state: Vec<f32>,
    /// Queries, keys and values; later the feed-forward step's wide rows.
    wide: Vec<f32>,
    /// What attention gathered.
    context: Vec<f32>,
    /// What a step adds to the state.
    change: Vec<f32>,
    /// One head's scores within one text, then what it gathered.
    scores: Vec<f32>,
    head: Vec<f32>,
}

impl Encoder {
    /// Reads the weights of a model with these settings.
    ///
    /// # Errors
    /// [`Error::Unusable`], [`Error::Io`].
    pub fn read(weights: &Weights, settings: &Settings) -> Result<Self, Error> {
        let mut reader = Reader::new(weights, settings);
        Ok(Self {
            words: reader.words()?,
            positions: reader.positions()?,
            norm: reader.norm("embeddings.LayerNorm")?,
            layers: (0..settings.bert.num_hidden_layers)
                .map(|index| reader.layer(index))
                .collect::<Result<_, _>>()?,
            width: settings.bert.hidden_size,
            heads: settings.bert.num_attention_heads,
            pooling: settings.pooling,
        })
    }

    /// Embeds the texts of `batch`, in order. Calls `between_layers` before every layer but the first.
    pub fn embed(
        &self,
        batch: &Batch,
        scratch: &mut Scratch,
        between_layers: &mut dyn FnMut(),
    ) -> Vec<Vec<f32>> {
        self.look_up(batch, scratch);
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                between_layers();
            }
            self.attend(layer, batch, scratch);
            feed_forward(layer, scratch);
        }
        batch
            .texts()
            .map(|rows| self.pool(&scratch.state[rows.start * self.width..rows.end * self.width]))
            .collect()
    }

    fn look_up(&self, batch: &Batch, scratch: &mut Scratch) {
        scratch.state.clear();
        for rows in batch.texts() {
            for (id, position) in batch.ids[rows].iter().zip(self.positions.chunks_exact(self.width)) {
                let word = &self.words[*id as usize * self.width..][..self.width];
                scratch.state.extend(word.iter().zip(position).map(|(word, position)| word + position));
            }
        }
        NormRows { rows: &mut scratch.state, norm: &self.norm }.dispatch();
    }

    fn attend(&self, layer: &Layer, batch: &Batch, scratch: &mut Scratch) {
        layer.attention_in.multiply(&scratch.gemm, &scratch.state, &mut scratch.wide);
        scratch.context.resize(scratch.state.len(), 0.0);
        for row in scratch.wide.chunks_exact_mut(3 * self.width) {
            row.iter_mut().zip(&layer.attention_in.bias[..self.width]).for_each(|(x, bias)| *x += bias);
        }
        for rows in batch.texts() {
            for head in 0..self.heads {
                self.attend_head(rows.clone(), head, scratch);
            }
        }
        layer.attention_out.multiply(&scratch.gemm, &scratch.context, &mut scratch.change);
        AddNorm {
            rows: &mut scratch.state,
            changes: &scratch.change,
            bias: &layer.attention_out.bias,
            norm: &layer.attention_norm,
        }
        .dispatch();
    }

    /// Softmax of queries times keys, times values, for one head within one text.
    fn attend_head(&self, rows: std::ops::Range<usize>, head: usize, scratch: &mut Scratch) {
        let (count, width, size) = (rows.len(), self.width, self.width / self.heads);
        let stride = 3 * width;
        let wide = &scratch.wide[rows.start * stride..rows.end * stride];
        let (queries, keys, values) =
            (&wide[head * size..], &wide[width + head * size..], &wide[2 * width + head * size..]);
        scratch.scores.resize(count * count, 0.0);
        scratch.head.resize(count * size, 0.0);
        let queries = GemmInputA::Unpacked(view(queries, [count, size], [stride, 1]));
        let keys = GemmInputB::Unpacked(view(keys, [size, count], [1, stride]));
        multiply(&scratch.gemm, queries, keys, &mut scratch.scores);
        Softmax { rows: &mut scratch.scores, width: count }.dispatch();
        let scores = GemmInputA::Unpacked(view(&scratch.scores, [count, count], [count, 1]));
        let values = GemmInputB::Unpacked(view(values, [count, size], [stride, 1]));
        multiply(&scratch.gemm, scores, values, &mut scratch.head);
        let context = &mut scratch.context[rows.start * width..rows.end * width];
        for (to, from) in context.chunks_exact_mut(width).zip(scratch.head.chunks_exact(size)) {
            to[head * size..][..size].copy_from_slice(from);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a text has at most some thousand tokens")]
    fn pool(&self, rows: &[f32]) -> Vec<f32> {
        let mut vector = rows[..self.width].to_vec();
        if self.pooling == Pooling::Mean {
            for row in rows.chunks_exact(self.width).skip(1) {
                vector.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
            let count = (rows.len() / self.width) as f32;
            vector.iter_mut().for_each(|x| *x /= count);
        }
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
        vector.iter_mut().for_each(|x| *x /= length);
        vector
    }
}

fn feed_forward(layer: &Layer, scratch: &mut Scratch) {
    layer.expand.multiply(&scratch.gemm, &scratch.state, &mut scratch.wide);
    BiasGelu { rows: &mut scratch.wide, bias: &layer.expand.bias }.dispatch();
    layer.contract.multiply(&scratch.gemm, &scratch.wide, &mut scratch.change);
    AddNorm {
        rows: &mut scratch.state,
        changes: &scratch.change,
        bias: &layer.contract.bias,
        norm: &layer.output_norm,
    }
    .dispatch();
}
