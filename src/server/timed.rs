//! A socket with the timers of a connection.
//!
//! hyper has one timer for reading, `header_read_timeout`, which runs from the end of the last answer: it closes idle
//! connections too, so it can be either long enough for a load balancer or short enough against slow heads, not both.
//! So hyper gets no timer, and the socket under it knows what it waits for:
//!
//! * idle: no byte of a request yet. At the end of the time hyper sees the end of the stream, which closes quietly.
//! * head: from the first byte on. At the end of the time the client gets 408.
//! * write: the client accepts no byte of what is ready. At the end of the time the connection breaks.
//!
//! The body's timer is `request_body`'s, since only there it is known that somebody waits for the body.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::phase::{Phase, Shared};
use super::{Late, Limits};

/// Sent, as far as the socket takes it, to a client whose head is late.
const HEAD_IS_LATE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// How long the rest of an unread body is thrown away after the answer. Closing a socket that still receives makes the
/// kernel send a reset, upon which the client's kernel drops the answer before anybody has read it.
const LINGER: Duration = Duration::from_secs(2);

/// A socket whose waits are limited by what they are for.
#[derive(Debug)]
pub(super) struct Timed<S> {
    socket: S,
    shared: Shared,
    limits: Limits,
    /// What the read timer is set for; it is set when a read has to wait, since most do not.
    waiting_for: Option<Phase>,
    head_since: Instant,
    read_timer: Timer,
    write_timer: Timer,
    is_write_stalled: bool,
    /// The answer is out and the socket shut for writing; what still arrives is thrown away until then.
    linger: Option<Timer>,
}

impl<S> Timed<S> {
    pub fn new(socket: S, shared: Shared, limits: Limits) -> Self {
        Self {
            socket,
            shared,
            limits,
            waiting_for: None,
            head_since: Instant::now(),
            read_timer: Timer::default(),
            write_timer: Timer::default(),
            is_write_stalled: false,
            linger: None,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let filled = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.socket).poll_read(cx, buffer) {
            this.waiting_for = None;
            // Line ends before a head are allowed and begin nothing.
            let begins = buffer.filled()[filled..].iter().any(|byte| !b"\r\n".contains(byte));
            if begins && this.shared.phase() == Phase::Idle {
                this.shared.set_phase(Phase::Head);
                this.head_since = Instant::now();
            }
            return Poll::Ready(read);
        }
        let phase = this.shared.phase();
        if matches!(phase, Phase::Busy | Phase::Flushing) {
            return Poll::Pending;
        }
        if phase == Phase::Idle && this.shared.is_draining() {
            return Poll::Ready(Ok(()));
        }
        if this.waiting_for != Some(phase) {
            this.waiting_for = Some(phase);
            this.read_timer.set(match phase {
                Phase::Head => this.head_since + this.limits.head_timeout,
                Phase::Idle | Phase::Busy | Phase::Flushing => Instant::now() + this.limits.idle_timeout,
            });
        }
        ready!(this.read_timer.poll(cx));
        if phase == Phase::Idle {
            Late::Idle.count();
            return Poll::Ready(Ok(()));
        }
        Late::Head.count();
        if !this.is_write_stalled {
            // As far as it goes: the connection ends either way.
            let _ = Pin::new(&mut this.socket).poll_write(cx, HEAD_IS_LATE);
            let _ = Pin::new(&mut this.socket).poll_flush(cx);
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Timed<S> {
    /// Passes on what a write or flush answers, and breaks the connection when it has waited too long.
    fn limit_write<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.is_write_stalled = false;
            return written;
        }
        if !self.is_write_stalled {
            self.is_write_stalled = true;
            self.write_timer.set(Instant::now() + self.limits.write_timeout);
        }
        ready!(self.write_timer.poll(cx));
        Late::Write.count();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Throws away what a client sends of a body that nobody reads, until it ends or [`LINGER`] is over.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(timer) = &mut self.linger else { return Poll::Ready(()) };
        let mut scratch = [0; 4096];
        while timer.poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write(cx, bytes);
        this.limit_write(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write_vectored(cx, slices);
        this.limit_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.socket).poll_flush(cx);
        if flushed.is_ready() && this.shared.phase() == Phase::Flushing {
            // hyper flushes the socket only when it has handed over everything.
            this.shared.set_phase(Phase::Idle);
        }
        this.limit_write(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            let shut = Pin::new(&mut this.socket).poll_shutdown(cx);
            ready!(this.limit_write(cx, shut))?;
            if !this.shared.has_unread_body() {
                return Poll::Ready(Ok(()));
            }
            let mut timer = Timer::default();
            timer.set(Instant::now() + LINGER);
            this.linger = Some(timer);
        }
        this.poll_linger(cx).map(Ok)
    }
}

/// A timer that is allocated when it is first set.
#[derive(Debug, Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn set(&mut self, deadline: Instant) {
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().reset(deadline),
            None => self.0 = Some(Box::pin(sleep_until(deadline))),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}
