//! The exit status of `policy test` and `policy run` with the built-in policy.

#![allow(clippy::unwrap_used)]

use clap::Parser;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: kubectl_oaat::policy::Command,
}

fn built_in() -> &'static [u8] {
    static WASM: OnceLock<Vec<u8>> = OnceLock::new();
    WASM.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        // The folder that policy-testkit uses, so that all tests share one build.
        let test = std::env::current_exe().unwrap();
        let target = test.ancestors().nth(3).unwrap().join("policies");
        policy_build::build(&here.join("../policy-default"), &target).unwrap()
    })
}

/// Runs a command and returns its exit status.
fn status(args: &[&str]) -> String {
    let args = std::iter::once("policy").chain(args.iter().copied());
    let command = Cli::try_parse_from(args).unwrap().command;
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
      note: its last success is the oldest
      verdicts: {a: ready, b: ready, c: {standing: fresh, until: in 59m}}
  - name: ties are broken at random
    seeds: 40
    given: {items: [a, b, c]}
    expect: {run: [a, b, c], everyOneOf: [a, b, c], state: null}
  - name: a failure starts the cool-off
    given: {items: [{name: a, lastFailure: 1m ago}]}
    expect: {wait: in 9m, verdicts: {a: cooling}}
  - name: one success is enough
    given: {frequency: once, items: [{name: a, lastSuccess: 900days ago}]}
    expect: {wait: none}
validate:
  - {name: no settings, expect: accepted}
  - {name: any settings, settings: {a: 1}, expect: {rejected: takes no settings}}
";

#[test]
fn policy_test_exits_with_1_if_a_case_fails_and_with_2_if_it_cannot_run() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(&folder, "good.yaml", CASES);
    let bad = file(&folder, "bad.yaml", &CASES.replace("run: b\n", "run: a\n"));
    let broken = file(
        &folder,
        "broken.yaml",
        &CASES.replace("run: b\n", "runs: b\n"),
    );
    let empty = file(&folder, "empty.yaml", "cases: []\n");
    for format in ["pretty", "junit"] {
        let test = |cases: &str| status(&["test", "default", "--cases", cases, "--format", format]);
        assert_eq!(test(&good), code(0));
        assert_eq!(test(&bad), code(1));
    }
    let test = |cases: &str, more: &[&str]| {
        status(&[&["test", "default", "--cases", cases], more].concat())
    };
    assert_eq!(test(&good, &["--seeds", "100"]), code(0));
    assert_eq!(test(&bad, &["--filter", "at random"]), code(0));
    assert_eq!(test(&good, &["--filter", "no such case"]), code(2));
    assert_eq!(test(&broken, &[]), code(2));
    assert_eq!(test(&empty, &[]), code(2));
    assert_eq!(test("/nowhere/cases.yaml", &[]), code(2));
    assert_eq!(status(&["test", &good, "--cases", &good]), code(1));
}

#[test]
fn policy_run_exits_with_1_without_a_decision_and_with_2_if_it_cannot_run() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(&folder, "good.yaml", "items: [a, b]\n");
    let refused = file(&folder, "refused.yaml", "items: [a]\nsettings: {a: 1}\n");
    let broken = file(&folder, "broken.yaml", "items: a\n");
    let run = |request: &str, more: &[&str]| {
        status(&[&["run", "default", "--request", request], more].concat())
    };
    assert_eq!(run(&good, &[]), code(0));
    assert_eq!(
        run(&good, &["--seed", "18446744073709551615", "-o", "json"]),
        code(0)
    );
    assert_eq!(run(&refused, &[]), code(1));
    assert_eq!(run(&broken, &[]), code(2));
    assert_eq!(run("/nowhere/request.yaml", &[]), code(2));
}

#[test]
fn core_module_with_a_foreign_import_is_a_problem_of_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wasi.wasm");
    // A module that imports the function fd_write from wasi_snapshot_preview1.
    let module = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x23\x01\x16wasi_snapshot_preview1\x08fd_write\0\0";
    std::fs::write(&path, module).unwrap();
    let path = path.display().to_string();
    let request = file(&folder, "request.yaml", "items: [a]\n");
    assert_eq!(status(&["check", &path]), code(1));
    assert_eq!(status(&["run", &path, "--request", &request]), code(1));
    assert_eq!(status(&["pack", &path, "--name", "a"]), code(1));
}
