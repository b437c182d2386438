//! The thinnest slice of the whole, and the README's quick start as it stands there.

use crate::world::{World, condition, item};
use anyhow::{Context, Result};
use oaat_tests::{operator, readme};
use serde::Deserialize;
use serde_json::{Value, json};

#[tokio::test]
async fn the_items_of_a_group_run_one_after_the_other() -> Result<()> {
    let world = World::new("first-slice").await?;
    world
        .work("echo working on $OAAT_ITEM; sleep 0.1", json!({}))
        .await?;
    world.group(&["a", "b"], json!({"frequency": "1h"})).await?;
    let group = world
        .until("both items succeed", |g| {
            ["a", "b"]
                .iter()
                .all(|i| item(g, i)["lastSuccess"].is_string())
                && g["status"]["state"] == "Idle"
        })
        .await?;
    assert_eq!(group["status"]["run"], 2, "{group:#}");
    assert_eq!(world.node.runs().len(), 2);
    Ok(())
}

#[tokio::test]
async fn the_readmes_quick_start_works_as_it_stands_there() -> Result<()> {
    let world = World::new("quick-start").await?;
    let (type_, group) = readme::quick_start()?;
    // Word for word it is accepted, and checked by the API server.
    world.apply(&type_).await?;
    world
        .until_object("OaatType", "oaattest", "the type is valid", |t| {
            condition(t, "Valid").0 == "True"
        })
        .await?;
    // Only its patience is cut short here.
    let hasty = type_.replace("shuf -i 10-180 -n 1", "echo 0");
    assert_ne!(type_, hasty, "the quick start's script has changed");
    world.apply(&hasty).await?;
    world.apply(&group).await?;
    world
        .until_object("OaatGroup", "testsimple-oaat", "both items succeed", |g| {
            ["item1", "item2"]
                .iter()
                .all(|i| item(g, i)["lastSuccess"].is_string())
        })
        .await?;

    let table = world.kubectl(&["get", "oaatgroup"]).await?;
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
    let described = world
        .kubectl(&["describe", "og", "testsimple-oaat"])
        .await?;
    for word in ["item1", "Last Success", "History", "Succeeded", "Started"] {
        assert!(described.contains(word), "{word} in {described}");
    }
    // The line by which the README finds an item's output.
    let label = [
        "get",
        "pods",
        "-l",
        "oaat.kawaja.net/item=item1",
        "-o",
        "name",
    ];
    assert!(!world.kubectl(&label).await?.trim().is_empty());
    the_request_of_the_reference_is_processed(&world).await
}

/// Runs the command for a request to run items now from docs/reference.md.
async fn the_request_of_the_reference_is_processed(world: &World) -> Result<()> {
    let reference = std::fs::read_to_string(operator::root().join("docs/reference.md"))?;
    let command = reference
        .lines()
        .find_map(|line| line.strip_prefix("$ kubectl annotate"))
        .context("docs/reference.md has no such command")?;
    let (words, value) = command.split_once('=').context("no annotation in it")?;
    let annotation = format!(
        "{}={}",
        words.split_whitespace().last().unwrap_or_default(),
        value.trim_matches('\'')
    );
    let mut args: Vec<&str> = words.split_whitespace().collect();
    args.pop();
    args.insert(0, "annotate");
    args.push(&annotation);
    // (Items of the quick start fail by chance, and may run again by themselves before.)
    let before = world.read("testsimple-oaat").await?["status"]["run"].as_i64();
    world.kubectl(&args).await?;
    let group = world
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

    // Newest first, each run with all that is known of it.
    let described = world
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
    // And the events tell it in sentences.
    for words in [
        "run 1 of item",
        "run 2 of item",
        "requested to run now: item2, item1",
    ] {
        assert!(rest.contains(words), "{words}: {described}");
    }
    Ok(())
}

#[tokio::test]
async fn the_examples_are_accepted_and_their_types_are_valid() -> Result<()> {
    let world = World::new("examples").await?;
    let folder = operator::root().join("manifests/examples");
    let mut types = 0;
    for entry in std::fs::read_dir(&folder)? {
        let text = std::fs::read_to_string(entry?.path())?;
        world.apply(&text).await?;
        for document in text.split("\n---\n") {
            let object: serde_json::Value = serde_norway::from_str(document)?;
            if object["kind"] != "OaatType" {
                continue;
            }
            types += 1;
            let name = object["metadata"]["name"]
                .as_str()
                .context("a type without a name")?;
            world
                .until_object("OaatType", name, "the type is valid", |t| {
                    condition(t, "Valid").0 == "True"
                })
                .await?;
        }
    }
    assert_eq!(types, 7);
    Ok(())
}

#[test]
fn the_example_file_is_the_readmes_quick_start() -> Result<()> {
    let (type_, group) = readme::quick_start()?;
    let file = operator::root().join("manifests/examples/quick-start.yaml");
    let text = std::fs::read_to_string(file)?;
    let (_, text) = text.split_once('\n').context("no comment on top")?;
    assert_eq!(text, format!("{type_}---\n{group}"));
    Ok(())
}

/// The pods that ask web servers run the same image as the operator.
#[test]
fn the_deployment_names_the_image_that_xtask_writes() -> Result<()> {
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
