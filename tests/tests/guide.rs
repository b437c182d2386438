//! The commands of docs/policies.md, as a new user runs them.

use anyhow::{Context, Result, bail};
use oaat_tests::operator::root;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Returns the commands of the first console block below a heading.
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

/// Returns the target folder of this repository.
fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Runs commands in one shell, in a folder. `beside` is the folder next to it, where the guide
/// creates the policy.
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
    let mut shell = Command::new("bash");
    control_plane::remove_package_variables(&mut shell);
    let output = shell
        .args(["-euxo", "pipefail", "-c", &script])
        .current_dir(root)
        // Avoids a rebuild of the policy's dependencies for each test.
        .env("CARGO_TARGET_DIR", &target)
        .stdin(Stdio::null())
        .output()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    if !output.status.success() {
        bail!("{script}\nexited with {}:\n{text}", output.status);
    }
    Ok(text)
}

#[test]
fn guide_commands_create_a_policy_and_put_it_into_use() -> Result<()> {
    let commands = commands("In five commands")?;
    assert!(commands.len() <= 5, "{commands:?}");
    let folder = tempfile::tempdir()?;
    let text = type_in(&commands, folder.path())?;
    for words in [
        "the operator accepts it",
        "ConfigMap demo-policy has ",
        "the built-in policy selected run",
        "my_policy.wasm again",
        "every item has succeeded",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    let policy = folder.path().join("my-policy");
    let guide = std::fs::read_to_string(root().join("docs/policies.md"))?;
    let source = std::fs::read_to_string(policy.join("src/lib.rs"))?;
    // The change in the guide is a valid policy that fails the documented cases.
    let (_, change) = guide
        .split_once("with the shortest runs")
        .and_then(|(_, rest)| rest.split_once("```rust\n"))
        .context("no change of the rank")?;
    let (change, _) = change.split_once("```").context("the block has no end")?;
    std::fs::write(policy.join("src/lib.rs"), with_lines(&source, change)?)?;
    let path = "export PATH=\"$PWD/target/debug:$PATH\"".to_owned();
    let simulate = [&[path.clone()][..], &simulation_commands()?].concat();
    let cases = "kubectl-oaat policy test ../my-policy/target/my_policy.wasm --cases ../my-policy/cases.yaml";
    let text = type_in(&simulate, folder.path())?;
    assert!(text.contains("the operator accepts it") && !text.contains("starved"));
    let tried = type_in(&[path, cases.into()], folder.path());
    let words = tried
        .err()
        .context("the documented cases pass")?
        .to_string();
    assert!(words.contains("expected"), "{words}");
    // The simulation finds the starvation that the guide shows.
    let short = change.replace(
        "(items[i].failures, items[i].last_duration)",
        "items[i].last_duration",
    );
    assert_ne!(short, change);
    std::fs::write(policy.join("src/lib.rs"), with_lines(&source, &short)?)?;
    let text = type_in(&simulate, folder.path())?;
    let starved: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("starved"))
        .collect();
    assert_eq!(starved.len(), 2, "{text}");
    assert!(guide.contains(&starved.join("\n")), "{starved:?}");
    settings_of_the_sdk_are_small(&policy, &source)?;
    // The policy needs nothing of the repository except what `policy new` copied.
    let manifest = std::fs::read_to_string(folder.path().join("my-policy/Cargo.toml"))?;
    assert!(!manifest.contains(&root().display().to_string()));
    Ok(())
}

/// Returns the commands of the section on starvation.
fn simulation_commands() -> Result<Vec<String>> {
    commands("Find starvation")
}

/// Replaces the lines of a source that begin with the same two words as the given ones.
fn with_lines(source: &str, change: &str) -> Result<String> {
    let mut lines: Vec<_> = source.lines().collect();
    for new in change.lines() {
        let words = |line: &str| {
            let mut words = line.split_whitespace().map(str::to_owned);
            (words.next(), words.next())
        };
        let old = lines.iter_mut().find(|line| words(line) == words(new));
        *old.with_context(|| format!("no line to replace with {new:?}"))? = new;
    }
    Ok(lines.join("\n"))
}

/// Checks what the guide says about the size of `policy_sdk::settings`.
fn settings_of_the_sdk_are_small(policy: &Path, source: &str) -> Result<()> {
    let (before, rest) = source.split_once("    fn validate(").context("no check")?;
    let (_, after) = rest
        .split_once("policy_sdk::export_policy!")
        .context("no end")?;
    let parse = "    fn validate(settings: &str, items: &[ItemSettings]) -> Result<(), String> {
        let mut settings = policy_sdk::settings::Settings::parse(settings)?;
        settings.string(\"string\")?;
        settings.integer(\"integer\", 0..=10)?;
        settings.boolean(\"boolean\")?;
        settings.thousandths(\"thousandths\", 0..=10)?;
        for item in items {
            policy_sdk::settings::Settings::parse(&item.settings)?.finish()?;
        }
        settings.finish()
    }
}

";
    let size = |source: String| -> Result<u64> {
        std::fs::write(policy.join("src/lib.rs"), source)?;
        policy_build::build(policy, &policy.join("target/policies"))
            .map(|wasm| Ok(wasm.len() as u64))?
    };
    let with = size(format!("{before}{parse}policy_sdk::export_policy!{after}"))?;
    let without = size(source.to_owned())?;
    let more = with - without;
    assert!(
        (10_000..17_000).contains(&more),
        "{without} and {more} bytes"
    );
    Ok(())
}

/// Returns a picture without the policy's sha256, which depends on the compiler.
fn picture(svg: &str) -> String {
    let words = svg.split_inclusive(|c: char| !c.is_ascii_hexdigit());
    words.filter(|word| word.len() < 12).collect()
}

#[test]
fn guide_picture_of_a_week_matches_the_tools() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let svg = folder.path().join("week.svg");
    let drawn = Command::new(oaat_tests::operator::command_line()?)
        .current_dir(root())
        .args(["policy", "simulate", "default", "--scenario"])
        .arg("cli/examples/home-lab.yaml")
        .arg("--svg")
        .arg(&svg)
        .output()?;
    assert!(drawn.status.success(), "{drawn:?}");
    let kept = std::fs::read_to_string(root().join("docs/week.svg"))?;
    assert!(
        picture(&std::fs::read_to_string(svg)?) == picture(&kept),
        "docs/week.svg is out of date; run: kubectl-oaat policy simulate default \
         --scenario cli/examples/home-lab.yaml --svg docs/week.svg"
    );
    Ok(())
}

/// Reads a file of this repository, without its tests.
fn source(path: &str) -> Result<String> {
    let text = std::fs::read_to_string(root().join(path)).with_context(|| path.to_owned())?;
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    Ok(code.to_owned())
}

/// Returns every quoted text that follows `before`.
fn quoted(code: &str, before: &str) -> BTreeSet<String> {
    let behind = code.split(before).skip(1);
    let words = behind.filter_map(|rest| rest.split_once('"'));
    words.map(|(word, _)| word.to_owned()).collect()
}

/// Returns the first and the last column of the tables between two places in the guide.
fn table(guide: &str, from: &str, to: &str) -> Result<Vec<(String, String)>> {
    let (_, rest) = guide
        .split_once(from)
        .with_context(|| format!("no {from:?}"))?;
    let (part, _) = rest.split_once(to).with_context(|| format!("no {to:?}"))?;
    let rows = part.lines().filter(|line| line.starts_with("| "));
    let cells = rows.map(|line| line.trim_matches('|').split(" | ").collect::<Vec<_>>());
    let cells = cells.filter(|cells| cells.iter().any(|cell| !cell.trim().is_empty()));
    Ok(cells
        .map(|cells| {
            let cell = |cell: Option<&&str>| cell.map_or("", |cell| cell.trim()).to_owned();
            (cell(cells.first()), cell(cells.last()))
        })
        .collect())
}

/// Returns the reasons in a table, and checks that each row says what to do.
fn reasons(guide: &str, from: &str, to: &str) -> Result<BTreeSet<String>> {
    let rows = table(guide, from, to)?;
    let rows = rows.into_iter().filter(|(name, _)| name.starts_with('`'));
    Ok(rows
        .map(|(name, what_to_do)| {
            assert!(what_to_do.len() > 5, "{name}: {what_to_do:?}");
            name.trim_matches('`').to_owned()
        })
        .collect())
}

#[test]
fn guide_lists_exactly_the_reasons_of_the_operator() -> Result<()> {
    let guide = std::fs::read_to_string(root().join("docs/policies.md"))?;
    let function = |code: &str| {
        let (_, rest) = code.split_once("pub fn reason").unwrap_or_default();
        rest.split("\n    }\n")
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let mut before = quoted(
        &function(&source("crates/policy-host/src/load.rs")?),
        "=> \"",
    );
    let code = source("operator/src/policy_source.rs")?;
    let constants = code.split("policy_ready::").skip(1);
    before.extend(
        constants
            .filter_map(|rest| {
                rest.split(|c: char| !c.is_ascii_uppercase() && c != '_')
                    .next()
            })
            .map(camel_case),
    );
    assert!(before.contains("SourceNotFound"));
    assert!(before.contains("CompileTimeout") && before.contains("Malformed"));
    assert_eq!(
        reasons(
            &guide,
            "### Before a component may decide",
            "### While a component decides",
        )?,
        before
    );
    let while_it_decides = quoted(
        &function(&source("crates/policy-host/src/eval_error.rs")?),
        "=> \"",
    );
    assert_eq!(
        reasons(
            &guide,
            "### While a component decides",
            "### Clear the state",
        )?,
        while_it_decides
    );
    Ok(())
}

/// Returns the reason with this constant: `TOO_LARGE` is `TooLarge`.
fn camel_case(constant: &str) -> String {
    let words = constant.split('_');
    words
        .map(|word| word[..1].to_owned() + &word[1..].to_lowercase())
        .collect()
}

/// Formats a number as the guide does.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .filter_map(|group| std::str::from_utf8(group).ok())
        .collect();
    groups.join(",")
}

#[test]
fn guide_has_the_limits_of_the_operator() -> Result<()> {
    let guide = std::fs::read_to_string(root().join("docs/policies.md"))?;
    let limits = policy_host::Limits::default();
    let mib = |bytes: usize| format!("{} MiB", bytes >> 20);
    let kib = |bytes: usize| format!("{} KiB", bytes >> 10);
    let expected = [
        ("component", vec![mib(limits.component)]),
        (
            "fuel",
            vec![thousands(limits.fuel), thousands(limits.fuel_per_item)],
        ),
        ("time", vec![format!("{} ms", limits.deadline.as_millis())]),
        (
            "memory",
            vec![mib(limits.memory), thousands(limits.table_elements as u64)],
        ),
        ("stack", vec![kib(limits.stack)]),
        ("answer", vec![mib(limits.answer)]),
        (
            "log",
            vec![format!("{} lines", limits.log_lines), kib(limits.log_bytes)],
        ),
    ];
    let rows = table(
        &guide,
        "\n## Limits\n",
        "The operator evaluates at most two policies",
    )?;
    for (name, figures) in expected {
        let row = rows.iter().find(|(first, _)| first.starts_with(name));
        let (_, says) = row.with_context(|| format!("no row {name}"))?;
        for figure in figures {
            assert!(says.contains(&figure), "{name}: {says} lacks {figure}");
        }
    }
    // The limits of an answer are constants of the host.
    let answer = source("crates/policy-host/src/answer.rs")?;
    let (_, says) = rows
        .iter()
        .find(|(first, _)| first == "answer")
        .context("no row answer")?;
    for constant in ["NOTE", "MAX_STATE"] {
        let (_, rest) = answer
            .split_once(&format!("const {constant}: usize = "))
            .context("the constant is missing")?;
        let number: u64 = rest.split(';').next().unwrap_or_default().parse()?;
        let figure = format!("{} bytes", thousands(number));
        assert!(says.contains(&figure), "{says} lacks {figure}");
    }
    Ok(())
}
