//! Which streams this node knows: those it generates, and those it follows in the journal for its readers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, watch};

use super::live::Live;
use crate::store::generations::Claim;
use crate::store::ids::MessageId;
use crate::telemetry::metrics;

/// Why a generation is to stop before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The person cancelled it.
    Cancelled,
    /// This node stops.
    Interrupted,
    /// The claim is gone; whoever took it ends the answer.
    Lost,
}

/// A generation that runs on this node.
#[derive(Clone, Debug)]
struct Generation {
    claim: Claim,
    stop: watch::Sender<Option<Stop>>,
    _running: Arc<metrics::Held>,
}

#[derive(Debug)]
struct Entry {
    live: Arc<Live>,
    /// `None`: somebody else generates it, the journal tells.
    generation: Option<Generation>,
}

/// An answer that this node may still have to write.
#[derive(Debug)]
pub struct Expected(Arc<Hub>);

impl Drop for Expected {
    fn drop(&mut self) {
        self.0.note_one_less();
    }
}

/// The streams of this node.
#[derive(Debug, Default)]
pub struct Hub {
    streams: Mutex<HashMap<MessageId, Entry>>,
    /// Wakes the follower when there is something to follow.
    pub follow: Notify,
    /// How many generations run here or are to.
    running: watch::Sender<usize>,
}

impl Hub {
    /// Returns the stream if this node knows it.
    pub fn get(&self, message: MessageId) -> Option<Arc<Live>> {
        self.streams().get(&message).map(|entry| Arc::clone(&entry.live))
    }

    /// Returns the stream, to be fed from the journal if this node does not know it yet.
    pub fn follow(&self, message: MessageId) -> Arc<Live> {
        let mut streams = self.streams();
        let entry = streams.entry(message).or_insert_with(|| Entry { live: Live::new(), generation: None });
        self.follow.notify_one();
        Arc::clone(&entry.live)
    }

    /// Counts an answer that this node is to write unless another does, until the result is dropped.
    pub fn expect(self: &Arc<Self>) -> Expected {
        self.running.send_modify(|running| *running += 1);
        Expected(Arc::clone(self))
    }

    /// Enters a generation of this node. Readers who followed the journal before keep their stream.
    pub fn start(&self, claim: Claim) -> (Arc<Live>, watch::Receiver<Option<Stop>>) {
        let mut streams = self.streams();
        let entry =
            streams.entry(claim.message).or_insert_with(|| Entry { live: Live::new(), generation: None });
        let stop = watch::Sender::new(None);
        let stopped = stop.subscribe();
        let _running = Arc::new(metrics::ANSWERS_RUNNING.hold());
        entry.generation = Some(Generation { claim, stop, _running });
        self.running.send_modify(|running| *running += 1);
        (Arc::clone(&entry.live), stopped)
    }

    /// Forgets a stream whose terminal event is published.
    pub fn end(&self, message: MessageId) {
        let entry = self.streams().remove(&message);
        self.note_stopped(entry.and_then(|entry| entry.generation).as_ref());
    }

    /// Gives up a generation: its readers follow the journal from now on, where another node ends the answer.
    pub fn lose(&self, message: MessageId) {
        let generation = self.streams().get_mut(&message).and_then(|entry| entry.generation.take());
        if let Some(generation) = &generation {
            generation.stop.send_replace(Some(Stop::Lost));
            self.follow.notify_one();
        }
        self.note_stopped(generation.as_ref());
    }

    /// Lets the readers of a stream go; they resume with another node, or here when the database is back.
    pub fn cut(&self, message: MessageId) {
        self.lose(message);
        if let Some(entry) = self.streams().remove(&message) {
            metrics::STREAMS_CUT.add(1);
            entry.live.cut();
        }
    }

    /// Tells a generation of this node to stop. Without one, nothing happens.
    pub fn stop(&self, message: MessageId, why: Stop) {
        if let Some(generation) = self.streams().get(&message).and_then(|entry| entry.generation.as_ref()) {
            generation.stop.send_if_modified(|stop| stop.is_none() && stop.replace(why).is_none());
        }
    }

    /// Returns whether this node still writes the answer by this claim.
    pub fn holds(&self, claim: Claim) -> bool {
        let streams = self.streams();
        let generation = streams.get(&claim.message).and_then(|entry| entry.generation.as_ref());
        generation.is_some_and(|generation| generation.claim == claim)
    }

    /// Returns the claims of the generations that run here.
    pub fn claims(&self) -> Vec<Claim> {
        self.streams().values().filter_map(|entry| entry.generation.as_ref().map(|g| g.claim)).collect()
    }

    /// Returns the streams to read from the journal, each with the last event known; those without a reader are
    /// forgotten.
    pub fn followed(&self) -> Vec<(MessageId, i32)> {
        let mut streams = self.streams();
        streams.retain(|_, entry| entry.generation.is_some() || Arc::strong_count(&entry.live) > 1);
        let followed = streams.iter().filter(|(_, entry)| entry.generation.is_none());
        followed.map(|(message, entry)| (*message, entry.live.last_id())).collect()
    }

    /// Waits until no generation runs here or is to.
    pub async fn idle(&self) {
        let mut running = self.running.subscribe();
        // The sender is ours, so it outlives the wait.
        let _ = running.wait_for(|running| *running == 0).await;
    }

    fn note_stopped(&self, generation: Option<&Generation>) {
        if generation.is_some() {
            self.note_one_less();
        }
    }

    fn note_one_less(&self) {
        self.running.send_modify(|running| *running = running.saturating_sub(1));
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<MessageId, Entry>> {
        self.streams.lock().expect("nothing panics while it holds the map")
    }
}
