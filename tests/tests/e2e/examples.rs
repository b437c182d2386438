//! The files in manifests/examples, each applied and followed to its end. Then the commands run that
//! the documentation shows for them.

use crate::fixture::{Fixture, PATIENCE, condition, item};
use crate::helpers::{history, state};
use crate::items::web;
use crate::verdicts::command_line;
use anyhow::{Context, Result, ensure};
use futures::future::{join_all, try_join_all};
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use oaat_tests::NodeOptions;
use oaat_tests::console::{self, Documented, Marker};
use oaat_tests::operator::root;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};
use tokio::process::Command;
use tokio::time::sleep;

/// The programs that pods find instead of those of their images.
const PROGRAMS: [&str; 8] = [
    "kubectl",
    "mysqldump",
    "pg_dump",
    "psql",
    "rclone",
    "restic",
    "vacuumdb",
    "wget",
];
/// The images whose program starts without a command.
const IMAGES: [(&str, &str); 2] = [("restic/restic", "restic"), ("rclone/rclone", "rclone")];

/// How an example ends: an entry of examples.yaml.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    groups: BTreeMap<String, GroupEnd>,
    #[serde(default)]
    says: Vec<String>,
    #[serde(default)]
    reasons: BTreeMap<String, String>,
    pods: Option<usize>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    replace: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupEnd {
    state: Option<String>,
    /// The items, by state.
    items: BTreeMap<String, Vec<String>>,
}

impl GroupEnd {
    fn is_reached(&self, group: &Value) -> bool {
        let status = group["status"]["items"].as_object();
        let known: BTreeSet<_> = status.into_iter().flatten().map(|(name, _)| name).collect();
        let expected: BTreeSet<_> = self.items.values().flatten().collect();
        let state_is_reached = self.state.as_deref().is_none_or(|s| s == state(group));
        let items_are = |(state, names): (&String, &Vec<String>)| {
            names.iter().all(|name| {
                let item = item(group, name);
                match state.as_str() {
                    "Succeeded" => item["lastSuccess"].is_string(),
                    "Failed" => item["lastFailure"].is_string(),
                    // Without a success, an item may also be Fresh: it was not evaluated yet.
                    "Fresh" => item["state"] == "Fresh" && item["lastSuccess"].is_string(),
                    state => item["state"] == state,
                }
            })
        };
        // A suspended group may list its items or not.
        let items_are_known = expected.is_empty() || known == expected;
        state_is_reached && items_are_known && self.items.iter().all(items_are)
    }
}

/// A file in manifests/examples.
struct Example {
    file: String,
    text: String,
    end: End,
}

/// Reads the examples. Fails if a file has no entry in examples.yaml, or an entry has no file.
fn examples() -> Result<Vec<Example>> {
    let mut ends: BTreeMap<String, End> = serde_norway::from_str(include_str!("examples.yaml"))?;
    let mut examples = Vec::new();
    for entry in std::fs::read_dir(root().join("manifests/examples"))? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let file = file.into_owned();
        let end = ends.remove(&file);
        let end = end.with_context(|| format!("examples.yaml has no entry for {file}"))?;
        let text = std::fs::read_to_string(&path)?;
        ensure!(
            text.starts_with("# ") && text.contains("Expect: "),
            "{file} does not begin with a comment that says what to expect"
        );
        examples.push(Example { file, text, end });
    }
    let without_file: Vec<_> = ends.keys().collect();
    ensure!(without_file.is_empty(), "no such files: {without_file:?}");
    ensure!(examples.len() >= 25, "{} examples", examples.len());
    Ok(examples)
}

/// Creates the programs of the pods in a folder.
fn install_programs(folder: &Path) -> Result<()> {
    let script = root().join("tests/data/programs.sh").canonicalize()?;
    for program in PROGRAMS {
        symlink(&script, folder.join(program))?;
    }
    Ok(())
}

async fn fixture(example: &Example, programs: &Path) -> Result<Fixture> {
    let name = format!("example-{}", example.file.trim_end_matches(".yaml"));
    let entry_points = IMAGES.map(|(image, program)| (image.to_owned(), programs.join(program)));
    let options = NodeOptions {
        labels: [("example.com/backup".to_owned(), "true".to_owned())].into(),
        entry_points: entry_points.into(),
        programs: Some(programs.to_owned()),
        ..NodeOptions::default()
    };
    Fixture::with_node(&name, options).await
}

/// Applies an example, and follows it to its end.
async fn follow(example: &Example, fixture: &Fixture, web_port: u16) -> Result<()> {
    let end = &example.end;
    for (name, value) in &end.labels {
        let label = format!("{name}={value}");
        fixture
            .kubectl(&["label", "namespace", &fixture.namespace, &label])
            .await?;
    }
    let mut text = example.text.clone();
    if end.replace.is_empty() {
        let file = root().join("manifests/examples").join(&example.file);
        let file = file.display().to_string();
        fixture
            .kubectl(&["apply", "--validate=strict", "-f", &file])
            .await?;
    } else {
        for (from, to) in &end.replace {
            ensure!(text.contains(from), "the text {from:?} is missing");
            text = text.replace(from, &to.replace("WEB", &web_port.to_string()));
        }
        fixture.apply(&text).await?;
    }
    for (name, end) in &end.groups {
        let accepted = |g: &Value| {
            g["status"]["observedGeneration"] == g["metadata"]["generation"]
                && condition(g, "Ready").1 != "SpecInvalid"
        };
        let group = fixture
            .until_object("OaatGroup", name, "it is accepted", accepted)
            .await?;
        if let Some(patch) = time_of_day_patch(&group["spec"], Timestamp::now()) {
            let patch = patch.to_string();
            fixture
                .kubectl(&["patch", "og", name, "--type=merge", "-p", &patch])
                .await?;
        }
        let reached = |group: &Value| end.is_reached(group);
        let group = fixture
            .until_object("OaatGroup", name, "it has ended", reached)
            .await?;
        for (item, reason) in &example.end.reasons {
            let runs = history(&group);
            let latest = runs.iter().find(|run| run["item"] == *item);
            ensure!(
                latest.is_some_and(|run| run["reason"] == *reason),
                "{group:#}"
            );
        }
    }
    if let Some(expected) = end.pods {
        while fixture.list_pods().await?.len() > expected {
            sleep(Duration::from_millis(100)).await;
        }
    }
    let logs = logs(fixture)?;
    for words in &end.says {
        ensure!(logs.contains(words), "no pod printed {words:?}:\n{logs}");
    }
    Ok(())
}

/// Returns a patch that makes a group independent of the time of day; `None` if nothing depends on it.
/// The patch removes blackout windows, because one may be open now. It replaces each schedule with a
/// daily one that is next due in 12 hours, so that no item becomes due during the test.
fn time_of_day_patch(spec: &Value, now: Timestamp) -> Option<Value> {
    let later = now.to_zoned(TimeZone::UTC) + SignedDuration::from_hours(12);
    let cron = format!("{} {} * * *", later.minute(), later.hour());
    let schedule = json!({ "cron": cron, "timeZone": "UTC" });
    let mut patch = Map::new();
    if spec["blackoutWindows"].is_array() {
        patch.insert("blackoutWindows".to_owned(), Value::Null);
    }
    if spec["schedule"].is_object() {
        patch.insert("schedule".to_owned(), schedule.clone());
    }
    let options = spec["itemOptions"].as_object().into_iter().flatten();
    let options: Map<_, _> = options
        .filter(|(_, options)| options["schedule"].is_object())
        .map(|(item, _)| (item.clone(), json!({ "schedule": schedule })))
        .collect();
    if !options.is_empty() {
        patch.insert("itemOptions".to_owned(), Value::Object(options));
    }
    (!patch.is_empty()).then(|| json!({ "spec": patch }))
}

/// Returns the logs of all pods that ran on the node, including those that were deleted.
fn logs(fixture: &Fixture) -> Result<String> {
    let file = fixture
        .node
        .log_path(&fixture.namespace, "pod", "container");
    let folder = file.parent().and_then(Path::parent).context("no folder")?;
    let mut logs = String::new();
    for pod in std::fs::read_dir(folder).into_iter().flatten() {
        for file in std::fs::read_dir(pod?.path())? {
            logs.push_str(&std::fs::read_to_string(file?.path())?);
        }
    }
    Ok(logs)
}

/// Runs the commands that the documentation shows for an example, and compares the output with the
/// output that it shows.
async fn run_documented(example: &Example, fixture: &Fixture) -> Result<usize> {
    let mut count = 0;
    for block in console::blocks()? {
        if block.marker != Some(Marker::RunAfter(example.file.clone())) {
            continue;
        }
        for command in block.commands() {
            run_until_output_matches(&command, fixture)
                .await
                .with_context(|| block.page.clone())?;
            count += 1;
        }
    }
    Ok(count)
}

/// Runs a documented command, and checks its output. Retries a read-only command until the output
/// matches: after a change to a type, for example, a group briefly reports that the type is being
/// checked.
async fn run_until_output_matches(command: &Documented, fixture: &Fixture) -> Result<()> {
    let began = Instant::now();
    loop {
        let output = fixture.type_in(&command.text).await?;
        let output = output.replace(&fixture.namespace, "default");
        // Shown if the test fails.
        println!("$ {}\n{output}", command.text);
        let mut lines = command.output.iter();
        let Some(missing) = lines.find_map(|line| console::missing_word(line, &output)) else {
            return Ok(());
        };
        ensure!(
            is_read_only(&command.text) && began.elapsed() < PATIENCE,
            "{} does not print {missing:?}:\n{output}",
            command.text
        );
        sleep(Duration::from_secs(1)).await;
    }
}

/// Returns whether a command changes nothing and can be retried.
fn is_read_only(command: &str) -> bool {
    let arguments = command.strip_prefix("kubectl oaat ");
    let subcommand = arguments.and_then(|arguments| arguments.split(' ').next());
    matches!(
        subcommand,
        Some("history" | "logs" | "next" | "status" | "why")
    )
}

#[tokio::test]
async fn examples_run_to_their_ends_and_their_documented_commands_work() -> Result<()> {
    let examples = examples()?;
    let mut validate = Command::new(command_line().await?);
    validate.arg("validate");
    for example in &examples {
        validate
            .arg("-f")
            .arg(root().join("manifests/examples").join(&example.file));
    }
    let validated = validate.output().await?;
    let problems = String::from_utf8_lossy(&validated.stdout);
    ensure!(validated.status.success(), "{problems}");

    let programs = tempfile::tempdir()?;
    install_programs(programs.path())?;
    let (server, web_port) = web(None).await?;
    let sites = json!({ "sites": [{ "host": "example.com" }, { "host": "example.org" }] });
    server.lock().unwrap_or_else(PoisonError::into_inner).says =
        (200, Vec::new(), sites.to_string());
    let fixtures = examples
        .iter()
        .map(|example| fixture(example, programs.path()));
    let mut fixtures = try_join_all(fixtures).await?;
    // One operator for all examples.
    let namespaces: Vec<_> = fixtures
        .iter()
        .map(|fixture| fixture.namespace.clone())
        .collect();
    let first = fixtures.first_mut().context("no fixture")?;
    first.options.namespaces = namespaces;
    first.start_operator().await?;
    let ends = examples
        .iter()
        .zip(&fixtures)
        .map(|(example, fixture)| async move {
            let end = async {
                follow(example, fixture, web_port).await?;
                run_documented(example, fixture).await
            };
            end.await.with_context(|| example.file.clone())
        });
    let ends = join_all(ends).await;
    let (mut commands, mut failed) = (0, Vec::new());
    for end in ends {
        match end {
            Ok(count) => commands += count,
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    ensure!(
        commands >= 25,
        "only {commands} commands of the documentation ran"
    );
    Ok(())
}
