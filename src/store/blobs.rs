//! Originals: the uploaded files, as they came, under names that nobody chose.
//!
//! A file that is being uploaded is never whole in memory and has no name until it is complete and on disk; an upload
//! that is dropped leaves nothing. Names are `xx/<uuid>`: 256 folders, because a flat one of a million files is slow to
//! list. What has no document any more is removed by way of [`super::blob_removals`].

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Size of the parts in which a file is written, in bytes. Every upload holds about one in memory, however slow it is;
/// larger ones would not make a local disk faster.
const PART_BYTES: usize = 256 * 1024;

/// What can go wrong with originals.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no original of that name.
    #[error("original {name} is missing")]
    Missing {
        /// Its name.
        name: String,
    },
    /// The disk is full. Nothing was stored.
    #[error("no space for originals")]
    Full(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The object store does not answer as it should; the same call may succeed later.
    #[error("originals unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Whether the same call may succeed when it is tried again later.
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::Missing { .. })
    }

    fn of(name: &str, error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::Missing { name: name.to_owned() },
            other if is_full(&other) => Self::Full(Box::new(other)),
            other => Self::Unavailable(Box::new(other)),
        }
    }
}

/// Whether somewhere below `error` the system says that there is no space or quota left.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            let kind = io.kind();
            return kind == std::io::ErrorKind::StorageFull || kind == std::io::ErrorKind::QuotaExceeded;
        }
        cause = error.source();
    }
    false
}

/// The store of originals. Clones are the same store.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    root: PathBuf,
}

impl Blobs {
    /// Opens the store in folder `root`, which is made if it does not exist.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Full`]: the folder cannot be made or used.
    pub fn open(root: &FilePath) -> Result<Self, Error> {
        let unusable = |error: std::io::Error| {
            if is_full(&error) { Error::Full(Box::new(error)) } else { Error::Unavailable(Box::new(error)) }
        };
        std::fs::create_dir_all(root).map_err(unusable)?;
        let root = root.canonicalize().map_err(unusable)?;
        // Without fsync a document could be acknowledged and its original lost with the power.
        let store = LocalFileSystem::new_with_prefix(&root).map_err(|error| Error::of("", error))?;
        Ok(Self { store: Arc::new(store.with_fsync(true)), root })
    }

    /// Starts the upload of a new original.
    pub fn upload(&self) -> Upload {
        let id = Uuid::new_v4();
        let name = format!("{:02x}/{id}", id.as_bytes()[15]);
        Upload {
            store: Arc::clone(&self.store),
            path: Path::from(name.as_str()),
            name,
            parts: None,
            buffer: BytesMut::new(),
            size_bytes: 0,
            sha256: Sha256::new(),
        }
    }

    /// Reads a whole original.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn read(&self, name: &str) -> Result<Bytes, Error> {
        let result = self.store.get(&Path::from(name)).await.map_err(|error| Error::of(name, error))?;
        result.bytes().await.map_err(|error| Error::of(name, error))
    }

    /// Opens an original for reading piece by piece. Returns its size in bytes with the stream.
    ///
    /// # Errors
    /// See [`Error`], here and for each piece.
    pub async fn stream(&self, name: &str) -> Result<(u64, BoxStream<'static, Result<Bytes, Error>>), Error> {
        let result = self.store.get(&Path::from(name)).await.map_err(|error| Error::of(name, error))?;
        let size_bytes = result.meta.size;
        let name = name.to_owned();
        Ok((size_bytes, result.into_stream().map_err(move |error| Error::of(&name, error)).boxed()))
    }

    /// Removes an original; one that is gone already is no error.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        match self.store.delete(&Path::from(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(Error::of(name, error)),
        }
    }

    /// Lists the originals that were stored longer than `age` ago, in no order, in groups of up to `size`.
    pub fn older_than(&self, age: Duration, size: usize) -> BoxStream<'static, Result<Vec<String>, Error>> {
        let limit = jiff::Timestamp::now().as_second() - i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        self.store
            .list(None)
            .map_err(|error| Error::of("", error))
            .try_filter(move |meta| std::future::ready(meta.last_modified.timestamp() < limit))
            .map_ok(|meta| meta.location.to_string())
            .try_chunks(size)
            .map_err(|error| error.1)
            .boxed()
    }

    /// Removes what uploads left behind whose process was killed, if it is older than `age`. Returns how many files.
    ///
    /// Blocking: walks the whole folder.
    pub fn sweep_unfinished(&self, age: Duration) -> usize {
        let mut removed = 0;
        let folders = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        for entry in folders.flat_map(|folder| std::fs::read_dir(folder.path())).flatten().flatten() {
            // The object store writes to `<name>#<n>` and renames.
            let is_unfinished = entry.file_name().to_string_lossy().contains('#');
            let is_old = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|elapsed| elapsed > age));
            if is_unfinished && is_old && std::fs::remove_file(entry.path()).is_ok() {
                removed += 1;
            }
        }
        removed
    }
}

/// An original that is being uploaded. Dropped before [`finish`](Self::finish), it leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    name: String,
    /// Present once there is more than one part.
    parts: Option<Box<dyn MultipartUpload>>,
    buffer: BytesMut,
    size_bytes: u64,
    sha256: Sha256,
}

/// An original that is complete and on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name in the store.
    pub name: String,
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

impl Upload {
    /// Appends `piece`.
    ///
    /// # Errors
    /// See [`Error`]; the upload is of no use then.
    pub async fn write(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.sha256.update(piece);
        self.size_bytes += piece.len() as u64;
        self.buffer.extend_from_slice(piece);
        if self.buffer.len() >= PART_BYTES {
            self.put_part().await?;
        }
        Ok(())
    }

    /// How much was written so far, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Makes the original durable and gives it its name.
    ///
    /// # Errors
    /// See [`Error`]; nothing is stored then.
    pub async fn finish(mut self) -> Result<Stored, Error> {
        if self.parts.is_some() {
            if !self.buffer.is_empty() {
                self.put_part().await?;
            }
            let parts = self.parts.as_mut().expect("checked above");
            parts.complete().await.map_err(|error| Error::of(&self.name, error))?;
        } else {
            let bytes = std::mem::take(&mut self.buffer).freeze();
            self.store.put(&self.path, bytes.into()).await.map_err(|error| Error::of(&self.name, error))?;
        }
        Ok(Stored { name: self.name, size_bytes: self.size_bytes, sha256: self.sha256.finalize().into() })
    }

    /// Writes the buffer and waits until that is done, so that no more than one part is ever in memory.
    async fn put_part(&mut self) -> Result<(), Error> {
        let failed = |error| Error::of(&self.name, error);
        if self.parts.is_none() {
            self.parts = Some(self.store.put_multipart(&self.path).await.map_err(failed)?);
        }
        let bytes = self.buffer.split().freeze();
        let parts = self.parts.as_mut().expect("set above");
        parts.put_part(bytes.into()).await.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(root: &FilePath) -> usize {
        let folders = std::fs::read_dir(root).unwrap().flatten();
        folders.map(|folder| std::fs::read_dir(folder.path()).unwrap().count()).sum()
    }

    #[tokio::test]
    async fn an_original_of_many_parts_comes_back_as_it_went_in() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let mut upload = blobs.upload();
        let piece: Vec<u8> = (0..=255).cycle().take(700_001).collect();
        for _ in 0..20 {
            upload.write(&piece).await.unwrap();
        }
        let stored = upload.finish().await.unwrap();
        let expected = piece.repeat(20);
        assert_eq!((stored.size_bytes, stored.sha256), (14_000_020, Sha256::digest(&expected).into()));
        assert_eq!(blobs.read(&stored.name).await.unwrap(), expected);
        let names: Vec<_> = blobs.older_than(Duration::ZERO, 10).try_concat().await.unwrap();
        assert!(names.is_empty() || names == [stored.name.clone()]);
        blobs.delete(&stored.name).await.unwrap();
        blobs.delete(&stored.name).await.unwrap();
        assert!(matches!(blobs.read(&stored.name).await, Err(Error::Missing { .. })));
    }

    #[tokio::test]
    async fn a_dropped_upload_leaves_nothing_and_a_killed_one_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let mut upload = blobs.upload();
        upload.write(&vec![1; PART_BYTES + 1]).await.unwrap();
        assert_eq!(files(folder.path()), 1);
        drop(upload);
        // Removed on a thread of the runtime.
        let gone = async {
            while files(folder.path()) > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the upload's file is removed");
        let mut killed = blobs.upload();
        killed.write(&vec![1; PART_BYTES + 1]).await.unwrap();
        std::mem::forget(killed);
        assert_eq!(blobs.sweep_unfinished(Duration::from_secs(60)), 0);
        assert_eq!(blobs.sweep_unfinished(Duration::ZERO), 1);
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let source = Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull));
        let error = object_store::Error::Generic { store: "test", source };
        assert!(matches!(Error::of("a", error), Error::Full(_)));
        let source = Box::new(std::io::Error::from(std::io::ErrorKind::PermissionDenied));
        let error = object_store::Error::Generic { store: "test", source };
        assert!(matches!(Error::of("a", error), Error::Unavailable(_)));
    }
}
