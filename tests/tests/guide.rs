//! The commands of docs/policies.md, as a newcomer types them.

use anyhow::{Context, Result, bail};
use oaat_tests::operator::root;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The commands of the first console block below a heading.
fn commands(heading: &str) -> Result<Vec<String>> {
    let guide = std::fs::read_to_string(root().join("docs/policies.md"))?;
    let section = guide
        .split_once(&format!("\n## {heading}\n"))
        .with_context(|| format!("no section {heading:?}"))?
        .1;
    let block = section
        .split_once("```console\n")
        .and_then(|(_, rest)| rest.split_once("```"))
        .context("no console block")?
        .0;
    Ok(block
        .lines()
        .filter_map(|line| line.strip_prefix("$ ").map(str::to_owned))
        .collect())
}

/// Where cargo builds this repository.
fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Runs commands in one shell, in a folder; the folder beside it, where the guide puts the
/// policy, is `beside`.
fn type_in(commands: &[String], beside: &Path) -> Result<String> {
    let root = root().canonicalize()?;
    std::fs::create_dir_all(target())?;
    let target = target().canonicalize()?;
    let script = commands
        .join("\n")
        .replace(
            "../my-policy",
            &beside.join("my-policy").display().to_string(),
        )
        .replace("$PWD/target", &target.display().to_string())
        .replace("cargo xtask demo", "cargo xtask demo --once");
    let output = Command::new("bash")
        .args(["-euxo", "pipefail", "-c", &script])
        .current_dir(root)
        // What the policy's tests are built with is then not built anew each time.
        .env("CARGO_TARGET_DIR", &target)
        .stdin(Stdio::null())
        .output()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    if !output.status.success() {
        bail!("{script}\nended with {}:\n{text}", output.status);
    }
    Ok(text)
}

#[test]
fn from_nothing_to_a_policy_at_work_in_five_commands() -> Result<()> {
    let commands = commands("In five commands")?;
    assert!(commands.len() <= 5, "{commands:?}");
    let folder = tempfile::tempdir()?;
    let text = type_in(&commands, folder.path())?;
    for words in [
        "the operator takes it",
        "was decided by the built-in policy",
        "my_policy.wasm again",
        "every item has succeeded",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    // The change that the guide proposes makes a policy, and fails the documented cases.
    let policy = folder.path().join("my-policy");
    let source = std::fs::read_to_string(policy.join("src/lib.rs"))?;
    let changed = source.replace(
        "(items[i].last_success, items[i].last_failure)",
        "items[i].last_duration",
    );
    assert_ne!(source, changed);
    std::fs::write(policy.join("src/lib.rs"), changed)?;
    let tried = type_in(
        &[
            "export PATH=\"$PWD/target/debug:$PATH\"".into(),
            "oaat-operator policy build ../my-policy".into(),
            "oaat-operator policy test ../my-policy/target/my_policy.wasm --cases ../my-policy/cases.yaml".into(),
        ],
        folder.path(),
    );
    let words = tried
        .err()
        .context("the documented cases pass")?
        .to_string();
    assert!(
        words.contains("the operator takes it") && words.contains("expected"),
        "{words}"
    );
    // Nothing of the repository was needed but what `policy new` copied.
    let manifest = std::fs::read_to_string(folder.path().join("my-policy/Cargo.toml"))?;
    assert!(!manifest.contains(&root().display().to_string()));
    Ok(())
}

/// A picture without the policy's sha256, which another compiler changes.
fn picture(svg: &str) -> String {
    let words = svg.split_inclusive(|c: char| !c.is_ascii_hexdigit());
    words.filter(|word| word.len() < 12).collect()
}

#[test]
fn the_picture_of_a_week_is_what_the_tools_draw() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let svg = folder.path().join("week.svg");
    let drawn = Command::new(oaat_tests::operator::binary(false)?)
        .current_dir(root())
        .args(["policy", "simulate", "default", "--scenario"])
        .arg("policy-tools/examples/home-lab.yaml")
        .arg("--svg")
        .arg(&svg)
        .output()?;
    assert!(drawn.status.success(), "{drawn:?}");
    let kept = std::fs::read_to_string(root().join("docs/week.svg"))?;
    assert!(
        picture(&std::fs::read_to_string(svg)?) == picture(&kept),
        "docs/week.svg is out of date; run: oaat-operator policy simulate default \
         --scenario policy-tools/examples/home-lab.yaml --svg docs/week.svg"
    );
    Ok(())
}
