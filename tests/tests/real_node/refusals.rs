//! An API server that refuses, or is away, and types that say where they run.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use oaat_tests::real_node;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::sleep;

use crate::place::{
    AT_THE_DOOR, JOURNAL, PATIENCE, Place, alternating, history, item, only_run, text,
};

/// A quota that leaves no room is one failure with the server's words; the group goes on when
/// there is room.
pub async fn a_quota_is_one_failure_with_the_servers_words(place: Place) -> Result<()> {
    place.work("true", json!({})).await?;
    let quotas: Api<ResourceQuota> = Api::namespaced(place.client.clone(), &place.namespace);
    let quota = serde_json::from_value(json!({
        "metadata": { "name": "none" }, "spec": { "hard": { "pods": "0" } },
    }))?;
    until_type_is_valid(&place).await?;
    quotas.create(&PostParams::default(), &quota).await?;
    place.group(&["a", "b"], json!({})).await?;
    let group = place
        .until("a pod is refused", |g| !history(g).is_empty())
        .await?;
    let run = history(&group)[0].clone();
    ensure!(text(&run["reason"]) == "CreateRejected", "{run:#}");
    ensure!(
        text(&run["message"]).contains("exceeded quota: none"),
        "{run:#}"
    );
    let refused = text(&run["item"]);
    ensure!(item(&group, &refused)["failures"] == 1, "{group:#}");
    quotas.delete("none", &DeleteParams::default()).await?;
    place
        .until("an item succeeds", |g| {
            ["a", "b"]
                .iter()
                .any(|name| item(g, name)["lastSuccess"].is_string())
        })
        .await?;
    Ok(())
}

/// A type with a nodeName runs on that node, although a pod with a gate may not have one.
pub async fn a_type_that_names_its_node_runs_there(place: Place) -> Result<()> {
    let node = json!({ "nodeName": real_node::NAME });
    place.work("true", node).await?;
    place.group(&["a"], json!({})).await?;
    let group = place.until_runs("a", 1).await?;
    let run = only_run(&group)?;
    ensure!(text(&run["result"]) == "Succeeded", "{run:#}");
    let pod = place.pods().get(&text(&run["pod"])).await?;
    let on = pod.spec.and_then(|spec| spec.node_name);
    ensure!(on.as_deref() == Some(real_node::NAME), "{on:?}");
    Ok(())
}

/// A process deaf to SIGTERM that outlives its deadline keeps the next run out until it is
/// killed: one failure.
pub async fn a_deaf_process_past_its_deadline_keeps_the_next_one_out(place: Place) -> Result<()> {
    let deaf = format!("trap '' TERM; {JOURNAL}; start; {AT_THE_DOOR}; end");
    let more = json!({ "activeDeadlineSeconds": 2, "terminationGracePeriodSeconds": 5 });
    place.work(&deaf, more).await?;
    place.group(&["a", "b"], json!({})).await?;
    let first = place.until_running().await?;
    let group = place
        .until("the first run is over", |g| !history(g).is_empty())
        .await?;
    let run = history(&group)[0].clone();
    ensure!(text(&run["pod"]) == first, "{run:#}");
    ensure!(text(&run["reason"]) == "DeadlineExceeded", "{run:#}");
    place
        .until("the second one is over as well", |g| history(g).len() == 2)
        .await?;
    let journal = place.journal();
    ensure!(
        journal.len() == 2 && journal.iter().all(|line| line.starts_with("start ")),
        "both were killed: {journal:?}"
    );
    ensure!(place.witness.opened()?.len() == 2);
    Ok(())
}

/// The API server is away while a container runs and ends: nothing is counted but that end.
pub async fn an_api_server_that_is_away_counts_nothing(place: Place) -> Result<()> {
    place
        .work(&format!("{JOURNAL}; start; {AT_THE_DOOR}; end"), json!({}))
        .await?;
    place.group(&["a", "b"], json!({})).await?;
    let first = place.until_running().await?;
    let plane = &place.shared.plane;
    plane.stop_api_server().await;
    place.open_door()?;
    let start = Instant::now();
    while place.journal().len() < 2 {
        ensure!(start.elapsed() < PATIENCE, "the container does not end");
        sleep(Duration::from_millis(100)).await;
    }
    sleep(Duration::from_secs(10)).await;
    plane.start_api_server().await?;
    let group = place
        .until("both have run", |g| history(g).len() == 2)
        .await?;
    for run in history(&group) {
        ensure!(text(&run["result"]) == "Succeeded", "{run:#}");
    }
    ensure!(alternating(&place.journal())?.first() == Some(&first));
    place.shared.node.until_ready(plane).await
}

async fn until_type_is_valid(place: &Place) -> Result<()> {
    let start = Instant::now();
    loop {
        let object: Value = serde_json::to_value(place.api("OaatType").get("work").await?)?;
        let conditions = object["status"]["conditions"].as_array();
        let valid = |c: &Value| c["type"] == "Valid" && c["status"] == "True";
        if conditions.is_some_and(|all| all.iter().any(valid)) {
            return Ok(());
        }
        ensure!(start.elapsed() < PATIENCE, "not valid: {object:#}");
        sleep(Duration::from_millis(100)).await;
    }
}
