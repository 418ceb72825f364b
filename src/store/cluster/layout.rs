//! The cluster's directories: who owns them, who may enter, and that only one agent uses them.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Error, PORT};
use crate::process::{Gid, Uid};

/// The longest path of a Unix socket: `sun_path` has 108 bytes on Linux with the final NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Where everything is, and the user that Postgres runs as. The lock is held as long as any clone lives.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// The folder that holds the others, mode 0700.
    pub base: PathBuf,
    /// PGDATA.
    pub data: PathBuf,
    /// The socket's folder, mode 0700.
    pub socket_dir: PathBuf,
    /// The user to become, where the agent runs as root.
    pub user: Option<(Uid, Gid)>,
    /// Absent where nobody is going to start anything.
    _lock: Option<Arc<Lock>>,
}

impl Layout {
    /// Makes what is missing under `data_dir`, checks that Postgres can use it, and takes the lock.
    pub fn prepare(data_dir: &Path) -> Result<Self, Error> {
        fs::create_dir_all(data_dir).map_err(directory("make", data_dir))?;
        let data_dir = fs::canonicalize(data_dir).map_err(directory("find", data_dir))?;
        let base = data_dir.join("postgres");
        let user = user_for(&base)?;
        make_private(&base, user)?;
        if let Some((uid, gid)) = user {
            check_reachable(&base, uid, gid)?;
        }
        let lock = lock(&base)?;
        let socket_dir = socket_dir(&base);
        make_private(&socket_dir, user)?;
        Ok(Self { data: base.join("data"), base, socket_dir, user, _lock: Some(Arc::new(lock)) })
    }

    /// Returns where things are under `data_dir`, without making or locking any.
    pub fn look(data_dir: &Path) -> Self {
        let data_dir = fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_owned());
        let base = data_dir.join("postgres");
        Self { data: base.join("data"), socket_dir: socket_dir(&base), base, user: None, _lock: None }
    }

    /// Tells whether an agent holds the lock.
    pub fn is_in_use(&self) -> bool {
        let file = File::options().write(true).open(self.base.join("lock"));
        file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// Returns the major version that made the data directory, or `None` where there is none yet.
    pub fn version(&self) -> Result<Option<u32>, Error> {
        let path = self.data.join("PG_VERSION");
        match fs::read_to_string(&path) {
            Ok(text) => {
                let invalid =
                    |source| directory("read", &path)(io::Error::new(io::ErrorKind::InvalidData, source));
                text.trim().parse().map(Some).map_err(invalid)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(directory("read", &path)(error)),
        }
    }
}

/// Returns a closure that says what was attempted on `path`.
pub(super) fn directory(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Directory { action, path, source }
}

/// Decides which user Postgres runs as; `None` is the agent's own.
fn user_for(base: &Path) -> Result<Option<(Uid, Gid)>, Error> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    // A cluster that was made without root keeps its owner.
    if let Ok(metadata) = fs::metadata(base)
        && metadata.uid() != 0
    {
        return Ok(Some((Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()))));
    }
    match nix::unistd::User::from_name("postgres") {
        Ok(Some(user)) => Ok(Some((user.uid, user.gid))),
        Ok(None) | Err(_) => Err(Error::NoUser),
    }
}

/// Makes a folder that only Postgres's user may enter. One that exists must be exactly that already: in `/tmp` somebody
/// else could have made it, to look at the database.
fn make_private(path: &Path, user: Option<(Uid, Gid)>) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            if let Some((uid, gid)) = user {
                chown(path, Some(uid.as_raw()), Some(gid.as_raw()))
                    .map_err(directory("change the owner of", path))?;
            }
            return Ok(());
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(directory("make", path)(error)),
    }
    let metadata = fs::symlink_metadata(path).map_err(directory("look at", path))?;
    let owner = user.map_or(Uid::effective(), |(uid, _)| uid);
    if metadata.uid() == 0 && Uid::effective().is_root() {
        // An earlier start was killed between the two steps above.
        chown(path, user.map(|(uid, _)| uid.as_raw()), user.map(|(_, gid)| gid.as_raw()))
            .map_err(directory("change the owner of", path))?;
    } else if metadata.uid() != owner.as_raw() {
        return Err(Error::Owner { path: path.to_owned(), owner: metadata.uid() });
    }
    if metadata.is_dir() && metadata.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(directory("trust", path)(io::Error::other("not a folder with mode 0700")))
}

/// Checks that the user may pass through every folder above `base`, by owner, group and mode.
fn check_reachable(base: &Path, uid: Uid, gid: Gid) -> Result<(), Error> {
    for path in base.ancestors().skip(1) {
        let metadata = fs::metadata(path).map_err(directory("look at", path))?;
        let pass = if metadata.uid() == uid.as_raw() {
            0o100
        } else if metadata.gid() == gid.as_raw() {
            0o010
        } else {
            0o001
        };
        if metadata.mode() & pass == 0 {
            let user =
                nix::unistd::User::from_uid(uid).ok().flatten().map_or(uid.to_string(), |user| user.name);
            return Err(Error::Unreachable { path: path.to_owned(), user });
        }
    }
    Ok(())
}

/// The lock on the cluster's folder, given up when dropped.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would not do: a child that was forked and has not come to its `exec` still has a copy of the
        // descriptor, and the lock would last as long. Unlocked once, it is unlocked for all copies.
        let _ = self.0.unlock();
    }
}

/// Takes the lock that keeps a second agent from adopting, and then stopping, this one's Postgres.
fn lock(base: &Path) -> Result<Lock, Error> {
    let path = base.join("lock");
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(directory("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: base.to_owned() }),
        Err(TryLockError::Error(error)) => Err(directory("lock", &path)(error)),
    }
}

/// Chooses the socket's folder: beside the data where the path is short enough, else one in `/tmp` named after it.
fn socket_dir(base: &Path) -> PathBuf {
    let beside = base.join("run");
    let socket = beside.join(format!(".s.PGSQL.{PORT}"));
    if socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return beside;
    }
    let digest = Sha256::digest(base.as_os_str().as_encoded_bytes());
    Path::new("/tmp").join(format!("agent-{}", hex::encode(&digest[..8])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_path_over_the_limit_moves_to_tmp() {
        let socket_name = format!("/run/.s.PGSQL.{PORT}");
        let longest =
            PathBuf::from(format!("/{}", "x".repeat(SOCKET_PATH_BYTES_MAX - socket_name.len() - 1)));
        assert_eq!(socket_dir(&longest), longest.join("run"));
        let longer = PathBuf::from(format!("{}x", longest.display()));
        assert!(socket_dir(&longer).starts_with("/tmp"));
        assert_eq!(socket_dir(&longer), socket_dir(&longer));
    }

    #[test]
    fn a_folder_that_others_may_enter_is_not_trusted() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("run");
        make_private(&folder, None).unwrap();
        make_private(&folder, None).unwrap();
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert!(matches!(make_private(&folder, None), Err(Error::Directory { action: "trust", .. })));
    }
}
