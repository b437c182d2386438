//! `policy replay`: repeats recorded decisions, and says whether they come out the same.

use crate::component;
use anyhow::{Context, Result, bail};
use policy_host::{DecisionRecord, Policy, RecordedAnswer, request_digest};
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What to repeat, and with which policies.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A recorded decision (of --record-decisions), or the operator's log, of which every
    /// decision that it holds whole is repeated; `-` is standard input.
    file: PathBuf,
    /// The policy that decided, unless it was the built-in one. May be given several times:
    /// each decision is repeated by the one with its sha256.
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// Only decisions about the request with this sha256 (or the beginning of it), as a group's
    /// status.lastDecision.request names it.
    #[arg(long, value_name = "SHA256")]
    request: Option<String>,
}

pub(crate) fn run(args: &Args, built_in: &[u8]) -> Result<ExitCode> {
    let text = read(&args.file)?;
    let mut records = records(&text);
    if records.is_empty() {
        bail!(
            "{}: there is no recorded decision in it; give a file of --record-decisions, or the operator's log \
             (where decisions of more than 64 KiB are not whole)",
            args.file.display()
        );
    }
    if let Some(wanted) = &args.request {
        records.retain(|record| record.request_sha256.starts_with(wanted));
        if records.is_empty() {
            bail!(
                "--request {wanted}: {} has no such decision",
                args.file.display()
            );
        }
    }
    let mut policies = HashMap::new();
    for file in args
        .policy
        .iter()
        .map(PathBuf::as_path)
        .chain([Path::new("default")])
    {
        let policy = component::load(file, built_in)?.policy;
        policies.insert(policy.digest().to_owned(), policy);
    }
    let mut counts = [0_usize; 3];
    for record in &records {
        let (outcome, words) = match policies.get(&record.digest) {
            Some(policy) => repeat(policy, record),
            None => (
                Outcome::Unknown,
                format!(
                    "was decided by sha256 {}; name that component by --policy",
                    record.digest
                ),
            ),
        };
        counts[outcome as usize] += 1;
        let request = &record.request;
        let sha = record.request_sha256.get(..12).unwrap_or_default();
        println!(
            "{}/{} at {}, request {sha}: {words}",
            request.namespace,
            request.group,
            crate::time(request.now)
        );
    }
    let [agree, differ, unknown] = counts;
    println!("{agree} agree, {differ} differ, {unknown} could not be repeated");
    Ok(match counts {
        [_, 0, 0] => ExitCode::SUCCESS,
        [_, 0, _] => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    })
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Agrees,
    Differs,
    Unknown,
}

/// Repeats one decision.
fn repeat(policy: &Policy, record: &DecisionRecord) -> (Outcome, String) {
    let digest = request_digest(&record.request);
    if digest != record.request_sha256 {
        return (
            Outcome::Differs,
            format!(
                "the record was changed: its request has sha256 {digest}, and it says {}",
                record.request_sha256
            ),
        );
    }
    if let RecordedAnswer::Error { reason, .. } = &record.answer
        && reason == "Deadline"
    {
        let words = "was interrupted by the clock, which cannot be repeated";
        return (Outcome::Unknown, words.into());
    }
    let again = DecisionRecord::new(policy, &record.request, &policy.evaluate(&record.request));
    if again.answer != record.answer {
        return (
            Outcome::Differs,
            format!("differs: recorded {}, now {}", said(record), said(&again)),
        );
    }
    if again.fuel != record.fuel {
        return (
            Outcome::Differs,
            format!(
                "differs in fuel: recorded {}, now {}",
                record.fuel, again.fuel
            ),
        );
    }
    (
        Outcome::Agrees,
        format!("agrees: {}, fuel {}", said(record), record.fuel),
    )
}

/// An answer in a few words.
fn said(record: &DecisionRecord) -> String {
    match &record.answer {
        RecordedAnswer::Error { reason, message } => format!("{reason} ({message})"),
        RecordedAnswer::Decision(decision) => {
            let name = |i: usize| record.request.items.get(i).map(|item| item.name.as_str());
            let note = decision
                .note
                .as_ref()
                .map(|n| format!(" ({n})"))
                .unwrap_or_default();
            match (decision.chosen().and_then(name), &decision.choice) {
                (Some(item), _) => format!("run {item:?}{note}"),
                (None, choice) => format!("{choice:?}{note}"),
            }
        }
    }
}

fn read(file: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut bytes))
    }
    .with_context(|| format!("{}", file.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// All records in a text: one by itself, or one in a line of log, of either format.
fn records(text: &str) -> Vec<DecisionRecord> {
    if let Ok(record) = serde_json::from_str(text) {
        return vec![record];
    }
    text.lines().filter_map(in_line).collect()
}

fn in_line(line: &str) -> Option<DecisionRecord> {
    if let Ok(whole) = serde_json::from_str(line) {
        return Some(whole);
    }
    // A line of JSON has it as a string, a line of text as it is, with more behind it.
    if let Ok(object) = serde_json::from_str::<serde_json::Value>(line) {
        return serde_json::from_str(object.get("record")?.as_str()?).ok();
    }
    let (_, rest) = line.split_once("record={").map(|(_, rest)| ((), rest))?;
    let json = format!("{{{rest}");
    let mut values = serde_json::Deserializer::from_str(&json).into_iter::<DecisionRecord>();
    values.next()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_host::Request;

    fn record() -> DecisionRecord {
        let request = Request {
            namespace: "n".into(),
            group: "record={".into(),
            now: 0,
            seed: u64::MAX,
            settings: "{}".into(),
            state: String::new(),
            items: Vec::new(),
            recent: Vec::new(),
            extra: "{}".into(),
        };
        DecisionRecord {
            digest: "d".into(),
            contract: "1.0.0".into(),
            request_sha256: request_digest(&request),
            request,
            fuel: 1,
            answer: RecordedAnswer::Error {
                reason: "PolicyError".into(),
                message: "no \"more\"\n".into(),
            },
        }
    }

    #[test]
    fn a_record_is_found_in_a_file_and_in_logs_of_either_format() {
        let json = serde_json::to_string(&record()).unwrap();
        let lines = [
            json.clone(),
            serde_json::to_string_pretty(&record()).unwrap(),
            format!("2026 INFO decided fuel=1 record={json} more=2\nother line"),
            format!(
                "other\n{}",
                serde_json::json!({ "level": "INFO", "message": "decided", "record": json })
            ),
            format!("pod/oaat-operator-0 \n{json}"),
        ];
        for text in lines {
            assert_eq!(records(&text), [record()], "{text}");
        }
        assert!(records("nothing of that kind\n{}\n").is_empty());
    }
}
