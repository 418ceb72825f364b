//! What settings must be together: the demands of a profile, pairs, and sums.

use std::time::Duration;

use super::problem::Problem;
use super::settings::Settings;
use super::vocabulary::{DatabaseKind, Profile, Role};

/// How long systemd waits for the process to stop before it kills it: the unit's `TimeoutStopSec`.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(75);
/// How much of [`STOP_TIMEOUT`] is kept for what follows the drain: a private Postgres that flushes and ends.
pub const CLOSE_RESERVE: Duration = Duration::from_secs(15);

/// Adds what is wrong with the settings as a whole.
pub(super) fn check(settings: &Settings, problems: &mut Vec<Problem>) {
    let mut refuse = |key: &str, message: &str| problems.push(Problem::new(key, message));
    match settings.role {
        Role::App => {}
        Role::Auto => {
            return refuse(
                "role",
                "auto needs the instance's tags, which this version does not read: give --role app",
            );
        }
        Role::Web | Role::Health => {
            return refuse("role", "web and health are not in this version: give --role app");
        }
    }
    if settings.profile == Profile::Aws {
        check_deployment(settings, &mut refuse);
    }
    check_database(settings, &mut refuse);
    check_server(settings, &mut refuse);
    if settings.drain.total() + CLOSE_RESERVE > STOP_TIMEOUT {
        refuse(
            "drain",
            "balancer_wait and deadline together must be at most 60s: the unit kills after 75s, and the database takes up to 15s to close",
        );
    }
    if settings.upload.text_bytes_max > settings.upload.bytes_max {
        refuse("upload.text_bytes_max", "must not be larger than upload.bytes_max");
    }
}

/// What a node of a deployment needs and cannot guess.
fn check_deployment(settings: &Settings, refuse: &mut impl FnMut(&str, &str)) {
    if settings.public_urls.is_empty() {
        refuse(
            "public_urls",
            "must be set in profile aws: the origins that people type, such as https://chat.example.org",
        );
    }
    if settings.blobs.path().as_os_str().is_empty() {
        refuse("blobs", "must be set in profile aws: a directory that every app node shares");
    }
}

fn check_database(settings: &Settings, refuse: &mut impl FnMut(&str, &str)) {
    match (settings.database, &settings.database_url) {
        (DatabaseKind::Private, None) => {}
        (DatabaseKind::Private, Some(_)) => {
            refuse("database", "is private although database_url is set: take one of them away");
        }
        (DatabaseKind::Url, None) => {
            refuse("database_url", "must be set, or say database = \"private\" for the agent's own Postgres");
        }
        (DatabaseKind::Url, Some(url)) => {
            let known =
                ["postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme));
            if !known {
                refuse("database_url", "must begin with postgres:// or postgresql://");
            } else if settings.profile == Profile::Aws
                && settings.database_ca_file.is_none()
                && !is_private_way(url.expose())
            {
                refuse(
                    "database_url",
                    "must ask for TLS in profile aws: add sslmode=verify-full, or set database_ca_file",
                );
            }
        }
    }
}

/// Whether nobody on the network can read what goes to this database: TLS, or a Unix socket.
fn is_private_way(url: &str) -> bool {
    ["sslmode=require", "sslmode=verify-", "host=/", "host=%2F", "@%2F"].iter().any(|sign| url.contains(sign))
}

fn check_server(settings: &Settings, refuse: &mut impl FnMut(&str, &str)) {
    let (listen, ops_listen) = (settings.listen, settings.ops_listen);
    if listen.port() != 0 && listen.port() == ops_listen.port() {
        refuse("ops_listen", "must have another port than listen");
    }
    let server = &settings.server;
    if server.tls_cert_file.is_some() != server.tls_key_file.is_some() {
        refuse("server.tls_cert_file", "and server.tls_key_file must be set together");
    }
    let files =
        [("server.tls_cert_file", &server.tls_cert_file), ("server.tls_key_file", &server.tls_key_file)];
    for (key, path) in files.into_iter().chain([("database_ca_file", &settings.database_ca_file)]) {
        if let Some(error) = path.as_ref().and_then(|path| std::fs::File::open(path).err()) {
            refuse(key, &format!("names a file that cannot be opened: {error}"));
        }
    }
}
