//! How often somebody may ask: token buckets in memory, one share of the limit per live node.
//!
//! A bucket is one instant, the one at which it will be full again (the generic cell rate algorithm): taking a token
//! moves it one interval further, and there is none while it lies more than a burst ahead. A full bucket is the same
//! as no bucket, so the map forgets it.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::ApiError;
use crate::config;
use crate::store::ids::UserId;
use crate::telemetry::metrics;

/// Buckets that one map holds at most, about 5 MB; more callers than that within a minute share their luck.
const BUCKETS_MAX: usize = 100_000;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// What is limited; the order is [`metrics::THROTTLE_LIMITS`]'s.
#[derive(Clone, Copy, Debug)]
enum Limit {
    Anonymous,
    User,
    Chat,
    Upload,
    Login,
}

impl Limit {
    /// Counts and words a refusal.
    fn refuse(self, wait: Duration) -> ApiError {
        metrics::REQUESTS_THROTTLED.at(self as usize).add(1);
        ApiError::throttled(wait)
    }
}

/// The limits of this node and who has used them up.
#[derive(Debug)]
pub struct Throttles {
    enabled: bool,
    nodes: AtomicU32,
    anonymous: Buckets<IpAddr>,
    user: Buckets<UserId>,
    chat: Buckets<UserId>,
    upload: Buckets<UserId>,
}

impl Throttles {
    /// Makes full buckets of the configured sizes.
    pub fn new(throttle: &config::Throttle, upload: &config::Upload) -> Self {
        Self {
            enabled: throttle.enabled,
            nodes: AtomicU32::new(1),
            anonymous: Buckets::new(throttle.anonymous_per_minute, throttle.anonymous_per_minute, MINUTE),
            user: Buckets::new(throttle.user_per_minute, throttle.user_per_minute, MINUTE),
            chat: Buckets::new(throttle.chat_per_minute, throttle.chat_per_minute, MINUTE),
            upload: Buckets::new(upload.burst, upload.per_day, DAY),
        }
    }

    /// Says how many nodes share the limits.
    pub fn set_live_nodes(&self, nodes: u32) {
        self.nodes.store(nodes.max(1), Ordering::Relaxed);
    }

    /// Whether anything is limited at all.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Counts a request without valid credentials; `None` is this machine itself, which has no limit.
    ///
    /// # Errors
    /// 429.
    pub fn anonymous(&self, address: Option<IpAddr>) -> Result<(), ApiError> {
        match address {
            Some(address) => self.take(Limit::Anonymous, &self.anonymous, subscriber(address)),
            None => Ok(()),
        }
    }

    /// Counts a request of a user.
    ///
    /// # Errors
    /// 429.
    pub fn user(&self, user: UserId) -> Result<(), ApiError> {
        self.take(Limit::User, &self.user, user)
    }

    /// Counts a question of a user.
    ///
    /// # Errors
    /// 429.
    pub fn chat(&self, user: UserId) -> Result<(), ApiError> {
        self.take(Limit::Chat, &self.chat, user)
    }

    /// Counts an upload of a user.
    ///
    /// # Errors
    /// 429.
    pub fn upload(&self, user: UserId) -> Result<(), ApiError> {
        self.take(Limit::Upload, &self.upload, user)
    }

    /// Refuses a login that the database counted as one too many.
    pub fn refuse_login(&self, wait: Duration) -> ApiError {
        Limit::Login.refuse(wait)
    }

    fn take<K: Hash + Eq>(&self, limit: Limit, buckets: &Buckets<K>, key: K) -> Result<(), ApiError> {
        if !self.enabled {
            return Ok(());
        }
        let nodes = self.nodes.load(Ordering::Relaxed);
        buckets.take(key, nodes, Instant::now()).map_err(|wait| limit.refuse(wait))
    }
}

/// One bucket per key.
#[derive(Debug)]
struct Buckets<K> {
    burst: u32,
    interval: Duration,
    full_at: Mutex<HashMap<K, Instant>>,
}

impl<K: Hash + Eq> Buckets<K> {
    /// Buckets of `burst` tokens that gain `count` tokens every `period`.
    fn new(burst: u32, count: u32, period: Duration) -> Self {
        Self { burst, interval: period / count.max(1), full_at: Mutex::default() }
    }

    /// Takes a token out of the bucket of `key`, of which this node has one share in `nodes`. Returns how long to wait
    /// where there is none.
    fn take(&self, key: K, nodes: u32, now: Instant) -> Result<(), Duration> {
        let interval = self.interval.saturating_mul(nodes);
        let capacity = interval * (self.burst / nodes).max(1);
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= BUCKETS_MAX && !full_at.contains_key(&key) {
            full_at.retain(|_, at| *at > now);
            if full_at.len() >= BUCKETS_MAX {
                full_at.clear();
            }
        }
        let at = full_at.entry(key).or_insert(now);
        let next = (*at).max(now) + interval;
        let ahead = next - now;
        if ahead > capacity {
            return Err(ahead - capacity);
        }
        *at = next;
        Ok(())
    }
}

/// The part of an address that one subscriber has: all of an IPv4 address, the first 64 bits of an IPv6 one.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_one_per_interval() {
        let buckets = Buckets::new(3, 60, MINUTE);
        let start = Instant::now();
        for _ in 0..3 {
            buckets.take("a", 1, start).unwrap();
        }
        assert_eq!(buckets.take("a", 1, start), Err(Duration::from_secs(1)));
        buckets.take("b", 1, start).unwrap();
        let later = start + Duration::from_secs(1);
        buckets.take("a", 1, later).unwrap();
        assert!(buckets.take("a", 1, later).is_err());
    }

    #[test]
    fn two_nodes_allow_half_each() {
        let buckets = Buckets::new(60, 60, MINUTE);
        let start = Instant::now();
        let allowed = (0..100).filter(|_| buckets.take("a", 2, start).is_ok()).count();
        assert_eq!(allowed, 30);
        let minute = (1..=600)
            .filter(|tenth| buckets.take("a", 2, start + Duration::from_millis(100 * tenth)).is_ok());
        assert_eq!(minute.count(), 30);
    }

    #[test]
    fn buckets_that_are_full_again_are_forgotten_when_room_is_needed() {
        let buckets = Buckets::new(1, 60, MINUTE);
        let start = Instant::now();
        for key in 0..BUCKETS_MAX {
            buckets.take(key, 1, start).unwrap();
        }
        buckets.take(BUCKETS_MAX, 1, start + MINUTE).unwrap();
        assert_eq!(buckets.full_at.lock().unwrap().len(), 1);
    }

    #[test]
    fn an_ipv6_subscriber_is_their_64_bit_prefix() {
        let same =
            |left: &str, right: &str| subscriber(left.parse().unwrap()) == subscriber(right.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }
}
