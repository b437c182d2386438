//! The templates of policies in languages other than Rust build, and give the same answers as the
//! documented algorithm in Rust.

use anyhow::{Context, Result, ensure};
use oaat_tests::operator::{command_line, root};
use policy_sdk::ItemSettings;
use policy_testkit::{TestPolicy, strategy};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The number of random requests.
const REQUESTS: usize = 10_000;

/// Returns whether the programs for policies in C exist. Without them, the tests are skipped, except
/// in CI.
fn can_build_c() -> Result<bool> {
    match control_plane::check_c_tools() {
        Ok(()) => Ok(true),
        Err(problem) if std::env::var_os("CI").is_some() => Err(problem),
        Err(problem) => {
            // The test runner discards the output of println! in tests that pass.
            let _ = writeln!(
                std::io::stdout(),
                "skipping the tests of policies in C: {problem}"
            );
            Ok(false)
        }
    }
}

/// Runs a command and returns its output. `kubectl-oaat` is on the PATH.
fn run(command: &mut Command) -> Result<String> {
    let program = command_line()?;
    let folder = program.parent().context("no folder")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
    let output = command.env("PATH", std::env::join_paths(path)?).output()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "{command:?}: {text}");
    Ok(text)
}

/// Creates a policy in C, and returns its directory.
fn new_c(folder: &Path) -> Result<PathBuf> {
    let dir = folder.join("my-policy");
    let mut new = Command::new(command_line()?);
    run(new.args(["policy", "new", "--lang", "c"]).arg(&dir))?;
    Ok(dir)
}

#[test]
fn template_in_c_builds_a_small_component_and_passes_its_cases() -> Result<()> {
    if !can_build_c()? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let dir = folder.path().join("renamed");
    std::fs::rename(new_c(folder.path())?, &dir)?;
    let text = run(Command::new("make").arg("-C").arg(&dir).arg("test"))?;
    ensure!(text.contains("the operator accepts it"), "{text}");
    let size = dir.join("target/policy.wasm").metadata()?.len();
    ensure!(size < 12 << 10, "{size} bytes");
    Ok(())
}

#[test]
fn policies_in_c_and_rust_give_the_same_answers() -> Result<()> {
    if !can_build_c()? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let c = TestPolicy::build(new_c(folder.path())?);
    let rust = TestPolicy::load("default");
    let cases = std::fs::read_to_string(root().join("policy-default/cases.yaml"))?;
    c.check_cases(&cases);
    rust.check_cases(&cases);
    let mut chosen = 0;
    for (index, request) in strategy::requests(REQUESTS).enumerate() {
        let answer = c.select(&request);
        ensure!(
            answer == rust.select(&request),
            "request {index}: {request:?}"
        );
        chosen += usize::from(answer.is_ok_and(|decision| decision.chosen().is_some()));
    }
    // Neither only choices nor only waits.
    ensure!((REQUESTS / 4..REQUESTS).contains(&chosen), "{chosen}");
    for settings in ["{}", " { } ", "{\"a\": 1}", "{", "}{", "{}{}", ""] {
        let items = [ItemSettings {
            name: "a".into(),
            settings: settings.into(),
        }];
        for items in [&[][..], &items] {
            let group = if items.is_empty() { settings } else { "{}" };
            // Omits the name of the policy, which differs.
            let message = |policy: &TestPolicy| {
                let error = policy.validate(group, items).err()?.to_string();
                Some(match error.split_once(" takes no settings") {
                    Some((_name, reason)) => reason.to_owned(),
                    None => error,
                })
            };
            ensure!(message(&c) == message(&rust), "{settings}");
        }
    }
    Ok(())
}

#[test]
fn go_is_rejected_with_the_reason() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let new = Command::new(command_line()?)
        .args(["policy", "new", "--lang", "go"])
        .arg(folder.path().join("my-policy"))
        .output()?;
    let text = String::from_utf8_lossy(&new.stderr);
    ensure!(
        new.status.code() == Some(2) && text.contains("WASI"),
        "{text}"
    );
    ensure!(!folder.path().join("my-policy").exists());
    Ok(())
}
