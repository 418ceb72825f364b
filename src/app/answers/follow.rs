//! Streams that another node writes: read from the journal, all of them in one statement.

use std::time::Duration;

use tokio::time::Instant;

use super::Parts;
use crate::store;
use crate::store::ids::MessageId;
use crate::store::journal::{self, News};
use crate::telemetry::chain::chain;

/// How often the journal is read while somebody here follows a stream: as often as its writers write.
const READ_INTERVAL: Duration = Duration::from_millis(100);

/// Feeds the followed streams for as long as they have readers.
pub async fn run(parts: &Parts) {
    let mut answered = Instant::now();
    loop {
        let followed = parts.hub.followed();
        if followed.is_empty() {
            parts.hub.follow.notified().await;
            answered = Instant::now();
            continue;
        }
        match read(parts, &followed).await {
            Ok(news) => {
                answered = Instant::now();
                news.into_iter().for_each(|news| show(parts, &news));
            }
            // Readers are let go rather than left without a word; they come back until the database does.
            Err(error) if !error.is_transient() || answered.elapsed() > parts.lease => {
                log::error!(error:% = chain(&error); "cannot read the journal, its streams are closed");
                followed.iter().for_each(|(message, _)| parts.hub.cut(*message));
            }
            Err(_) => {}
        }
        tokio::time::sleep(READ_INTERVAL).await;
    }
}

async fn read(parts: &Parts, followed: &[(MessageId, i32)]) -> Result<Vec<News>, store::Error> {
    journal::read(&parts.store.primary().await?, followed).await
}

fn show(parts: &Parts, news: &News) {
    let Some(live) = parts.hub.get(news.message) else { return };
    if live.publish(&news.events) {
        parts.hub.end(news.message);
    } else if !news.is_open {
        // The chat was deleted, and its streams with it.
        parts.hub.cut(news.message);
    }
}
