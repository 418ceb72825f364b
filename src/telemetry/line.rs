//! A log event, and the one line that it becomes: time, level, message, key=value pairs.

use std::fmt::{Display, Write};

use jiff::Timestamp;
use log::kv::{self, Key, Value, VisitSource};
use log::{Level, Record};

/// A log record that outlives the call that made it.
pub(super) struct Event {
    at: Timestamp,
    level: Level,
    target: String,
    /// The text without its fields.
    pub message: String,
    fields: Vec<(String, String)>,
}

/// How lines look.
#[derive(Clone, Copy)]
pub(super) struct Style {
    /// Whether levels and keys are coloured.
    pub color: bool,
    /// Time of day only, for somebody who watches; a file gets the date too.
    pub short_time: bool,
}

impl Event {
    /// Copies what `record` says.
    pub fn new(record: &Record<'_>) -> Self {
        let mut fields = Fields(Vec::new());
        // Collecting into a vector cannot fail.
        let _ = record.key_values().visit(&mut fields);
        Self {
            at: Timestamp::now(),
            level: record.level(),
            target: record.target().to_owned(),
            message: record.args().to_string(),
            fields: fields.0,
        }
    }

    /// Says how many events were dropped.
    pub fn lost(count: u64) -> Self {
        Self {
            at: Timestamp::now(),
            level: Level::Warn,
            target: module_path!().to_owned(),
            message: format!("{count} log events were lost, the reader of the log is too slow"),
            fields: vec![("count".to_owned(), count.to_string())],
        }
    }

    /// Calls `with` with the event as a record again.
    pub fn with_record(&self, with: impl FnOnce(&Record<'_>)) {
        let mut record = Record::builder();
        record.level(self.level).target(&self.target).key_values(&self.fields);
        with(&record.args(format_args!("{}", self.message)).build());
    }
}

struct Fields(Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        self.0.push((key.as_str().to_owned(), value.to_string()));
        Ok(())
    }
}

/// Returns the line of `event`, with its line break.
pub(super) fn format(event: &Event, style: Style) -> String {
    let (level, color) = match event.level {
        Level::Error => ("error", "\x1b[31m"),
        Level::Warn => ("warn", "\x1b[33m"),
        Level::Info => ("info", "\x1b[32m"),
        Level::Debug => ("debug", "\x1b[36m"),
        Level::Trace => ("trace", "\x1b[90m"),
    };
    let (color, dim, plain) = if style.color { (color, "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
    let time = if style.short_time { "%H:%M:%S" } else { "%Y-%m-%dT%H:%M:%S%.3fZ" };
    let mut line = format!("{dim}{}{plain} {color}{level:<5}{plain} ", event.at.strftime(time));
    push_escaped(&mut line, &event.message);
    for (key, value) in event.fields.iter().filter(|(_, value)| !says(&event.message, value)) {
        push(&mut line, format_args!(" {dim}{key}={plain}"));
        if value.is_empty() || value.contains([' ', '"', '=']) {
            push(&mut line, format_args!("{value:?}"));
        } else {
            push_escaped(&mut line, value);
        }
    }
    line.push('\n');
    line
}

/// Whether `value` stands in the message as a word: what a person has just read is not repeated as a field.
fn says(message: &str, value: &str) -> bool {
    message.split([' ', ',', ':', '(', ')']).any(|word| !word.is_empty() && word == value)
}

/// Appends text without control characters: one event is one line, whatever a client sent, and no terminal obeys it.
fn push_escaped(line: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_control() {
            push(line, character.escape_default());
        } else {
            line.push(character);
        }
    }
}

fn push(line: &mut String, text: impl Display) {
    // Writing to a string cannot fail.
    let _ = write!(line, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: &str, fields: &[(&str, &str)]) -> String {
        let mut event =
            Event::new(&Record::builder().level(Level::Warn).args(format_args!("{message}")).build());
        event.at = Timestamp::UNIX_EPOCH;
        event.fields = fields.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        format(&event, Style { color: false, short_time: false })
    }

    #[test]
    fn an_event_is_one_line_with_its_fields() {
        assert_eq!(
            line("request ended", &[("status", "200"), ("path", "/a b"), ("empty", "")]),
            "1970-01-01T00:00:00.000Z warn  request ended status=200 path=\"/a b\" empty=\"\"\n"
        );
    }

    #[test]
    fn a_field_that_the_message_says_is_not_repeated() {
        assert_eq!(
            line("GET /x 200 (request 7)", &[("status", "200"), ("request_id", "7"), ("size", "20")]),
            "1970-01-01T00:00:00.000Z warn  GET /x 200 (request 7) size=20\n"
        );
    }

    #[test]
    fn control_characters_cannot_forge_a_line_or_drive_a_terminal() {
        assert_eq!(
            line("a\nb", &[("name", "x\u{1b}[2J")]),
            "1970-01-01T00:00:00.000Z warn  a\\nb name=x\\u{1b}[2J\n"
        );
    }
}
