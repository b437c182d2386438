//! What a value is by the structural schema of its kind: the API server's verdict without one.

use super::rules;
use crate::api::{OaatGroup, OaatType};
use kube::CustomResourceExt;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::sync::LazyLock;

/// Something about a field.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The field, such as `spec.oaatItems[2]`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub words: String,
    /// Whether the object is refused for it; else only the API server can tell.
    pub wrong: bool,
}

static SCHEMAS: LazyLock<[(&str, Value); 2]> = LazyLock::new(|| {
    let schema = |crd| {
        let crd = serde_json::to_value(crd).unwrap_or_default();
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
    };
    [
        ("OaatGroup", schema(OaatGroup::crd())),
        ("OaatType", schema(OaatType::crd())),
    ]
});

/// The schema of a kind of ours, as manifests/01 has it.
pub fn of(kind: &str) -> Option<&'static Value> {
    let found = SCHEMAS.iter().find(|(name, _)| *name == kind);
    found.map(|(_, schema)| schema)
}

/// Takes out what the API server takes out before it looks: null where a field may not be null.
pub fn without_nulls(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, inner| match inner_of(schema, key) {
                Some(known) => !inner.is_null() || known["nullable"] == true,
                None => true,
            });
            for (key, inner) in map {
                if let Some(known) = inner_of(schema, key) {
                    without_nulls(inner, known);
                }
            }
        }
        Value::Array(list) => list
            .iter_mut()
            .for_each(|inner| without_nulls(inner, &schema["items"])),
        _ => {}
    }
}

fn inner_of<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    let named = schema.get("properties").and_then(|named| named.get(key));
    named.or_else(|| schema.get("additionalProperties").filter(|s| s.is_object()))
}

/// Says all that is wrong with a value.
pub fn check(value: &Value, schema: &Value, field: &str, told: &mut Vec<Told>) {
    let before = told.len();
    let mut wrong = |words: String| told.push(problem(field, words));
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    if schema["x-kubernetes-int-or-string"] == true {
        if !value.is_string() && !is_integer(value) {
            wrong(format!(
                "must be an integer or a string, and is {}",
                what(value)
            ));
        }
        return;
    }
    if let Some(type_) = schema["type"].as_str()
        && !is_of(value, type_)
    {
        wrong(unfit(value, type_));
        return;
    }
    if let Some(possible) = schema["enum"].as_array()
        && !possible.contains(value)
    {
        let possible: Vec<String> = possible.iter().map(Value::to_string).collect();
        wrong(format!(
            "is {}; it must be {}",
            short(value),
            possible.join(" or ")
        ));
    }
    match value {
        Value::String(text) => {
            bounds(
                schema,
                text.chars().count(),
                ["minLength", "maxLength"],
                "characters",
                &mut wrong,
            );
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            // As a float a bound that is whole is written without a point.
            let bound = |which: &str| schema[which].as_f64();
            if let Some(least) = bound("minimum").filter(|least| number < *least) {
                wrong(format!("is {value}; it must be {least} or more"));
            }
            if let Some(most) = bound("maximum").filter(|most| number > *most) {
                wrong(format!("is {value}; it must be at most {most}"));
            }
        }
        Value::Array(list) => {
            bounds(
                schema,
                list.len(),
                ["minItems", "maxItems"],
                "items",
                &mut wrong,
            );
            if let Some(items) = schema.get("items") {
                for (index, inner) in list.iter().enumerate() {
                    check(inner, items, &format!("{field}[{index}]"), told);
                }
            }
            twice(list, schema, field, told);
        }
        Value::Object(map) => {
            bounds(
                schema,
                map.len(),
                ["minProperties", "maxProperties"],
                "entries",
                &mut wrong,
            );
            fields(map, schema, field, told);
        }
        Value::Null | Value::Bool(_) => {}
    }
    // An expression may count on what the schema says beside it.
    if told[before..]
        .iter()
        .any(|told| told.wrong && told.field == field)
    {
        return;
    }
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let text = rule["rule"].as_str().unwrap_or_default();
        if rules::holds(text, value) == Some(false) {
            // A field that must be there is what the rule is about.
            let missing = text
                .strip_prefix("has(self.")
                .and_then(|rest| rest.strip_suffix(')'));
            let about = match missing {
                Some(name) if !name.contains(['.', ' ', ')']) => format!("{field}.{name}"),
                _ => field.to_owned(),
            };
            let mut words = rule["message"].as_str().unwrap_or(text).to_owned();
            if let Value::String(given) = value {
                words = format!("is {}; {words}", short(&given.as_str().into()));
            }
            told.push(problem(&about, words));
        }
    }
}

fn problem(field: &str, words: String) -> Told {
    let field = field.to_owned();
    Told {
        field,
        words,
        wrong: true,
    }
}

/// The fields of a map, known ones and others.
fn fields(map: &Map<String, Value>, schema: &Value, field: &str, told: &mut Vec<Told>) {
    let names = schema["required"].as_array().into_iter().flatten();
    for name in names
        .filter_map(Value::as_str)
        .filter(|name| !map.contains_key(*name))
    {
        let about = schema["properties"][name]["description"].as_str();
        let about = about
            .and_then(|text| text.lines().next())
            .unwrap_or_default();
        let words = format!("is missing, and must be there. {about}");
        told.push(problem(
            &format!("{field}.{name}"),
            words.trim_end().to_owned(),
        ));
    }
    let known = schema["properties"].as_object();
    for (key, inner) in map {
        let named = known.and_then(|known| known.get(key));
        match (named, schema.get("additionalProperties")) {
            (Some(named), _) => check(inner, named, &format!("{field}.{key}"), told),
            (None, Some(each)) => check(inner, each, &format!("{field}[{key:?}]"), told),
            (None, None) => {
                let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
                // Of what has no fields of its own anything is one.
                let Some(known) = known.filter(|known| !known.is_empty()) else {
                    continue;
                };
                let words = unknown(key, known.keys().map(String::as_str));
                told.push(Told {
                    field: format!("{field}.{key}"),
                    words,
                    wrong: !open,
                });
            }
        }
    }
}

/// Says that there is no such field, and which one may be meant.
pub fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let likeness = |known: &&str| strsim::jaro_winkler(&name.to_lowercase(), &known.to_lowercase());
    let known: Vec<&str> = known.collect();
    let near = known
        .iter()
        .copied()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match near.filter(|near| likeness(near) > 0.75) {
        Some(near) => format!("unknown field {name:?}; there is {near:?}"),
        None => format!("unknown field {name:?}; there are {}", known.join(", ")),
    }
}

/// Entries that are there twice, in lists that are a set or a map.
fn twice(list: &[Value], schema: &Value, field: &str, told: &mut Vec<Told>) {
    let keys: Vec<&str> = match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => Vec::new(),
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array();
            keys.into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect()
        }
        _ => return,
    };
    let mut seen = HashSet::new();
    for (index, entry) in list.iter().enumerate() {
        let identity = match keys.is_empty() {
            true => entry.to_string(),
            false => keys
                .iter()
                .map(|key| format!("{key} {} ", entry[*key]))
                .collect(),
        };
        let words = format!("{} is there twice; it may be there once", identity.trim());
        if !seen.insert(identity) {
            told.push(problem(&format!("{field}[{index}]"), words));
        }
    }
}

fn bounds(
    schema: &Value,
    count: usize,
    [least, most]: [&str; 2],
    what: &str,
    wrong: &mut impl FnMut(String),
) {
    let count = count as u64;
    if let Some(least) = schema[least].as_u64().filter(|least| count < *least) {
        wrong(format!("has {count} {what}; it must have at least {least}"));
    }
    if let Some(most) = schema[most].as_u64().filter(|most| count > *most) {
        wrong(format!("has {count} {what}; it must have at most {most}"));
    }
}

fn is_of(value: &Value, type_: &str) -> bool {
    match type_ {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => is_integer(value),
        "number" => value.is_number(),
        _ => true,
    }
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|float| float.fract() == 0.0)
}

/// Says that a value is of the wrong type, and where that may come from.
fn unfit(value: &Value, type_: &str) -> String {
    let should = match type_ {
        "object" => "a map of fields",
        "array" => "a list",
        "string" => "a string (text)",
        "boolean" => "true or false (a boolean)",
        "integer" => "an integer",
        other => other,
    };
    let quotes = match (value, type_) {
        (Value::Bool(_), "string") => {
            "; yes, no, on and off without quotes are truth values: write it in quotes"
        }
        (Value::Number(_), "string") => {
            "; write it in quotes, with its unit where it is a duration"
        }
        (Value::String(_), "boolean" | "integer") => "; write it without quotes",
        _ => "",
    };
    format!("must be {should}, and is {}{quotes}", what(value))
}

fn what(value: &Value) -> String {
    match value {
        Value::Object(_) => "a map".into(),
        Value::Array(_) => "a list".into(),
        Value::Null => "null".into(),
        Value::String(_) => format!("the text {}", short(value)),
        other => format!(
            "the {} {other}",
            if other.is_boolean() {
                "truth value"
            } else {
                "number"
            }
        ),
    }
}

/// A value as JSON, cut where it is very long.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
