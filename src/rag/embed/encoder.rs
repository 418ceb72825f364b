//! The BERT encoder: token ids in, one vector of unit length per text out.
//!
//! The tokens of all texts in a batch stand in one matrix without padding; only attention looks at each text alone.
//! Three things are folded into the weights at load, exactly: the attention's scale into the query weights, the
//! segment's embedding into the positions', and the value bias through the output weights (attention weights sum
//! to one). The key bias shifts all of a query's scores equally, which softmax ignores, so it is not read.

use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB};
use rten_simd::SimdOp;

use super::Error;
use super::kernels::{AddNorm, BiasGelu, Linear, Norm, NormRows, Softmax, multiply, view};
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

struct Layer {
    /// Queries, keys and values side by side; the bias is the queries' alone.
    attention_in: Linear,
    attention_out: Linear,
    attention_norm: Norm,
    expand: Linear,
    contract: Linear,
    output_norm: Norm,
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
        let bert = &settings.bert;
        let width = bert.hidden_size;
        let mut words = Vec::new();
        weights.read("embeddings.word_embeddings.weight", &[bert.vocab_size, width], &mut words)?;
        let (mut positions, mut segments) = (Vec::new(), Vec::new());
        let shape = [bert.max_position_embeddings, width];
        weights.read("embeddings.position_embeddings.weight", &shape, &mut positions)?;
        weights.read(
            "embeddings.token_type_embeddings.weight",
            &[bert.type_vocab_size, width],
            &mut segments,
        )?;
        for position in positions.chunks_exact_mut(width) {
            position.iter_mut().zip(&segments).for_each(|(x, segment)| *x += segment);
        }
        positions.truncate(settings.window * width);
        positions.shrink_to_fit();
        let mut reader = Reader { weights, settings, gemm: GemmExecutor::new(), buffer: Vec::new() };
        Ok(Self {
            words,
            positions,
            norm: reader.norm("embeddings.LayerNorm")?,
            layers: (0..bert.num_hidden_layers).map(|index| reader.layer(index)).collect::<Result<_, _>>()?,
            width,
            heads: bert.num_attention_heads,
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

/// Reads layers one after the other through one buffer.
struct Reader<'a> {
    weights: &'a Weights,
    settings: &'a Settings,
    gemm: GemmExecutor,
    buffer: Vec<f32>,
}

impl Reader<'_> {
    fn layer(&mut self, index: usize) -> Result<Layer, Error> {
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let (width, wide) = (self.settings.bert.hidden_size, self.settings.bert.intermediate_size);
        let (attention_in, value_bias) = self.attention_in(&name("attention.self"))?;
        let mut attention_out = self.linear(&name("attention.output.dense"), width, width)?;
        // The buffer still holds the output weights.
        for (bias, row) in attention_out.bias.iter_mut().zip(self.buffer.chunks_exact(width)) {
            *bias += row.iter().zip(&value_bias).map(|(weight, value)| weight * value).sum::<f32>();
        }
        Ok(Layer {
            attention_in,
            attention_out,
            attention_norm: self.norm(&name("attention.output.LayerNorm"))?,
            expand: self.linear(&name("intermediate.dense"), wide, width)?,
            contract: self.linear(&name("output.dense"), width, wide)?,
            output_norm: self.norm(&name("output.LayerNorm"))?,
        })
    }

    /// Returns queries, keys and values as one step, and the value bias, which belongs elsewhere.
    fn attention_in(&mut self, name: &str) -> Result<(Linear, Vec<f32>), Error> {
        let width = self.settings.bert.hidden_size;
        let mut joined = Vec::with_capacity(3 * width * width);
        for part in ["query", "key", "value"] {
            self.weights.read(&format!("{name}.{part}.weight"), &[width, width], &mut self.buffer)?;
            joined.extend_from_slice(&self.buffer);
        }
        let mut bias = self.vector(&format!("{name}.query.bias"), width)?;
        #[expect(clippy::cast_precision_loss, reason = "a head has some dozen components")]
        let scale = ((width / self.settings.bert.num_attention_heads) as f32).sqrt().recip();
        joined[..width * width].iter_mut().chain(&mut bias).for_each(|x| *x *= scale);
        bias.resize(3 * width, 0.0);
        let value_bias = self.vector(&format!("{name}.value.bias"), width)?;
        Ok((Linear::new(&self.gemm, &joined, width, bias), value_bias))
    }

    fn linear(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Linear, Error> {
        let bias = self.vector(&format!("{name}.bias"), outputs)?;
        self.weights.read(&format!("{name}.weight"), &[outputs, inputs], &mut self.buffer)?;
        Ok(Linear::new(&self.gemm, &self.buffer, inputs, bias))
    }

    fn norm(&self, name: &str) -> Result<Norm, Error> {
        let width = self.settings.bert.hidden_size;
        Ok(Norm {
            scale: self.vector(&format!("{name}.weight"), width)?,
            shift: self.vector(&format!("{name}.bias"), width)?,
            epsilon: self.settings.bert.layer_norm_eps,
        })
    }

    fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, Error> {
        let mut values = Vec::new();
        self.weights.read(name, &[length], &mut values)?;
        Ok(values)
    }
}
