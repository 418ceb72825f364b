//! Where log events go: the journal when systemd reads our standard error, else one line each on standard error.
//!
//! Callers never wait for a write: events go through a bounded queue to one thread. When the reader of our output is
//! stuck the queue fills, further events are dropped, and the number of the lost is written once it moves again.
//! `line.rs` has what a line looks like.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};
use systemd_journal_logger::{JournalLog, connected_to_journal};

use super::line::{Event, Style, format};

/// Events that wait for the writer at most.
const QUEUE_EVENTS_MAX: usize = 10_000;
/// How long the end of the process waits for the queue to empty.
const FLUSH_WAIT: Duration = Duration::from_secs(1);
/// Crates that tell everything they do at `debug`, by the first part of their targets: shown from `warn` up, unless
/// the level is `trace`.
const CHATTY: [&str; 10] = [
    "hyper",
    "hyper_util",
    "h2",
    "html5ever",
    "mio",
    "reqwest",
    "rustls",
    "selectors",
    "tokio_postgres",
    "tokio_util",
];

/// Sends every event of at least `level` to the journal or to standard error, from now to the end of the process.
///
/// `no_color` is whether the person asked for plain text; only a terminal gets colours at all. A second call only
/// changes the level.
pub fn start(level: LevelFilter, no_color: bool) {
    log::set_max_level(level);
    let queue = Arc::new(Queue::default());
    if log::set_boxed_logger(Box::new(Logger { queue: Arc::clone(&queue) })).is_err() {
        return;
    }
    let writer = thread::Builder::new().name("log".to_owned());
    if let Err(error) = writer.spawn(move || queue.write_to(&Sink::choose(no_color))) {
        // Nothing can be logged; the process itself can still work.
        let _ = writeln!(std::io::stderr(), "cannot start the log thread: {error}");
    }
    std::panic::set_hook(Box::new(log_panic));
}

/// Logs a panic by its place. Its message only where it is a literal: a formatted one may quote a document.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(message withheld)");
    let thread = thread::current().name().unwrap_or("unnamed").to_owned();
    log::error!(place, thread; "a thread panicked: {message}");
}

/// The facade's end.
struct Logger {
    queue: Arc<Queue>,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let source = metadata.target().split("::").next().unwrap_or_default();
        metadata.level() <= log::max_level()
            && (metadata.level() <= Level::Warn
                || log::max_level() == LevelFilter::Trace
                || !CHATTY.contains(&source))
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.queue.push(Event::new(record));
        }
    }

    fn flush(&self) {
        self.queue.flush();
    }
}

/// What waits for the writer.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    /// Events dropped since the last that was kept.
    lost: u64,
    is_writing: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A panic while the lock is held leaves the queue usable: every change below is a single step.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: Event) {
        let mut waiting = self.lock();
        if waiting.events.len() >= QUEUE_EVENTS_MAX {
            waiting.lost += 1;
            return;
        }
        if waiting.lost > 0 {
            let lost = std::mem::take(&mut waiting.lost);
            waiting.events.push_back(Event::lost(lost));
        }
        waiting.events.push_back(event);
        drop(waiting);
        self.changed.notify_all();
    }

    /// Writes events as they come, for ever.
    fn write_to(&self, sink: &Sink) {
        let mut waiting = self.lock();
        loop {
            waiting.is_writing = false;
            self.changed.notify_all();
            waiting = self
                .changed
                .wait_while(waiting, |waiting| waiting.events.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            let events = std::mem::take(&mut waiting.events);
            waiting.is_writing = true;
            drop(waiting);
            for event in events {
                sink.write(&event);
            }
            waiting = self.lock();
        }
    }

    fn flush(&self) {
        let busy = |waiting: &mut Waiting| waiting.is_writing || !waiting.events.is_empty();
        drop(self.changed.wait_timeout_while(self.lock(), FLUSH_WAIT, busy));
    }
}

/// Where lines end.
enum Sink {
    Journal(Box<JournalLog>),
    StandardError(Style),
}

impl Sink {
    fn choose(no_color: bool) -> Self {
        if connected_to_journal()
            && let Ok(journal) = JournalLog::new()
        {
            return Self::Journal(Box::new(journal.with_syslog_identifier("agent".to_owned())));
        }
        let is_terminal = std::io::stderr().is_terminal();
        Self::StandardError(Style { color: is_terminal && !no_color, short_time: is_terminal })
    }

    /// Writes one event. A sink that fails has nowhere to complain to.
    fn write(&self, event: &Event) {
        match self {
            Self::Journal(journal) => event.with_record(|record| journal.log(record)),
            Self::StandardError(style) => {
                let _ = std::io::stderr().write_all(format(event, *style).as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> Event {
        Event::new(&Record::builder().level(Level::Info).args(format_args!("{text}")).build())
    }

    #[test]
    fn a_full_queue_drops_and_counts_and_tells_once_there_is_room() {
        let queue = Queue::default();
        for _ in 0..QUEUE_EVENTS_MAX + 3 {
            queue.push(event("x"));
        }
        assert_eq!(queue.lock().events.len(), QUEUE_EVENTS_MAX);
        queue.lock().events.clear();
        queue.push(event("after"));
        let texts: Vec<String> = queue.lock().events.iter().map(|event| event.message.clone()).collect();
        assert_eq!(texts, ["3 log events were lost, the reader of the log is too slow", "after"]);
    }

    #[test]
    fn chatty_crates_are_silent_below_warn() {
        log::set_max_level(LevelFilter::Debug);
        let logger = Logger { queue: Arc::new(Queue::default()) };
        let enabled =
            |target, level| logger.enabled(&Metadata::builder().target(target).level(level).build());
        assert!(enabled("agent::store", Level::Debug));
        assert!(!enabled("hyper::proto::h1", Level::Debug));
        assert!(enabled("hyper::proto::h1", Level::Warn));
        assert!(!enabled("agent::store", Level::Trace));
    }
}
