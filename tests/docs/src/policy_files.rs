//! The reference of the files for policies, from their JSON Schemas.

use crate::markdown::{cell, code, header, paragraphs, table};
use kubectl_oaat::policy::schema::Kind;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Returns the page.
pub(crate) fn page() -> String {
    let mut page = header("Files for policies");
    page.push_str(&paragraphs(
        "This page lists the fields of test cases, requests, and scenarios, which the \
         [tools for policies](policies.md#testing) read. The files are YAML or JSON. A field is \
         optional unless its description ends with “Required.” `kubectl-oaat policy schema` prints \
         the same reference as a JSON Schema, so that your editor can complete and check a file. \
         For editors that use yaml-language-server, write the schema to a file, and add this line \
         to the top of the cases:",
    ));
    page.push_str("```yaml\n# yaml-language-server: $schema=cases.schema.json\n```\n\n");
    page.push_str("<!-- run by policy_schema_prints_a_json_schema -->\n");
    page.push_str("```console\n$ kubectl-oaat policy schema cases > cases.schema.json\n```\n\n");
    let roots = [
        ("Cases", "policy test", Kind::Cases),
        ("Request", "policy run", Kind::Request),
        ("Scenario", "policy simulate", Kind::Scenario),
    ];
    let mut types = BTreeMap::new();
    for (name, command, kind) in roots {
        let schema = kind.schema().to_value();
        page.push_str(&format!("## {name}\n\n"));
        let description = text(&schema, "description");
        page.push_str(&paragraphs(&format!(
            "{description} `kubectl-oaat {command}` reads it."
        )));
        page.push_str(&fields(&schema));
        let definitions = schema["definitions"].as_object().cloned();
        types.extend(definitions.unwrap_or_default());
    }
    for (name, _, _) in roots {
        types.remove(name);
    }
    page.push_str("## Types\n\n");
    for (name, schema) in &types {
        page.push_str(&format!("### {name}\n\n"));
        page.push_str(&paragraphs(text(schema, "description")));
        page.push_str(&fields(schema));
        if let Some(examples) = schema["examples"].as_array() {
            let examples: Vec<_> = examples.iter().map(|value| code(&yaml(value))).collect();
            page.push_str(&paragraphs(&format!("Examples: {}", examples.join(", "))));
        }
    }
    page.trim_end().to_owned() + "\n"
}

fn text<'a>(schema: &'a Value, key: &str) -> &'a str {
    schema[key].as_str().unwrap_or_default()
}

/// Returns a value as YAML in one line.
fn yaml(value: &Value) -> String {
    let entry = |(key, value): (&String, &Value)| format!("{key}: {}", yaml(value));
    match value {
        // A string that looks like a number needs quotes.
        Value::String(text) if text.parse::<f64>().is_ok() => format!("{text:?}"),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let list: Vec<_> = list.iter().map(yaml).collect();
            format!("[{}]", list.join(", "))
        }
        Value::Object(map) => {
            let entries: Vec<_> = map.iter().map(entry).collect();
            format!("{{{}}}", entries.join(", "))
        }
        other => other.to_string(),
    }
}

/// Returns the table of the fields of an object; empty for other types.
fn fields(schema: &Value) -> String {
    let properties: &Map<String, Value> = match schema["properties"].as_object() {
        Some(properties) => properties,
        None => return String::new(),
    };
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let rows: Vec<_> = properties
        .iter()
        .map(|(name, field)| {
            let mut words = cell(text(field, "description"));
            if required.contains(&Value::String(name.clone())) {
                words.push_str(" Required.");
            }
            [code(name), type_of(field), words]
        })
        .collect();
    table(["field", "type", "description"], &rows)
}

/// Returns the type of a field in words, with links to the types of this page.
fn type_of(field: &Value) -> String {
    if let Some(path) = field["$ref"].as_str() {
        let name = path.rsplit('/').next().unwrap_or(path);
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(values) = field["enum"].as_array() {
        let values: Vec<_> = values.iter().filter_map(Value::as_str).map(code).collect();
        return format!("one of {}", values.join(", "));
    }
    for key in ["allOf", "anyOf"] {
        if let Some(parts) = field[key].as_array() {
            // Each optional field may be null.
            let parts = parts.iter().filter(|part| part["type"] != "null");
            let parts: Vec<_> = parts.map(type_of).collect();
            return parts.join(" or ");
        }
    }
    let name = match &field["type"] {
        Value::Array(names) => names.iter().find(|name| *name != "null"),
        name => Some(name),
    };
    match name.and_then(Value::as_str).unwrap_or_default() {
        "array" => format!("list of {}", type_of(&field["items"])),
        "object" if field["additionalProperties"].is_object() => {
            format!("map of {}", type_of(&field["additionalProperties"]))
        }
        other => other.to_owned(),
    }
}
