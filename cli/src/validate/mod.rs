//! `kubectl-oaat validate`: validates the OaatGroups and OaatTypes in files as the API server and
//! the operator do, without a cluster.

mod cel_rules;
mod documents;
mod metadata;
mod policy_settings;
mod schema;

use crate::input;
use anyhow::{Context, Result, ensure};
use clap::Args;
use oaat_api::text;
use oaat_api::validate::{FieldError, validate, validate_type};
use oaat_api::{OaatGroupSpec, OaatTypeSpec};
use policy_settings::{BuiltInPolicies, unread_item_settings};
use schema::{FieldReport, Severity};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `validate`.
#[derive(Args)]
pub struct Files {
    /// A YAML or JSON file, a directory, or `-` for standard input. Only the .yaml, .yml, and .json files
    /// of a directory are read, not its subdirectories. Can be repeated.
    #[arg(short, long = "filename", value_name = "PATH", required = true)]
    filenames: Vec<String>,
}

/// The last line of the output.
const NOT_CHECKED: &str = "not checked: whether the API server accepts the pods of an OaatType (the operator checks this with a dry \
     run and sets the condition Valid), and whether a policy in a ConfigMap accepts its settings (condition PolicyReady)";

/// The results of validating files.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The lines to print.
    pub lines: Vec<String>,
    /// The number of OaatGroups and OaatTypes.
    pub objects: usize,
    /// The number of problems in the files.
    pub problems: usize,
    /// The number of files that could not be read.
    pub unreadable: usize,
    policies: BuiltInPolicies,
}

impl Report {
    /// Returns the exit status: 2 if a file could not be read, else 1 if there are problems, else 2
    /// if no file contains an OaatGroup or OaatType, else 0.
    pub fn status(&self) -> u8 {
        match self {
            Self {
                unreadable: 1.., ..
            } => 2,
            Self { problems: 1.., .. } => 1,
            Self { objects: 0, .. } => 2,
            _ => 0,
        }
    }

    /// Validates the text of a file.
    pub fn file(&mut self, name: &str, text: &str) {
        match documents::parse(text) {
            Ok(documents) => documents
                .into_iter()
                .for_each(|document| self.document(name, document)),
            Err(error) => self.unreadable(format!("{name}: not valid YAML or JSON: {error}")),
        }
    }

    /// Validates the text of a file, or reports that the file could not be read.
    fn read_result(&mut self, name: &str, text: Result<String>) {
        match text {
            Ok(text) => self.file(name, &text),
            Err(error) => self.unreadable(format!("{error:#}")),
        }
    }

    fn unreadable(&mut self, line: String) {
        self.unreadable += 1;
        self.push(line);
    }

    fn problem(&mut self, line: String) {
        self.problems += 1;
        self.push(line);
    }

    /// Appends a line. Line ends and control characters from a file are escaped.
    fn push(&mut self, line: String) {
        self.lines.push(text::escape(&line));
    }

    fn document(&mut self, file: &str, document: Value) {
        let Value::Object(mut object) = document else {
            self.problem(format!(
                "{file}: contains a document that is not a Kubernetes object; use a map with apiVersion, \
                 kind, metadata, and spec"
            ));
            return;
        };
        let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
        let (version, kind) = (text("apiVersion"), text("kind").unwrap_or_default());
        if kind.ends_with("List")
            && let Some(Value::Array(items)) = object.remove("items")
        {
            items.into_iter().for_each(|item| self.document(file, item));
            return;
        }
        let name = object_name(&kind, &object);
        let schema = schema::of_kind(&kind);
        let group = version
            .as_deref()
            .map(|version| version.split('/').next().unwrap_or_default());
        match (version.as_deref(), schema) {
            (Some("kawaja.net/v1"), Some(schema)) => {
                self.objects += 1;
                self.object(&format!("{file}: {name}"), &kind, object, schema);
            }
            (Some(version), Some(_)) if group == Some("kawaja.net") => {
                self.problem(format!(
                    "{file}: {name}: apiVersion: {version:?} is not supported; use kawaja.net/v1"
                ));
            }
            (None, Some(_)) => self.problem(format!(
                "{file}: {name}: apiVersion: is missing; use kawaja.net/v1"
            )),
            (_, None) if group == Some("kawaja.net") => self.problem(format!(
                "{file}: {name}: kind: {kind:?} is not a kind of kawaja.net/v1; use OaatGroup or \
                 OaatType"
            )),
            _ if kind.is_empty() => self.problem(format!(
                "{file}: {name}: kind: is missing; use for example OaatGroup"
            )),
            _ => self.push(format!(
                "{file}: {name}: skipped; the kind is neither OaatGroup nor OaatType"
            )),
        }
    }

    fn object(&mut self, name: &str, kind: &str, object: Map<String, Value>, schema: &Value) {
        let mut is_valid = true;
        for report in check_object(kind, object, schema, &mut self.policies) {
            let line = format!("{name}: {}: {}", report.field, report.message);
            match report.severity {
                Severity::Error => {
                    is_valid = false;
                    self.problem(line);
                }
                Severity::Warning => self.push(format!("{line} (warning)")),
            }
        }
        if is_valid {
            self.push(format!("{name}: ok"));
        }
    }
}

/// Formats the kind, namespace, and name of an object.
fn object_name(kind: &str, object: &Map<String, Value>) -> String {
    let text = |key: &str| {
        let value = object
            .get("metadata")
            .and_then(|metadata| metadata.get(key));
        value
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let kind = if kind.is_empty() { "object" } else { kind };
    let name = text("name").unwrap_or("(unnamed)");
    match text("namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// Validates an OaatGroup or OaatType: its metadata, its schema, the rules of the operator, and the
/// settings of built-in policies.
fn check_object(
    kind: &str,
    mut object: Map<String, Value>,
    schema: &Value,
    policies: &mut BuiltInPolicies,
) -> Vec<FieldReport> {
    let mut reports = metadata::check(&object);
    // The API server ignores a status unless it is written to the status subresource.
    for other in ["metadata", "status"] {
        object.remove(other);
    }
    let mut value = Value::Object(object);
    schema::drop_nulls(&mut value, schema);
    let mut violations = Vec::new();
    schema::check(&value, schema, "", &mut violations);
    // The schema lacks apiVersion and kind, which have been checked before.
    let checked = ["apiVersion", "kind"];
    violations.retain(|report| !checked.contains(&report.field.trim_start_matches('.')));
    for report in &mut violations {
        report.field = report.field.trim_start_matches('.').to_owned();
    }
    reports.append(&mut violations);

    let Some(Value::Object(spec)) = value.get_mut("spec").map(Value::take) else {
        return reports;
    };
    let errors = match kind {
        "OaatType" => {
            let spec = decode_spec::<OaatTypeSpec>(spec, &mut reports);
            spec.map(|spec| validate_type(&spec)).unwrap_or_default()
        }
        _ => {
            let spec = decode_spec::<OaatGroupSpec>(spec, &mut reports);
            let settings = spec.as_ref().map(|spec| policies.check(spec));
            reports.extend(settings.unwrap_or_default());
            reports.extend(spec.as_ref().and_then(unread_item_settings));
            spec.and_then(|spec| validate(&spec).err())
                .unwrap_or_default()
        }
    };
    for FieldError { field, problem } in errors {
        // The schema may have reported this field, or a field in it, already.
        let overlaps = |report: &FieldReport| {
            report.is_error()
                && (report.field.starts_with(&field) || field.starts_with(&report.field))
        };
        if !reports.iter().any(overlaps) {
            reports.push(FieldReport::error(field, problem.to_string()));
        }
    }
    reports
}

/// Decodes a spec without the fields that cannot be decoded. Those are reported.
fn decode_spec<T: DeserializeOwned>(
    mut spec: Map<String, Value>,
    reports: &mut Vec<FieldReport>,
) -> Option<T> {
    loop {
        let error = match serde_path_to_error::deserialize(Value::Object(spec.clone())) {
            Ok(spec) => return Some(spec),
            Err(error) => error,
        };
        let path = error.path().to_string();
        let first: String = path.chars().take_while(|c| !".[".contains(*c)).collect();
        let field = format!("spec.{first}");
        if !reports
            .iter()
            .any(|report| report.is_error() && report.field.starts_with(&field))
        {
            let field = if path == "." {
                "spec".into()
            } else {
                format!("spec.{path}")
            };
            reports.push(FieldReport::error(field, error.inner().to_string()));
        }
        // The next iteration decodes the rest. A missing required field gets a placeholder.
        if spec.remove(&first).is_none() && spec.insert("oaatType".into(), "x".into()).is_some() {
            return None;
        }
    }
}

/// Returns the files that `kubectl apply -f` reads for a path: the path itself, or the YAML and JSON
/// files of a directory, sorted by name.
fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let name = || path.display().to_string();
    let mut files = Vec::new();
    for entry in path.read_dir().with_context(name)? {
        let file = entry.with_context(name)?.path();
        let file_name = file.as_os_str().as_encoded_bytes();
        let mut extensions = [".yaml", ".yml", ".json"].iter();
        let has_extension = extensions.any(|end| file_name.ends_with(end.as_bytes()));
        // A named pipe would block. A broken link is reported when it is read.
        let is_special = file.metadata().is_ok_and(|metadata| !metadata.is_file());
        if has_extension && !is_special {
            files.push(file);
        }
    }
    ensure!(
        !files.is_empty(),
        "{}: the directory contains no .yaml, .yml, or .json file; subdirectories are not read",
        name()
    );
    files.sort();
    Ok(files)
}

/// Validates files, prints a report to standard output, and returns the exit status.
pub fn run(files: &Files) -> ExitCode {
    let mut report = Report::default();
    for name in &files.filenames {
        if name == "-" {
            report.read_result(name, input::read_stdin());
            continue;
        }
        match files_of(Path::new(name)) {
            Ok(files) => {
                for file in files {
                    report.read_result(&file.display().to_string(), input::read_text(&file));
                }
            }
            Err(error) => report.unreadable(format!("{error:#}")),
        }
    }
    if report.objects == 0 {
        report.push("no OaatGroup or OaatType of kawaja.net/v1 found".into());
    }
    report.push(NOT_CHECKED.into());
    let mut text = report.lines.join("\n");
    text.push('\n');
    // The reader may close the pipe early (`… | head`).
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::from(report.status())
}

#[cfg(test)]
mod tests;
