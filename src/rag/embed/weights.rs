//! Reads tensors out of a safetensors file one by one, so that the file is never in memory as a whole.
//!
//! The format: eight bytes of header length, a JSON header with each tensor's type, shape and byte range, the bytes.
//! <https://huggingface.co/docs/safetensors>. Nothing in the header is believed before it is checked.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::Error;

/// A header longer than this, in bytes, is damage; the format's own limit is 100 MB, a BERT's header takes 12 kB.
const HEADER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes read at a time: enough for full speed, small enough to stay in the cache.
const READ_BYTES: usize = 128 * 1024;

/// An open weights file.
pub struct Weights {
    file: File,
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
    data_start: u64,
    data_bytes: u64,
    prefix: &'static str,
}

#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl Weights {
    /// Opens the file and reads its header.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Unusable`] when it is not a whole safetensors file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        let size = file.metadata().map_err(|e| Error::io("read", path, e))?.len();
        let mut length = [0; 8];
        let short = |_| Error::unusable(path, format!("{size} bytes are too few for its header"));
        file.read_exact_at(&mut length, 0).map_err(short)?;
        let length = u64::from_le_bytes(length);
        if length > HEADER_BYTES_MAX || length + 8 > size {
            return Err(Error::unusable(path, "it does not begin with a safetensors header"));
        }
        let mut header = vec![0; usize::try_from(length).map_err(|e| Error::unusable(path, e.to_string()))?];
        file.read_exact_at(&mut header, 8).map_err(|e| Error::io("read", path, e))?;
        let tensors = parse_header(&header).map_err(|e| Error::unusable(path, format!("its header: {e}")))?;
        // Some publishers save the encoder inside a larger model.
        let prefix =
            if tensors.contains_key("bert.embeddings.word_embeddings.weight") { "bert." } else { "" };
        let (data_start, data_bytes) = (length + 8, size - length - 8);
        Ok(Self { file, path: path.to_owned(), tensors, data_start, data_bytes, prefix })
    }

    /// Reads the tensor `name`, which must hold `shape` numbers of 32 bits, into `values`.
    ///
    /// # Errors
    /// [`Error::Unusable`] when it is missing, cut off, or of another type or shape; [`Error::Io`].
    pub fn read(&self, name: &str, shape: &[usize], values: &mut Vec<f32>) -> Result<(), Error> {
        let (start, count) =
            self.locate(name, shape).map_err(|reason| Error::unusable(&self.path, reason))?;
        values.clear();
        values.reserve_exact(count);
        let mut chunk = vec![0; READ_BYTES];
        let mut at = start;
        while values.len() < count {
            let bytes = &mut chunk[..READ_BYTES.min((count - values.len()) * 4)];
            self.file.read_exact_at(bytes, at).map_err(|e| Error::io("read", &self.path, e))?;
            values.extend(bytes.as_chunks().0.iter().map(|&number| f32::from_le_bytes(number)));
            at += bytes.len() as u64;
        }
        Ok(())
    }

    fn locate(&self, name: &str, shape: &[usize]) -> Result<(u64, usize), String> {
        let name = format!("{}{name}", self.prefix);
        let tensor = self.tensors.get(&name).ok_or_else(|| format!("it has no tensor {name}"))?;
        if tensor.dtype != "F32" {
            return Err(format!("{name} is of type {}, only F32 is supported", tensor.dtype));
        }
        if tensor.shape != shape {
            return Err(format!("{name} has shape {:?}, {shape:?} was expected", tensor.shape));
        }
        let (start, end) = tensor.data_offsets;
        let bytes = shape.iter().try_fold(4_u64, |bytes, &size| bytes.checked_mul(size as u64));
        if end > self.data_bytes || bytes.is_none() || end.checked_sub(start) != bytes {
            return Err(format!("{name} is cut off"));
        }
        Ok((self.data_start + start, shape.iter().product()))
    }

    /// Hashes the whole file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sha256(&self) -> Result<[u8; 32], Error> {
        sha256(&self.path)
    }
}

/// Hashes the file at `path`; about 50 ms for 90 MB.
///
/// # Errors
/// [`Error::Io`].
pub fn sha256(path: &Path) -> Result<[u8; 32], Error> {
    let mut file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; READ_BYTES];
    loop {
        match file.read(&mut chunk).map_err(|e| Error::io("read", path, e))? {
            0 => return Ok(hash.finalize().into()),
            read => hash.update(&chunk[..read]),
        }
    }
}

fn parse_header(header: &[u8]) -> Result<HashMap<String, Tensor>, serde_json::Error> {
    let entries: HashMap<String, &RawValue> = serde_json::from_slice(header)?;
    let tensors = entries.into_iter().filter(|(name, _)| name != "__metadata__");
    tensors.map(|(name, entry)| Ok((name, serde_json::from_str(entry.get())?))).collect()
}
