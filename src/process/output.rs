//! What a child prints becomes log lines, and the last of them stay at hand for error messages.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader};

/// The longest line that is kept; the rest of a longer one is dropped, so that a child cannot fill our memory.
pub const LINE_BYTES_MAX: usize = 8 * 1024;

/// How many of a child's last lines are kept for error messages.
pub const TAIL_LINES: usize = 20;

/// A child's last lines, shared by the readers of its two streams.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == TAIL_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// Returns the lines, oldest first.
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Logs what `stream` prints, line by line, until it ends.
pub(super) async fn pump(
    stream: impl AsyncRead + Unpin,
    target: &'static str,
    level: fn(&str) -> log::Level,
    tail: Tail,
) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    // A stream that fails to be read is as good as ended: the child's exit tells the rest.
    while let Ok(true) = read_line(&mut reader, &mut line).await {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if !text.is_empty() {
            log::log!(target: target, level(text), "{text}");
            tail.push(text.to_owned());
        }
    }
}

/// Reads one line into `line`, without its end and cut at [`LINE_BYTES_MAX`]. Returns false at the end of the stream.
async fn read_line(reader: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    let mut read_any = false;
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok(read_any);
        }
        read_any = true;
        let newline = available.iter().position(|&byte| byte == b'\n');
        let text = &available[..newline.unwrap_or(available.len())];
        let room = LINE_BYTES_MAX - line.len();
        line.extend_from_slice(&text[..text.len().min(room)]);
        let used = newline.map_or(available.len(), |index| index + 1);
        reader.consume(used);
        if newline.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8]) -> Vec<String> {
        let tail = Tail::default();
        pump(input, "test", |_| log::Level::Trace, tail.clone()).await;
        tail.lines()
    }

    #[tokio::test]
    async fn a_line_without_an_end_and_one_that_is_not_utf8_are_kept() {
        assert_eq!(lines(b"one\r\n\ntwo\xff\nthree").await, ["one", "two\u{fffd}", "three"]);
    }

    #[tokio::test]
    async fn a_line_is_cut_at_the_limit_and_the_next_is_whole() {
        let mut input = vec![b'x'; LINE_BYTES_MAX + 1];
        input.extend_from_slice(b"\nnext\n");
        let lines = lines(&input).await;
        assert_eq!(lines[0].len(), LINE_BYTES_MAX);
        assert_eq!(lines[1], "next");
    }

    #[tokio::test]
    async fn only_the_last_lines_are_kept() {
        let input: String = (0..=TAIL_LINES).map(|n| format!("{n}\n")).collect();
        let lines = lines(input.as_bytes()).await;
        assert_eq!((lines.len(), lines[0].as_str()), (TAIL_LINES, "1"));
    }
}
