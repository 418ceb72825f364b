//! Looks now and then at what the node stands on: the data directory decides readiness, the database is only reported.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::server::Readiness;
use crate::store::Store;
use crate::telemetry::chain::chain;

/// The parts' names in the node's health.
pub(super) const DATABASE: &str = "database";
const DATA_DIR: &str = "data_dir";
/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(5);

/// Looks until `stopping`. Changes are logged once, and shown in the node's health.
pub(super) async fn run(store: Store, data_dir: PathBuf, readiness: Readiness, stopping: CancellationToken) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut away_since: Option<Instant> = None;
    let mut is_writable = true;
    while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
        away_since = look_at_database(&store, &readiness, away_since).await;
        is_writable = look_at_data_dir(&data_dir, &readiness, is_writable).await;
    }
}

/// Returns since when the database has been away.
async fn look_at_database(
    store: &Store,
    readiness: &Readiness,
    away_since: Option<Instant>,
) -> Option<Instant> {
    match (store.ping().await, away_since) {
        (Ok(()), None) => {
            readiness.report(DATABASE, "answers");
            None
        }
        (Ok(()), Some(since)) => {
            let duration_s = since.elapsed().as_secs();
            log::info!(duration_s; "the database answers again after {duration_s} s");
            readiness.report(DATABASE, "answers");
            None
        }
        (Err(error), None) => {
            log::error!(error:% = chain(&error); "the database is away: {}", chain(&error));
            readiness.report(DATABASE, "away");
            Some(Instant::now())
        }
        (Err(_), Some(since)) => {
            readiness.report(DATABASE, format!("away for {} s", since.elapsed().as_secs()));
            Some(since)
        }
    }
}

/// Returns whether the data directory can be written.
async fn look_at_data_dir(data_dir: &Path, readiness: &Readiness, was_writable: bool) -> bool {
    let directory = data_dir.to_owned();
    let written =
        tokio::task::spawn_blocking(move || tempfile::tempfile_in(directory)?.write_all(b"x")).await;
    match written {
        Ok(Err(error)) => {
            if was_writable {
                log::error!("the data directory {} cannot be written: {error}", data_dir.display());
            }
            readiness.failing(DATA_DIR, error.to_string());
            false
        }
        Ok(Ok(())) | Err(_) => {
            if !was_writable {
                log::info!("the data directory {} can be written again", data_dir.display());
            }
            readiness.recovered(DATA_DIR);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unusable_data_directory_takes_the_node_out_of_service_until_it_is_mended() {
        let readiness = Readiness::new("app", &[]);
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        assert!(!look_at_data_dir(&data_dir, &readiness, true).await);
        assert!(readiness.check().is_err());
        std::fs::create_dir(&data_dir).unwrap();
        assert!(look_at_data_dir(&data_dir, &readiness, false).await);
        assert_eq!(readiness.check(), Ok(()));
    }
}
