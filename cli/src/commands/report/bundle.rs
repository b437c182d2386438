//! The files of a report, and their archive. Pure.

use super::kinds::{EVENT, GROUP, LOG_LINE, WORKLOAD};
use super::redact::{Fields, redact, scrub};
use super::without_output;
use flate2::Compression;
use flate2::write::GzEncoder;
use oaat_api::{Timestamp, text};
use serde_json::{Value, json};
use std::io::Result;

/// The file that lists what is missing.
const MISSING: &str = "missing.txt";
/// What the report contains, for its readers.
const README: &str = "\
This archive was written by `kubectl oaat report` for a bug report.

It contains only fields on an allowlist, such as names, times, states, reasons, numbers, images, and
schedules.
It omits environment variables, commands, arguments of items, annotations, labels, settings,
the state of policies, the contents of ConfigMaps and Secrets, the logs of items, and the messages
of runs and of sources of items. It keeps only the scheme and the host of URLs. In the remaining
messages and in the log of the operator, words that look like credentials are redacted. Redaction
cannot find every credential, so read the files before you publish them.

missing.txt lists what could not be read.
";

/// A report.
pub(super) struct Bundle {
    time: Timestamp,
    files: Vec<(String, Vec<u8>)>,
    missing: Vec<String>,
}

impl Bundle {
    pub fn new(time: Timestamp) -> Self {
        Self {
            time,
            files: vec![("README.txt".to_owned(), README.into())],
            missing: Vec::new(),
        }
    }

    /// Adds the fields of objects that are on a list.
    pub fn add(&mut self, file: &str, objects: &[Value], fields: Fields) {
        let kept: Vec<_> = objects.iter().filter_map(|o| redact(o, fields)).collect();
        self.add_json(file, &json!(kept));
    }

    /// Adds groups, without what containers wrote.
    pub fn add_groups(&mut self, file: &str, groups: &[Value]) {
        let groups: Vec<_> = groups.iter().cloned().map(without_output::group).collect();
        self.add(file, &groups, GROUP);
    }

    /// Adds events, without what containers wrote.
    pub fn add_events(&mut self, file: &str, events: Vec<Value>) {
        let events: Vec<_> = events.into_iter().map(without_output::event).collect();
        self.add(file, &events, EVENT);
    }

    /// Adds workloads of the operator. Of their containers, only the operator has arguments.
    pub fn add_workloads(&mut self, file: &str, workloads: Vec<Value>) {
        let workloads = workloads.into_iter().map(without_output::workload);
        let workloads: Vec<_> = workloads.collect();
        self.add(file, &workloads, WORKLOAD);
    }

    /// Adds the log of an operator.
    pub fn add_log(&mut self, file: &str, log: &str) {
        let log: String = log.lines().map(redact_line).collect();
        self.files.push((file.to_owned(), log.into_bytes()));
    }

    fn add_json(&mut self, file: &str, value: &Value) {
        let text = format!("{value:#}\n");
        self.files.push((file.to_owned(), text.into_bytes()));
    }

    /// Records that something could not be read.
    pub fn miss(&mut self, what: &str, why: &str) {
        self.missing.push(scrub(&format!("{what}: {why}")));
    }

    /// Returns what could not be read.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Returns the report as a compressed tar archive.
    pub fn archive(mut self, folder: &str) -> Result<Vec<u8>> {
        let missing = self.missing.iter().map(|line| format!("{line}\n"));
        let missing: String = missing.collect();
        self.files.push((MISSING.to_owned(), missing.into_bytes()));
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        for (name, content) in &self.files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(u64::try_from(self.time.0 / 1000).unwrap_or(0));
            archive.append_data(&mut header, format!("{folder}/{name}"), content.as_slice())?;
        }
        archive.into_inner()?.finish()
    }
}

/// Returns a line of the operator's log. Only panics are not JSON.
fn redact_line(line: &str) -> String {
    let line = match serde_json::from_str::<Value>(line) {
        Ok(value @ Value::Object(_)) => {
            let kept = redact(&without_output::log_line(value), LOG_LINE);
            kept.unwrap_or_default().to_string()
        }
        _ => scrub(&text::escape(line)),
    };
    format!("{line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::collections::BTreeMap;
    use std::io::Read;

    #[test]
    fn archive_contains_the_files_and_what_is_missing() {
        let mut bundle = Bundle::new(Timestamp(1_772_452_800_000));
        bundle.add("groups.json", &[json!({ "reason": "R", "x": 1 })], EVENT);
        bundle.add_events(
            "events.json",
            vec![
                json!({ "reason": "Failed", "message": "a", "involvedObject": { "kind": "OaatGroup" } }),
                json!({ "reason": "Pulled", "message": "b", "involvedObject": { "kind": "Pod" } }),
            ],
        );
        bundle.add_log(
            "operator.log",
            concat!(
                r#"{"level":"INFO","reason":"Failed","message":"s3cret","group":"g"}"#,
                "\n",
                r#"{"level":"INFO","message":"decided","choice":"s3cret"}"#,
                "\nthread panicked: password=s3cret\n"
            ),
        );
        bundle.miss("pods", "you do not have permission to list pods");
        let archive = bundle.archive("report").unwrap();
        let mut archive = tar::Archive::new(GzDecoder::new(archive.as_slice()));
        let mut files = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            files.insert(name, text);
        }
        assert!(files["report/README.txt"].contains("missing.txt"));
        assert!(!files["report/groups.json"].contains('x'));
        let events: Value = serde_json::from_str(&files["report/events.json"]).unwrap();
        assert_eq!(
            (&events[0]["message"], &events[1]["message"]),
            (&Value::Null, &json!("b"))
        );
        let log = &files["report/operator.log"];
        assert!(!log.contains("s3cret") && log.contains("decided") && log.contains("panicked"));
        assert_eq!(
            files["report/missing.txt"],
            "pods: you do not have permission to list pods\n"
        );
    }
}
