//! `policy serve`: evaluates a policy for another program, such as the tests that use
//! policy-testkit. Each line of standard input is a request in JSON, and each line of standard
//! output an answer.

use crate::input::{self, Line, MAX_TEXT};
use crate::policy::component;
use anyhow::{Context, Result};
use policy_cases::Report;
use policy_host::{EvalError, Evaluation, Host, ItemSettings, Limits, Policy};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `policy serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A component, the core module that cargo builds, or the directory of a policy, which is built
    /// first.
    file: PathBuf,
    /// The directory for the build.
    #[arg(long, value_name = "DIR", default_value = "target/policies")]
    target: PathBuf,
}

/// A line of standard input.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum Call {
    /// Select an item.
    Select(Box<policy_host::Request>),
    /// Validate settings.
    Validate {
        settings: String,
        items: Vec<ItemSettings>,
    },
    /// Run the cases of a YAML file.
    Cases(String),
}

/// Serves until the end of standard input. The first line of output contains the version of this
/// program, and either the size of the component or the error of loading it.
pub(crate) fn run(args: &Args, built_in: &[u8]) -> Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    let (policy, size) = match load(args, built_in) {
        Ok(loaded) => loaded,
        Err(error) => {
            write(&json!({ "version": version, "error": format!("{error:#}") }))?;
            return Ok(ExitCode::FAILURE);
        }
    };
    write(&json!({ "version": version, "size": size }))?;
    let mut requests = std::io::stdin().lock();
    while let Some(line) = input::read_line(&mut requests)? {
        write(&answer_line(&policy, &line))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Answers a line of standard input. A line that is not a request gets an error as the answer.
fn answer_line(policy: &Policy, line: &Line) -> Value {
    let invalid = |why: String| json!({ "error": format!("the request is not valid: {why}") });
    match line {
        Line::Complete(line) => match serde_json::from_slice(line) {
            Ok(call) => answer(policy, call),
            Err(error) => invalid(error.to_string()),
        },
        Line::TooLong => invalid(format!("the line is longer than {} MiB", MAX_TEXT >> 20)),
    }
}

fn load(args: &Args, built_in: &[u8]) -> Result<(Policy, usize)> {
    let file = &args.file;
    let (wasm, names) = if file.is_dir() {
        let built = policy_build::build_crate(file, &args.target)
            .with_context(|| format!("{}", file.display()))?;
        (built.component, built.names.into())
    } else {
        let wasm = component::read(file, built_in)?;
        let names = component::function_names(file, &wasm);
        (wasm, names)
    };
    let host = Host::new(Limits::default())?;
    match host.load(&wasm, None) {
        Ok(policy) => Ok((policy.with_names(names), wasm.len())),
        Err(error) => Err(component::rejected(file, error.with_names(&names)).into()),
    }
}

fn answer(policy: &Policy, call: Call) -> Value {
    match call {
        Call::Select(request) => evaluation(&policy.evaluate(&request)),
        Call::Validate { settings, items } => evaluation(&policy.validate(&settings, &items)),
        Call::Cases(yaml) => match policy_cases::parse(&yaml) {
            Ok(cases) => {
                let reports: Vec<_> = cases.iter().map(|case| case.run(policy, 0)).collect();
                let failed = reports.iter().filter(|report| !report.passed());
                let failed: Vec<_> = failed.map(failure).collect();
                json!({ "cases": reports.len(), "failed": failed })
            }
            Err(error) => json!({ "error": error.to_string() }),
        },
    }
}

fn failure(report: &Report) -> String {
    format!("{}\n{report}", report.case)
}

fn evaluation<T: Serialize>(evaluation: &Evaluation<T>) -> Value {
    let answer = match &evaluation.answer {
        Ok(answer) => json!({ "answer": answer }),
        Err(EvalError::PolicyError(message)) => {
            json!({ "reason": "PolicyError", "message": message })
        }
        Err(error) => json!({ "reason": error.reason(), "message": error.to_string() }),
    };
    let log = evaluation.log.iter();
    let log: Vec<_> = log.map(|line| json!([line.level, line.text])).collect();
    json!({
        "result": answer,
        "fuel": evaluation.fuel,
        "log": log,
        "logDropped": evaluation.log_dropped,
    })
}

fn write(answer: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{answer}\n").as_bytes())?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_that_is_not_a_request_gets_an_error() {
        let host = Host::new(Limits::default()).unwrap();
        let default = crate::policy::test_fixtures::default_policy();
        let policy = host.load(default, None).unwrap();
        let not_utf8 = b"{\"cases\":\"\xff\"}".to_vec();
        for (line, expected) in [
            (Line::Complete(not_utf8), "invalid unicode code point"),
            (Line::Complete(b"\xff".to_vec()), "expected value"),
            (Line::TooLong, "the line is longer than 16 MiB"),
        ] {
            let answer = answer_line(&policy, &line);
            let error = answer["error"].as_str().unwrap();
            assert!(
                error.starts_with("the request is not valid: ") && error.contains(expected),
                "{error}"
            );
        }
    }
}
