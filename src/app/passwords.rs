//! Password hashes: argon2id, on a few threads of its own.
//!
//! One hash takes 19 MiB and tens of milliseconds of one core. On tokio's threads a burst of logins would stop every
//! other request, so there are few threads here and a short queue; a login that finds it full is told to come back.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::oneshot;

use super::error::ApiError;
use crate::telemetry::metrics;

/// Memory of one hash in KiB, passes over it, lanes: OWASP's recommendation for argon2id.
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);

/// What an unknown user's password is compared with, so that the answer takes as long as for a known one.
const DECOY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$GXn3xsK3TbrB3Jk7N3omeIoOqPhl1sZa4uALqjKzRsk";

/// How long a login that found the queue full should wait.
const BUSY_RETRY: Duration = Duration::from_secs(2);

/// The hashing threads. They end when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Passwords {
    queue: SyncSender<Job>,
}

enum Job {
    Hash { password: String, reply: oneshot::Sender<String> },
    Verify { password: String, hash: String, reply: oneshot::Sender<bool> },
}

/// Why a password was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// As many as may wait are waiting already.
    #[error("password hashing queue full")]
    Busy,
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::unavailable(BUSY_RETRY).because(&error)
    }
}

impl Passwords {
    /// Starts `threads` threads, behind which at most `queue_max` passwords wait.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub fn start(threads: usize, queue_max: usize) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(queue_max);
        let jobs = Arc::new(Mutex::new(jobs));
        for index in 0..threads.max(1) {
            let jobs = Arc::clone(&jobs);
            let name = format!("password-{index}");
            std::thread::Builder::new().name(name).spawn(move || work(&jobs))?;
        }
        Ok(Self { queue })
    }

    /// Hashes a new password into a PHC string.
    ///
    /// # Errors
    /// [`Error::Busy`]: try again later.
    pub async fn hash(&self, password: String) -> Result<String, Error> {
        let (reply, hash) = oneshot::channel();
        self.send(Job::Hash { password, reply })?;
        Ok(hash.await.expect("a hashing thread answers every job"))
    }

    /// Returns whether `password` is the one that `hash` was made of. Without a hash (no such user) it takes as long,
    /// and is wrong.
    ///
    /// # Errors
    /// [`Error::Busy`]: try again later.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, Error> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| DECOY.to_owned());
        let (reply, matches) = oneshot::channel();
        self.send(Job::Verify { password, hash, reply })?;
        Ok(matches.await.expect("a hashing thread answers every job") && known)
    }

    fn send(&self, job: Job) -> Result<(), Error> {
        match self.queue.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => {
                metrics::PASSWORDS_REFUSED.add(1);
                Err(Error::Busy)
            }
            Err(TrySendError::Disconnected(_)) => unreachable!("the threads live as long as this sender"),
        }
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        // A client that has gone away is not worth the work; its reply channel is closed.
        match job {
            Ok(Job::Hash { password, reply }) if !reply.is_closed() => {
                let _ = reply.send(hash(&password));
            }
            Ok(Job::Verify { password, hash, reply }) if !reply.is_closed() => {
                let _ = reply.send(verify(&password, &hash));
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// Hashes a password on this thread; for commands, which have no queue.
pub fn hash(password: &str) -> String {
    let salt: [u8; 16] = rand::random();
    let hash: PasswordHash = argon2()
        .hash_password_with_salt(password.as_bytes(), &salt)
        .expect("a 16-byte salt and a password of bounded length are valid input");
    hash.to_string()
}

fn verify(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| argon2().verify_password(password.as_bytes(), &hash).is_ok())
}

fn argon2() -> Argon2<'static> {
    let (memory, passes, lanes) = COST;
    let params = Params::new(memory, passes, lanes, None).expect("the constants are in argon2's range");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_matches_its_own_hash_only() {
        let passwords = Passwords::start(1, 4).unwrap();
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(passwords.verify("correct horse".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("correct horsf".into(), Some(hash)).await.unwrap());
        assert!(!passwords.verify("x".into(), Some("not a hash".into())).await.unwrap());
    }

    #[tokio::test]
    async fn an_unknown_user_costs_a_whole_verification_and_never_passes() {
        let decoy = PasswordHash::new(DECOY).unwrap();
        let real = hash("x");
        assert_eq!(decoy.params.to_string(), PasswordHash::new(&real).unwrap().params.to_string());
        assert!(
            verify("decoy", DECOY),
            "the decoy is a complete hash, so comparing with it does all the work"
        );
        let passwords = Passwords::start(1, 4).unwrap();
        assert!(!passwords.verify("decoy".into(), None).await.unwrap());
    }

    #[tokio::test]
    async fn a_full_queue_refuses_instead_of_growing() {
        let (queue, _jobs) = sync_channel(1);
        let passwords = Passwords { queue };
        let (reply, _hash) = oneshot::channel();
        passwords.send(Job::Hash { password: "one".into(), reply }).unwrap();
        assert_eq!(passwords.hash("two".into()).await, Err(Error::Busy));
    }
}
