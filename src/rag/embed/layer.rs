//! The encoder's layers, read from the weights file one after the other.
//!
//! Three things are folded into the weights, exactly: the attention's scale into the query weights, the segment's
//! embedding into the positions', and the value bias through the output weights (attention weights sum to one). The
//! key bias shifts all of a query's scores equally, which softmax ignores, so it is not read.

use rten_gemm::GemmExecutor;

use super::Error;
use super::kernels::{Linear, Norm};
use super::settings::Settings;
use super::weights::Weights;

/// One layer of the encoder.
pub struct Layer {
    /// Queries, keys and values side by side; the bias is the queries' alone.
    pub attention_in: Linear,
    /// From what the heads gathered to the change of the state.
    pub attention_out: Linear,
    /// After the first change.
    pub attention_norm: Norm,
    /// The first half of the feed-forward step, to the wide rows.
    pub expand: Linear,
    /// The second half, back.
    pub contract: Linear,
    /// After the second change.
    pub output_norm: Norm,
}

/// Reads layers one after the other through one buffer.
pub struct Reader<'a> {
    weights: &'a Weights,
    settings: &'a Settings,
    gemm: GemmExecutor,
    buffer: Vec<f32>,
}

impl<'a> Reader<'a> {
    /// Makes a reader of a model with these settings.
    pub fn new(weights: &'a Weights, settings: &'a Settings) -> Self {
        Self { weights, settings, gemm: GemmExecutor::new(), buffer: Vec::new() }
    }

    /// Reads the vectors of the vocabulary.
    pub fn words(&self) -> Result<Vec<f32>, Error> {
        let bert = &self.settings.bert;
        self.read("embeddings.word_embeddings.weight", &[bert.vocab_size, bert.hidden_size])
    }

    /// Reads the vectors of the positions in the window, the first segment's added.
    pub fn positions(&self) -> Result<Vec<f32>, Error> {
        let bert = &self.settings.bert;
        let width = bert.hidden_size;
        let shape = [bert.max_position_embeddings, width];
        let mut positions = self.read("embeddings.position_embeddings.weight", &shape)?;
        let segments =
            self.read("embeddings.token_type_embeddings.weight", &[bert.type_vocab_size, width])?;
        positions.truncate(self.settings.window * width);
        positions.shrink_to_fit();
        for position in positions.chunks_exact_mut(width) {
            position.iter_mut().zip(&segments).for_each(|(x, segment)| *x += segment);
        }
        Ok(positions)
    }

    /// Reads the layer at `index`.
    pub fn layer(&mut self, index: usize) -> Result<Layer, Error> {
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
        let mut bias = self.read(&format!("{name}.query.bias"), &[width])?;
        #[expect(clippy::cast_precision_loss, reason = "a head has some dozen components")]
        let scale = ((width / self.settings.bert.num_attention_heads) as f32).sqrt().recip();
        joined[..width * width].iter_mut().chain(&mut bias).for_each(|x| *x *= scale);
        bias.resize(3 * width, 0.0);
        let value_bias = self.read(&format!("{name}.value.bias"), &[width])?;
        Ok((Linear::new(&self.gemm, &joined, width, bias), value_bias))
    }

    fn linear(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Linear, Error> {
        let bias = self.read(&format!("{name}.bias"), &[outputs])?;
        self.weights.read(&format!("{name}.weight"), &[outputs, inputs], &mut self.buffer)?;
        Ok(Linear::new(&self.gemm, &self.buffer, inputs, bias))
    }

    /// Reads a layer norm.
    pub fn norm(&self, name: &str) -> Result<Norm, Error> {
        let width = self.settings.bert.hidden_size;
        Ok(Norm {
            scale: self.read(&format!("{name}.weight"), &[width])?,
            shift: self.read(&format!("{name}.bias"), &[width])?,
            epsilon: self.settings.bert.layer_norm_eps,
        })
    }

    fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let mut values = Vec::new();
        self.weights.read(name, shape, &mut values)?;
        Ok(values)
    }
}
