//! What the agent counts, declared once: the `metrics!` table at the end of this file.
//!
//! Any code adds to a metric with one atomic operation and waits for nobody. Dimensions come from closed sets, so that
//! the number of series is known here. `docs/metrics.md` describes the same table, which a test compares.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Stands before every name in the Prometheus text.
const PREFIX: &str = "agent_";

/// The classes of status codes, in the order of their first digit.
pub const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// A count that only grows.
#[derive(Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Returns the count since the start.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A counter for each value of one dimension.
#[derive(Debug)]
pub struct Counters<const N: usize> {
    dimension: &'static str,
    values: [&'static str; N],
    counts: [Counter; N],
}

impl<const N: usize> Counters<N> {
    const fn by(dimension: &'static str, values: [&'static str; N]) -> Self {
        Self { dimension, values, counts: [const { Counter::new() }; N] }
    }

    /// Returns the counter of the value at `index` in the declared order; an index past the end is the last value's.
    pub fn at(&self, index: usize) -> &Counter {
        &self.counts[index.min(N - 1)]
    }
}

/// A level that goes up and down.
#[derive(Debug)]
pub struct Gauge(AtomicI64);

impl Gauge {
    const fn new() -> Self {
        Self(AtomicI64::new(0))
    }

    /// Sets the level.
    pub fn set(&self, level: i64) {
        self.0.store(level, Ordering::Relaxed);
    }

    /// Returns the level.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Raises the level by one until the guard is dropped.
    pub fn hold(&'static self) -> Held {
        self.0.fetch_add(1, Ordering::Relaxed);
        Held(self)
    }
}

/// One unit of a gauge; see [`Gauge::hold`].
#[derive(Debug)]
pub struct Held(&'static Gauge);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Durations in buckets whose bounds double, from 1/8 ms to 131 s, and one for all that is longer.
#[derive(Debug)]
pub struct Timing {
    buckets: [AtomicU64; Self::BUCKETS],
    total_us: AtomicU64,
}

impl Timing {
    const BUCKETS: usize = 22;

    /// The first bucket's bound in microseconds.
    const FIRST_BOUND_US: u64 = 125;

    const fn new() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; Self::BUCKETS], total_us: AtomicU64::new(0) }
    }

    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let index =
            (0..Self::BUCKETS - 1).find(|&index| us <= Self::bound_us(index)).unwrap_or(Self::BUCKETS - 1);
        self.buckets[index].fetch_add(1, Ordering::Relaxed);
        self.total_us.fetch_add(us, Ordering::Relaxed);
    }

    fn bound_us(index: usize) -> u64 {
        Self::FIRST_BOUND_US << index
    }
}

/// One line of the table.
#[derive(Clone, Copy)]
pub struct Definition {
    /// The name without the prefix; a unit ends it where it is not a plain number.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    metric: &'static (dyn Metric + Sync),
}

impl Definition {
    /// The kind as Prometheus names it: `counter`, `gauge` or `histogram`.
    pub fn kind(&self) -> &'static str {
        self.metric.kind()
    }
}

trait Metric {
    fn kind(&self) -> &'static str;
    /// Appends the current values as Prometheus text.
    fn write(&self, name: &str, text: &mut String);
}

impl Metric for Counter {
    fn kind(&self) -> &'static str {
        "counter"
    }

    fn write(&self, name: &str, text: &mut String) {
        line(text, name, "", "", self.get());
    }
}

impl<const N: usize> Metric for Counters<N> {
    fn kind(&self) -> &'static str {
        "counter"
    }

    fn write(&self, name: &str, text: &mut String) {
        for (value, count) in self.values.iter().zip(&self.counts) {
            line(text, name, "", &format!("{{{}=\"{value}\"}}", self.dimension), count.get());
        }
    }
}

impl Metric for Gauge {
    fn kind(&self) -> &'static str {
        "gauge"
    }

    fn write(&self, name: &str, text: &mut String) {
        line(text, name, "", "", self.get());
    }
}

impl Metric for Timing {
    fn kind(&self) -> &'static str {
        "histogram"
    }

    fn write(&self, name: &str, text: &mut String) {
        let mut count = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            let bound = match index {
                index if index + 1 == Self::BUCKETS => "+Inf".to_owned(),
                index => milliseconds(Self::bound_us(index)),
            };
            line(text, name, "_bucket", &format!("{{le=\"{bound}\"}}"), count);
        }
        line(text, name, "_sum", "", milliseconds(self.total_us.load(Ordering::Relaxed)));
        line(text, name, "_count", "", count);
    }
}

fn line(text: &mut String, name: &str, suffix: &str, labels: &str, value: impl std::fmt::Display) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{PREFIX}{name}{suffix}{labels} {value}");
}

fn milliseconds(us: u64) -> String {
    format!("{}.{:03}", us / 1000, us % 1000)
}

/// Returns all metrics in Prometheus's text format, version 0.0.4.
pub fn prometheus_text() -> String {
    let mut text = String::new();
    for definition in DEFINITIONS {
        let Definition { name, help, metric } = definition;
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "# HELP {PREFIX}{name} {}\n# TYPE {PREFIX}{name} {}", help.trim(), metric.kind());
        metric.write(name, &mut text);
    }
    text
}

/// Declares each metric as a static, and the table of them all; the doc comment is the help text.
macro_rules! metrics {
    ($(#[doc = $help:literal] $name:ident: $kind:ty = $text:literal $(by $dimension:literal in $values:expr)?;)+) => {
        $(
            #[doc = $help]
            pub static $name: $kind = metrics!(@new $kind $(, $dimension, $values)?);
        )+

        /// All metrics, in the order of their declaration.
        pub static DEFINITIONS: &[Definition] = &[$(Definition { name: $text, help: $help, metric: &$name }),+];
    };
    (@new $kind:ty) => { <$kind>::new() };
    (@new $kind:ty, $dimension:literal, $values:expr) => { <$kind>::by($dimension, $values) };
}

metrics! {
    /// Connections open on all listeners.
    CONNECTIONS_OPEN: Gauge = "connections_open";
    /// Connections accepted.
    CONNECTIONS_ACCEPTED: Counter = "connections_accepted_total";
    /// Times that the connection limit held up accepting.
    CONNECTION_LIMIT_HIT: Counter = "connection_limit_hit_total";
    /// Failures to accept that made the accept loop pause, such as too many open files.
    ACCEPT_FAILED: Counter = "accept_failed_total";
    /// Connections closed by a timer, by what they were late with.
    CONNECTIONS_TIMED_OUT: Counters<5> = "connections_timed_out_total" by "reason" in TIME_OUTS;
    /// Connections cut because they outlasted the drain.
    CONNECTIONS_CUT: Counter = "connections_cut_total";
    /// Requests being answered, streams included.
    REQUESTS_IN_FLIGHT: Gauge = "requests_in_flight";
    /// Requests answered, by class of status; those for health and metrics do not count.
    REQUESTS: Counters<5> = "requests_total" by "status" in STATUS_CLASSES;
    /// Requests whose client went away before the answer's head.
    REQUESTS_ABANDONED: Counter = "requests_abandoned_total";
    /// Panics in handlers, each answered with 500, and in tasks, which are started again.
    PANICS: Counter = "panics_total";
    /// Requests refused because somebody asked too often, by the limit that was hit.
    REQUESTS_THROTTLED: Counters<5> = "requests_throttled_total" by "limit" in THROTTLE_LIMITS;
    /// Uploads being received.
    UPLOADS_IN_FLIGHT: Gauge = "uploads_in_flight";
    /// Uploads refused because the node was receiving as many as it may, of all or of one person.
    UPLOADS_REFUSED: Counter = "uploads_refused_total";
    /// Passwords that were not looked at because the queue of the hashing threads was full.
    PASSWORDS_REFUSED: Counter = "passwords_refused_total";
    /// Texts that wait to be embedded, questions and passages.
    EMBEDDING_TEXTS_WAITING: Gauge = "embedding_texts_waiting";
    /// Requests for embeddings refused because too many texts waited.
    EMBEDDING_REFUSED: Counter = "embedding_refused_total";
    /// Tokens embedded, special ones included.
    EMBEDDING_TOKENS: Counter = "embedding_tokens_total";
    /// Bytes of uploaded files that were stored.
    UPLOADED: Counter = "uploaded_bytes_total";
    /// Documents that wait for a worker of any node, as this node last saw them.
    DOCUMENTS_WAITING: Gauge = "documents_waiting";
    /// Documents that this node's workers brought to an end, by how they ended.
    DOCUMENTS_SETTLED: Counters<2> = "documents_settled_total" by "outcome" in DOCUMENT_OUTCOMES;
    /// Connections to the database that the pool holds, at the last heartbeat.
    DATABASE_CONNECTIONS_OPEN: Gauge = "database_connections_open";
    /// Connections to the database that were in use at the last heartbeat.
    DATABASE_CONNECTIONS_IN_USE: Gauge = "database_connections_in_use";
    /// Times that no connection to the database could be had in time.
    DATABASE_UNAVAILABLE: Counter = "database_unavailable_total";
    /// Passages in the index, at the last heartbeat.
    INDEX_PASSAGES: Gauge = "index_passages";
    /// Memory of the index, at the last heartbeat.
    INDEX_SIZE: Gauge = "index_size_bytes";
    /// Documents that the index could not take as they are: it was full, or a vector was unusable.
    INDEX_REFUSED: Counter = "index_refused_total";
    /// Time that a worker took to make a document searchable.
    INGEST_DURATION: Timing = "ingest_duration_ms";
    /// Streams of answers that somebody reads.
    STREAMS_OPEN: Gauge = "streams_open";
    /// Answers that this node is writing.
    ANSWERS_RUNNING: Gauge = "answers_running";
    /// Times that an answer had to wait because as many as may be were being written.
    ANSWER_LIMIT_HIT: Counter = "answer_limit_hit_total";
    /// Answers that this node wrote, by how they ended.
    ANSWERS_ENDED: Counters<4> = "answers_ended_total" by "outcome" in ANSWER_OUTCOMES;
    /// Answers of silent nodes that this node ended as interrupted.
    ANSWERS_EXPIRED: Counter = "answers_expired_total";
    /// Streams closed without an end because the database stayed away.
    STREAMS_CUT: Counter = "streams_cut_total";
    /// Time from a question's claim to the first words of its answer, stored and on their way.
    ANSWER_FIRST_WORDS: Timing = "answer_first_words_ms";
    /// Time from a request's head to its answer's head.
    REQUEST_DURATION: Timing = "request_duration_ms";
}

/// What a connection can be late with.
pub const TIME_OUTS: [&str; 5] = ["idle", "head", "body", "write", "handshake"];

/// How a document can end.
pub const DOCUMENT_OUTCOMES: [&str; 2] = ["ready", "failed"];

/// How an answer can end.
pub const ANSWER_OUTCOMES: [&str; 4] = ["complete", "cancelled", "interrupted", "failed"];

/// The limits on how often somebody may ask.
pub const THROTTLE_LIMITS: [&str; 5] = ["anonymous", "user", "chat", "upload", "login"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let timing = Timing::new();
        timing.record(Duration::from_micros(125));
        timing.record(Duration::from_micros(126));
        timing.record(Duration::from_secs(3600));
        let mut text = String::new();
        timing.write("t_ms", &mut text);
        assert!(text.contains("agent_t_ms_bucket{le=\"0.125\"} 1\n"), "{text}");
        assert!(text.contains("agent_t_ms_bucket{le=\"0.250\"} 2\n"), "{text}");
        assert!(text.contains("agent_t_ms_bucket{le=\"131072.000\"} 2\n"), "{text}");
        assert!(text.contains("agent_t_ms_bucket{le=\"+Inf\"} 3\n"), "{text}");
        assert!(text.contains("agent_t_ms_sum 3600000.251\nagent_t_ms_count 3\n"), "{text}");
    }

    #[test]
    fn every_metric_is_in_the_text_with_a_sentence_of_help() {
        let text = prometheus_text();
        for definition in DEFINITIONS {
            assert!(definition.help.ends_with('.'), "{}", definition.name);
            assert!(text.contains(&format!("# TYPE agent_{} {}\n", definition.name, definition.kind())));
        }
        assert!(text.contains("agent_requests_total{status=\"2xx\"} "), "{text}");
    }

    #[test]
    fn the_documentation_lists_the_same_metrics_in_the_same_order() {
        let page = include_str!("../../docs/metrics.md");
        let documented: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        let declared: Vec<String> = DEFINITIONS
            .iter()
            .map(|definition| {
                let Definition { name, help, .. } = definition;
                format!("| `{PREFIX}{name}` | {} | {} |", definition.kind(), help.trim())
            })
            .collect();
        assert_eq!(documented, declared);
    }

    #[test]
    fn a_gauge_is_held_until_the_guard_is_dropped() {
        static GAUGE: Gauge = Gauge::new();
        let held = GAUGE.hold();
        assert_eq!(GAUGE.get(), 1);
        drop(held);
        assert_eq!(GAUGE.get(), 0);
    }
}
