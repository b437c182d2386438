//! `policy replay`: replays recorded decisions, and reports whether the answers are the same.

use crate::policy::component;
use anyhow::{Context, Result, bail};
use policy_host::{Choice, DecisionRecord, Policy, RecordedAnswer, request_digest};
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `policy replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file from `--record-decisions`, or the log of an operator with `--log-decisions full`;
    /// `-` is standard input.
    file: PathBuf,
    /// A policy that made some of the decisions. Not needed for the built-in policy. Can be
    /// repeated: each decision is replayed with the policy that has the recorded sha256.
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// Replay only decisions whose request has this sha256, or a prefix of it. See
    /// `status.lastDecision.request` of a group.
    #[arg(long, value_name = "SHA256")]
    request: Option<String>,
}

pub(crate) fn run(args: &Args, built_in: &[u8]) -> Result<ExitCode> {
    let text = read(&args.file)?;
    let mut records = recorded(&text);
    if records.is_empty() {
        let file = args.file.display();
        if text.lines().any(|line| parse_log_line(line).is_some()) {
            bail!(
                "{file}: this log contains only digests of decisions; to replay decisions, start the operator with \
                 --log-decisions full or --record-decisions DIR"
            );
        }
        bail!(
            "{file}: no recorded decision found; use a file from --record-decisions, or the log of an operator \
             with --log-decisions full"
        );
    }
    if let Some(wanted) = &args.request {
        records.retain(|record| record.request_sha256.starts_with(wanted));
        if records.is_empty() {
            bail!(
                "--request: no decision in {} has a request with sha256 {wanted}",
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
        let (outcome, detail) = match policies.get(&record.digest) {
            Some(policy) => replay(policy, record),
            None => (
                Outcome::Unknown,
                format!(
                    "decided by a policy with sha256 {}; add this policy with --policy",
                    record.digest
                ),
            ),
        };
        counts[outcome as usize] += 1;
        println!("{}", format_line(record, &detail));
    }
    let [agree, differ, unknown] = counts;
    println!("{agree} agree, {differ} differ, {unknown} could not be replayed");
    Ok(match counts {
        [_, 0, 0] => ExitCode::SUCCESS,
        [_, 0, _] => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    })
}

/// Formats one line about a record. Escapes control characters, because records are untrusted.
fn format_line(record: &DecisionRecord, detail: &str) -> String {
    let request = &record.request;
    let sha = record.request_sha256.get(..12).unwrap_or_default();
    let line = format!(
        "{}/{} at {}, request {sha}: {detail}",
        request.namespace,
        request.group,
        crate::policy::format_time(request.now)
    );
    crate::policy::escape_control(&line).replace('\n', " ")
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Agrees,
    Differs,
    Unknown,
}

/// Replays a decision. Returns the outcome and a description of it.
fn replay(policy: &Policy, record: &DecisionRecord) -> (Outcome, String) {
    let digest = request_digest(&record.request);
    if digest != record.request_sha256 {
        return (
            Outcome::Differs,
            format!(
                "the record was modified: its request has sha256 {digest}, not {}",
                record.request_sha256
            ),
        );
    }
    if let RecordedAnswer::Error { reason, .. } = &record.answer
        && reason == "Deadline"
    {
        let detail = "interrupted by its deadline, which cannot be replayed";
        return (Outcome::Unknown, detail.into());
    }
    let again = DecisionRecord::new(policy, &record.request, &policy.evaluate(&record.request));
    let same = again.answer == record.answer && again.fuel == record.fuel;
    if let (Some(then), Some(now)) = (&record.engine, &again.engine)
        && then != now
        && !same
    {
        let detail = format!(
            "cannot be replayed here: recorded with wasmtime {} on {} and a fuel limit of {}, replayed with \
             wasmtime {} on {} and a fuel limit of {}",
            then.wasmtime, then.arch, then.fuel, now.wasmtime, now.arch, now.fuel
        );
        return (Outcome::Unknown, detail);
    }
    if again.answer != record.answer {
        return (
            Outcome::Differs,
            format!(
                "differs: recorded {}, now {}",
                describe_answer(record),
                describe_answer(&again)
            ),
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
        format!("agrees: {}, fuel {}", describe_answer(record), record.fuel),
    )
}

fn describe_answer(record: &DecisionRecord) -> String {
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
                (None, Choice::Wait(Some(until))) => {
                    format!(
                        "wait until {}{note}",
                        policy_cases::time::format_instant(*until)
                    )
                }
                (None, _) => format!("wait{note}"),
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

/// Returns all records in a text: a single record, one record per line, or a log of the operator in
/// either format.
pub fn recorded(text: &str) -> Vec<DecisionRecord> {
    if let Ok(record) = serde_json::from_str(text) {
        return vec![record];
    }
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let all: Result<Vec<_>, _> = lines.map(serde_json::from_str).collect();
    all.unwrap_or_else(|_| text.lines().filter_map(parse_log_line).flatten().collect())
}

/// The target of the operator's log lines about decisions.
const DECISION_LOG: &str = "oaat_operator::decision_log";
/// The messages of those lines.
const MESSAGES: [&str; 2] = ["decided", "no decision"];

/// Parses a line of the operator's log. Returns `None` for other lines, even if they quote a
/// record, and `Some(None)` for a decision that was logged without its record.
fn parse_log_line(line: &str) -> Option<Option<DecisionRecord>> {
    if let Ok(object) = serde_json::from_str::<serde_json::Value>(line) {
        let text = |key: &str| object.get(key)?.as_str();
        let decided = text("target")? == DECISION_LOG && MESSAGES.contains(&text("message")?);
        let record = || serde_json::from_str(text("record")?).ok();
        return decided.then(record);
    }
    // TIME LEVEL TARGET: MESSAGE record={…} …, optionally with the name of a pod before it.
    let (mut rest, mut word);
    rest = line;
    loop {
        (word, rest) = rest.trim_start().split_once(' ')?;
        if matches!(word, "TRACE" | "DEBUG" | "INFO" | "WARN" | "ERROR") {
            break;
        }
    }
    let message = rest
        .trim_start()
        .strip_prefix(DECISION_LOG)?
        .strip_prefix(": ")?;
    let fields = MESSAGES
        .iter()
        .find_map(|known| message.strip_prefix(known))?;
    let record = || {
        let json = fields.strip_prefix(" record=")?;
        let mut values = serde_json::Deserializer::from_str(json).into_iter::<DecisionRecord>();
        values.next()?.ok()
    };
    Some(record())
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
            engine: None,
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
    fn recorded_finds_records_in_files_and_in_logs_of_either_format() {
        let json = serde_json::to_string(&record()).unwrap();
        let logged = format!("INFO oaat_operator::decision_log: decided record={json} more=2");
        let one = [
            json.clone(),
            serde_json::to_string_pretty(&record()).unwrap(),
            format!("2026-01-01T00:00:00Z  {logged}\nother line"),
            format!("[pod/oaat-operator-0/operator] 2026-01-01T00:00:00Z  {logged}"),
            format!("2026 {}", logged.replace(": decided", ": no decision")),
            format!(
                "other\n{}",
                serde_json::json!({
                    "level": "INFO", "target": DECISION_LOG, "message": "decided", "record": json,
                })
            ),
        ];
        for text in one {
            assert_eq!(recorded(&text), [record()], "{text}");
        }
        assert_eq!(recorded(&format!("{json}\n\n{json}\n")).len(), 2);
        assert!(recorded("nothing of that kind\n{}\n").is_empty());
    }

    #[test]
    fn recorded_ignores_records_quoted_in_other_lines() {
        let json = serde_json::to_string(&record()).unwrap();
        let decided = format!("INFO oaat_operator::decision_log: decided record={json}");
        let none = [
            format!("x\n{json}"),
            format!("2026  INFO oaat_operator::policy: {decided}"),
            format!("2026  WARN kube_client: {decided}"),
            format!("2026  INFO oaat_operator::decision_log: decided why=\"{decided}\""),
            format!("2026  INFO oaat_operator::decision_log: decided why=x record={json}"),
            serde_json::json!({ "target": DECISION_LOG, "message": "x", "record": json }).to_string(),
            serde_json::json!({ "target": "oaat_operator::policy", "message": "decided", "record": json })
                .to_string(),
        ];
        for text in none {
            assert!(
                recorded(&format!("first line\n{text}")).is_empty(),
                "{text}"
            );
        }
    }

    #[test]
    fn log_of_digests_is_reported_with_the_flag_to_set() {
        let digests = [
            "2026  INFO oaat_operator::decision_log: decided namespace=\"n\" group=\"g\" digest=\"d\""
                .into(),
            serde_json::json!({ "target": DECISION_LOG, "message": "no decision", "digest": "d" })
                .to_string(),
        ];
        for line in &digests {
            assert_eq!(parse_log_line(line), Some(None), "{line}");
        }
        assert_eq!(
            parse_log_line("2026  INFO oaat_operator::run: stopped"),
            None
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), digests.join("\n")).unwrap();
        let args = Args {
            file: file.path().to_owned(),
            policy: Vec::new(),
            request: None,
        };
        let error = run(&args, &[]).unwrap_err().to_string();
        assert!(error.contains("--log-decisions full"), "{error}");
    }

    #[test]
    fn format_line_escapes_terminal_control_characters() {
        let mut evil = record();
        evil.request.namespace = "\u{1b}[2J\u{9b}31m\u{202e}".into();
        evil.answer = RecordedAnswer::Error {
            reason: "\u{1b}]0;x\u{7}".into(),
            message: "two\nlines".into(),
        };
        let line = format_line(&evil, "x\u{1b}");
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(
            line.contains("u{1b}[2J") && !line.contains('\u{202e}'),
            "{line:?}"
        );
    }
}
