//! An API server that rejects pods or is down, and types with a node name.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use oaat_tests::real_node;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::sleep;

use crate::fixture::{
    Fixture, JOURNAL, PATIENCE, WAIT_AT_BARRIER, alternating, history, item, only_run, text,
};

/// A quota without room pauses the group, and no item fails. The group continues when there is room.
pub async fn exceeded_quota_pauses_the_group_and_fails_no_item(fixture: Fixture) -> Result<()> {
    fixture.work("true", json!({})).await?;
    let quotas: Api<ResourceQuota> = Api::namespaced(fixture.client.clone(), &fixture.namespace);
    let quota = serde_json::from_value(json!({
        "metadata": { "name": "none" }, "spec": { "hard": { "pods": "0" } },
    }))?;
    until_type_is_valid(&fixture).await?;
    quotas.create(&PostParams::default(), &quota).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    let group = fixture
        .until("a pod is rejected", |g| g["status"]["rejected"].is_object())
        .await?;
    ensure!(
        text(&group["status"]["message"]).contains("exceeded quota: none"),
        "{group:#}"
    );
    ensure!(history(&group).is_empty(), "{group:#}");
    quotas.delete("none", &DeleteParams::default()).await?;
    fixture
        .until("an item succeeds", |g| {
            ["a", "b"]
                .iter()
                .any(|name| item(g, name)["lastSuccess"].is_string())
        })
        .await?;
    Ok(())
}

/// The pods of a type with `nodeName` run on that node, although a gated pod must not have one.
pub async fn type_with_a_node_name_runs_on_that_node(fixture: Fixture) -> Result<()> {
    let node = json!({ "nodeName": real_node::NAME });
    fixture.work("true", node).await?;
    fixture.group(&["a"], json!({})).await?;
    let group = fixture.until_runs("a", 1).await?;
    let run = only_run(&group)?;
    ensure!(text(&run["result"]) == "Succeeded", "{run:#}");
    let pod = fixture.pods().get(&text(&run["pod"])).await?;
    let on = pod.spec.and_then(|spec| spec.node_name);
    ensure!(on.as_deref() == Some(real_node::NAME), "{on:?}");
    Ok(())
}

/// A process that ignores SIGTERM and outlives its deadline prevents the next run until it is
/// killed. It is one failure.
pub async fn process_that_ignores_sigterm_past_its_deadline_prevents_the_next_start(
    fixture: Fixture,
) -> Result<()> {
    let deaf = format!("trap '' TERM; {JOURNAL}; start; {WAIT_AT_BARRIER}; end");
    // Time for a slow node to start the container.
    let more = json!({ "activeDeadlineSeconds": 6, "terminationGracePeriodSeconds": 5 });
    fixture.work(&deaf, more).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    let group = fixture
        .until("the first run has ended", |g| !history(g).is_empty())
        .await?;
    let run = history(&group)[0].clone();
    ensure!(text(&run["reason"]) == "DeadlineExceeded", "{run:#}");
    fixture
        .until("the second run has ended", |g| history(g).len() == 2)
        .await?;
    let journal = fixture.journal();
    ensure!(
        journal.len() == 2 && journal.iter().all(|line| line.starts_with("start ")),
        "both were killed: {journal:?}"
    );
    ensure!(fixture.witness.opened()?.len() == 2);
    Ok(())
}

/// The API server is down while a container runs and ends. Only that end is counted.
pub async fn unreachable_api_server_counts_no_failure(fixture: Fixture) -> Result<()> {
    fixture
        .work(
            &format!("{JOURNAL}; start; {WAIT_AT_BARRIER}; end"),
            json!({}),
        )
        .await?;
    fixture.group(&["a", "b"], json!({})).await?;
    let first = fixture.until_running().await?;
    let plane = &fixture.shared.plane;
    plane.stop_api_server().await;
    fixture.release_barrier()?;
    let start = Instant::now();
    while fixture.journal().len() < 2 {
        ensure!(start.elapsed() < PATIENCE, "the container does not end");
        sleep(Duration::from_millis(100)).await;
    }
    sleep(Duration::from_secs(10)).await;
    plane.start_api_server().await?;
    let group = fixture
        .until("both have run", |g| history(g).len() == 2)
        .await?;
    for run in history(&group) {
        ensure!(text(&run["result"]) == "Succeeded", "{run:#}");
    }
    ensure!(alternating(&fixture.journal())?.first() == Some(&first));
    fixture.shared.node.until_ready(plane).await
}

async fn until_type_is_valid(fixture: &Fixture) -> Result<()> {
    let start = Instant::now();
    loop {
        let object: Value = serde_json::to_value(fixture.api("OaatType").get("work").await?)?;
        let conditions = object["status"]["conditions"].as_array();
        let valid = |c: &Value| c["type"] == "Valid" && c["status"] == "True";
        if conditions.is_some_and(|all| all.iter().any(valid)) {
            return Ok(());
        }
        ensure!(start.elapsed() < PATIENCE, "not valid: {object:#}");
        sleep(Duration::from_millis(100)).await;
    }
}
