//! The CRDs are compatible with those of the previous release: every object that the previous release
//! accepts is still accepted, and no field of it is removed. Otherwise, an upgrade would lose fields,
//! and groups in Git could no longer be applied.

use anyhow::{Context, Result, ensure};
use oaat_tests::operator::root;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// The incompatible changes since the previous release that are intended, each with its reason. Empty
/// this list when tests/data/previous-crd.yaml is replaced.
const INTENDED: [(&str, &str); 5] = [
    (
        "OaatGroup.v1.spec: new rule !has(self.frequency) || !has(self.schedule)",
        "no object of the previous release has a schedule",
    ),
    (
        "OaatGroup.v1.spec.itemOptions.*: new rule !has(self.frequency) || !has(self.schedule)",
        "no object of the previous release has a schedule",
    ),
    (
        "OaatGroup.v1.spec.policy: new rule has(self.configMap) != has(self.builtIn)",
        "each policy of the previous release has a configMap, and none has a builtIn",
    ),
    (
        "OaatGroup.v1.spec.policy: new rule !has(self.sha256) || !has(self.builtIn)",
        "no policy of the previous release has a builtIn",
    ),
    (
        "OaatType.v1.spec.podMetadata.labels.*: new rule self.matches('^((([A-Za-z0-9]|[{][{]oaat_item[}][}]|%%oaat_item%%)(([A-Za-z0-9]|[{][{]oaat_item[}][}]|%%oaat_item%%)|[-_.])*)?([A-Za-z0-9]|[{][{]oaat_item[}][}]|%%oaat_item%%))?$')",
        "the rule of the previous release, which now also accepts placeholders",
    ),
];

/// The keywords that limit a value from above, so that a lower number accepts less.
const MAXIMUM: [&str; 4] = ["maxItems", "maxLength", "maxProperties", "maximum"];
/// The keywords that limit a value from below.
const MINIMUM: [&str; 4] = ["minItems", "minLength", "minProperties", "minimum"];
/// The keywords without an effect on what is accepted.
const DOCUMENTATION: [&str; 4] = ["description", "example", "externalDocs", "title"];
/// The keywords that have their own comparison.
const COMPARED: [&str; 6] = [
    "additionalProperties",
    "enum",
    "items",
    "properties",
    "required",
    "x-kubernetes-validations",
];

/// Returns the incompatible changes of a schema.
fn incompatible(path: &str, old: &Value, new: &Value) -> Vec<String> {
    if accepts_any_object(new) && old["type"] == "object" {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut report = |what: String| found.push(format!("{path}: {what}"));
    for keyword in MAXIMUM {
        match (old[keyword].as_f64(), new[keyword].as_f64()) {
            (before, Some(limit)) if before.is_none_or(|before| limit < before) => {
                report(format!("lower {keyword} {limit}"));
            }
            _ => {}
        }
    }
    for keyword in MINIMUM {
        // A length or a number of entries is at least 0 in any case.
        let default = (keyword != "minimum").then_some(0.0);
        match (old[keyword].as_f64().or(default), new[keyword].as_f64()) {
            (before, Some(limit)) if before.is_none_or(|before| limit > before) => {
                report(format!("higher {keyword} {limit}"));
            }
            _ => {}
        }
    }
    let values = |schema: &Value| schema["enum"].as_array().cloned();
    match (values(old), values(new)) {
        (Some(before), Some(after)) => {
            for value in before.iter().filter(|value| !after.contains(value)) {
                report(format!("removed value {value}"));
            }
        }
        (None, Some(after)) => report(format!("only these values: {}", json!(after))),
        _ => {}
    }
    let required = texts(&old["required"]);
    for field in texts(&new["required"]).difference(&required) {
        report(format!("required field {field}"));
    }
    let rules = |schema: &Value| {
        let rules = schema["x-kubernetes-validations"].as_array();
        let rules = rules.into_iter().flatten();
        rules
            .map(|rule| rule["rule"].as_str().unwrap_or_default().to_owned())
            .collect::<BTreeSet<_>>()
    };
    for rule in rules(new).difference(&rules(old)) {
        report(format!("new rule {rule}"));
    }
    for keyword in keywords(old).union(&keywords(new)) {
        let (before, after) = (&old[keyword], &new[keyword]);
        // Without these, a schema accepts more.
        let relaxed = after.is_null() && ["format", "pattern", "not"].contains(&keyword.as_str());
        let nullable = keyword == "nullable" && *before != json!(true);
        if before != after && !relaxed && !nullable {
            report(format!("{keyword} {before} is now {after}"));
        }
    }
    if let Some(fields) = old["properties"].as_object() {
        for (field, schema) in fields {
            let path = format!("{path}.{field}");
            match new["properties"].get(field) {
                Some(after) => found.extend(incompatible(&path, schema, after)),
                None => found.push(format!("{path}: removed")),
            }
        }
    }
    for (keyword, step) in [("items", "[]"), ("additionalProperties", ".*")] {
        let (before, after) = (&old[keyword], &new[keyword]);
        let path = format!("{path}{step}");
        if before.is_object() && after.is_object() {
            found.extend(incompatible(&path, before, after));
        } else if before != after && *after != json!(true) {
            found.push(format!("{path}: {before} is now {after}"));
        }
    }
    found
}

/// Returns the keywords of a schema that must not change.
fn keywords(schema: &Value) -> BTreeSet<String> {
    let special = [
        &MAXIMUM[..],
        &MINIMUM[..],
        &DOCUMENTATION[..],
        &COMPARED[..],
    ]
    .concat();
    let keywords = schema.as_object().into_iter().flat_map(|s| s.keys());
    keywords
        .filter(|keyword| !special.contains(&keyword.as_str()))
        .cloned()
        .collect()
}

/// Returns the texts in a JSON list.
fn texts(list: &Value) -> BTreeSet<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|text| Some(text.as_str()?.to_owned()))
        .collect()
}

/// Returns the incompatible changes of the CRDs in two manifests.
/// Returns whether a schema accepts every object.
fn accepts_any_object(schema: &Value) -> bool {
    let mut keywords = schema
        .as_object()
        .into_iter()
        .flat_map(|schema| schema.keys());
    let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
    let limits_nothing = |keyword: &String| {
        let of_objects = ["type", "default", "x-kubernetes-map-type"];
        let open = "x-kubernetes-preserve-unknown-fields";
        DOCUMENTATION.contains(&&**keyword) || of_objects.contains(&&**keyword) || keyword == open
    };
    open && schema["type"] == "object" && keywords.all(limits_nothing)
}

fn incompatible_crds(old: &str, new: &str) -> Result<Vec<String>> {
    let new = crds(new)?;
    let mut found = Vec::new();
    for (kind, old) in crds(old)? {
        let Some(new) = new.get(&kind) else {
            found.push(format!("{kind}: removed"));
            continue;
        };
        let spec = |crd: &Value| {
            let mut spec = crd["spec"].clone();
            spec["versions"].take();
            spec
        };
        if spec(&old) != spec(new) {
            found.push(format!("{kind}: {} is now {}", spec(&old), spec(new)));
        }
        for before in old["spec"]["versions"].as_array().into_iter().flatten() {
            let name = before["name"].as_str().unwrap_or_default();
            let path = format!("{kind}.{name}");
            let mut versions = new["spec"]["versions"].as_array().into_iter().flatten();
            let Some(after) = versions.find(|version| version["name"] == name) else {
                found.push(format!("{path}: removed"));
                continue;
            };
            for key in ["served", "storage", "subresources"] {
                if before[key] != after[key] {
                    found.push(format!("{path}: {key} is now {}", after[key]));
                }
            }
            let schema = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
            found.extend(incompatible(&path, &schema(before), &schema(after)));
        }
    }
    Ok(found)
}

/// Returns the CRDs in a manifest, by kind.
fn crds(manifest: &str) -> Result<BTreeMap<String, Value>> {
    let mut crds = BTreeMap::new();
    for document in serde_norway::Deserializer::from_str(manifest) {
        let crd = Value::deserialize(document)?;
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap_or_default();
        crds.insert(kind.to_owned(), crd.clone());
    }
    Ok(crds)
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| path.to_owned())
}

#[test]
fn crds_accept_what_the_previous_release_accepted() -> Result<()> {
    let old = read("tests/data/previous-crd.yaml")?;
    let new = read("manifests/01-oaat-operator-crd.yaml")?;
    let found: BTreeSet<_> = incompatible_crds(&old, &new)?.into_iter().collect();
    let intended: BTreeSet<_> = INTENDED.map(|(change, _)| change.to_owned()).into();
    let unintended: Vec<_> = found.difference(&intended).collect();
    ensure!(
        unintended.is_empty(),
        "incompatible with the previous release: {unintended:#?}\nUndo these changes, or add them to \
         INTENDED in tests/tests/upgrade_crds.rs with the reason"
    );
    let outdated: Vec<_> = intended.difference(&found).collect();
    ensure!(
        outdated.is_empty(),
        "these changes do not exist; remove them from INTENDED: {outdated:#?}"
    );
    Ok(())
}

#[test]
fn crds_without_changes_are_compatible() -> Result<()> {
    let old = read("tests/data/previous-crd.yaml")?;
    let kinds: Vec<_> = crds(&old)?.into_keys().collect();
    ensure!(kinds == ["OaatGroup", "OaatType"], "{kinds:?}");
    let found = incompatible_crds(&old, &old)?;
    ensure!(found.is_empty(), "{found:#?}");
    Ok(())
}

#[test]
fn only_a_schema_without_limits_accepts_every_object() {
    let old = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let mut new = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    assert!(incompatible("x", &old, &new).is_empty());
    new["maxProperties"] = 5.into();
    assert!(!incompatible("x", &old, &new).is_empty());
    let list = json!({ "type": "array", "items": { "type": "string" } });
    assert!(!incompatible("x", &list, &new).is_empty());
}

#[test]
fn incompatible_changes_are_found() {
    let old = json!({
        "type": "object", "required": ["a"],
        "properties": {
            "a": { "type": "string", "maxLength": 10, "pattern": "^a" },
            "b": { "type": "array", "maxItems": 3, "items": { "type": "string" } },
            "c": { "enum": ["x", "y"], "nullable": true, "default": "x" },
            "d": { "additionalProperties": { "type": "integer", "minimum": 1 } },
            "e": { "x-kubernetes-preserve-unknown-fields": true },
            "f": { "x-kubernetes-validations": [{ "rule": "self != 'no'", "message": "old" }] },
            "g": { "description": "old" },
        },
    });
    let change = |pointer: &str, value: Value| {
        let mut new = old.clone();
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        let parent = new.pointer_mut(parent).expect("the parent exists");
        let parent = parent.as_object_mut().expect("the parent is an object");
        match value {
            Value::Null => parent.remove(key),
            value => parent.insert(key.into(), value),
        };
        incompatible("x", &old, &new)
    };
    for (pointer, value, expected) in [
        ("/properties/a", Value::Null, "x.a: removed"),
        (
            "/properties/a/type",
            json!("integer"),
            "x.a: type \"string\" is now \"integer\"",
        ),
        (
            "/properties/a/maxLength",
            json!(9),
            "x.a: lower maxLength 9",
        ),
        (
            "/properties/a/minLength",
            json!(1),
            "x.a: higher minLength 1",
        ),
        (
            "/properties/a/pattern",
            json!("^b"),
            "x.a: pattern \"^a\" is now \"^b\"",
        ),
        (
            "/properties/a/format",
            json!("date"),
            "x.a: format null is now \"date\"",
        ),
        ("/properties/a/maxLength", Value::Null, ""),
        ("/properties/a/pattern", Value::Null, ""),
        ("/properties/b/maxItems", json!(2), "x.b: lower maxItems 2"),
        ("/properties/b/maxItems", json!(4), ""),
        (
            "/properties/b/items/maxLength",
            json!(5),
            "x.b[]: lower maxLength 5",
        ),
        (
            "/properties/b/items",
            Value::Null,
            "x.b[]: {\"type\":\"string\"} is now null",
        ),
        (
            "/properties/c/enum",
            json!(["x"]),
            "x.c: removed value \"y\"",
        ),
        ("/properties/c/enum", json!(["x", "y", "z"]), ""),
        ("/properties/c/enum", Value::Null, ""),
        (
            "/properties/a/enum",
            json!(["a"]),
            "x.a: only these values: [\"a\"]",
        ),
        (
            "/properties/c/nullable",
            Value::Null,
            "x.c: nullable true is now null",
        ),
        ("/properties/a/nullable", json!(true), ""),
        (
            "/properties/c/default",
            json!("y"),
            "x.c: default \"x\" is now \"y\"",
        ),
        (
            "/properties/d/additionalProperties/minimum",
            json!(2),
            "x.d.*: higher minimum 2",
        ),
        ("/properties/d/additionalProperties/minimum", json!(0), ""),
        (
            "/properties/d/additionalProperties/maximum",
            json!(9),
            "x.d.*: lower maximum 9",
        ),
        (
            "/properties/e/x-kubernetes-preserve-unknown-fields",
            Value::Null,
            "x.e: x-kubernetes-preserve-unknown-fields true is now null",
        ),
        (
            "/properties/f/x-kubernetes-validations",
            json!([{ "rule": "self != 'no'" }, { "rule": "self != ''" }]),
            "x.f: new rule self != ''",
        ),
        ("/properties/f/x-kubernetes-validations", Value::Null, ""),
        ("/properties/g/description", json!("new"), ""),
        (
            "/properties/h",
            json!({ "type": "object", "required": ["i"] }),
            "",
        ),
        ("/required", json!(["a", "b"]), "x: required field b"),
        ("/required", Value::Null, ""),
    ] {
        let found = change(pointer, value);
        let expected: Vec<_> = Some(expected.to_owned())
            .filter(|e| !e.is_empty())
            .into_iter()
            .collect();
        assert_eq!(found, expected, "{pointer}");
    }
}
