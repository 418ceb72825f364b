//! A request body that must arrive at some speed, and that says when it was left unread.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use super::phase::Shared;
use super::{Late, Limits};

/// How much must arrive within the body timeout to count as progress: a byte now and then would hold a connection for
/// as long as somebody likes.
const PROGRESS_BYTES: usize = 1024;

/// The body did not arrive at the speed that [`Limits::body_timeout`] asks for.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the request's body arrives too slowly")]
pub struct TooSlow;

/// A request's body under a timer, which runs only while somebody waits for the body.
#[derive(Debug)]
pub(super) struct RequestBody {
    incoming: Incoming,
    shared: Shared,
    limits: Limits,
    timer: Option<Pin<Box<Sleep>>>,
    /// Bytes since the timer was set.
    progress_bytes: usize,
    has_ended: bool,
}

impl RequestBody {
    pub fn new(incoming: Incoming, shared: Shared, limits: Limits) -> Self {
        Self { incoming, shared, limits, timer: None, progress_bytes: 0, has_ended: false }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timeout = self.limits.body_timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(timeout)));
        if self.progress_bytes >= PROGRESS_BYTES {
            self.progress_bytes = 0;
            timer.as_mut().reset(Instant::now() + timeout);
        }
        timer.as_mut().poll(cx)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if this.shared.is_body_late() {
            return Poll::Ready(Some(Err(TooSlow.into())));
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(cx) {
            match &frame {
                Some(Ok(frame)) => this.progress_bytes += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) => {}
                None => this.has_ended = true,
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(this.poll_timer(cx));
        Late::Body.count();
        this.shared.body_is_late();
        Poll::Ready(Some(Err(TooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.has_ended && !self.incoming.is_end_stream() {
            self.shared.leave_body_unread();
        }
    }
}
