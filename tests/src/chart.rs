//! The chart, Helm, and the cases of the chart's own tests.

use crate::operator::root;
use crate::process::output;
use anyhow::{Context, Result};
use control_plane::HelmTools;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the path of the chart.
pub fn folder() -> PathBuf {
    root().join("charts/oaat-operator")
}

/// Returns Helm and helm-unittest, built if they are missing.
///
/// # Errors
/// Returns an error if they do not build.
pub fn tools() -> Result<HelmTools> {
    ::control_plane::ensure_helm(&|line| eprintln!("helm: {line}"))
}

/// Runs Helm or helm-unittest with files only in `home`, and returns its output.
///
/// # Errors
/// Returns an error if it fails. The error contains its output.
pub fn run(program: &Path, home: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command
        .args(args)
        .env("HOME", home)
        .env("HELM_CACHE_HOME", home)
        .env("HELM_CONFIG_HOME", home)
        .env("HELM_DATA_HOME", home);
    output(&mut command)
}

/// Returns the documents of rendered or other YAML, without empty ones.
///
/// # Errors
/// Returns an error if it is not YAML.
pub fn documents(text: &str) -> Result<Vec<Value>> {
    let documents = serde_norway::Deserializer::from_str(text).map(Value::deserialize);
    let documents: Vec<_> = documents.collect::<Result<_, _>>()?;
    Ok(documents.into_iter().filter(|d| !d.is_null()).collect())
}

/// Returns the default values.
///
/// # Errors
/// Returns an error if values.yaml is not YAML.
pub fn default_values() -> Result<Value> {
    let text = fs::read_to_string(folder().join("values.yaml"))?;
    Ok(serde_norway::from_str(&text)?)
}

/// Returns the path of each value that has no values below it, such as `image.tag`, and the value.
pub fn leaves(values: &Value) -> Vec<(String, Value)> {
    match values {
        Value::Object(map) if !map.is_empty() => map
            .iter()
            .flat_map(|(key, value)| {
                let below = leaves(value);
                below.into_iter().map(move |(path, value)| {
                    let path = if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{key}.{path}")
                    };
                    (path, value)
                })
            })
            .collect(),
        _ => vec![(String::new(), values.clone())],
    }
}

/// A case of the chart's own tests.
pub struct Case {
    /// Its description.
    pub it: String,
    /// The values that it sets. A key is a path of a value.
    pub set: Map<String, Value>,
    /// The pattern of the error, if the case expects one.
    pub error: Option<String>,
}

impl Case {
    /// Returns what the case sets at a path or below it.
    pub fn values_at(&self, path: &str) -> Vec<(String, Value)> {
        let below = format!("{path}.");
        let mut values = leaves(&Value::Object(self.set.clone()));
        values.retain(|(set, _)| set == path || set.starts_with(&below));
        values
    }
}

/// Returns the cases of the chart's own tests.
///
/// # Errors
/// Returns an error if one of the files is not a suite of helm-unittest.
pub fn cases() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder().join("tests"))? {
        let file = entry?.path();
        // helm-unittest creates a folder for snapshots there.
        if file.is_dir() {
            continue;
        }
        let suite: Value = serde_norway::from_str(&fs::read_to_string(&file)?)
            .with_context(|| file.display().to_string())?;
        let tests = suite["tests"].as_array();
        for test in tests.with_context(|| format!("{} has no tests", file.display()))? {
            let asserts = test["asserts"].as_array().map_or(&[][..], |list| list);
            let failed = asserts.iter().find_map(|a| a.get("failedTemplate"));
            cases.push(Case {
                it: test["it"].as_str().unwrap_or_default().to_owned(),
                set: test["set"].as_object().cloned().unwrap_or_default(),
                error: failed.map(|expected| {
                    let text = expected["errorPattern"].as_str();
                    let text = text.or_else(|| expected["errorMessage"].as_str());
                    text.unwrap_or_default().to_owned()
                }),
            });
        }
    }
    Ok(cases)
}
