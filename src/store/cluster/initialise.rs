//! Makes a new data directory: complete or absent, whenever the agent or the machine dies.

use std::ffi::OsString;
use std::fs::{self, File};

use super::binaries::{Binaries, command};
use super::layout::{Layout, directory};
use super::{Durability, Error, NAME};
use crate::process::Spawner;

/// How the folder that is being made is named; what follows is unique.
const PARTIAL_PREFIX: &str = "data.partial-";

/// Runs `initdb` in a folder of its own and renames it into place.
pub(super) async fn initialise(
    layout: &Layout,
    binaries: &Binaries,
    durability: Durability,
    spawner: &Spawner,
) -> Result<(), Error> {
    sweep(layout);
    log::info!("making a PostgreSQL {} data directory in {}", binaries.major, layout.data.display());
    let partial = layout.base.join(format!("{PARTIAL_PREFIX}{}", uuid::Uuid::now_v7()));
    let mut args: Vec<OsString> = vec!["-D".into(), partial.clone().into()];
    args.extend(
        ["-U", NAME, "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions", "--data-checksums"]
            .map(OsString::from),
    );
    // Whoever may enter the socket's folder may log in; there is no other way in.
    args.extend(["--auth-local=trust", "--auth-host=reject"].map(OsString::from));
    if binaries.major >= 17 {
        // Sorts by code point and knows Unicode's cases without asking the system's C library, whose updates change
        // orders and thereby break indexes.
        args.extend(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"].map(OsString::from));
    }
    if durability == Durability::None {
        args.push("--no-sync".into());
    }
    let finished = spawner.run(command(&binaries.dir, "initdb", args, layout)).await?;
    if !finished.status.success() {
        let output = finished.tail.join("; ");
        return Err(Error::Initialise { path: layout.base.clone(), status: finished.status, output });
    }
    fs::rename(&partial, &layout.data).map_err(directory("make", &layout.data))?;
    let synced = File::open(&layout.base).and_then(|base| base.sync_all());
    synced.map_err(directory("flush", &layout.base))
}

/// Removes what killed starts left. The killed agent's `initdb` may still be at it, so failures are for the next start.
fn sweep(layout: &Layout) {
    for entry in fs::read_dir(&layout.base).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(PARTIAL_PREFIX.as_bytes())
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            log::warn!("cannot remove {}: {error}", entry.path().display());
        }
    }
}
