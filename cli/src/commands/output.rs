//! The formats of the output.

use crate::cluster::ClusterError;
use crate::terminal::{escape_control, print, to_json};
use clap::ValueEnum;
use oaat_api::text::is_unprintable;
use serde::Serialize;

/// The format of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// A table with more columns, and messages in full.
    Wide,
}

/// Prints a value as JSON or YAML, or `table` of whether it is wide.
pub(super) fn print_as(
    format: Option<Format>,
    value: &impl Serialize,
    table: impl FnOnce(bool) -> String,
) -> Result<(), ClusterError> {
    let text = match format {
        Some(Format::Json) => to_json(value)?,
        Some(Format::Yaml) => yaml(value)?,
        Some(Format::Wide) => table(true),
        None => table(false),
    };
    Ok(print(&text)?)
}

/// Formats a value as YAML. Text with control characters is written as JSON, which is also YAML,
/// because not all of them are escaped in YAML.
fn yaml(value: &impl Serialize) -> Result<String, ClusterError> {
    let text = serde_norway::to_string(value).map_err(std::io::Error::other)?;
    if text.contains(|c| c != '\n' && is_unprintable(c)) {
        return Ok(to_json(value)?);
    }
    Ok(escape_control(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_keep_their_meaning() {
        let value = serde_json::json!({ "items": ["a\u{202e}b\u{1b}c\u{9b}"] });
        let expected = "{\n  \"items\": [\n    \"a\\u202eb\\u001bc\\u009b\"\n  ]\n}\n";
        assert_eq!(to_json(&value).unwrap(), expected);
        for text in [to_json(&value).unwrap(), yaml(&value).unwrap()] {
            assert!(!text.contains(|c| c != '\n' && is_unprintable(c)), "{text}");
            let read: serde_json::Value = serde_norway::from_str(&text).unwrap();
            assert_eq!(read, value);
        }
        let clean = serde_json::json!({ "items": ["a"] });
        assert_eq!(yaml(&clean).unwrap(), "items:\n- a\n");
    }
}
