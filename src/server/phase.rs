//! Where a connection is between one request and the next: what its timers and its drain go by.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No byte of a request has arrived.
    Idle,
    /// A request's head is arriving.
    Head,
    /// A request is being answered.
    Busy,
    /// The answer is complete, and the client has yet to take all of it.
    Flushing,
}

/// A connection's state, shared by its socket, its requests and its drain, which all run in the one task.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared(Arc<State>);

#[derive(Debug, Default)]
struct State {
    phase: AtomicU8,
    is_draining: AtomicBool,
    has_unread_body: AtomicBool,
    is_body_late: AtomicBool,
    is_idle_watched: AtomicBool,
}

// The task itself orders all accesses; the atomics only make that plain to the compiler.
const ORDER: Ordering = Ordering::Relaxed;

impl Shared {
    pub fn phase(&self) -> Phase {
        match self.0.phase.load(ORDER) {
            0 => Phase::Idle,
            1 => Phase::Head,
            2 => Phase::Busy,
            _ => Phase::Flushing,
        }
    }

    pub fn set_phase(&self, phase: Phase) {
        self.0.phase.store(phase as u8, ORDER);
    }

    /// Begins a request: nothing is known of its body yet.
    pub fn begin_request(&self) {
        self.set_phase(Phase::Busy);
        self.0.has_unread_body.store(false, ORDER);
        self.0.is_body_late.store(false, ORDER);
        self.0.is_idle_watched.store(false, ORDER);
    }

    /// Tells, once after each request, that the connection has become idle.
    pub fn has_become_idle(&self) -> bool {
        self.phase() == Phase::Idle && !self.0.is_idle_watched.swap(true, ORDER)
    }

    /// Whether the connection is to close as soon as it is idle.
    pub fn is_draining(&self) -> bool {
        self.0.is_draining.load(ORDER)
    }

    pub fn drain(&self) {
        self.0.is_draining.store(true, ORDER);
    }

    /// Whether a request was answered before its body had been read, so that the client may still be sending.
    pub fn has_unread_body(&self) -> bool {
        self.0.has_unread_body.load(ORDER)
    }

    pub fn leave_body_unread(&self) {
        self.0.has_unread_body.store(true, ORDER);
    }

    /// Whether the request's body came too slowly.
    pub fn is_body_late(&self) -> bool {
        self.0.is_body_late.load(ORDER)
    }

    pub fn body_is_late(&self) {
        self.0.is_body_late.store(true, ORDER);
    }
}
