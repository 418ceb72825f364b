//! What waits to be embedded: queries before passages, bounded, and forgotten when nobody waits for it any more.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Error;
use super::request::{Item, Reply, Request, lock};
use crate::telemetry::metrics;

/// Queries that may wait, in texts; at about 5 ms each the last one waits under a second on one thread.
const QUERIES_WAITING_MAX: usize = 128;
/// Passages that may wait, in texts; bounds what ingestion holds in memory, at about 1 kB each.
const PASSAGES_WAITING_MAX: usize = 4096;

/// Who waits for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// A person: overtakes every passage.
    Query,
    /// Ingestion.
    Passage,
}

/// The waiting texts of all callers.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queries: Lane,
    passages: Lane,
    closed: bool,
}

/// Requests in order of arrival; the first one may be partly taken.
#[derive(Default)]
struct Lane {
    requests: VecDeque<Arc<Request>>,
    taken: usize,
    waiting: usize,
}

impl Queue {
    /// Adds `texts`, or refuses them all when too many wait. What exceeds the limit alone is taken by an empty queue.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub fn push(&self, texts: Vec<String>, priority: Priority, reply: Reply) -> Result<(), Error> {
        let limit = match priority {
            Priority::Query => QUERIES_WAITING_MAX,
            Priority::Passage => PASSAGES_WAITING_MAX,
        };
        let mut state = lock(&self.state);
        let lane = state.lane(priority);
        if lane.waiting > 0 && lane.waiting + texts.len() > limit {
            lane.forget_abandoned();
        }
        if lane.waiting > 0 && lane.waiting + texts.len() > limit {
            metrics::EMBEDDING_REFUSED.add(1);
            return Err(Error::Busy { limit });
        }
        self.add(state, texts, priority, reply);
        Ok(())
    }

    /// Adds passages whatever waits already: for callers that block and so limit themselves.
    pub fn push_unlimited(&self, texts: Vec<String>, reply: Reply) {
        self.add(lock(&self.state), texts, Priority::Passage, reply);
    }

    fn add(&self, mut state: MutexGuard<'_, State>, texts: Vec<String>, priority: Priority, reply: Reply) {
        let count = texts.len();
        if count == 0 {
            return reply.send(Vec::new());
        }
        let lane = state.lane(priority);
        lane.requests.push_back(Arc::new(Request::new(texts, reply)));
        lane.waiting += count;
        state.show();
        drop(state);
        if count == 1 { self.changed.notify_one() } else { self.changed.notify_all() }
    }

    /// Waits for a text and takes it, queries first. Returns nothing once the queue is closed.
    pub fn wait(&self) -> Option<(Item, Priority)> {
        let mut state = lock(&self.state);
        while !state.closed {
            for priority in [Priority::Query, Priority::Passage] {
                if let Some(item) = state.take(priority) {
                    return Some((item, priority));
                }
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    /// Takes a text of this priority if one waits.
    pub fn take(&self, priority: Priority) -> Option<Item> {
        lock(&self.state).take(priority)
    }

    /// Ends the threads that wait here. What is still queued is given up.
    pub fn close(&self) {
        let mut state = lock(&self.state);
        *state = State { closed: true, ..State::default() };
        state.show();
        self.changed.notify_all();
    }
}

impl State {
    fn take(&mut self, priority: Priority) -> Option<Item> {
        let item = self.lane(priority).take();
        self.show();
        item
    }

    fn show(&self) {
        let waiting = self.queries.waiting + self.passages.waiting;
        metrics::EMBEDDING_TEXTS_WAITING.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    fn lane(&mut self, priority: Priority) -> &mut Lane {
        match priority {
            Priority::Query => &mut self.queries,
            Priority::Passage => &mut self.passages,
        }
    }
}

impl Lane {
    /// Takes the next text that somebody still waits for.
    fn take(&mut self) -> Option<Item> {
        while let Some(request) = self.requests.front() {
            let left = request.len() - self.taken;
            let item = (!request.is_abandoned()).then(|| Item::new(request, self.taken));
            let removed = if item.is_some() { 1 } else { left };
            self.taken += removed;
            self.waiting -= removed;
            if removed == left {
                self.requests.pop_front();
                self.taken = 0;
            }
            if item.is_some() {
                return item;
            }
        }
        None
    }

    /// Drops requests whose callers have gone, so that they do not keep others out. The first one is left to
    /// [`Lane::take`], because part of it may be taken.
    fn forget_abandoned(&mut self) {
        let Some(first) = self.requests.pop_front() else { return };
        self.requests.retain(|request| !request.is_abandoned());
        self.requests.push_front(first);
        self.waiting = self.requests.iter().map(|request| request.len()).sum::<usize>() - self.taken;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn texts(count: usize) -> Vec<String> {
        (0..count).map(|index| index.to_string()).collect()
    }

    fn push(
        queue: &Queue,
        count: usize,
        priority: Priority,
    ) -> Result<oneshot::Receiver<Vec<Vec<f32>>>, Error> {
        let (sender, receiver) = oneshot::channel();
        queue.push(texts(count), priority, Reply::Async(sender)).map(|()| receiver)
    }

    #[test]
    fn vectors_come_back_together_and_in_order() {
        let queue = Queue::default();
        let mut receiver = push(&queue, 3, Priority::Passage).unwrap();
        let mut items: Vec<Item> = (0..3).map(|_| queue.take(Priority::Passage).unwrap()).collect();
        items.reverse();
        for item in items {
            assert!(receiver.try_recv().is_err());
            let vector = vec![item.text().parse().unwrap()];
            item.finish(vector);
        }
        assert_eq!(receiver.try_recv().unwrap(), [[0.0], [1.0], [2.0]]);
    }

    #[test]
    fn queries_are_taken_before_passages() {
        let queue = Queue::default();
        let _passage = push(&queue, 1, Priority::Passage).unwrap();
        let _query = push(&queue, 1, Priority::Query).unwrap();
        assert_eq!(queue.wait().map(|(_, priority)| priority), Some(Priority::Query));
        assert_eq!(queue.wait().map(|(_, priority)| priority), Some(Priority::Passage));
    }

    #[test]
    fn a_full_queue_refuses_and_an_empty_one_takes_any_request() {
        for (priority, limit) in
            [(Priority::Query, QUERIES_WAITING_MAX), (Priority::Passage, PASSAGES_WAITING_MAX)]
        {
            let queue = Queue::default();
            let _large = push(&queue, limit + 1, priority).unwrap();
            assert!(matches!(push(&queue, 1, priority), Err(Error::Busy { limit: named }) if named == limit));
            assert_eq!(lock(&queue.state).lane(priority).waiting, limit + 1);
            let _first = (queue.take(priority), queue.take(priority));
            let _last = push(&queue, 1, priority).unwrap();
            assert!(push(&queue, 1, priority).is_err());
        }
    }

    #[test]
    fn what_nobody_waits_for_is_forgotten() {
        let queue = Queue::default();
        let first = push(&queue, 2, Priority::Passage).unwrap();
        let second = push(&queue, PASSAGES_WAITING_MAX - 2, Priority::Passage).unwrap();
        assert!(push(&queue, 1, Priority::Passage).is_err());
        drop(second);
        let _third = push(&queue, 1, Priority::Passage).unwrap();
        let taken = queue.take(Priority::Passage);
        drop((first, taken));
        assert_eq!(queue.take(Priority::Passage).map(|item| item.text().to_owned()), Some("0".to_owned()));
        assert!(queue.take(Priority::Passage).is_none());
        assert_eq!(lock(&queue.state).passages.waiting, 0);
    }

    #[test]
    fn an_item_that_is_dropped_gives_its_request_up() {
        let queue = Queue::default();
        let mut receiver = push(&queue, 2, Priority::Passage).unwrap();
        drop(queue.take(Priority::Passage));
        assert!(matches!(receiver.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert!(queue.take(Priority::Passage).is_none());
    }

    #[test]
    fn closing_gives_up_what_waits_and_ends_the_threads() {
        let queue = Queue::default();
        let mut receiver = push(&queue, 1, Priority::Passage).unwrap();
        queue.close();
        assert!(queue.wait().is_none());
        assert!(matches!(receiver.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    }
}
