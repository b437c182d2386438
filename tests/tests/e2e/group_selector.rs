//! Operators that reconcile only the groups that a label selector selects.

use crate::fixture::{Fixture, PATIENCE, item};
use crate::helpers::{Barrier, phase};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::time::timeout;

/// Creates a group with this value of the label `team`.
async fn group(fixture: &Fixture, name: &str, team: &str, spec: &Value) -> Result<()> {
    let group = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": name, "labels": { "team": team } }, "spec": spec,
    });
    fixture.apply(&group.to_string()).await?;
    Ok(())
}

async fn relabel(fixture: &Fixture, name: &str, team: &str) -> Result<()> {
    let label = format!("team={team}");
    let args = ["label", "--overwrite", "oaatgroup", name, &label];
    fixture.kubectl(&args).await?;
    Ok(())
}

/// Waits until a group has run at least `runs` times.
async fn until_runs(fixture: &Fixture, name: &str, runs: i64) -> Result<Value> {
    let has_run = |group: &Value| group["status"]["run"].as_i64() >= Some(runs);
    fixture
        .until_object("OaatGroup", name, "it has run", has_run)
        .await
}

#[tokio::test]
async fn only_selected_groups_run() -> Result<()> {
    let mut fixture = Fixture::without_operator("selector").await?;
    fixture.options.more = vec!["--group-selector".into(), "team in (a)".into()];
    fixture.start_operator().await?;
    fixture.work("true", json!({})).await?;
    let spec = json!({ "oaatType": "work", "oaatItems": ["i"], "frequency": "300ms" });
    group(&fixture, "other", "b", &spec).await?;
    group(&fixture, "selected", "a", &spec).await?;
    until_runs(&fixture, "selected", 3).await?;
    let other = fixture.read("other").await?;
    ensure!(other["status"].is_null(), "{other:#}");
    relabel(&fixture, "other", "a").await?;
    until_runs(&fixture, "other", 2).await?;
    Ok(())
}

#[tokio::test]
async fn pod_of_a_group_that_is_no_longer_selected_continues() -> Result<()> {
    let mut fixture = Fixture::without_operator("selector-pod").await?;
    fixture.options.more = vec!["--group-selector".into(), "team=a".into()];
    fixture.start_operator().await?;
    let barrier = Barrier::new()?;
    let script = format!("[ $OAAT_ITEM = short ] || {}", barrier.wait());
    fixture.work(&script, json!({})).await?;
    let spec =
        |item: &str| json!({ "oaatType": "work", "oaatItems": [item], "frequency": "300ms" });
    group(&fixture, "group", "a", &spec("long")).await?;
    let pod = fixture.until_running().await?;
    let pod = pod.metadata.name.context("no name")?;
    relabel(&fixture, "group", "b").await?;
    group(&fixture, "selected", "a", &spec("short")).await?;
    until_runs(&fixture, "selected", 3).await?;
    let running = fixture.pods().get(&pod).await?;
    ensure!(phase(&running) == "Running", "{running:#?}");
    barrier.release()?;
    fixture
        .until_pod(&pod, "ends", |pod| phase(pod) == "Succeeded")
        .await?;
    let runs = fixture.read("selected").await?["status"]["run"].as_i64();
    until_runs(&fixture, "selected", runs.unwrap_or(0) + 3).await?;
    let group = fixture.read("group").await?;
    ensure!(group["status"]["current"].is_object(), "{group:#}");
    relabel(&fixture, "group", "a").await?;
    fixture
        .until("the run is recorded", |group| {
            item(group, "long")["lastSuccess"].is_string()
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn invalid_selector_is_rejected_at_the_start() -> Result<()> {
    let mut fixture = Fixture::without_operator("selector-bad").await?;
    fixture.options.more = vec!["--group-selector".into(), "team in a".into()];
    fixture.start_operator().await?;
    let operator = fixture.operator();
    let ended = timeout(PATIENCE, operator.process().wait()).await;
    let ended = ended.with_context(|| operator.log())?;
    ensure!(ended.code() == Some(1), "{ended}\n{}", operator.log());
    let words = r#"--group-selector: "team in a" is not a label selector: "#;
    ensure!(operator.log().contains(words), "{}", operator.log());
    Ok(())
}
