//! Checks `metadata`, which has the same rules for every kind.

use super::schema::{FieldReport, unknown_field};
use regex::Regex;
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// All fields of an ObjectMeta. Server-set fields are valid, because users apply objects that they
/// read from the API server.
const FIELDS: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

static NAME: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$").ok()
});

fn matches(pattern: &LazyLock<Option<Regex>>, text: &str) -> bool {
    pattern
        .as_ref()
        .is_some_and(|pattern| pattern.is_match(text))
}

/// Returns a report for each problem in the metadata of an object.
pub(crate) fn check(object: &Map<String, Value>) -> Vec<FieldReport> {
    let mut reports = Vec::new();
    let mut error = |field: &str, message: String| {
        reports.push(FieldReport::error(format!("metadata{field}"), message));
    };
    let metadata = match object.get("metadata") {
        Some(Value::Object(metadata)) => metadata,
        Some(Value::Null) | None => {
            error("", "is missing; use for example {name: backup}".into());
            return reports;
        }
        Some(_) => {
            error("", "must be a map, for example {name: backup}".into());
            return reports;
        }
    };
    match metadata.get("name") {
        None | Some(Value::Null) => {
            error(".name", "is missing; use a name, for example backup".into())
        }
        Some(Value::String(name)) if name.len() > 253 => {
            error(
                ".name",
                format!("has {} characters; the maximum is 253", name.len()),
            );
        }
        Some(Value::String(name)) if !matches(&NAME, name) => {
            error(
                ".name",
                format!(
                    "{name:?} is not a name; use lowercase letters, digits, '-', and '.', with a \
                     letter or digit at both ends, for example backup"
                ),
            );
        }
        Some(Value::String(_)) => {}
        Some(other) => error(
            ".name",
            format!("must be a string, not {other}; put it in quotes"),
        ),
    }
    match metadata.get("namespace") {
        None | Some(Value::Null) => {}
        Some(Value::String(name)) if name.is_empty() => {}
        Some(Value::String(name))
            if name.len() <= 63 && !name.contains('.') && matches(&NAME, name) => {}
        Some(other) => error(
            ".namespace",
            format!(
                "{other} is not a namespace; use at most 63 lowercase letters, digits, and '-', \
                 for example default"
            ),
        ),
    }
    for map in ["labels", "annotations"] {
        match metadata.get(map) {
            None | Some(Value::Null) => {}
            Some(Value::Object(entries)) => {
                for (key, value) in entries {
                    check_entry(map, key, value, &mut error);
                }
            }
            Some(_) => error(&format!(".{map}"), "must be a map of strings".into()),
        }
    }
    for key in metadata
        .keys()
        .filter(|key| !FIELDS.contains(&key.as_str()))
    {
        error(
            &format!(".{key}"),
            unknown_field(key, FIELDS.iter().copied()),
        );
    }
    reports
}

/// Checks a label or an annotation.
fn check_entry(map: &str, key: &str, value: &Value, error: &mut impl FnMut(&str, String)) {
    let field = format!(".{map}[{key:?}]");
    let Value::String(text) = value else {
        error(
            &field,
            format!("must be a string, not {value}; put it in quotes"),
        );
        return;
    };
    // The API server lower-cases the keys of annotations before it validates them.
    let checked_key = if map == "labels" {
        key.to_owned()
    } else {
        key.to_lowercase()
    };
    if !is_qualified_name(&checked_key) {
        error(
            &field,
            "the key is invalid; use at most 63 letters, digits, '-', '_', and '.', with an \
             optional domain and '/' before them, for example example.com/team"
                .into(),
        );
    }
    if map == "labels" && !(text.is_empty() || is_label_value(text)) {
        error(
            &field,
            format!(
                "{text:?} is not a label value; use at most 63 letters, digits, '-', '_', and '.', \
                 with a letter or digit at both ends"
            ),
        );
    }
}

/// Reports whether a key is a name with an optional domain before it.
fn is_qualified_name(key: &str) -> bool {
    match key.split_once('/') {
        Some((domain, name)) => {
            domain.len() <= 253 && matches(&NAME, domain) && is_label_value(name)
        }
        None => is_label_value(key),
    }
}

fn is_label_value(text: &str) -> bool {
    static WORD: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new("^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$").ok());
    matches(&WORD, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(object: Value) -> String {
        let reports = check(object.as_object().unwrap());
        let lines = reports
            .iter()
            .map(|report| format!("{}: {}\n", report.field, report.message));
        lines.collect()
    }

    #[test]
    fn valid_metadata_has_no_reports() {
        for metadata in [
            json!({"name": "a"}),
            json!({"name": "a-1.b", "namespace": "default", "labels": {"app": ""}}),
            json!({"name": "a", "labels": {"example.com/Team_1": "x.y"}, "creationTimestamp": null}),
            json!({"name": "a", "annotations": {"pause_new_jobs": "any text\n", "Example.com/X": ""}}),
        ] {
            assert_eq!(lines(json!({ "metadata": metadata })), "", "{metadata}");
        }
    }

    #[test]
    fn invalid_metadata_is_reported_with_the_fix() {
        for (metadata, expected) in [
            (json!(null), "metadata: is missing"),
            (json!("a"), "metadata: must be a map"),
            (json!({}), "metadata.name: is missing"),
            (
                json!({"name": "A_b"}),
                "metadata.name: \"A_b\" is not a name; use lowercase",
            ),
            (json!({"name": "a".repeat(254)}), "the maximum is 253"),
            (json!({"name": 5}), "metadata.name: must be a string, not 5"),
            (
                json!({"name": "a", "namespace": "a.b"}),
                "metadata.namespace: \"a.b\" is not a namespace",
            ),
            (
                json!({"name": "a", "labels": {"a b": "x"}}),
                "metadata.labels[\"a b\"]: the key",
            ),
            (
                json!({"name": "a", "labels": {"a": "x y"}}),
                "metadata.labels[\"a\"]: \"x y\" is not a label value",
            ),
            (
                json!({"name": "a", "labels": []}),
                "metadata.labels: must be a map",
            ),
            (
                json!({"name": "a", "annotations": {"a": true}}),
                "annotations[\"a\"]: must be a string",
            ),
            (
                json!({"name": "a", "lables": {}}),
                "unknown field \"lables\"; did you mean \"labels\"?",
            ),
        ] {
            let lines = lines(json!({ "metadata": metadata }));
            assert!(lines.contains(expected), "{metadata}: {lines}");
        }
    }
}
