//! Parses the operator's log lines about decisions.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;

/// The content of a line.
#[derive(Debug, PartialEq)]
pub(crate) enum Line<R> {
    /// A decision with its record.
    Record(R),
    /// A decision that was logged without its record.
    Digests,
    /// A decision whose record cannot be read, for this reason.
    Unreadable(String),
    /// Anything else.
    Other,
}

impl<R> Line<R> {
    fn of(record: serde_json::Result<R>) -> Self {
        match record {
            Ok(record) => Self::Record(record),
            Err(error) => Self::Unreadable(format!("it is not a recorded decision: {error}")),
        }
    }
}

/// The target of the operator's log lines about decisions.
const TARGET: &str = "oaat_operator::decision_log";
/// The messages of those lines.
const MESSAGES: [&str; 2] = ["decided", "no decision"];

/// A line of the operator's log as JSON.
#[derive(Deserialize)]
struct JsonLine<'a> {
    #[serde(borrow)]
    target: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
    #[serde(borrow, default)]
    record: Option<Cow<'a, str>>,
}

/// Parses a record.
pub(super) fn parse_record<R: DeserializeOwned>(json: &str) -> Line<R> {
    Line::of(serde_json::from_str(json))
}

/// Parses a line of the operator's log in either format. Lines that only quote a record are other
/// lines.
pub(super) fn parse_log_line<R: DeserializeOwned>(line: &str) -> Line<R> {
    match serde_json::from_str::<JsonLine>(line) {
        Ok(object) if object.target == TARGET && MESSAGES.contains(&&*object.message) => {
            match object.record {
                Some(record) => parse_record(&record),
                None => Line::Digests,
            }
        }
        Ok(_) => Line::Other,
        Err(error) if error.is_eof() && is_json_of_decision(line) => {
            Line::Unreadable("it is incomplete".to_owned())
        }
        Err(_) => parse_text_line(line).unwrap_or(Line::Other),
    }
}

/// Returns whether a line begins like a decision in JSON. Other text escapes these quotes.
fn is_json_of_decision(line: &str) -> bool {
    MESSAGES
        .iter()
        .any(|message| line.contains(&format!("\"message\":\"{message}\"")))
}

/// Parses `TIME LEVEL TARGET: MESSAGE record={…} …`, optionally with the name of a pod before it.
fn parse_text_line<R: DeserializeOwned>(line: &str) -> Option<Line<R>> {
    let (mut rest, mut word);
    rest = line;
    loop {
        (word, rest) = rest.trim_start().split_once(' ')?;
        if matches!(word, "TRACE" | "DEBUG" | "INFO" | "WARN" | "ERROR") {
            break;
        }
    }
    let message = rest.trim_start().strip_prefix(TARGET)?.strip_prefix(": ")?;
    let fields = MESSAGES
        .iter()
        .find_map(|known| message.strip_prefix(known))?;
    let Some(json) = fields.strip_prefix(" record=") else {
        return Some(Line::Digests);
    };
    // Other fields follow.
    let mut deserializer = serde_json::Deserializer::from_str(json);
    Some(Line::of(R::deserialize(&mut deserializer)))
}
