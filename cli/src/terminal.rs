//! Writes untrusted text to the terminal.

use console::Term;
use oaat_api::text::{escape, is_unprintable};
use serde::Serialize;
use std::io::{Result, Write, stderr, stdout};

/// The width of the output in columns if it is not known.
const WIDTH: usize = 100;

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
pub(crate) fn json(value: &impl Serialize) -> Result<String> {
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

/// Writes a line to standard error. Nothing can report that this failed.
pub(crate) fn report(line: &str) {
    let _ = writeln!(stderr(), "{line}");
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
    fn log_is_escaped_even_if_a_character_is_split() {
        let mut text = LogText::default();
        let log = "ü\t\u{1b}[2J\u{202e}\n".as_bytes();
        let parts = [&log[..1], &log[1..4], &log[4..], b"\xff\n"];
        let out: Vec<_> = parts.iter().map(|part| text.next(part)).collect();
        assert_eq!(out, ["", "ü\t\\u{1b}", "[2J\\u{202e}\n", "\u{fffd}\n"]);
    }
}
