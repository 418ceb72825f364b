//! One stream as this node knows it: the events that are committed, in memory once for all who read them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use crate::app::sse;
use crate::store::journal::Event;

/// The names of the events that end a stream.
const TERMINAL: [&str; 2] = ["done", "error"];

/// Returns whether an event of this name ends its stream.
pub fn is_terminal(name: &str) -> bool {
    TERMINAL.contains(&name)
}

/// Writes an event as it goes over the wire.
pub fn frame(event: &Event) -> Bytes {
    Bytes::from(sse::event(event.id, &event.name, &event.data))
}

/// The committed events of one answer. Grows until a terminal event or [`Live::cut`].
///
/// Readers take events from it when their socket takes bytes, so a slow one costs no memory of its own; the whole is
/// bounded by the length of an answer.
#[derive(Debug)]
pub struct Live {
    progress: watch::Sender<Progress>,
    started: Instant,
}

#[derive(Debug, Default)]
struct Progress {
    frames: Vec<Bytes>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// The terminal event is there.
    Ended,
    /// Nothing more is known here; readers close and resume somewhere else.
    Cut,
}

impl Live {
    /// Makes a stream without events.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { progress: watch::Sender::new(Progress::default()), started: Instant::now() })
    }

    /// Shows committed events to the readers. Events already known are passed over. Returns whether the stream has
    /// ended.
    pub fn publish<'a>(&self, events: impl IntoIterator<Item = &'a Event>) -> bool {
        self.progress.send_modify(|progress| {
            for event in events {
                let is_next = usize::try_from(event.id) == Ok(progress.frames.len() + 1);
                if is_next && progress.state == State::Open {
                    progress.frames.push(frame(event));
                    if is_terminal(&event.name) {
                        progress.state = State::Ended;
                    }
                }
            }
        });
        self.progress.borrow().state == State::Ended
    }

    /// Lets the readers go without a terminal event.
    pub fn cut(&self) {
        self.progress.send_if_modified(|progress| {
            let is_open = progress.state == State::Open;
            if is_open {
                progress.state = State::Cut;
            }
            is_open
        });
    }

    /// Returns the id of the last event, 0 without one.
    pub fn last_id(&self) -> i32 {
        i32::try_from(self.progress.borrow().frames.len()).unwrap_or(i32::MAX)
    }

    /// Returns how long this node has known the stream.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Starts reading after the event with id `after`.
    pub fn read(self: &Arc<Self>, after: usize) -> Reader {
        Reader { progress: self.progress.subscribe(), position: after, _live: Arc::clone(self) }
    }
}

/// A place in a stream.
#[derive(Debug)]
pub struct Reader {
    progress: watch::Receiver<Progress>,
    position: usize,
    /// Whoever feeds the stream goes on as long as it has readers.
    _live: Arc<Live>,
}

impl Reader {
    /// Waits for events after the last one returned and returns them joined; `None` when the stream is over.
    ///
    /// # Cancellation
    /// Nothing is lost: the same events are returned by the next call.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            {
                let progress = self.progress.borrow_and_update();
                let news = progress.frames.get(self.position..).unwrap_or_default();
                if !news.is_empty() {
                    self.position += news.len();
                    return Some(match news {
                        [one] => one.clone(),
                        many => Bytes::from(many.concat()),
                    });
                }
                if progress.state != State::Open {
                    return None;
                }
            }
            // The sender lives as long as the stream that this reader holds.
            if self.progress.changed().await.is_err() {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: i32, name: &str) -> Event {
        Event { id, name: name.into(), data: format!("{{\"n\":{id}}}") }
    }

    #[tokio::test]
    async fn a_reader_gets_each_event_once_and_then_the_end() {
        let live = Live::new();
        live.publish(&[event(1, "meta"), event(2, "delta")]);
        let mut reader = live.read(1);
        assert_eq!(reader.next().await.unwrap(), "id: 2\nevent: delta\ndata: {\"n\":2}\n\n");
        assert!(live.publish(&[event(2, "delta"), event(3, "done"), event(4, "error")]));
        assert_eq!(reader.next().await.unwrap(), "id: 3\nevent: done\ndata: {\"n\":3}\n\n");
        assert_eq!(reader.next().await, None);
    }

    #[tokio::test]
    async fn a_gap_is_never_shown() {
        let live = Live::new();
        assert!(!live.publish(&[event(1, "meta"), event(3, "done")]));
        assert_eq!(live.last_id(), 1);
    }

    #[tokio::test]
    async fn a_cut_stream_lets_its_readers_go_after_what_they_may_still_have() {
        let live = Live::new();
        live.publish(&[event(1, "meta")]);
        live.cut();
        let mut reader = live.read(0);
        assert!(reader.next().await.is_some());
        assert_eq!(reader.next().await, None);
    }

    #[tokio::test]
    async fn a_place_beyond_the_end_waits_for_the_end() {
        let live = Live::new();
        let mut reader = live.read(7);
        live.publish(&[event(1, "done")]);
        assert_eq!(reader.next().await, None);
    }
}
