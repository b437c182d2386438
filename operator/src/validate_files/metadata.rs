//! What the API server asks of `metadata`, whatever the kind.

use super::schema::{Told, unknown};
use regex::Regex;
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// The fields of an ObjectMeta; none is left out, as the API server takes objects as they were read
/// from it.
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

fn fits(pattern: &LazyLock<Option<Regex>>, text: &str) -> bool {
    pattern
        .as_ref()
        .is_some_and(|pattern| pattern.is_match(text))
}

/// Says all that is wrong with an object's metadata.
pub fn check(object: &Map<String, Value>) -> Vec<Told> {
    let mut told = Vec::new();
    let mut wrong = |field: &str, words: String| {
        let field = format!("metadata{field}");
        told.push(Told {
            field,
            words,
            wrong: true,
        });
    };
    let metadata = match object.get("metadata") {
        Some(Value::Object(metadata)) => metadata,
        Some(Value::Null) | None => {
            wrong(
                "",
                "is missing; it has the object's name: metadata: {name: backup}".into(),
            );
            return told;
        }
        Some(_) => {
            wrong("", "must be a map of fields, such as {name: backup}".into());
            return told;
        }
    };
    let right = "lower case letters, digits, '-' and '.', with a letter or digit at both ends";
    match metadata.get("name") {
        None | Some(Value::Null) => wrong(
            ".name",
            "is missing; it is the object's name, such as backup".into(),
        ),
        Some(Value::String(name)) if name.len() > 253 => {
            wrong(
                ".name",
                format!("has {} characters; a name has at most 253", name.len()),
            );
        }
        Some(Value::String(name)) if !fits(&NAME, name) => {
            wrong(
                ".name",
                format!("is {name:?}; a name has {right}, such as backup"),
            );
        }
        Some(Value::String(_)) => {}
        Some(other) => wrong(
            ".name",
            format!("must be a string, and is {other}; write it in quotes"),
        ),
    }
    match metadata.get("namespace") {
        None | Some(Value::Null) => {}
        Some(Value::String(name)) if name.is_empty() => {}
        Some(Value::String(name))
            if name.len() <= 63 && !name.contains('.') && fits(&NAME, name) => {}
        Some(other) => wrong(
            ".namespace",
            format!(
                "is {other}; a namespace has up to 63 lower case letters, digits and '-', such as default"
            ),
        ),
    }
    for map in ["labels", "annotations"] {
        match metadata.get(map) {
            None | Some(Value::Null) => {}
            Some(Value::Object(entries)) => {
                for (key, value) in entries {
                    entry(map, key, value, &mut wrong);
                }
            }
            Some(_) => wrong(&format!(".{map}"), "must be a map of strings".into()),
        }
    }
    for key in metadata
        .keys()
        .filter(|key| !FIELDS.contains(&key.as_str()))
    {
        wrong(&format!(".{key}"), unknown(key, FIELDS.iter().copied()));
    }
    told
}

fn entry(map: &str, key: &str, value: &Value, wrong: &mut impl FnMut(&str, String)) {
    let field = format!(".{map}[{key:?}]");
    let Value::String(text) = value else {
        wrong(
            &field,
            format!("must be a string, and is {value}; write it in quotes"),
        );
        return;
    };
    // Of annotations the API server takes keys in capital letters as well.
    let written = if map == "labels" {
        key.to_owned()
    } else {
        key.to_lowercase()
    };
    if !is_qualified(&written) {
        wrong(&field, "the key is a name of up to 63 letters, digits, '-', '_' and '.', perhaps after a domain and '/', such as example.com/team".into());
    }
    if map == "labels" && !(text.is_empty() || is_word(text)) {
        wrong(
            &field,
            format!(
                "is {text:?}; the value of a label has up to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"
            ),
        );
    }
}

/// A name, perhaps after a domain.
fn is_qualified(key: &str) -> bool {
    match key.split_once('/') {
        Some((domain, name)) => domain.len() <= 253 && fits(&NAME, domain) && is_word(name),
        None => is_word(key),
    }
}

fn is_word(text: &str) -> bool {
    static WORD: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new("^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$").ok());
    fits(&WORD, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(object: Value) -> String {
        let told = check(object.as_object().unwrap());
        let told = told
            .iter()
            .map(|told| format!("{}: {}\n", told.field, told.words));
        told.collect()
    }

    #[test]
    fn what_is_right_is_left_alone() {
        for metadata in [
            json!({"name": "a"}),
            json!({"name": "a-1.b", "namespace": "default", "labels": {"app": ""}}),
            json!({"name": "a", "labels": {"example.com/Team_1": "x.y"}, "creationTimestamp": null}),
            json!({"name": "a", "annotations": {"pause_new_jobs": "any text\n", "Example.com/X": ""}}),
        ] {
            assert_eq!(told(json!({ "metadata": metadata })), "", "{metadata}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        for (metadata, words) in [
            (json!(null), "metadata: is missing"),
            (json!("a"), "metadata: must be a map"),
            (json!({}), "metadata.name: is missing"),
            (
                json!({"name": "A_b"}),
                "metadata.name: is \"A_b\"; a name has lower case",
            ),
            (json!({"name": "a".repeat(254)}), "at most 253"),
            (
                json!({"name": 5}),
                "metadata.name: must be a string, and is 5",
            ),
            (
                json!({"name": "a", "namespace": "a.b"}),
                "metadata.namespace: is \"a.b\"",
            ),
            (
                json!({"name": "a", "labels": {"a b": "x"}}),
                "metadata.labels[\"a b\"]: the key",
            ),
            (
                json!({"name": "a", "labels": {"a": "x y"}}),
                "metadata.labels[\"a\"]: is \"x y\"",
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
                "unknown field \"lables\"; there is \"labels\"",
            ),
        ] {
            let told = told(json!({ "metadata": metadata }));
            assert!(told.contains(words), "{metadata}: {told}");
        }
    }
}
