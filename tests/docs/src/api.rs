//! The reference of the fields of both kinds, from the CustomResourceDefinitions.

use crate::markdown::{cell, code, header, paragraphs, table};
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// Fields whose schema is that of Kubernetes.
const OF_KUBERNETES: [&str; 2] = ["conditions", "podspec"];

/// Returns the page for CRDs in YAML.
pub(crate) fn page(crds: &str) -> Result<String> {
    let mut page = header("API reference");
    page.push_str(&paragraphs(
        "All fields of both kinds, with the rules that the API server enforces. `kubectl explain` \
         shows the same descriptions. The [reference](reference.md) explains what the fields do, \
         and the rules that only the operator checks. Required fields are marked with *required*.",
    ));
    for document in serde_norway::Deserializer::from_str(crds) {
        let crd = Value::deserialize(document)?;
        if crd["kind"] != "CustomResourceDefinition" {
            continue;
        }
        let kind = crd["spec"]["names"]["kind"]
            .as_str()
            .context("a CRD without a kind")?;
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        page.push_str(&format!("## {kind}\n\n"));
        page.push_str(&paragraphs(text(schema, "description")));
        for part in ["spec", "status"] {
            object(kind, part, &schema["properties"][part], &mut page);
        }
    }
    Ok(page.trim_end().to_owned() + "\n")
}

fn text<'a>(schema: &'a Value, key: &str) -> &'a str {
    schema[key].as_str().unwrap_or_default()
}

/// Adds the table of an object, and those of the objects in it.
fn object(kind: &str, path: &str, schema: &Value, page: &mut String) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    page.push_str(&format!("### {kind} {path}\n\n"));
    if path.contains(['.', '[']) {
        page.push_str(&paragraphs(text(schema, "description")));
    }
    let rows: Vec<_> = properties
        .iter()
        .map(|(name, field)| {
            let default = match &field["default"] {
                Value::Null if required.contains(&&**name) => "*required*".to_owned(),
                Value::Null => String::new(),
                Value::String(text) => code(text),
                other => code(&other.to_string()),
            };
            let mut words = cell(text(field, "description"));
            for rule in constraints(field) {
                words.push_str(&format!("<br>– {rule}"));
            }
            [code(name), type_of(field), default, words]
        })
        .collect();
    page.push_str(&table(["field", "type", "default", "description"], &rows));
    for rule in rules(schema) {
        page.push_str(&paragraphs(&format!(
            "A value that violates this rule is {rule}."
        )));
    }
    for (name, field) in properties {
        if OF_KUBERNETES.contains(&&**name) {
            continue;
        }
        let path = format!("{path}.{name}");
        object(kind, &path, field, page);
        object(kind, &format!("{path}[]"), &field["items"], page);
        object(
            kind,
            &format!("{path}.*"),
            &field["additionalProperties"],
            page,
        );
    }
}

/// Returns the type of a field in words.
fn type_of(field: &Value) -> String {
    if field["x-kubernetes-int-or-string"] == true {
        return "integer or string".into();
    }
    match text(field, "type") {
        "array" => format!("list of {}", type_of(&field["items"])),
        "object" if field["additionalProperties"].is_object() => {
            format!("map of {}", type_of(&field["additionalProperties"]))
        }
        "" => "any".into(),
        other => match text(field, "format") {
            "date-time" => "time".into(),
            _ => other.into(),
        },
    }
}

/// Returns the constraints of a field, and of the values in it, in words.
fn constraints(field: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let number = |schema: &Value, key: &str| schema[key].as_f64().map(|number| number.to_string());
    let mut limits = |schema: &Value, low: &str, high: &str, before: &str, after: &str| {
        let words = match (number(schema, low), number(schema, high)) {
            (Some(low), Some(high)) => format!("{low} to {high}"),
            (Some(low), None) => format!("at least {low}"),
            (None, Some(high)) => format!("at most {high}"),
            (None, None) => return,
        };
        found.push(format!("{before}{words}{after}"));
    };
    limits(field, "minimum", "maximum", "", "");
    limits(field, "minLength", "maxLength", "", " characters");
    limits(field, "minItems", "maxItems", "", " entries");
    limits(field, "minProperties", "maxProperties", "", " entries");
    for (key, each) in [
        ("items", "each entry: "),
        ("additionalProperties", "each value: "),
    ] {
        limits(&field[key], "minLength", "maxLength", each, " characters");
        limits(&field[key], "minimum", "maximum", each, "");
    }
    if field["x-kubernetes-list-type"] == "set" {
        found.push("no duplicates".into());
    }
    if let Some(values) = field["enum"].as_array() {
        let values: Vec<_> = values.iter().filter_map(Value::as_str).map(code).collect();
        found.push(format!("one of {}", values.join(", ")));
    }
    for schema in [field, &field["items"], &field["additionalProperties"]] {
        // The rules of an object are below its own table.
        if !schema["properties"].is_object() {
            found.extend(rules(schema));
        }
    }
    found
}

/// Returns the validation rules of a schema, by the messages that users get.
fn rules(schema: &Value) -> Vec<String> {
    let rules = schema["x-kubernetes-validations"].as_array();
    rules
        .into_iter()
        .flatten()
        .map(|rule| format!("rejected with “{}”", cell(text(rule, "message"))))
        .collect()
}
