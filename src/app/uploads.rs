//! How many uploads a node receives at a time, and how many of them one person's.
//!
//! A slow upload holds its place for as long as bytes trickle in, so that one person's many would keep everybody else
//! out: each has at most a quarter of the places.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::ApiError;
use crate::store::ids::UserId;
use crate::telemetry::metrics;

/// When to come back, if there is no place.
const BUSY_RETRY: Duration = Duration::from_secs(5);

/// The places for uploads of this node.
#[derive(Debug)]
pub struct Uploads {
    places: usize,
    /// Who holds how many; nobody is here with none.
    held: Mutex<HashMap<UserId, usize>>,
}

/// A place, free again when this is dropped.
#[derive(Debug)]
pub struct Place<'a> {
    uploads: &'a Uploads,
    user: UserId,
    _in_flight: metrics::Held,
}

impl Uploads {
    /// Makes `places` free places.
    pub fn new(places: usize) -> Self {
        Self { places, held: Mutex::default() }
    }

    /// Takes a place for an upload of `user`.
    ///
    /// # Errors
    /// 429 while the user has a quarter of the places, at least one; 503 while all are taken.
    pub fn take(&self, user: UserId) -> Result<Place<'_>, ApiError> {
        let mut held = self.held();
        let own = held.get(&user).copied().unwrap_or_default();
        if own >= (self.places / 4).max(1) {
            metrics::UPLOADS_REFUSED.add(1);
            return Err(ApiError::throttled(BUSY_RETRY));
        }
        if held.values().sum::<usize>() >= self.places {
            metrics::UPLOADS_REFUSED.add(1);
            return Err(ApiError::unavailable(BUSY_RETRY));
        }
        held.insert(user, own + 1);
        Ok(Place { uploads: self, user, _in_flight: metrics::UPLOADS_IN_FLIGHT.hold() })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<UserId, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut held = self.uploads.held();
        if let Some(own) = held.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.user);
            }
        }
    }
}
