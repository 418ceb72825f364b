//! Starts Postgres again when it ends by itself; the agent never exits for it.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::postmaster::{Postmaster, Starter};
use crate::telemetry::chain::chain;

/// The wait before the first restart; each further one is twice as long.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);

/// The longest wait: with the disk full, for example, nothing but patience helps.
const BACK_OFF_MAX: Duration = Duration::from_secs(10);

/// A Postgres that ran for this long was healthy, so that the next restart is prompt again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// Keeps Postgres running until `stop`, then stops it in order.
pub(super) async fn run(starter: Starter, mut postmaster: Postmaster, stop: CancellationToken) {
    let mut back_off = BACK_OFF_MIN;
    loop {
        let started_at = Instant::now();
        tokio::select! {
            () = stop.cancelled() => return postmaster.stop().await,
            how = postmaster.ended() => log::error!("PostgreSQL ended by itself ({how}); starting it again"),
        }
        if started_at.elapsed() > HEALTHY_AFTER {
            back_off = BACK_OFF_MIN;
        }
        postmaster = tokio::select! {
            // What is half started gets its death signal.
            () = stop.cancelled() => return,
            restarted = restart(&starter, &mut back_off) => restarted,
        };
    }
}

/// Tries until Postgres answers.
async fn restart(starter: &Starter, back_off: &mut Duration) -> Postmaster {
    loop {
        sleep(*back_off).await;
        *back_off = BACK_OFF_MAX.min(*back_off * 2);
        match starter.start().await {
            Ok(postmaster) => {
                log::info!("PostgreSQL answers again");
                return postmaster;
            }
            Err(error) => {
                log::error!("cannot restart PostgreSQL, next try in {back_off:?}: {}", chain(&error));
            }
        }
    }
}
