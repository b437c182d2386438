//! `policy test` and `policy run` as a person starts them, with the built-in policy: what
//! the exit status says.

#![allow(clippy::unwrap_used)]

use clap::Parser;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: kubectl_oaat::policy::Command,
}

/// The built-in policy.
fn built_in() -> &'static [u8] {
    static WASM: OnceLock<Vec<u8>> = OnceLock::new();
    WASM.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        // The folder of policy-testkit, so that a policy is built once for all tests.
        let test = std::env::current_exe().unwrap();
        let target = test.ancestors().nth(3).unwrap().join("policies");
        policy_build::build(&here.join("../policy-default"), &target).unwrap()
    })
}

/// The exit status of a command line.
fn status(line: &[&str]) -> String {
    let line = std::iter::once("policy").chain(line.iter().copied());
    let command = Cli::try_parse_from(line).unwrap().command;
    format!("{:?}", kubectl_oaat::policy::run(command, built_in()))
}

fn code(code: u8) -> String {
    format!("{:?}", std::process::ExitCode::from(code))
}

fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path: PathBuf = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

const CASES: &str = "
given:
  coolOff: 10m
cases:
  - name: the oldest success goes first
    given:
      items: [{name: a, lastSuccess: 2h ago}, {name: b, lastSuccess: 3h ago}, {name: c, lastSuccess: 1m ago}]
    expect:
      run: b
      note: its success is the oldest
      verdicts: {a: ready, b: ready, c: {standing: fresh, until: in 59m}}
  - name: equals are drawn by lot
    seeds: 40
    given: {items: [a, b, c]}
    expect: {run: [a, b, c], everyOneOf: [a, b, c], state: null}
  - name: a failure rests
    given: {items: [{name: a, lastFailure: 1m ago}]}
    expect: {wait: in 9m, verdicts: {a: cooling}}
  - name: one success is enough
    given: {frequency: once, items: [{name: a, lastSuccess: 900days ago}]}
    expect: {wait: none}
validate:
  - {name: no settings, expect: accepted}
  - {name: any settings, settings: {a: 1}, expect: {refused: takes no settings}}
";

#[test]
fn the_exit_status_says_whether_cases_passed() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(&folder, "good.yaml", CASES);
    let bad = file(&folder, "bad.yaml", &CASES.replace("run: b\n", "run: a\n"));
    let broken = file(
        &folder,
        "broken.yaml",
        &CASES.replace("run: b\n", "runs: b\n"),
    );
    let empty = file(&folder, "empty.yaml", "cases: []\n");
    for format in ["pretty", "tap", "junit"] {
        let test = |cases: &str| status(&["test", "default", "--cases", cases, "--format", format]);
        assert_eq!(test(&good), code(0));
        assert_eq!(test(&bad), code(1));
    }
    let test = |cases: &str, more: &[&str]| {
        status(&[&["test", "default", "--cases", cases], more].concat())
    };
    assert_eq!(test(&good, &["--seeds", "100"]), code(0));
    assert_eq!(test(&bad, &["--filter", "by lot"]), code(0));
    assert_eq!(test(&good, &["--filter", "no such case"]), code(2));
    assert_eq!(test(&broken, &[]), code(2));
    assert_eq!(test(&empty, &[]), code(2));
    assert_eq!(test("/nowhere/cases.yaml", &[]), code(2));
    assert_eq!(status(&["test", &good, "--cases", &good]), code(1));
}

#[test]
fn the_exit_status_says_whether_there_is_a_decision() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(&folder, "good.yaml", "items: [a, b]\n");
    let refused = file(&folder, "refused.yaml", "items: [a]\nsettings: {a: 1}\n");
    let broken = file(&folder, "broken.yaml", "items: a\n");
    let run = |request: &str, more: &[&str]| {
        status(&[&["run", "default", "--request", request], more].concat())
    };
    assert_eq!(run(&good, &[]), code(0));
    assert_eq!(
        run(&good, &["--seed", "18446744073709551615", "--json"]),
        code(0)
    );
    assert_eq!(run(&refused, &[]), code(1));
    assert_eq!(run(&broken, &[]), code(2));
    assert_eq!(run("/nowhere/request.yaml", &[]), code(2));
}
