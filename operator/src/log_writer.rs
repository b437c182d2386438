//! Escapes log lines.

use plain_text::escape;
use std::io::Write;

/// The maximum length of a log line in bytes. Decisions of up to 64 KiB are one line, escaped.
const LOG: usize = 256 << 10;

/// Writes log lines. Unprintable characters are escaped instead of removed, because a logged
/// decision must stay unchanged to be replayed.
pub struct LogWriter<W>(pub W);

impl<W: Write> Write for LogWriter<W> {
    // `tracing_subscriber` passes each line in one call.
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let mut text = escape(text.trim_end_matches('\n'));
        text.truncate(text.floor_char_boundary(LOG));
        text.push('\n');
        self.0.write_all(text.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_log_line_is_escaped_into_one_line() {
        let mut log = LogWriter(Vec::new());
        log.write_all("{\"item\":\"a\u{202e}b\"}\n".as_bytes())
            .unwrap();
        log.write_all(b"two\nlines \x1b[2J \xff\n").unwrap();
        log.write_all("ü".repeat(LOG).as_bytes()).unwrap();
        let text = String::from_utf8(log.0).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..2],
            [
                r#"{"item":"a\u202eb"}"#,
                "two\\u000alines \\u001b[2J \u{fffd}"
            ]
        );
        assert_eq!((lines.len(), lines[2].len()), (3, LOG));
    }
}
