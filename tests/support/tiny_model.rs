//! A BERT of a few hundred numbers, for what does not depend on the vectors' meaning.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

const WIDTH: usize = 8;
const WIDE: usize = 16;
const POSITIONS: usize = 16;
const PIECES: [&str; 8] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##b", "."];

/// Writes its files into `directory`, which is made.
pub fn write(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    write_json(directory, "config.json", &config());
    write_json(directory, "tokenizer.json", &tokenizer());
    fs::write(directory.join("model.safetensors"), weights(0.1)).unwrap();
}

/// Writes `value` as a file of `directory`.
pub fn write_json(directory: &Path, name: &str, value: &Value) {
    fs::write(directory.join(name), value.to_string()).unwrap();
}

/// Its `config.json`.
pub fn config() -> Value {
    json!({
        "_name_or_path": "tests/tiny", "model_type": "bert", "hidden_act": "gelu", "hidden_size": WIDTH,
        "intermediate_size": WIDE, "layer_norm_eps": 1e-12, "max_position_embeddings": POSITIONS,
        "num_attention_heads": 2, "num_hidden_layers": 1, "type_vocab_size": 2, "vocab_size": PIECES.len(),
    })
}

fn tokenizer() -> Value {
    let vocabulary: Value =
        PIECES.iter().enumerate().map(|(id, piece)| ((*piece).to_owned(), json!(id))).collect();
    json!({
        "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary },
    })
}

/// Its `model.safetensors`, every number a different small multiple of `size`.
pub fn weights(size: f32) -> Vec<u8> {
    let mut shapes = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![PIECES.len(), WIDTH]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![POSITIONS, WIDTH]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, WIDTH]),
    ];
    let layer = "encoder.layer.0";
    let linear = [
        ("attention.self.query", WIDTH, WIDTH),
        ("attention.self.key", WIDTH, WIDTH),
        ("attention.self.value", WIDTH, WIDTH),
        ("attention.output.dense", WIDTH, WIDTH),
        ("intermediate.dense", WIDE, WIDTH),
        ("output.dense", WIDTH, WIDE),
    ];
    for (name, outputs, inputs) in linear {
        shapes.push((format!("{layer}.{name}.weight"), vec![outputs, inputs]));
        shapes.push((format!("{layer}.{name}.bias"), vec![outputs]));
    }
    for name in ["embeddings", "encoder.layer.0.attention.output", "encoder.layer.0.output"] {
        shapes.push((format!("{name}.LayerNorm.weight"), vec![WIDTH]));
        shapes.push((format!("{name}.LayerNorm.bias"), vec![WIDTH]));
    }
    let (mut header, mut data) = (String::from(r#"{"__metadata__":{"format":"pt"}"#), Vec::new());
    for (name, shape) in shapes {
        let start = data.len();
        for index in 0..shape.iter().product::<usize>() {
            data.extend((((index * 7 + start) % 13) as f32 * size - 6.0 * size).to_le_bytes());
        }
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] });
        write!(header, ",\"{name}\":{entry}").unwrap();
    }
    header.push('}');
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}
