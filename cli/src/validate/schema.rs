//! Checks values against the structural schemas of the CRDs, as the API server does.

use super::cel_rules;
use kube::CustomResourceExt;
use oaat_api::{OaatGroup, OaatType};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::sync::LazyLock;

/// A finding about a field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FieldReport {
    /// The field, such as `spec.oaatItems[2]`.
    pub field: String,
    /// What is wrong, and how to fix it.
    pub message: String,
    /// Whether the API server or the operator rejects the object because of it.
    pub severity: Severity,
}

/// The consequence of a finding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Severity {
    /// The object is rejected.
    Error,
    /// The object is valid, or only the API server can determine whether it is.
    Warning,
}

impl FieldReport {
    /// Creates a report of severity [`Severity::Error`].
    pub fn error(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
            severity: Severity::Error,
        }
    }

    /// Creates a report of severity [`Severity::Warning`].
    pub fn warning(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(field, message)
        }
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
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

/// Returns the schema of OaatGroup or OaatType; `None` for any other kind.
pub(crate) fn of_kind(kind: &str) -> Option<&'static Value> {
    let found = SCHEMAS.iter().find(|(name, _)| *name == kind);
    found.map(|(_, schema)| schema)
}

/// Removes null from fields that are not nullable, as the API server does before it validates.
pub(crate) fn drop_nulls(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, inner| match field_schema(schema, key) {
                Some(known) => !inner.is_null() || known["nullable"] == true,
                None => true,
            });
            for (key, inner) in map {
                if let Some(known) = field_schema(schema, key) {
                    drop_nulls(inner, known);
                }
            }
        }
        Value::Array(list) => list
            .iter_mut()
            .for_each(|inner| drop_nulls(inner, &schema["items"])),
        _ => {}
    }
}

fn field_schema<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    let properties = schema
        .get("properties")
        .and_then(|properties| properties.get(key));
    properties.or_else(|| schema.get("additionalProperties").filter(|s| s.is_object()))
}

/// Appends a report for each violation of the schema in a value and in its fields.
pub(crate) fn check(value: &Value, schema: &Value, field: &str, reports: &mut Vec<FieldReport>) {
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    if schema["x-kubernetes-int-or-string"] == true {
        if !value.is_string() && !is_integer(value) {
            let message = format!("must be an integer or a string, not {}", describe(value));
            reports.push(FieldReport::error(field, message));
        }
        return;
    }
    if let Some(type_) = schema["type"].as_str()
        && !has_type(value, type_)
    {
        reports.push(FieldReport::error(field, type_mismatch(value, type_)));
        return;
    }
    let before = reports.len();
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        let (value, allowed) = (truncated(value), allowed.join(" or "));
        let message = format!("{value} is not supported; use {allowed}");
        reports.push(FieldReport::error(field, message));
    }
    let bounds = bound_violations(value, schema).into_iter();
    reports.extend(bounds.map(|message| FieldReport::error(field, message)));
    match value {
        Value::Array(list) => {
            if let Some(items) = schema.get("items") {
                for (index, inner) in list.iter().enumerate() {
                    check(inner, items, &format!("{field}[{index}]"), reports);
                }
            }
            check_duplicates(list, schema, field, reports);
        }
        Value::Object(map) => check_fields(map, schema, field, reports),
        _ => {}
    }
    // A validation rule may rely on the rest of the schema.
    let is_invalid = |report: &FieldReport| report.is_error() && report.field == field;
    if !reports[before..].iter().any(is_invalid) {
        check_rules(value, schema, field, before, reports);
    }
}

/// Returns a message for each bound of the schema that a value violates.
fn bound_violations(value: &Value, schema: &Value) -> Vec<String> {
    let size = |count: usize, unit, minimum: &str, maximum: &str| {
        let count = count as u64;
        let minimum = schema[minimum].as_u64().filter(|least| count < *least);
        let maximum = schema[maximum].as_u64().filter(|most| count > *most);
        let too_few = minimum.map(|least| format!("has {count} {unit}; the minimum is {least}"));
        let too_many = maximum.map(|most| format!("has {count} {unit}; the maximum is {most}"));
        too_few.into_iter().chain(too_many).collect()
    };
    match value {
        Value::String(text) => {
            let count = text.chars().count();
            size(count, "characters", "minLength", "maxLength")
        }
        Value::Array(list) => size(list.len(), "items", "minItems", "maxItems"),
        Value::Object(map) => size(map.len(), "entries", "minProperties", "maxProperties"),
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            // An f64 without a fraction is displayed without a decimal point.
            let minimum = schema["minimum"].as_f64().filter(|least| number < *least);
            let maximum = schema["maximum"].as_f64().filter(|most| number > *most);
            let too_small =
                minimum.map(|least| format!("invalid value {value}: must be {least} or more"));
            let too_large =
                maximum.map(|most| format!("invalid value {value}: must be at most {most}"));
            too_small.into_iter().chain(too_large).collect()
        }
        Value::Null | Value::Bool(_) => Vec::new(),
    }
}

/// Evaluates the validation rules (CEL) of a schema. The reports from index `before` on are those
/// of the value's own fields.
fn check_rules(
    value: &Value,
    schema: &Value,
    field: &str,
    before: usize,
    reports: &mut Vec<FieldReport>,
) {
    let rules = schema["x-kubernetes-validations"].as_array();
    for rule in rules.into_iter().flatten() {
        let expression = rule["rule"].as_str().unwrap_or_default();
        let holds = cel_rules::holds(expression, value);
        // A rule cannot be evaluated if a field has the wrong type, which is reported already.
        let is_reported = holds.is_err() && reports[before..].iter().any(FieldReport::is_error);
        if holds == Ok(true) || is_reported {
            continue;
        }
        // A rule that only requires a field is reported for that field.
        let required = expression
            .strip_prefix("has(self.")
            .and_then(|rest| rest.strip_suffix(')'))
            .filter(|name| !name.contains(['.', ' ', ')']));
        let field = match required {
            Some(name) => format!("{field}.{name}"),
            None => field.to_owned(),
        };
        let message = rule["message"].as_str().unwrap_or(expression);
        let message = if let Err(error) = holds {
            format!("failed to evaluate the rule {expression}: {error}")
        } else if value.is_string() {
            format!("{} is invalid; {message}", truncated(value))
        } else {
            message.to_owned()
        };
        reports.push(FieldReport::error(field, message));
    }
}

/// Checks the fields of a map: required, known, and unknown ones.
fn check_fields(
    map: &Map<String, Value>,
    schema: &Value,
    field: &str,
    reports: &mut Vec<FieldReport>,
) {
    let required = schema["required"].as_array().into_iter().flatten();
    for name in required
        .filter_map(Value::as_str)
        .filter(|name| !map.contains_key(*name))
    {
        let description = schema["properties"][name]["description"].as_str();
        let first_line = description.and_then(|text| text.lines().next());
        let message = match first_line.map(|line| line.trim_end_matches('.')) {
            Some(line) if !line.is_empty() => format!("is missing ({line})"),
            _ => "is missing".to_owned(),
        };
        reports.push(FieldReport::error(format!("{field}.{name}"), message));
    }
    let properties = schema["properties"].as_object();
    for (key, inner) in map {
        let property = properties.and_then(|properties| properties.get(key));
        match (property, schema.get("additionalProperties")) {
            (Some(property), _) => check(inner, property, &format!("{field}.{key}"), reports),
            (None, Some(entry)) => check(inner, entry, &format!("{field}[{key:?}]"), reports),
            (None, None) => {
                // An object without properties accepts any field.
                let Some(known) = properties.filter(|known| !known.is_empty()) else {
                    continue;
                };
                let field = format!("{field}.{key}");
                let message = unknown_field(key, known.keys().map(String::as_str));
                reports.push(if schema["x-kubernetes-preserve-unknown-fields"] == true {
                    FieldReport::warning(
                        field,
                        format!("{message}; another version of Kubernetes may have this field"),
                    )
                } else {
                    FieldReport::error(field, message)
                });
            }
        }
    }
}

/// Returns the message for an unknown field, with the known field that resembles it most.
pub(crate) fn unknown_field<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let similarity =
        |known: &&str| strsim::jaro_winkler(&name.to_lowercase(), &known.to_lowercase());
    let known: Vec<&str> = known.collect();
    let closest = known
        .iter()
        .copied()
        .max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    match closest.filter(|closest| similarity(closest) > 0.75) {
        Some(closest) => format!("unknown field {name:?}; did you mean {closest:?}?"),
        None => format!("unknown field {name:?}; use one of {}", known.join(", ")),
    }
}

/// Reports duplicate entries in lists of the types `set` and `map`.
fn check_duplicates(list: &[Value], schema: &Value, field: &str, reports: &mut Vec<FieldReport>) {
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
        let identity = if keys.is_empty() {
            entry.to_string()
        } else {
            keys.iter()
                .map(|key| format!("{key} {} ", entry[*key]))
                .collect()
        };
        let message = format!("{} is listed twice; remove one of them", identity.trim());
        if !seen.insert(identity) {
            reports.push(FieldReport::error(format!("{field}[{index}]"), message));
        }
    }
}

fn has_type(value: &Value, type_: &str) -> bool {
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

/// Returns the message for a value of the wrong type, with the likely fix.
fn type_mismatch(value: &Value, type_: &str) -> String {
    let expected = match type_ {
        "object" => "a map",
        "array" => "a list",
        "string" => "a string",
        "boolean" => "true or false (a boolean)",
        "integer" => "an integer",
        other => other,
    };
    let fix = match (value, type_) {
        (Value::Bool(_), "string") => {
            "; put it in quotes (without quotes, yes, no, on, and off are booleans)"
        }
        (Value::Number(_), "string") => "; put it in quotes, and add the unit if it is a duration",
        (Value::String(_), "boolean" | "integer") => "; write it without quotes",
        _ => "",
    };
    format!("must be {expected}, not {}{fix}", describe(value))
}

fn describe(value: &Value) -> String {
    match value {
        Value::Object(_) => "a map".into(),
        Value::Array(_) => "a list".into(),
        Value::Null => "null".into(),
        Value::String(_) => format!("the string {}", truncated(value)),
        Value::Bool(_) => format!("the boolean {value}"),
        Value::Number(_) => format!("the number {value}"),
    }
}

/// Formats a value as JSON of at most 100 characters.
fn truncated(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
