//! Reads input of limited size.

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::{BufRead, Read};
use std::path::Path;

/// The maximum size of a component or a core module in bytes.
pub(crate) const MAX_COMPONENT: u64 = policy_build::MAX_MODULE;
/// The maximum size of a text file, or of a line of input, in bytes.
pub(crate) const MAX_TEXT: u64 = 16 << 20;

/// Reads a file of at most `limit` bytes.
pub(crate) fn read(file: &Path, limit: u64) -> Result<Vec<u8>> {
    let name = || format!("{}", file.display());
    ensure!(
        !file.is_dir(),
        "{}: this is a directory; use a file",
        name()
    );
    read_all(File::open(file).with_context(name)?, limit).with_context(name)
}

/// Reads a text file.
pub(crate) fn read_text(file: &Path) -> Result<String> {
    let bytes = read(file, MAX_TEXT)?;
    String::from_utf8(bytes).with_context(|| format!("{}: not valid UTF-8", file.display()))
}

/// Reads text from standard input.
pub(crate) fn read_stdin() -> Result<String> {
    let name = "standard input";
    let bytes = read_all(std::io::stdin().lock(), MAX_TEXT).context(name)?;
    String::from_utf8(bytes).context("standard input: not valid UTF-8")
}

fn read_all(input: impl Read, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(limit + 1).read_to_end(&mut bytes)?;
    ensure!(
        bytes.len() as u64 <= limit,
        "the input is larger than {} MiB; use a smaller file",
        limit >> 20
    );
    Ok(bytes)
}

/// A line of input.
#[derive(Debug, PartialEq)]
pub(crate) enum Line {
    Complete(Vec<u8>),
    /// A line of more than [`MAX_TEXT`] bytes, which was skipped.
    TooLong,
}

/// Reads a line. Returns `None` at the end of the input.
pub(crate) fn read_line(input: &mut impl BufRead) -> std::io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut limited = input.by_ref().take(MAX_TEXT + 1);
    if limited.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.len() as u64 <= MAX_TEXT || line.ends_with(b"\n") {
        return Ok(Some(Line::Complete(line)));
    }
    input.skip_until(b'\n')?;
    Ok(Some(Line::TooLong))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    #[test]
    fn large_file_is_rejected_with_its_name_and_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        // A sparse file uses no space.
        let file = File::create(&path).unwrap();
        file.set_len(MAX_TEXT).unwrap();
        assert_eq!(read_text(&path).unwrap().len() as u64, MAX_TEXT);
        file.set_len(MAX_TEXT + 1).unwrap();
        let error = format!("{:#}", read_text(&path).unwrap_err());
        let expected = format!(
            "{}: the input is larger than 16 MiB; use a smaller file",
            path.display()
        );
        assert_eq!(error, expected);
    }

    #[test]
    fn directory_is_rejected_with_the_fix() {
        let folder = tempfile::tempdir().unwrap();
        let error = format!("{:#}", read_text(folder.path()).unwrap_err());
        let fix = ": this is a directory; use a file";
        assert_eq!(error, format!("{}{fix}", folder.path().display()));
    }

    #[test]
    fn endless_input_and_invalid_text_are_rejected() {
        assert!(read_all(std::io::repeat(b'x'), 1 << 20).is_err());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        std::fs::write(&path, b"\xff").unwrap();
        let error = read_text(&path).unwrap_err().to_string();
        assert!(error.ends_with("text: not valid UTF-8"), "{error}");
    }

    #[test]
    fn long_line_is_skipped() {
        let long = std::io::repeat(b'x').take(MAX_TEXT + 1);
        let mut input = BufReader::new(long.chain(&b"\na\nb"[..]));
        let mut next = || read_line(&mut input).unwrap();
        assert_eq!(next(), Some(Line::TooLong));
        assert_eq!(next(), Some(Line::Complete(b"a\n".to_vec())));
        assert_eq!(next(), Some(Line::Complete(b"b".to_vec())));
        assert_eq!(next(), None);
    }
}
