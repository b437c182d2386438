use super::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::Path;

/// Parses the examples in the schema of a type.
fn parse_examples<T: JsonSchema + DeserializeOwned>() {
    let schema = T::json_schema(&mut SchemaSettings::draft07().into_generator()).to_value();
    let examples = schema["examples"].as_array().cloned().unwrap_or_default();
    assert!(!examples.is_empty(), "{schema}");
    for example in examples {
        let parsed: Result<T, _> = serde_norway::from_str(&example.to_string());
        assert!(parsed.is_ok(), "{example}: {:?}", parsed.err());
    }
}

#[test]
fn examples_are_accepted_by_the_parser() {
    parse_examples::<Name>();
    parse_examples::<When>();
    parse_examples::<BoundedDuration>();
    parse_examples::<PositiveDuration>();
    parse_examples::<Frequency>();
    parse_examples::<Until>();
    parse_examples::<Wait>();
    parse_examples::<Names>();
    parse_examples::<Seeds>();
    parse_examples::<Settings>();
    parse_examples::<RawItem>();
    parse_examples::<RawVerdict>();
    parse_examples::<ExpectedValidation>();
}

/// Checks a value against the parts of a schema that are used here. Returns the path of a value that
/// does not match.
fn mismatch(root: &Value, schema: &Value, value: &Value, path: &str) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#'));
        return mismatch(root, target.unwrap(), value, path);
    }
    // A reference with a description is wrapped in `allOf`.
    let all = schema["allOf"].as_array().into_iter().flatten();
    for part in all {
        if let Some(found) = mismatch(root, part, value, path) {
            return Some(found);
        }
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let parts: Vec<_> = any.iter().map(|s| mismatch(root, s, value, path)).collect();
        if parts.iter().all(Option::is_some) {
            return parts.into_iter().flatten().max_by_key(String::len);
        }
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    };
    let type_of = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let other_type = !types.is_empty() && !types.contains(&json!(type_of));
    let other_value = schema.get("const").is_some_and(|only| only != value)
        || schema["enum"]
            .as_array()
            .is_some_and(|all| !all.contains(value));
    if other_type || other_value {
        return Some(path.to_owned());
    }
    if let Some(list) = value.as_array() {
        let items = list.iter().enumerate();
        return items
            .filter_map(|(i, v)| mismatch(root, &schema["items"], v, &format!("{path}[{i}]")))
            .next();
    }
    value.as_object()?.iter().find_map(|(name, value)| {
        let path = format!("{path}.{name}");
        match (
            schema["properties"].get(name),
            &schema["additionalProperties"],
        ) {
            (Some(field), _) => mismatch(root, field, value, &path),
            (None, Value::Bool(false)) => Some(path),
            (None, other) => mismatch(root, other, value, &path),
        }
    })
}

#[test]
fn schema_accepts_the_cases_of_policies_and_rejects_misspelled_fields() {
    let schema = cases().to_value();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for file in ["policy-default", "policies/backoff", "policies/fair"] {
        let text = std::fs::read_to_string(root.join(file).join("cases.yaml")).unwrap();
        let value: Value = serde_norway::from_str(&text).unwrap();
        assert_eq!(mismatch(&schema, &schema, &value, ""), None, "{file}");
    }
    for (text, path) in [
        ("{case: []}", ".case"),
        (
            "{cases: [{name: a, expect: {runs: a}}]}",
            ".cases[0].expect.runs",
        ),
        (
            "{given: {items: [{name: a, held: 1}]}}",
            ".given.items[0].held",
        ),
        (
            "{cases: [{name: a, expect: {wait: true, verdicts: {a: late}}}]}",
            ".cases[0].expect.verdicts.a",
        ),
        (
            "{validate: [{name: a, expect: refused}]}",
            ".validate[0].expect",
        ),
    ] {
        let value: Value = serde_norway::from_str(text).unwrap();
        assert_eq!(
            mismatch(&schema, &schema, &value, "").as_deref(),
            Some(path)
        );
        assert!(crate::parse(text).is_err(), "{text}");
    }
}

#[test]
fn schema_of_a_request_has_all_fields_with_descriptions() {
    let schema = request().to_value();
    let fields = schema["properties"].as_object().unwrap();
    assert_eq!(fields.len(), 10);
    for (name, field) in fields {
        assert!(field["description"].is_string(), "{name}");
    }
}
