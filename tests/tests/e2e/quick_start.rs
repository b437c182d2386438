//! The shortest complete use, and the README's quick start, unchanged.

use crate::fixture::{Fixture, condition, item};
use anyhow::{Context, Result};
use oaat_tests::{operator, readme};
use serde::Deserialize;
use serde_json::{Value, json};

#[tokio::test]
async fn items_of_a_group_run_one_after_the_other() -> Result<()> {
    let fixture = Fixture::new("first-slice").await?;
    fixture
        .work("echo working on $OAAT_ITEM; sleep 0.1", json!({}))
        .await?;
    fixture
        .group(&["a", "b"], json!({"frequency": "1h"}))
        .await?;
    let group = fixture
        .until("both items succeed", |g| {
            ["a", "b"]
                .iter()
                .all(|i| item(g, i)["lastSuccess"].is_string())
                && g["status"]["state"] == "Idle"
        })
        .await?;
    assert_eq!(group["status"]["run"], 2, "{group:#}");
    assert_eq!(fixture.node.runs().len(), 2);
    Ok(())
}

#[tokio::test]
async fn readme_quick_start_works_unchanged() -> Result<()> {
    let fixture = Fixture::new("quick-start").await?;
    let (type_, group) = readme::quick_start()?;
    // The API server accepts and checks it unchanged.
    fixture.apply(&type_).await?;
    fixture
        .until_object("OaatType", "oaattest", "the type is valid", |t| {
            condition(t, "Valid").0 == "True"
        })
        .await?;
    // Only its waiting time is shortened here.
    let hasty = type_.replace("shuf -i 10-180 -n 1", "echo 0");
    assert_ne!(type_, hasty, "the quick start's script has changed");
    fixture.apply(&hasty).await?;
    fixture.apply(&group).await?;
    fixture
        .until_object("OaatGroup", "testsimple-oaat", "both items succeed", |g| {
            ["item1", "item2"]
                .iter()
                .all(|i| item(g, i)["lastSuccess"].is_string())
        })
        .await?;

    let table = fixture.kubectl(&["get", "oaatgroup"]).await?;
    for column in [
        "NAME",
        "LASTRUN",
        "STATE",
        "CURRENTLYRUNNING",
        "NEXT",
        "MESSAGE",
        "AGE",
    ] {
        assert!(table.contains(column), "{table}");
    }
    let described = fixture
        .kubectl(&["describe", "og", "testsimple-oaat"])
        .await?;
    for word in ["item1", "Last Success", "History", "Succeeded", "Started"] {
        assert!(described.contains(word), "{word} in {described}");
    }
    // The label of an item's pods.
    let label = [
        "get",
        "pods",
        "-l",
        "oaat.kawaja.net/item=item1",
        "-o",
        "name",
    ];
    assert!(!fixture.kubectl(&label).await?.trim().is_empty());
    run_now_command_of_the_reference_is_processed(&fixture).await
}

/// Runs the command for a request to run items now from docs/reference.md.
async fn run_now_command_of_the_reference_is_processed(fixture: &Fixture) -> Result<()> {
    let reference = std::fs::read_to_string(operator::root().join("docs/reference.md"))?;
    let command = reference
        .lines()
        .find_map(|line| line.strip_prefix("$ kubectl annotate"))
        .context("docs/reference.md does not contain the command")?;
    let (words, value) = command
        .split_once('=')
        .context("the command has no annotation")?;
    let annotation = format!(
        "{}={}",
        words.split_whitespace().last().unwrap_or_default(),
        value.trim_matches('\'')
    );
    let mut args: Vec<&str> = words.split_whitespace().collect();
    args.pop();
    args.insert(0, "annotate");
    args.push(&annotation);
    // Items of the quick start fail at random, and may run again before.
    let before = fixture.read("testsimple-oaat").await?["status"]["run"].as_i64();
    fixture.kubectl(&args).await?;
    let group = fixture
        .until_object("OaatGroup", "testsimple-oaat", "both run again", |g| {
            g["status"]["runNow"]["done"] == true && g["status"]["current"].is_null()
        })
        .await?;
    let history = group["status"]["history"].as_array().cloned();
    let history = history.unwrap_or_default();
    let since = history.iter().filter(|run| run["run"].as_i64() > before);
    let mut since: Vec<_> = since.map(|run| run["item"].clone()).collect();
    since.reverse();
    assert_eq!(since[..2], [json!("item2"), json!("item1")], "{group:#}");

    // Newest first, each run with all its fields.
    let described = fixture
        .kubectl(&["describe", "og", "testsimple-oaat"])
        .await?;
    let mut rest = described.as_str();
    for run in &history {
        for (title, key) in [
            ("Exit Code", "exitCode"),
            ("Finished", "finished"),
            ("Item", "item"),
            ("Pod", "pod"),
            ("Reason", "reason"),
            ("Result", "result"),
            ("Run", "run"),
            ("Started", "started"),
        ] {
            let value = run[key]
                .as_str()
                .map_or_else(|| run[key].to_string(), str::to_owned);
            let line = rest
                .find(&format!("{title}: "))
                .with_context(|| format!("no {title} of {run} in {described}"))?;
            rest = &rest[line..];
            let told = rest.lines().next().unwrap_or_default();
            assert!(told.ends_with(&value), "{told}: {run} in {described}");
        }
    }
    // The events contain these sentences.
    for words in [
        "run 1 of item",
        "run 2 of item",
        "requested to run now: item2, item1",
    ] {
        assert!(rest.contains(words), "{words}: {described}");
    }
    Ok(())
}

#[test]
fn example_file_equals_the_readme_quick_start() -> Result<()> {
    let (type_, group) = readme::quick_start()?;
    let file = operator::root().join("manifests/examples/quick-start.yaml");
    let text = std::fs::read_to_string(file)?;
    let (_, text) = text
        .split_once('\n')
        .context("the file has no comment at the top")?;
    assert_eq!(text, format!("{type_}---\n{group}"));
    Ok(())
}

/// The pods that request lists by HTTP run the same image as the operator.
#[test]
fn deployment_uses_the_image_that_xtask_writes() -> Result<()> {
    let file = operator::root().join("manifests/02-oaat-operator-deployment.yaml");
    let text = std::fs::read_to_string(file)?;
    let objects = serde_norway::Deserializer::from_str(&text).map(Value::deserialize);
    let objects = objects.collect::<Result<Vec<_>, _>>()?;
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment");
    let container =
        &deployment.context("no Deployment")?["spec"]["template"]["spec"]["containers"][0];
    let image = format!("localhost/oaat-operator:{}", env!("CARGO_PKG_VERSION"));
    let env = container["env"].as_array().context("no environment")?;
    let variable = env.iter().find(|variable| variable["name"] == "OAAT_IMAGE");
    assert_eq!(container["image"], image);
    assert_eq!(variable.context("no OAAT_IMAGE")?["value"], image);
    Ok(())
}
