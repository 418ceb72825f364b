//! What the binary does besides running the node. Each command works beside a running node of the same data directory.

mod account;
mod check;
mod model;
mod password;

use std::io::Write;

use anyhow::Context;

pub use account::{Account, change_password, create_superuser};
pub use check::{check, check_value};
pub use model::install_model;

use super::Error;
use super::database::Database;
use crate::app::accounts;
use crate::config::Resolved;
use crate::process::Spawner;
use crate::store::{Store, migrate};

/// Prints the version.
///
/// # Errors
/// Standard output cannot be written.
pub fn version() -> Result<(), Error> {
    say(concat!("agent ", env!("CARGO_PKG_VERSION")))
}

/// Brings the database's schema up to this version.
///
/// # Errors
/// The database is away or refuses.
pub fn migrate(resolved: Resolved) -> Result<(), Error> {
    with_store(&resolved, async |store| {
        let done = migrate::migrate(&store).await?;
        match done.applied.as_slice() {
            [] => say(&format!("nothing to do: the database has all {} migrations", done.total)),
            applied => say(&format!("applied {}", applied.join(", "))),
        }
    })
}

/// Deletes sessions that have expired.
///
/// # Errors
/// The database is away or refuses.
pub fn clear_sessions(resolved: Resolved) -> Result<(), Error> {
    with_store(&resolved, async |store| {
        migrate::migrate(&store).await?;
        let count = accounts::clear_sessions(&store).await?;
        say(&format!("deleted {count} expired sessions"))
    })
}

/// Opens the database, beside a running node or alone, calls `work`, and closes what was opened.
fn with_store(resolved: &Resolved, work: impl AsyncFnOnce(Store) -> Result<(), Error>) -> Result<(), Error> {
    runtime()?.block_on(async {
        let spawner = Spawner::start().context("cannot start the thread that starts children")?;
        let database = Database::open_beside_node(resolved, &spawner).await?;
        let outcome = work(database.store.clone()).await;
        database.close().await;
        outcome
    })
}

/// Makes a runtime for one command.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.context("cannot start the runtime")?)
}

/// Writes a line to standard output. A reader that has gone away, as `head` does, wants no more: that is no failure.
fn say(line: &str) -> Result<(), Error> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::from(error).context("cannot write to standard output").into())
        }
        _ => Ok(()),
    }
}
