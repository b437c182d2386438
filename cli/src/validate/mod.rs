//! `kubectl-oaat validate`: what the API server and the operator would say about the OaatGroups
//! and OaatTypes in files, without either of them.

mod metadata;
mod read;
mod rules;
mod schema;

use clap::Args;
use oaat_api::text;
use oaat_api::validate::{FieldError, validate, validate_type};
use oaat_api::{OaatGroupSpec, OaatTypeSpec};
use schema::Told;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::io::{Read, Write};
use std::process::ExitCode;

/// What to look at.
#[derive(Args)]
pub struct Files {
    /// A file of YAML or JSON, with one document or several; `-` is standard input. May be given
    /// several times.
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    filenames: Vec<String>,
}

/// What no file says.
const NOT_HERE: &str = "only the API server can tell whether it accepts the pods of a type (the operator asks it by a dry run once the \
     type is applied, and the condition Valid has the answer), and only a policy whether it accepts its settings (condition PolicyReady)";

/// What became of looking at files.
#[derive(Debug, Default, PartialEq)]
pub struct Report {
    /// What there is to say, one line each.
    pub lines: Vec<String>,
    /// OaatGroups and OaatTypes that there were.
    pub objects: usize,
    /// Problems in them.
    pub problems: usize,
    /// Files that could not be read.
    pub unread: usize,
}

impl Report {
    /// The exit status: 0, 1 (there are problems) or 2 (a file cannot be read, or there is nothing
    /// of ours in any).
    pub fn status(&self) -> u8 {
        match self {
            Self { unread: 1.., .. } => 2,
            Self { problems: 1.., .. } => 1,
            Self { objects: 0, .. } => 2,
            _ => 0,
        }
    }

    /// Looks at a file's text.
    pub fn file(&mut self, name: &str, text: &str) {
        match read::documents(text) {
            Ok(documents) => documents
                .into_iter()
                .for_each(|document| self.document(name, document)),
            Err(error) => self.unread(name, &format!("is neither YAML nor JSON: {error}")),
        }
    }

    fn unread(&mut self, name: &str, words: &str) {
        self.unread += 1;
        self.say(format!("{name}: {words}"));
    }

    fn problem(&mut self, line: String) {
        self.problems += 1;
        self.say(line);
    }

    /// Whatever is in a file, each is one line.
    fn say(&mut self, line: String) {
        self.lines.push(text::escape(&line));
    }

    fn document(&mut self, file: &str, document: Value) {
        let Value::Object(mut object) = document else {
            self.problem(format!("{file}: a document is no object of Kubernetes: it must be a map with apiVersion, kind, metadata and spec"));
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
        let name = title(&kind, &object);
        let ours = schema::of(&kind);
        let group = version
            .as_deref()
            .map(|version| version.split('/').next().unwrap_or_default());
        match (version.as_deref(), ours) {
            (Some("kawaja.net/v1"), Some(schema)) => {
                self.objects += 1;
                self.object(&format!("{file}: {name}"), &kind, object, schema);
            }
            (Some(version), Some(_)) if group == Some("kawaja.net") => {
                self.problem(format!(
                    "{file}: {name}: apiVersion: is {version:?}; it must be kawaja.net/v1"
                ));
            }
            (None, Some(_)) => self.problem(format!(
                "{file}: {name}: apiVersion: is missing; it must be kawaja.net/v1"
            )),
            (_, None) if group == Some("kawaja.net") => {
                let words = "kinds of kawaja.net/v1 are OaatGroup and OaatType";
                self.problem(format!("{file}: {name}: kind: is {kind:?}; {words}"));
            }
            _ if kind.is_empty() => self.problem(format!(
                "{file}: {name}: kind: is missing; it says what the object is, such as OaatGroup"
            )),
            _ => self.say(format!(
                "{file}: {name}: passed over, as it is of another kind than OaatGroup and OaatType"
            )),
        }
    }

    fn object(&mut self, name: &str, kind: &str, object: Map<String, Value>, schema: &Value) {
        let told = told(kind, object, schema);
        let mut fine = true;
        for Told {
            field,
            words,
            wrong,
        } in told
        {
            let line = format!("{name}: {field}: {words}");
            fine &= !wrong;
            match wrong {
                true => self.problem(line),
                false => self.say(format!(
                    "{line} (perhaps of another release: only the API server can tell)"
                )),
            }
        }
        if fine {
            self.say(format!("{name}: ok"));
        }
    }
}

/// How an object is called.
fn title(kind: &str, object: &Map<String, Value>) -> String {
    let text = |key: &str| {
        let value = object
            .get("metadata")
            .and_then(|metadata| metadata.get(key));
        value
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let kind = if kind.is_empty() { "object" } else { kind };
    let name = text("name").unwrap_or("(without a name)");
    match text("namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// All that there is to say about an object of ours.
fn told(kind: &str, mut object: Map<String, Value>, schema: &Value) -> Vec<Told> {
    let mut told = metadata::check(&object);
    // The API server takes a status from nobody but by its own door.
    for other in ["metadata", "status"] {
        object.remove(other);
    }
    let mut value = Value::Object(object);
    schema::without_nulls(&mut value, schema);
    let mut found = Vec::new();
    schema::check(&value, schema, "", &mut found);
    // apiVersion and kind are in no schema and have been looked at.
    let known = ["apiVersion", "kind"];
    found.retain(|told| !known.contains(&told.field.trim_start_matches('.')));
    for told in &mut found {
        told.field = told.field.trim_start_matches('.').to_owned();
    }
    told.append(&mut found);

    let Some(Value::Object(spec)) = value.get_mut("spec").map(Value::take) else {
        return told;
    };
    let errors = match kind {
        "OaatType" => {
            let spec = decoded::<OaatTypeSpec>(spec, &mut told);
            spec.map(|spec| validate_type(&spec)).unwrap_or_default()
        }
        _ => {
            let spec = decoded::<OaatGroupSpec>(spec, &mut told);
            spec.and_then(|spec| validate(&spec).err())
                .unwrap_or_default()
        }
    };
    for FieldError { field, problem } in errors {
        // The schema may have reported this field, or one in it, already.
        let reported = |told: &Told| {
            told.wrong && (told.field.starts_with(&field) || field.starts_with(&told.field))
        };
        if !told.iter().any(reported) {
            let words = problem.to_string();
            told.push(Told {
                field,
                words,
                wrong: true,
            });
        }
    }
    told
}

/// The spec, without the fields that are wrong beyond reading; those are told.
fn decoded<T: DeserializeOwned>(mut spec: Map<String, Value>, told: &mut Vec<Told>) -> Option<T> {
    loop {
        let error = match serde_path_to_error::deserialize(Value::Object(spec.clone())) {
            Ok(spec) => return Some(spec),
            Err(error) => error,
        };
        let path = error.path().to_string();
        let first: String = path.chars().take_while(|c| !".[".contains(*c)).collect();
        let field = format!("spec.{first}");
        if !told
            .iter()
            .any(|told| told.wrong && told.field.starts_with(&field))
        {
            let field = if path == "." {
                "spec".into()
            } else {
                format!("spec.{path}")
            };
            let words = error.inner().to_string();
            told.push(Told {
                field,
                words,
                wrong: true,
            });
        }
        // With the rest the next problem can be found. What must be there has been missed.
        if spec.remove(&first).is_none() && spec.insert("oaatType".into(), "x".into()).is_some() {
            return None;
        }
    }
}

/// Looks at files, says what is wrong with them on standard output, and gives the exit status that
/// [`Report::status`] says.
pub fn run(files: &Files) -> ExitCode {
    let mut report = Report::default();
    for name in &files.filenames {
        let mut bytes = Vec::new();
        let read = match name.as_str() {
            "-" => std::io::stdin().read_to_end(&mut bytes).map(|_| bytes),
            _ => std::fs::read(name),
        };
        match read.map(String::from_utf8) {
            Ok(Ok(text)) => report.file(name, &text),
            Ok(Err(_)) => report.unread(name, "is no text in UTF-8"),
            Err(error) => report.unread(name, &format!("cannot be read: {error}")),
        }
    }
    if report.objects == 0 {
        report.say(
            "there is no OaatGroup and no OaatType of kawaja.net/v1 that could be checked".into(),
        );
    }
    report.say(NOT_HERE.into());
    let mut text = report.lines.join("\n");
    text.push('\n');
    // Whoever reads may have read enough (`… | head`).
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::from(report.status())
}

#[cfg(test)]
mod tests;
