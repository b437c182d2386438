//! Writes untrusted text and progress to the terminal.

use console::{Term, truncate_str};
use oaat_api::text::{escape, is_unprintable};
use serde::Serialize;
use std::io::{Result, Write, stderr, stdout};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The width of the output in columns if it is not known.
const WIDTH: usize = 100;

/// The minimum interval between two updates of a progress line.
const UPDATE_INTERVAL: Duration = Duration::from_millis(100);

/// Returns the width of the output in columns: $COLUMNS, or the width of the terminal, or 100 if
/// the output is not a terminal.
pub(crate) fn width() -> usize {
    let variable = std::env::var("COLUMNS").ok();
    let columns = variable.and_then(|columns| columns.parse().ok());
    let terminal = || Some(usize::from(Term::stdout().size_checked()?.1));
    columns.or_else(terminal).unwrap_or(WIDTH)
}

/// Escapes the characters that control a terminal or reorder a line. Keeps line ends.
///
/// Components, requests, records, objects, and logs are untrusted.
pub(crate) fn escape_control(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && is_unprintable(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Formats a value as JSON without characters that control a terminal.
pub(crate) fn to_json(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value)?;
    // Escapes do not change the meaning of strings, which alone can contain such characters.
    let lines = text.lines().map(escape);
    Ok(format!("{}\n", lines.collect::<Vec<_>>().join("\n")))
}

/// Prints untrusted text to standard output.
pub(crate) fn print(text: &str) -> Result<()> {
    write(escape_control(text).as_bytes())
}

/// Writes bytes to standard output. The error has the kind `BrokenPipe` if the reader has closed the
/// pipe (`… | head`).
pub(crate) fn write(bytes: &[u8]) -> Result<()> {
    let mut out = stdout();
    out.write_all(bytes).and_then(|()| out.flush())
}

/// Writes a line to standard error. There is nowhere to report an error.
pub(crate) fn report(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}

/// A progress line on standard error, cleared on drop. Not shown if standard error is not a
/// terminal.
pub(crate) struct Progress(Option<Mutex<ProgressLine>>);

struct ProgressLine {
    term: Term,
    interval: Duration,
    updated: Instant,
    shown: bool,
}

impl Progress {
    pub fn new() -> Self {
        let term = Term::stderr();
        if term.is_term() {
            Self::with(term, UPDATE_INTERVAL)
        } else {
            Self(None)
        }
    }

    fn with(term: Term, interval: Duration) -> Self {
        Self(Some(Mutex::new(ProgressLine {
            term,
            interval,
            updated: Instant::now(),
            shown: false,
        })))
    }

    /// Replaces the line, at most once per interval. Cuts off what does not fit on it.
    pub fn show(&self, text: impl FnOnce() -> String) {
        // If the line is locked, another thread is updating it.
        if let Some(line) = &self.0
            && let Ok(mut line) = line.try_lock()
            && line.updated.elapsed() >= line.interval
        {
            line.shown = true;
            line.updated = Instant::now();
            let text = text();
            let (_, columns) = line.term.size();
            let text = truncate_str(&text, usize::from(columns.saturating_sub(1)), "");
            // There is nowhere to report an error.
            let _ = line.term.clear_line();
            let _ = line.term.write_str(&text);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(line) = &self.0
            && let Ok(line) = line.try_lock()
            && line.shown
        {
            let _ = line.term.clear_line();
        }
    }
}

/// Makes the bytes of a log safe for a terminal, part by part. Keeps line ends and tabs.
#[derive(Default)]
pub(crate) struct LogText {
    /// The beginning of a character whose end is in the next part.
    rest: Vec<u8>,
}

impl LogText {
    /// Returns the next part, with control characters escaped and invalid UTF-8 replaced.
    pub fn next(&mut self, part: &[u8]) -> String {
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(part);
        let complete = match std::str::from_utf8(&bytes) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => bytes.len(),
        };
        self.rest = bytes.split_off(complete);
        let mut out = String::with_capacity(bytes.len());
        for c in String::from_utf8_lossy(&bytes).chars() {
            if !matches!(c, '\n' | '\t') && is_unprintable(c) {
                out.extend(c.escape_unicode());
            } else {
                out.push(c);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_control_escapes_terminal_control_characters() {
        let text = "a\n\u{1b}[31mb\u{9b}c\r\u{202e}d ü";
        assert_eq!(
            escape_control(text),
            r"a
\u{1b}[31mb\u{9b}c\u{d}\u{202e}d ü"
        );
    }

    #[test]
    fn progress_is_one_line_that_is_cleared_at_the_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let term = || Term::read_write_pair(std::io::stdin(), file.reopen().unwrap());
        let written = || std::fs::read_to_string(file.path()).unwrap();
        let progress = Progress::with(term(), Duration::from_secs(3600));
        progress.show(|| "1 %".to_owned());
        drop(progress);
        assert_eq!(written(), "");
        let progress = Progress::with(term(), Duration::ZERO);
        progress.show(|| "1 %".to_owned());
        progress.show(|| "2 %".to_owned());
        drop(progress);
        assert_eq!(written(), "\r\u{1b}[2K1 %\r\u{1b}[2K2 %\r\u{1b}[2K");
        let progress = Progress(None);
        progress.show(|| panic!("not a terminal"));
    }

    #[test]
    fn log_is_escaped_even_if_a_character_is_split() {
        let mut text = LogText::default();
        let log = "ü\t\u{1b}[2J\u{202e}\n".as_bytes();
        let parts = [&log[..1], &log[1..4], &log[4..], b"\xff\n"];
        let out: Vec<_> = parts.iter().map(|part| text.next(part)).collect();
        assert_eq!(out, ["", "ü\t\\u{1b}", "[2J\\u{202e}\n", "\u{fffd}\n"]);
    }
}
