//! Keeps this node's claims alive, and ends the answers of nodes that no longer do.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::hub::Stop;
use super::{Failure, Parts};
use crate::store::{self, generations, journal};
use crate::telemetry::chain::chain;
use crate::telemetry::metrics;

/// How often leases are renewed. This is also how long a cancellation takes that came in on another node.
const RENEW_INTERVAL: Duration = Duration::from_millis(500);

/// Sweeps in the time of one lease: an answer is ended at most a lease and a sweep after its node died.
const SWEEPS_PER_LEASE: u32 = 4;

/// How long journals are kept for readers who come back; later the message itself is replayed.
const JOURNAL_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How often old journals are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_secs(600);

/// Renews the claims of this node and passes cancellations on.
pub async fn renew(parts: &Parts) {
    let mut ticks = interval(RENEW_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let claims = parts.hub.claims();
        if claims.is_empty() {
            continue;
        }
        let renewed =
            async { generations::renew(&parts.store.primary().await?, &claims, parts.lease).await }.await;
        // A database that is away is the writer's business: it knows how long the leases may still hold.
        let Ok(renewed) = renewed else { continue };
        let renewed: HashMap<_, _> = renewed.into_iter().collect();
        for claim in claims {
            match renewed.get(&claim.message) {
                Some(false) => {}
                Some(true) => parts.hub.stop(claim.message, Stop::Cancelled),
                None => parts.hub.stop(claim.message, Stop::Lost),
            }
        }
    }
}

/// Ends expired answers, at once and then every few seconds, and deletes old journals.
pub async fn sweep(parts: &Parts) {
    let mut ticks = interval(parts.lease / SWEEPS_PER_LEASE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pruned: Option<Instant> = None;
    loop {
        ticks.tick().await;
        let prune = pruned.is_none_or(|at| at.elapsed() >= PRUNE_INTERVAL);
        match sweep_once(parts, prune).await {
            Ok(ended) => {
                if prune {
                    pruned = Some(Instant::now());
                }
                metrics::ANSWERS_EXPIRED.add(ended);
                if ended > 0 {
                    log::info!("ended {ended} answers whose node stopped renewing them");
                }
            }
            Err(error) => log::debug!(error:% = chain(&error); "cannot sweep expired answers"),
        }
    }
}

async fn sweep_once(parts: &Parts, prune: bool) -> Result<u64, store::Error> {
    let mut client = parts.store.primary().await?;
    let ended = generations::end_expired(&mut client, parts.lease, &Failure::INTERRUPTED.data()).await?;
    if prune {
        journal::prune(&client, JOURNAL_AGE_MAX).await?;
    }
    Ok(ended)
}
