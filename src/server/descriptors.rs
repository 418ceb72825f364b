//! The process's limit on open files, which bounds its connections.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit on open files to what the system allows, and returns it.
///
/// Most systems start a process with 1,024, for the sake of programs that use select(2), and allow it far more.
///
/// # Errors
/// The kernel refuses, which it does only under a sandbox; the old limit holds.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}
