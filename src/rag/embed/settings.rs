//! What a model directory says about its model, checked to be a BERT that the encoder runs.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Error;

/// The weights' file name in a model directory.
pub const WEIGHTS: &str = "model.safetensors";
/// The architecture's file name.
pub const CONFIG: &str = "config.json";
/// The tokenizer's file name.
pub const TOKENIZER: &str = "tokenizer.json";
/// sentence-transformers' file with the window; without it the window is all positions.
pub const SENTENCE: &str = "sentence_bert_config.json";
/// sentence-transformers' file with the pooling; without it the pooling is the mean.
pub const POOLING: &str = "1_Pooling/config.json";

/// A JSON file of a model directory larger than this, in bytes, is not one (a vocabulary of 250,000 takes 17 MB).
pub const JSON_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How token vectors become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over all real tokens, special ones included.
    Mean,
    /// The vector of the first token.
    Cls,
}

impl Pooling {
    /// Returns the name that model identities use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
        }
    }
}

/// The sizes and switches of a model.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The architecture.
    pub bert: Bert,
    /// How token vectors become one.
    pub pooling: Pooling,
    /// Tokens in the model's window, the two special ones included.
    pub window: usize,
}

/// `config.json`, the part that a BERT encoder needs.
#[derive(Clone, Debug, Deserialize)]
pub struct Bert {
    model_type: String,
    hidden_act: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
    #[serde(default)]
    _name_or_path: String,
    /// Components of a token's vector.
    pub hidden_size: usize,
    /// Components between the two halves of a feed-forward step.
    pub intermediate_size: usize,
    /// Added to the variance in every layer norm.
    pub layer_norm_eps: f32,
    /// Positions that have an embedding.
    pub max_position_embeddings: usize,
    /// Attention heads; each has `hidden_size / num_attention_heads` components.
    pub num_attention_heads: usize,
    /// Transformer layers.
    pub num_hidden_layers: usize,
    /// Segment embeddings; only the first is used.
    pub type_vocab_size: usize,
    /// Word pieces.
    pub vocab_size: usize,
}

fn absolute() -> String {
    "absolute".to_owned()
}

#[derive(Deserialize)]
struct Sentence {
    max_seq_length: Option<usize>,
}

#[derive(Deserialize)]
struct PoolingFile {
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
}

impl Settings {
    /// Reads and checks the settings of the model in `directory`.
    ///
    /// # Errors
    /// [`Error::Missing`] without a `config.json`, [`Error::Unusable`] for anything but a BERT, [`Error::Io`].
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(CONFIG);
        if !path.exists() {
            return Err(Error::Missing { directory: directory.to_owned() });
        }
        let bert: Bert = read_json(&path)?;
        bert.check().map_err(|reason| Error::unusable(&path, reason))?;
        let pooling = read_pooling(&directory.join(POOLING))?;
        let window = read_window(&directory.join(SENTENCE), bert.max_position_embeddings)?;
        Ok(Self { bert, pooling, window })
    }

    /// Returns the name that the publisher gave in `config.json`, or the kind of model.
    pub fn published_name(&self) -> &str {
        if self.bert._name_or_path.is_empty() { &self.bert.model_type } else { &self.bert._name_or_path }
    }
}

impl Bert {
    fn check(&self) -> Result<(), String> {
        let expect = |setting: &str, found: &str, wanted: &str| {
            if found == wanted {
                Ok(())
            } else {
                Err(format!("{setting} is {found:?}, only {wanted:?} is supported"))
            }
        };
        expect("model_type", &self.model_type, "bert")?;
        expect("hidden_act", &self.hidden_act, "gelu")?;
        expect("position_embedding_type", &self.position_embedding_type, "absolute")?;
        let sizes =
            [self.hidden_size, self.intermediate_size, self.num_attention_heads, self.type_vocab_size];
        if sizes.contains(&0) || self.num_hidden_layers == 0 || self.max_position_embeddings < 3 {
            return Err("a size is zero".to_owned());
        }
        if sizes.iter().any(|&size| size > SIZE_MAX) || self.vocab_size > VOCABULARY_MAX {
            return Err("a size is larger than any BERT's".to_owned());
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err("hidden_size is not a multiple of num_attention_heads".to_owned());
        }
        Ok(())
    }
}

/// BERT large has 1,024 and 4,096; beyond this a damaged file would ask for absurd memory.
const SIZE_MAX: usize = 16_384;
/// The largest multilingual vocabularies have 500,000 pieces.
const VOCABULARY_MAX: usize = 1_000_000;

fn read_pooling(path: &Path) -> Result<Pooling, Error> {
    if !path.exists() {
        return Ok(Pooling::Mean);
    }
    let file: PoolingFile = read_json(path)?;
    let other = file.pooling_mode_max_tokens || file.pooling_mode_mean_sqrt_len_tokens;
    match (file.pooling_mode_mean_tokens, file.pooling_mode_cls_token, other) {
        (true, false, false) => Ok(Pooling::Mean),
        (false, true, false) => Ok(Pooling::Cls),
        _ => Err(Error::unusable(path, "only one of mean and cls pooling is supported")),
    }
}

fn read_window(path: &Path, positions: usize) -> Result<usize, Error> {
    if !path.exists() {
        return Ok(positions);
    }
    let file: Sentence = read_json(path)?;
    match file.max_seq_length.unwrap_or(positions) {
        length @ 3.. => Ok(length.min(positions)),
        length => Err(Error::unusable(path, format!("max_seq_length is {length}"))),
    }
}

/// Reads one JSON file of a model directory, at most [`JSON_BYTES_MAX`] bytes.
///
/// # Errors
/// [`Error::Io`], or [`Error::Unusable`] when it is too large or not the JSON expected.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let size = std::fs::metadata(path).map_err(|e| Error::io("read", path, e))?.len();
    if size > JSON_BYTES_MAX {
        return Err(Error::unusable(path, format!("{size} bytes are too many for this file")));
    }
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::unusable(path, e.to_string()))
}
