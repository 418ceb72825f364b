//! Whose turn it is: one person's documents, however many and long, do not hold up another's.
//!
//! Two rules, for this node alone: whoever was served lately comes last, and the last free worker does not serve those
//! whose documents are being worked on. A node with one worker has the first rule only.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::ids::UserId;

/// How many owners are remembered as served.
const SERVED_MAX: usize = 256;

/// Whose documents this node works on and worked on lately.
pub struct Turns {
    workers: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Oldest first.
    served: VecDeque<UserId>,
    /// One entry for each busy worker; a document may have lost its owner.
    running: Vec<Option<UserId>>,
}

/// A worker is busy with a document until this is dropped.
pub struct Turn<'a> {
    turns: &'a Turns,
    owner: Option<UserId>,
}

impl Turns {
    /// Remembers nobody yet.
    ///
    /// * `workers`: how many turns there may be at a time.
    pub fn new(workers: usize) -> Self {
        Self { workers, state: Mutex::default() }
    }

    /// Returns who comes last, oldest first.
    pub fn served(&self) -> Vec<UserId> {
        self.state().served.iter().copied().collect()
    }

    /// Returns who has to wait, because a free worker is the last one and others are busy with their documents.
    pub fn barred(&self) -> Vec<UserId> {
        let state = self.state();
        let is_last = state.running.len() + 1 >= self.workers;
        if is_last { state.running.iter().copied().flatten().collect() } else { Vec::new() }
    }

    /// Notes that a worker is busy with a document of `owner`.
    pub fn begin(&self, owner: Option<UserId>) -> Turn<'_> {
        let mut state = self.state();
        state.running.push(owner);
        if let Some(owner) = owner {
            state.served.retain(|other| *other != owner);
            state.served.push_back(owner);
            if state.served.len() > SERVED_MAX {
                state.served.pop_front();
            }
        }
        Turn { turns: self, owner }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        if let Some(index) = state.running.iter().position(|owner| *owner == self.owner) {
            state.running.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_last_free_worker_is_kept_from_those_who_have_one() {
        let (ann, bob) = (UserId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
        let turns = Turns::new(3);
        let first = turns.begin(Some(ann));
        assert_eq!(turns.barred(), []);
        let second = turns.begin(Some(ann));
        assert_eq!(turns.barred(), [ann, ann]);
        drop(first);
        assert_eq!(turns.barred(), []);
        let orphan = turns.begin(None);
        assert_eq!(turns.barred(), [ann]);
        drop((second, orphan));
        let _bobs = turns.begin(Some(bob));
        assert_eq!((turns.barred(), turns.served()), (vec![], vec![ann, bob]));
    }

    #[test]
    fn a_single_worker_serves_everybody() {
        let ann = UserId(Uuid::from_u128(1));
        let turns = Turns::new(1);
        drop(turns.begin(Some(ann)));
        assert_eq!(turns.barred(), []);
    }
}
