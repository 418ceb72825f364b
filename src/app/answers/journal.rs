//! The one writer of this node's journal: everything that is streamed passes it, and is shown once it is committed.
//!
//! Events of all answers are gathered for a moment and stored by one statement. The first words of an answer and its end
//! are not kept waiting.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use super::hub::Hub;
use super::live::Live;
use crate::store::generations::Claim;
use crate::store::ids::MessageId;
use crate::store::journal::{Ending, Event};
use crate::store::{self, Store, journal};
use crate::telemetry::chain::chain;
use crate::telemetry::metrics;

/// How long events are gathered before they are stored.
const BATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Entries that wait for the writer at most; then generators wait.
const QUEUE_MAX: usize = 1024;

/// A delta shorter than this takes the next one in with it: a model's tokens are too small for a row each.
const DELTA_BYTES_MERGED: usize = 24;

/// The first and the longest pause between two attempts at a database that is away.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(2);

/// Something that happened to an answer.
#[derive(Debug)]
pub struct Entry {
    /// Proves that this node may write it.
    pub claim: Claim,
    /// The stream that shows it.
    pub live: Arc<Live>,
    /// What happened.
    pub what: What,
}

/// What can happen to an answer.
#[derive(Debug)]
pub enum What {
    /// More text.
    Delta(String),
    /// Another event: its name and its data, one line of JSON.
    Event(&'static str, String),
    /// The terminal event and how the answer ended; [`Ending::events`] is filled by the writer.
    End(&'static str, String, Box<Ending>),
}

/// Makes the writer and the way to it.
pub fn channel() -> (mpsc::Sender<Entry>, mpsc::Receiver<Entry>) {
    mpsc::channel(QUEUE_MAX)
}

/// What waits for the writer, and whether one had some of it in hand before.
pub struct Inbox {
    entries: mpsc::Receiver<Entry>,
    has_run: bool,
}

impl Inbox {
    /// Makes the inbox of a writer that has not run.
    pub fn of(entries: mpsc::Receiver<Entry>) -> Self {
        Self { entries, has_run: false }
    }
}

/// Writes until every sender is gone. It may be started again after a panic.
pub async fn run(store: Store, hub: Arc<Hub>, patience: Duration, inbox: Arc<Mutex<Inbox>>) {
    let mut inbox = inbox.lock().await;
    let Inbox { entries, has_run } = &mut *inbox;
    // What an earlier run had in hand is lost: the answers that it wrote must not go on with a gap.
    if std::mem::replace(has_run, true) {
        hub.claims().iter().for_each(|claim| hub.cut(claim.message));
    }
    let writer = Writer { store, hub, patience };
    let mut batch = Vec::new();
    while entries.recv_many(&mut batch, QUEUE_MAX).await > 0 {
        let due = Instant::now() + BATCH_INTERVAL;
        while !is_urgent(&batch) {
            match tokio::time::timeout_at(due, entries.recv_many(&mut batch, QUEUE_MAX)).await {
                Ok(received) if received > 0 => {}
                _ => break,
            }
        }
        writer.flush(std::mem::take(&mut batch)).await;
    }
}

struct Writer {
    store: Store,
    hub: Arc<Hub>,
    /// How long a failing database is tried: as long as the leases may still be ours.
    patience: Duration,
}

/// Whether a person waits for something in `batch`: first words, or the end.
fn is_urgent(batch: &[Entry]) -> bool {
    batch.iter().any(|entry| match entry.what {
        What::Delta(_) => entry.live.last_id() <= 1,
        What::End(..) => true,
        What::Event(..) => false,
    })
}

/// The events of one answer in one batch.
struct Part {
    claim: Claim,
    live: Arc<Live>,
    /// Text that is not an event yet.
    delta: String,
    events: Vec<Event>,
    ending: Option<Box<Ending>>,
}

impl Part {
    fn take(&mut self, what: What) {
        match what {
            What::Delta(text) => {
                self.delta.push_str(&text);
                if self.delta.len() >= DELTA_BYTES_MERGED {
                    self.push_delta();
                }
            }
            What::Event(name, data) => {
                self.push_delta();
                self.push(name, data);
            }
            What::End(name, data, ending) => {
                self.push_delta();
                self.push(name, data);
                self.ending = Some(ending);
            }
        }
    }

    fn push_delta(&mut self) {
        if !self.delta.is_empty() {
            let data = serde_json::json!({ "text": std::mem::take(&mut self.delta) });
            self.push("delta", data.to_string());
        }
    }

    /// Gives the event its id. What the stream shows is all that was stored: one writer, one batch at a time.
    fn push(&mut self, name: &str, data: String) {
        let before = self.events.last().map_or_else(|| self.live.last_id(), |event| event.id);
        self.events.push(Event { id: before + 1, name: name.to_owned(), data });
    }
}

impl Writer {
    async fn flush(&self, batch: Vec<Entry>) {
        let (ending, going): (Vec<Part>, Vec<Part>) =
            sort(batch, &self.hub).into_iter().partition(|part| part.ending.is_some());
        if !going.is_empty() {
            self.append(going).await;
        }
        for part in ending {
            self.finish(part).await;
        }
    }

    async fn append(&self, parts: Vec<Part>) {
        match self.store(&parts).await {
            // What the database refuses is in one of the answers; the others go on.
            Err(Failed::Refused) if parts.len() > 1 => {
                for part in parts.chunks(1) {
                    self.show(part, self.store(part).await);
                }
            }
            stored => self.show(&parts, stored),
        }
    }

    /// Stores the events of several answers. Returns those whose claim holds.
    async fn store(&self, parts: &[Part]) -> Result<HashSet<MessageId>, Failed> {
        let rows: Vec<(Claim, Event)> =
            parts.iter().flat_map(|p| p.events.iter().map(|event| (p.claim, event.clone()))).collect();
        let mut attempts = Attempts::new(self.patience);
        loop {
            let attempt = async { journal::append(&self.store.primary().await?, &rows).await }.await;
            if let ControlFlow::Break(stored) = attempts.judge(attempt).await {
                return stored.map(HashSet::from_iter);
            }
        }
    }

    /// Shows readers what was stored.
    fn show(&self, parts: &[Part], stored: Result<HashSet<MessageId>, Failed>) {
        for Part { claim, live, events, .. } in parts {
            match &stored {
                Ok(held) if held.contains(&claim.message) => {
                    show(live, events);
                }
                Ok(_) => self.hub.lose(claim.message),
                Err(_) => self.hub.cut(claim.message),
            }
        }
    }

    async fn finish(&self, part: Part) {
        let Part { claim, live, events, ending, .. } = part;
        let Some(mut ending) = ending else { return };
        ending.events = events;
        let mut attempts = Attempts::new(self.patience);
        let held = loop {
            let attempt = async { journal::finish(&self.store.primary().await?, claim, &ending).await }.await;
            if let ControlFlow::Break(held) = attempts.judge(attempt).await {
                break held;
            }
        };
        match held {
            Ok(true) => {
                show(&live, &ending.events);
                if let Some(outcome) = metrics::ANSWER_OUTCOMES.iter().position(|name| *name == ending.status)
                {
                    metrics::ANSWERS_ENDED.at(outcome).add(1);
                }
                self.hub.end(claim.message);
            }
            // Also after a commit of ours whose answer was lost: the journal then has our own end.
            Ok(false) => self.hub.lose(claim.message),
            Err(_) => self.hub.cut(claim.message),
        }
    }
}

/// Shows what is committed.
fn show(live: &Live, events: &[Event]) {
    if live.last_id() <= 1 && events.iter().any(|event| event.name == "delta") {
        metrics::ANSWER_FIRST_WORDS.record(live.age());
    }
    live.publish(events);
}

/// Why a write was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failed {
    /// The database stayed away for longer than the leases hold.
    Away,
    /// The database will never take it.
    Refused,
}

/// Attempts of one write at a database that may be away for a while.
struct Attempts {
    give_up: Instant,
    pause: Duration,
}

impl Attempts {
    fn new(patience: Duration) -> Self {
        Self { give_up: Instant::now() + patience, pause: RETRY_FIRST }
    }

    /// Waits before the next attempt, or breaks: with what the write returned, or with why there is none to come.
    async fn judge<T>(&mut self, attempt: Result<T, store::Error>) -> ControlFlow<Result<T, Failed>> {
        match attempt {
            Ok(value) => ControlFlow::Break(Ok(value)),
            Err(error) if error.is_transient() && Instant::now() + self.pause < self.give_up => {
                // Nodes that lost the same database do not all come back in the same instant.
                tokio::time::sleep(self.pause.mul_f64(0.5 + 0.5 * rand::random::<f64>())).await;
                self.pause = (self.pause * 2).min(RETRY_LONGEST);
                ControlFlow::Continue(())
            }
            Err(error) => {
                log::error!(error:% = chain(&error); "cannot store answers in the journal, their streams are closed");
                ControlFlow::Break(Err(if error.is_transient() { Failed::Away } else { Failed::Refused }))
            }
        }
    }
}

/// Sorts a batch by answer, the events of each in order. Answers that were given up are left out: what waited in the
/// queue behind a batch that could not be stored would leave a gap in the journal, although the claim may still hold.
fn sort(batch: Vec<Entry>, hub: &Hub) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut places: HashMap<MessageId, usize> = HashMap::new();
    for Entry { claim, live, what } in batch.into_iter().filter(|entry| hub.holds(entry.claim)) {
        let place = *places.entry(claim.message).or_insert(parts.len());
        if place == parts.len() {
            parts.push(Part { claim, live, delta: String::new(), events: Vec::new(), ending: None });
        }
        parts[place].take(what);
    }
    parts.iter_mut().for_each(Part::push_delta);
    parts
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn entry(claim: Claim, live: &Arc<Live>, what: What) -> Entry {
        Entry { claim, live: Arc::clone(live), what }
    }

    fn claim() -> Claim {
        Claim { message: MessageId::new(), token: Uuid::new_v4() }
    }

    #[test]
    fn small_deltas_are_joined_and_ids_go_on_from_what_is_shown() {
        let (hub, claim) = (Hub::default(), claim());
        let (live, _stopped) = hub.start(claim);
        live.publish(&[Event { id: 1, name: "meta".into(), data: "{}".into() }]);
        let delta = |text: &str| entry(claim, &live, What::Delta(text.into()));
        let cite = entry(claim, &live, What::Event("citation", "{}".into()));
        let batch = vec![delta("a"), delta("b"), cite, delta("a long piece of the answer"), delta("c")];
        let parts = sort(batch, &hub);
        let events: Vec<_> =
            parts[0].events.iter().map(|e| (e.id, e.name.as_str(), e.data.as_str())).collect();
        assert_eq!(
            events,
            [
                (2, "delta", r#"{"text":"ab"}"#),
                (3, "citation", "{}"),
                (4, "delta", r#"{"text":"a long piece of the answer"}"#),
                (5, "delta", r#"{"text":"c"}"#),
            ]
        );
    }

    #[test]
    fn what_waits_behind_a_batch_that_was_given_up_is_not_stored() {
        let hub = Hub::default();
        let claims = [claim(), claim(), claim()];
        let lives = claims.map(|claim| hub.start(claim).0);
        hub.cut(claims[0].message);
        hub.lose(claims[1].message);
        let batch = claims.iter().zip(&lives).map(|(c, live)| entry(*c, live, What::Delta("more".into())));
        let kept: Vec<Claim> = sort(batch.collect(), &hub).iter().map(|part| part.claim).collect();
        assert_eq!(kept, claims[2..]);
    }

    #[test]
    fn first_words_and_ends_are_urgent_and_later_words_are_not() {
        let (claim, live) = (claim(), Live::new());
        let delta = || vec![entry(claim, &live, What::Delta("a".into()))];
        assert!(is_urgent(&delta()));
        live.publish(&[1, 2].map(|id| Event { id, name: "delta".into(), data: "{}".into() }));
        assert!(!is_urgent(&delta()));
    }
}
