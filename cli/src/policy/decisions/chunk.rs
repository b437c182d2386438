//! Reads a file in chunks of whole lines, in bounded memory.

use super::log_line::{Line, parse_log_line, parse_record};
use memchr::{memchr, memchr_iter, memrchr};
use policy_host::DecisionRecord;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::io::Read;

/// The maximum length of a line, and of a file with a single record, in bytes. A decision about
/// 2,000 items takes a few hundred kilobytes.
pub(crate) const MAX_LINE: usize = 16 << 20;
/// The length of a chunk in bytes, unless it has one longer line.
const CHUNK_SIZE: usize = 512 << 10;

/// Whole lines of a file.
#[derive(Debug, PartialEq)]
pub(crate) struct Chunk {
    /// The number of the first line, from 1.
    pub first_line: u64,
    pub content: Content,
}

/// The content of a chunk.
#[derive(Debug, PartialEq)]
pub(crate) enum Content {
    /// A whole file with one record that spans several lines.
    SingleRecord(Vec<u8>),
    /// A record in each line.
    Records(Vec<u8>),
    /// Lines of the operator's log.
    Log(Vec<u8>),
    /// A line, or a file with one record, that is longer than [`MAX_LINE`].
    TooLong,
}

/// The format of a file, which its first line determines.
#[derive(Clone, Copy)]
enum Format {
    SingleRecord,
    Records,
    Log,
}

impl Format {
    /// Determines the format from the first line that is not blank.
    fn of(line: &[u8]) -> Self {
        let line = line.trim_ascii();
        if line == b"{" {
            return Self::SingleRecord;
        }
        match serde_json::from_slice::<DecisionRecord>(line) {
            Ok(_) => Self::Records,
            Err(_) => Self::Log,
        }
    }
}

impl Chunk {
    /// Calls `each` with the number and the content of each line that is not blank.
    pub fn for_each<R: DeserializeOwned>(&self, mut each: impl FnMut(u64, Line<R>)) {
        type Parse<R> = fn(&str) -> Line<R>;
        let (bytes, parse): (_, Parse<R>) = match &self.content {
            Content::TooLong => {
                let why = format!("it is longer than {} MiB", MAX_LINE >> 20);
                return each(self.first_line, Line::Unreadable(why));
            }
            Content::SingleRecord(bytes) => {
                return each(
                    self.first_line,
                    parse_record(&String::from_utf8_lossy(bytes)),
                );
            }
            Content::Records(bytes) => (bytes, parse_record),
            Content::Log(bytes) => (bytes, parse_log_line),
        };
        let mut rest = bytes.as_slice();
        let mut number = self.first_line;
        while !rest.is_empty() {
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            let line = rest[..end].trim_ascii();
            if !line.is_empty() {
                // The lossy conversion takes several times as long for valid text.
                let text = std::str::from_utf8(line)
                    .map_or_else(|_| String::from_utf8_lossy(line), Cow::Borrowed);
                each(number, parse(&text));
            }
            number += 1;
            rest = rest.get(end + 1..).unwrap_or_default();
        }
    }
}

/// Reads a file, and calls `each` with its chunks until it returns false. Needs memory for one chunk
/// and for the longest line up to [`MAX_LINE`].
///
/// # Errors
/// Returns an error if reading fails.
pub(crate) fn read_chunks(
    mut input: impl Read,
    mut each: impl FnMut(Chunk) -> bool,
) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    let mut first_line = 1;
    let mut format = None;
    loop {
        let at_end = fill(&mut input, &mut buffer)?;
        let complete = match memrchr(b'\n', &buffer) {
            _ if at_end => buffer.len(),
            Some(newline) => newline + 1,
            None if buffer.len() < MAX_LINE => continue,
            None => {
                let content = Content::TooLong;
                if !each(Chunk {
                    first_line,
                    content,
                }) || !skip_line(&mut input, &mut buffer)?
                {
                    return Ok(());
                }
                first_line += 1;
                continue;
            }
        };
        if format.is_none() {
            let mut lines = buffer[..complete].split(|byte| *byte == b'\n');
            let first = lines.find(|line| !line.trim_ascii().is_empty());
            format = first.map(Format::of);
        }
        let rest = match format {
            Some(Format::SingleRecord) => {
                let content = read_whole(&mut input, buffer)?;
                each(Chunk {
                    first_line,
                    content,
                });
                return Ok(());
            }
            _ => buffer.split_off(complete),
        };
        let lines = memchr_iter(b'\n', &buffer).count() as u64;
        let content = match format {
            Some(Format::Records) => Content::Records(buffer),
            _ => Content::Log(buffer),
        };
        if !each(Chunk {
            first_line,
            content,
        }) || at_end
        {
            return Ok(());
        }
        first_line += lines;
        buffer = rest;
    }
}

/// Reads up to [`CHUNK_SIZE`] more bytes. Returns whether the input has ended.
fn fill(input: &mut impl Read, buffer: &mut Vec<u8>) -> std::io::Result<bool> {
    buffer.reserve(CHUNK_SIZE);
    let read = input.take(CHUNK_SIZE as u64).read_to_end(buffer)?;
    Ok(read < CHUNK_SIZE)
}

/// Skips the rest of a line. Afterward, `buffer` contains the part of the next line that was read.
/// Returns false if the input has ended.
fn skip_line(input: &mut impl Read, buffer: &mut Vec<u8>) -> std::io::Result<bool> {
    loop {
        buffer.clear();
        let at_end = fill(input, buffer)?;
        if let Some(newline) = memchr(b'\n', buffer) {
            buffer.drain(..=newline);
            return Ok(true);
        }
        if at_end {
            return Ok(false);
        }
    }
}

/// Reads the rest of a file with one record.
fn read_whole(input: &mut impl Read, mut bytes: Vec<u8>) -> std::io::Result<Content> {
    let room = (MAX_LINE + 1).saturating_sub(bytes.len());
    input.take(room as u64).read_to_end(&mut bytes)?;
    Ok(if bytes.len() > MAX_LINE {
        Content::TooLong
    } else {
        Content::SingleRecord(bytes)
    })
}
