//! What a node does for itself while it runs: its heartbeat in the database, and sweeping what has expired.

use std::sync::Arc;
use std::time::Duration;

use super::{App, accounts};
use crate::store::nodes::{self, Node};
use crate::store::{self, Store, index_log};
use crate::telemetry::metrics;

/// Three of these missed, and the others count a node as gone.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Heartbeats between two sweeps: an hour.
const SWEEP_EVERY: u32 = 720;

/// Keeps `node` in the list of live nodes, and the throttles informed of their number, until the app's tasks are told
/// to stop; then takes it off the list. A database that is away costs nothing but a debug line: requests report it.
pub async fn run(app: App, node: Node) {
    let mut ticks = tokio::time::interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut beats = 0_u32;
    while app.tasks.stopping().run_until_cancelled(ticks.tick()).await.is_some() {
        match beat(&app, &node).await {
            Ok(live) => app.throttles.set_live_nodes(live),
            Err(error) => log::debug!("cannot record the heartbeat: {error}"),
        }
        measure(&app).await;
        if beats.is_multiple_of(SWEEP_EVERY)
            && let Err(error) = sweep(&app.store).await
        {
            log::debug!("cannot sweep what has expired: {error}");
        }
        beats = beats.wrapping_add(1);
    }
    if let Ok(client) = app.store.primary().await
        && let Err(error) = nodes::leave(&client, node.id).await
    {
        log::debug!("cannot leave the list of nodes: {error}");
    }
}

/// Deletes sessions, login attempts and log rows that nobody needs any more.
async fn sweep(store: &Store) -> Result<(), store::Error> {
    accounts::clear_sessions(store).await?;
    index_log::prune(&store.primary().await?, index_log::ROWS_KEPT).await?;
    Ok(())
}

/// Sets the gauges that nobody else has a reason to look at.
async fn measure(app: &App) {
    let level = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let (in_use, open) = app.store.pool_usage();
    metrics::DATABASE_CONNECTIONS_OPEN.set(level(open));
    metrics::DATABASE_CONNECTIONS_IN_USE.set(level(in_use));
    let index = Arc::clone(&app.index);
    // A writer may hold it up.
    if let Ok(stats) = tokio::task::spawn_blocking(move || index.stats()).await {
        metrics::INDEX_PASSAGES.set(level(stats.chunks));
        metrics::INDEX_SIZE.set(level(stats.bytes));
    }
}

async fn beat(app: &App, node: &Node) -> Result<u32, store::Error> {
    let client = app.store.primary().await?;
    nodes::beat(&client, node).await
}
