//! The machine under the agent: user, processor, open files, clock.

use jiff::Timestamp;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{Uid, User};

use super::Finding;
use crate::config::{DatabaseKind, Settings};

/// Descriptors that are not client connections: database, log, model, original files.
const OTHER_FILES: u64 = 200;
/// This version was written after this moment (2026-01-01): a clock that shows an earlier one is wrong.
const WRITTEN_AFTER_S: i64 = 1_767_225_600;

/// Which user this is, and what follows for a private cluster.
pub(super) fn user(settings: &Settings) -> Finding {
    let uid = Uid::effective();
    let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    if !uid.is_root() || settings.database == DatabaseKind::Url {
        return Finding::ok("user", name);
    }
    match User::from_name("postgres") {
        Ok(Some(_)) => Finding::ok("user", "root; PostgreSQL runs as postgres"),
        Ok(None) | Err(_) => Finding::fail(
            "user",
            "root, as which PostgreSQL refuses to run, and there is no user postgres",
            "start the agent as another user, or install the postgresql package, which makes the user",
        ),
    }
}

/// How many cores there are, and which of the vector instructions that embedding and search choose from.
pub(super) fn processor() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let features = vector_features();
    let text = format!("{cores} cores, vector instructions: {}", features.join(" "));
    if features.is_empty() {
        let text = format!("{cores} cores, none of the vector instructions that make search fast");
        return Finding::warn(
            "processor",
            text,
            "use a processor with AVX2 or NEON; search and ingestion are slow",
        );
    }
    Finding::ok("processor", text)
}

#[cfg(target_arch = "x86_64")]
fn vector_features() -> Vec<&'static str> {
    let known = [
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("fma", std::is_x86_feature_detected!("fma")),
        ("avx512f", std::is_x86_feature_detected!("avx512f")),
        ("avx512bw", std::is_x86_feature_detected!("avx512bw")),
        ("avx512vnni", std::is_x86_feature_detected!("avx512vnni")),
    ];
    known.into_iter().filter(|(_, present)| *present).map(|(name, _)| name).collect()
}

/// NEON belongs to every 64-bit ARM.
#[cfg(target_arch = "aarch64")]
fn vector_features() -> Vec<&'static str> {
    vec!["neon"]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn vector_features() -> Vec<&'static str> {
    Vec::new()
}

/// Whether the connections that are allowed fit into the open files that are allowed. The node raises the soft limit.
pub(super) fn open_files(settings: &Settings) -> Finding {
    let needed =
        u64::try_from(settings.server.connections_max).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    let hard = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard);
    if hard >= needed {
        return Finding::ok("open files", format!("{hard} allowed, {needed} needed at most"));
    }
    let remedy =
        format!("raise the hard limit (LimitNOFILE={needed} in a unit), or lower server.connections_max");
    Finding::warn("open files", format!("{hard} allowed, {needed} needed for server.connections_max"), remedy)
}

/// Whether the clock is plausible, and whether something keeps it right.
pub(super) fn clock() -> Finding {
    let now = Timestamp::now();
    let text = format!("{}", now.strftime("%Y-%m-%dT%H:%M:%SZ"));
    if now.as_second() < WRITTEN_AFTER_S {
        return Finding::fail(
            "clock",
            format!("{text} is in the past"),
            "set the clock: certificates and logins depend on it",
        );
    }
    Finding::ok("clock", text)
}
