//! `policy replay`: replays recorded decisions, and reports whether the answers are the same, or what
//! another policy would have decided.

use crate::policy::component;
use crate::policy::decisions::{self, Line};
use crate::policy::failure;
use anyhow::{Context, Result, bail};
use oaat_api::BuiltInPolicy;
use policy_cases::item_settings;
use policy_host::{
    AnswerRef, Choice, DecisionRecord, EvalError, Host, Limits, Policy, RecordedAnswer, WaitTimes,
    compare_answers, request_digest, sha256,
};
use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `policy replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files from `--record-decisions`, directories with such files, or logs of an operator with
    /// `--log-decisions full`; `-` is standard input.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The policy to replay the decisions with. For decisions of another policy, the command shows
    /// what this policy would change. If repeated, each decision is replayed with the policy that
    /// has the recorded sha256. Decisions of the built-in policies need no flag.
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// Replay only decisions whose request has this sha256, or a prefix of it. See
    /// `status.lastDecision.request` of a group.
    #[arg(long, value_name = "SHA256")]
    request: Option<String>,
}

pub(crate) fn run(args: &Args, built_in: &[u8]) -> Result<ExitCode> {
    let policies = Policies::load(&args.policy, built_in)?;
    let wanted = args.request.as_deref().unwrap_or_default();
    let mut contents = FileContents::default();
    let mut counts = [0_usize; 3];
    for file in decisions::recorded_files(&args.files)? {
        let name = file.display().to_string();
        let mut printed = Ok(());
        decisions::read_chunks(decisions::open(&file)?, |chunk| {
            let mut text = String::new();
            chunk.for_each(|number, line: Line<DecisionRecord>| {
                contents.count(&line);
                let (outcome, line) = match line {
                    Line::Record(record) if record.request_sha256.starts_with(wanted) => {
                        let (outcome, detail) = policies.replay(&record);
                        (outcome, format_line(&record, &detail))
                    }
                    // With --request, skip it: its request is unknown.
                    Line::Unreadable(why) if wanted.is_empty() => {
                        let line = format!("{name}:{number}: this decision cannot be read: {why}");
                        (Outcome::Unknown, one_line(&line))
                    }
                    _ => return,
                };
                counts[outcome as usize] += 1;
                text += &format!("{line}\n");
            });
            printed = crate::policy::print(&text);
            printed.is_ok()
        })
        .with_context(|| name.clone())?;
        printed?;
    }
    if counts == [0; 3] {
        bail!("{}", contents.nothing_to_replay(args));
    }
    let [agree, differ, unknown] = counts;
    let total = format!("{agree} agree, {differ} differ, {unknown} could not be replayed\n");
    crate::policy::print(&total)?;
    Ok(match counts {
        [_, 0, 0] => ExitCode::SUCCESS,
        [_, 0, _] => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    })
}

/// Which kinds of decisions the files contain.
#[derive(Default)]
struct FileContents {
    records: bool,
    digests: bool,
}

impl FileContents {
    fn count(&mut self, line: &Line<DecisionRecord>) {
        self.records |= matches!(line, Line::Record(_));
        self.digests |= matches!(line, Line::Digests);
    }

    fn nothing_to_replay(&self, args: &Args) -> String {
        let files: Vec<_> = args.files.iter().map(|f| f.display().to_string()).collect();
        let files = files.join(", ");
        match &args.request {
            Some(wanted) if self.records => {
                format!("--request: no decision in {files} has a request with sha256 {wanted}")
            }
            _ if self.digests => format!("{files}: {}", decisions::ONLY_DIGESTS),
            _ => format!(
                "{files}: no recorded decision found; {}",
                decisions::USE_RECORDS
            ),
        }
    }
}

/// The policies to replay decisions with.
struct Policies {
    named: HashMap<String, Policy>,
    /// The policy for all decisions, if the command line names only one.
    only: Option<Policy>,
    built_in: HashMap<String, BuiltIn>,
}

/// A built-in policy, compiled when the first of its decisions is replayed.
struct BuiltIn {
    wasm: Vec<u8>,
    policy: OnceCell<Option<Policy>>,
}

impl Policies {
    fn load(files: &[PathBuf], default: &[u8]) -> Result<Self> {
        let mut named = Vec::new();
        for file in files {
            named.push(component::load(file, default)?.policy);
        }
        let only = match named.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        };
        let digests = named
            .into_iter()
            .map(|policy| (policy.digest().to_owned(), policy));
        let mut built_in = HashMap::new();
        for policy in BuiltInPolicy::ALL {
            let wasm = component::built_in(policy, default);
            let policy = OnceCell::new();
            built_in.insert(sha256(&wasm), BuiltIn { wasm, policy });
        }
        Ok(Self {
            named: digests.collect(),
            only,
            built_in,
        })
    }

    fn by_digest(&self, digest: &str) -> Option<&Policy> {
        self.named.get(digest).or_else(|| {
            let BuiltIn { wasm, policy } = self.built_in.get(digest)?;
            // The policies of this release are known to load.
            let load = || Host::new(Limits::default()).ok()?.load(wasm, None).ok();
            policy.get_or_init(load).as_ref()
        })
    }

    /// Replays a decision. Returns the outcome and a description of it.
    fn replay(&self, record: &DecisionRecord) -> (Outcome, String) {
        let digest = request_digest(&record.request);
        if digest != record.request_sha256 {
            let detail = format!(
                "the record was modified: its request has sha256 {digest}, not {}",
                record.request_sha256
            );
            return (Outcome::Differs, detail);
        }
        if let RecordedAnswer::Error { reason, .. } = &record.answer
            && reason == "Deadline"
        {
            let detail = "interrupted by its deadline, which cannot be replayed";
            return (Outcome::Unknown, detail.into());
        }
        match self
            .only
            .as_ref()
            .or_else(|| self.by_digest(&record.digest))
        {
            Some(policy) if policy.digest() == record.digest => replay(policy, record),
            Some(policy) => replay_with_other(policy, record),
            None => {
                let detail = format!(
                    "decided by a policy with sha256 {}; add this policy with --policy",
                    record.digest
                );
                (Outcome::Unknown, detail)
            }
        }
    }
}

/// Formats one line about a record.
fn format_line(record: &DecisionRecord, detail: &str) -> String {
    let request = &record.request;
    let sha = record.request_sha256.get(..12).unwrap_or_default();
    one_line(&format!(
        "{}/{} at {}, request {sha}: {detail}",
        request.namespace,
        request.group,
        crate::policy::format_time(request.now)
    ))
}

/// Escapes control characters, because records are untrusted.
fn one_line(text: &str) -> String {
    crate::policy::escape_control(text).replace('\n', " ")
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Agrees,
    Differs,
    Unknown,
}

/// Replays a decision with another policy than the one that made it. Returns whether it would decide
/// the same, and what would change.
fn replay_with_other(policy: &Policy, record: &DecisionRecord) -> (Outcome, String) {
    let request = &record.request;
    let items = item_settings(&request.items);
    if let Err(failure) = failure::validate(policy, &request.settings, &items) {
        let outcome = if failure.is_interruption() {
            Outcome::Unknown
        } else {
            Outcome::Differs
        };
        return (outcome, format!("this policy would not decide: {failure}"));
    }
    let evaluation = policy.evaluate(request);
    if let Err(error @ EvalError::Deadline(_)) = &evaluation.answer {
        return (Outcome::Unknown, format!("this policy failed: {error}"));
    }
    let difference = compare_answers(
        request,
        AnswerRef::from(&record.answer),
        AnswerRef::from(&evaluation.answer),
        WaitTimes::Compare,
    );
    let again = DecisionRecord::new(policy, request, &evaluation);
    let (then, now) = (record.fuel, again.fuel);
    match difference {
        Some(difference) => {
            let detail = format!("this policy {difference}; fuel {now} instead of {then}");
            (Outcome::Differs, detail)
        }
        None => {
            let answer = describe_answer(&again);
            let detail = format!("unchanged: {answer}, fuel {now} instead of {then}");
            (Outcome::Agrees, detail)
        }
    }
}

/// Replays a decision with the policy that made it. Returns the outcome and a description of it.
fn replay(policy: &Policy, record: &DecisionRecord) -> (Outcome, String) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::test_fixtures::{default_policy, record};

    #[test]
    fn log_of_digests_is_reported_with_the_flag_to_set() {
        let digests = [
            "2026  INFO oaat_operator::decision_log: decided namespace=\"n\" group=\"g\" digest=\"d\""
                .into(),
            serde_json::json!({ "target": "oaat_operator::decision_log", "message": "no decision", "digest": "d" })
                .to_string(),
        ];
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), digests.join("\n")).unwrap();
        let args = Args {
            files: vec![file.path().to_owned()],
            policy: Vec::new(),
            request: None,
        };
        let error = run(&args, default_policy()).unwrap_err().to_string();
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
