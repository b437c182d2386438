//! Measures `policy compare` with a log of recorded decisions.

use crate::report::Report;
use anyhow::{Context, Result, ensure};
use built_in_policies::DEFAULT_POLICY;
use oaat_tests::operator;
use policy_host::{DecisionRecord, Host, Item, Limits, Outcome, Request, Run};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// The number of decisions in the log.
const DECISIONS: usize = 100_000;
/// The number of different decisions in the log.
const DIFFERENT: usize = 1_000;
/// The number of items in each decision.
const ITEMS: i64 = 100;
/// The time of the first decision.
const START: i64 = 1_800_000_000_000;
const MINUTE: i64 = 60_000;
/// The maximum time, in seconds.
const GOAL: f64 = 10.0;

pub fn measure(report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("operator.log");
    println!("policy compare, {DECISIONS} decisions of {ITEMS} items:");
    write_log(&log)?;
    let program = operator::released_command_line()?;
    // Only the recorded decisions, and with a simulated day of each group.
    for (name, length) in [("recorded decisions", "0s"), ("and one day", "1d")] {
        let start = Instant::now();
        let status = Command::new(&program)
            .args([
                "policy", "compare", "default", "backoff", "--length", length,
            ])
            .arg("--decisions")
            .arg(&log)
            .stdout(Stdio::null())
            .status()?;
        ensure!(
            status.code() == Some(1),
            "the policies should differ: {status}"
        );
        let seconds = start.elapsed().as_secs_f64();
        report.at_most(&format!("policy compare, {name}"), seconds, "s", GOAL);
    }
    Ok(())
}

/// Writes a log of decisions about three groups, as the operator writes it.
fn write_log(path: &Path) -> Result<()> {
    let policy = Host::new(Limits::default())?
        .load(DEFAULT_POLICY, None)
        .context("the built-in policy")?;
    let mut lines = String::new();
    for number in 0..DIFFERENT as i64 {
        let request = request(number);
        let record = DecisionRecord::new(&policy, &request, &policy.evaluate(&request));
        let record = serde_json::to_string(&record)?;
        lines += &format!(
            "2026-01-01T00:00:00.000000Z  INFO oaat_operator::decision_log: decided \
             record={record} namespace=\"bench\" group=\"{}\" fuel=1\n",
            request.group
        );
    }
    let mut file = BufWriter::new(File::create(path)?);
    for _ in 0..DECISIONS / DIFFERENT {
        file.write_all(lines.as_bytes())?;
    }
    Ok(file.flush()?)
}

/// Returns the request of a decision. In every tenth, the policies differ about one item.
fn request(number: i64) -> Request {
    let now = START + number * 3 * MINUTE;
    let item = |index: i64| {
        let ago = |minutes: i64| Some(now - minutes * MINUTE - (index * 7_919) % 60_000);
        let fails = index == 0 && number % 10 == 0;
        Item {
            name: format!("home/user{index}/documents"),
            frequency: Some(60 * MINUTE as u64),
            cool_off: 10 * MINUTE as u64,
            settings: None,
            startable: true,
            last_success: ago(if fails { 300 } else { (index + number) % 90 }),
            last_failure: ago(if fails { 12 } else { 400 + index }),
            failures: if fails { 5 } else { 0 },
            runs: 12,
            last_duration: Some(90_000),
        }
    };
    let run = |age: i64| Run {
        item: ((number + age) % ITEMS) as u32,
        started: now - age * 3 * MINUTE,
        finished: now - age * 3 * MINUTE + 90_000,
        outcome: Outcome::Succeeded,
        exit_code: Some(0),
    };
    Request {
        namespace: "bench".into(),
        group: format!("group-{}", number % 3),
        now,
        seed: number.unsigned_abs(),
        settings: "{}".into(),
        state: String::new(),
        items: (0..ITEMS).map(item).collect(),
        recent: (1..=20).map(run).collect(),
        extra: "{}".into(),
    }
}
