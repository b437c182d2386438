//! `cargo xtask fuzz`: runs the property tests of `tests/tests/fuzz` for a given time.

use crate::{build, built, cargo, tools};
use anyhow::{Result, bail};
use std::process::ExitCode;
use std::time::Duration;

/// Each target with its test binary and the name of its test.
const TARGETS: [(&str, &str, &str); 7] = [
    ("attacks", "attacks", "attacks_end_with_a_reason"),
    ("components", "fuzz", "components::components"),
    ("lists", "fuzz", "texts::lists"),
    ("paths", "fuzz", "texts::paths"),
    ("schedules", "fuzz", "texts::schedules"),
    ("annotations", "fuzz", "objects::annotations"),
    ("objects", "fuzz", "objects::objects"),
];

/// Runs one target or all of them, each in a separate process, because a failure may end it.
pub fn run(minutes: u64, only: Option<&str>, seed: Option<u64>) -> Result<ExitCode> {
    let chosen = |name| only.is_none_or(|only| only == name);
    let targets: Vec<_> = TARGETS.iter().filter(|(name, ..)| chosen(*name)).collect();
    if targets.is_empty() {
        let names = TARGETS.map(|(name, ..)| name).join(", ");
        bail!(
            "--target {}: unknown target; use one of {names}",
            only.unwrap_or_default()
        );
    }
    tools::build_with_control_plane(None, &build(&[]))?;
    let share = Duration::from_secs(60 * minutes) / targets.len() as u32;
    let mut failed = Vec::new();
    for (target, binary, test) in targets {
        let mut command = cargo();
        command
            .args(["test", "--quiet", "--workspace", "--test", binary, "--"])
            .args(["--exact", test, "--nocapture"])
            .env("OAAT_OPERATOR_BINARY", built("debug", "oaat-operator"));
        match seed {
            Some(seed) => command.env("OAAT_FUZZ_SEED", seed.to_string()),
            None => command.env("OAAT_FUZZ_SECONDS", share.as_secs().to_string()),
        };
        if !command.status()?.success() {
            failed.push(*target);
        }
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "failed: {}; see the lines above for the seeds",
        failed.join(", ")
    );
    Ok(ExitCode::FAILURE)
}
