//! What users do during a run: foreign pods, a cleared status, and deleted groups and namespaces.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;

use crate::fixture::{
    Fixture, JOURNAL, PATIENCE, WAIT_AT_BARRIER, alternating, history, item, only_run, text,
};

/// Returns a script that records its start and end, and waits at the barrier in between.
fn waiting() -> String {
    format!("{JOURNAL}; start; {WAIT_AT_BARRIER}; end")
}

/// Returns the same script, which ignores SIGTERM.
fn deaf() -> String {
    format!("trap '' TERM; {}", waiting())
}

/// A foreign pod with the group's label blocks the next run and is named. The current run and its
/// result are unaffected.
pub async fn foreign_pod_during_a_run_blocks_the_next_start(fixture: Fixture) -> Result<()> {
    fixture.work(&waiting(), json!({})).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    let own = fixture.until_running().await?;
    let stranger: Pod = serde_json::from_value(json!({
        "metadata": { "name": "stranger", "labels": { "oaat.kawaja.net/group": "group" } },
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "main", "image": "busybox", "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "600"],
            }],
        },
    }))?;
    fixture
        .pods()
        .create(&PostParams::default(), &stranger)
        .await?;
    fixture
        .until_pod("stranger", "runs", |pod| {
            crate::fixture::phase(pod) == "Running"
        })
        .await?;
    fixture.release_barrier()?;
    let group = fixture
        .until("the run is recorded and the next one blocked", |g| {
            g["status"]["state"] == "Blocked" && history(g).len() == 1
        })
        .await?;
    let run = only_run(&group)?;
    ensure!(text(&run["result"]) == "Succeeded", "{run:#}");
    ensure!(text(&run["pod"]) == own, "{run:#}");
    ensure!(
        text(&group["status"]["message"]).contains("stranger"),
        "{group:#}"
    );
    fixture.delete_pod("stranger").await?;
    fixture
        .until("the other item has run as well", |g| history(g).len() == 2)
        .await?;
    ensure!(alternating(&fixture.journal())?.len() == 2);
    Ok(())
}

/// The status is cleared while a container runs. The pod is adopted, and no second one starts.
pub async fn running_pod_is_adopted_after_the_status_is_cleared(fixture: Fixture) -> Result<()> {
    fixture.work(&waiting(), json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    let pod = fixture.until_running().await?;
    fixture
        .api("OaatGroup")
        .patch_status(
            "group",
            &PatchParams::default(),
            &Patch::Merge(json!({ "status": null })),
        )
        .await?;
    let group = fixture
        .until("the pod is adopted", |g| {
            text(&g["status"]["current"]["podName"]) == pod && g["status"]["run"] == 2
        })
        .await?;
    ensure!(history(&group).is_empty(), "{group:#}");
    fixture.release_barrier()?;
    let group = fixture.until_runs("a", 1).await?;
    let run = only_run(&group)?;
    ensure!(text(&run["pod"]) == pod, "{run:#}");
    ensure!(text(&run["result"]) == "Succeeded", "{run:#}");
    ensure!(alternating(&fixture.journal())? == [pod]);
    Ok(())
}

/// A group that is deleted while the operator is down is removed with its pod.
pub async fn group_deleted_while_the_operator_is_down_is_removed_with_its_pod(
    mut fixture: Fixture,
) -> Result<()> {
    let more = json!({ "terminationGracePeriodSeconds": 1 });
    fixture.work(&waiting(), more).await?;
    fixture.group(&["a"], json!({})).await?;
    let pod = fixture.until_running().await?;
    fixture.kill_operator().await;
    delete_group(&fixture, DeleteParams::default()).await?;
    until_gone(&fixture, &pod).await?;
    ensure!(fixture.api("OaatGroup").get_opt("group").await?.is_none());
    Ok(())
}

/// During the foreground deletion of a group, nothing starts.
pub async fn group_deleted_in_the_foreground_starts_nothing(fixture: Fixture) -> Result<()> {
    let more = json!({ "terminationGracePeriodSeconds": 600 });
    fixture.work(&deaf(), more).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    let pod = fixture.until_running().await?;
    delete_group(&fixture, DeleteParams::foreground()).await?;
    fixture
        .until_pod(&pod, "is being deleted", |pod| {
            pod.metadata.deletion_timestamp.is_some()
        })
        .await?;
    let group = fixture.read("group").await?;
    ensure!(history(&group).is_empty(), "{group:#}");
    fixture.release_barrier()?;
    until_gone(&fixture, &pod).await?;
    until_group_gone(&fixture).await?;
    ensure!(fixture.witness.opened()? == [pod.as_str()]);
    ensure!(alternating(&fixture.journal())? == [pod]);
    Ok(())
}

/// In a namespace that is being deleted, nothing starts, and no failure is counted.
pub async fn terminating_namespace_starts_nothing_and_counts_no_failure(
    fixture: Fixture,
) -> Result<()> {
    let more = json!({ "terminationGracePeriodSeconds": 600 });
    fixture.work(&deaf(), more).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    let pod = fixture.until_running().await?;
    let namespaces: Api<Namespace> = Api::all(fixture.client.clone());
    namespaces
        .delete(&fixture.namespace, &DeleteParams::default())
        .await?;
    fixture
        .until_pod(&pod, "is being deleted", |pod| {
            pod.metadata.deletion_timestamp.is_some()
        })
        .await?;
    // The group may be removed before its pod.
    if let Some(group) = fixture.api("OaatGroup").get_opt("group").await? {
        let group: Value = serde_json::to_value(group)?;
        ensure!(history(&group).is_empty(), "{group:#}");
    }
    fixture.release_barrier()?;
    until_gone(&fixture, &pod).await?;
    ensure!(fixture.witness.opened()? == [pod.as_str()]);
    let failed = fixture
        .operator()?
        .metric("oaat_runs_total", &["Failed"])
        .await?;
    ensure!(failed == 0.0, "{failed} failures were counted");
    Ok(())
}

/// A pod with an additional gate of the user runs only after the user removes that gate.
pub async fn gate_of_a_user_is_removed_only_by_the_user(fixture: Fixture) -> Result<()> {
    let gate = json!({ "schedulingGates": [{ "name": "example.com/later" }] });
    fixture.work(&waiting(), gate).await?;
    fixture
        .group(&["a"], json!({ "startTimeout": "0s" }))
        .await?;
    let group = fixture
        .until("the message names the gate", |g| {
            text(&g["status"]["message"]).contains("example.com/later")
        })
        .await?;
    let pod = text(&group["status"]["current"]["podName"]);
    ensure!(fixture.journal().is_empty(), "{:?}", fixture.journal());
    let open = json!({ "spec": { "schedulingGates": null } });
    fixture
        .pods()
        .patch(&pod, &PatchParams::default(), &Patch::Merge(open))
        .await?;
    fixture.release_barrier()?;
    let group = fixture.until_runs("a", 1).await?;
    ensure!(item(&group, "a")["failures"].is_null(), "{group:#}");
    ensure!(alternating(&fixture.journal())? == [pod]);
    Ok(())
}

async fn delete_group(fixture: &Fixture, how: DeleteParams) -> Result<()> {
    fixture.api("OaatGroup").delete("group", &how).await?;
    Ok(())
}

async fn until_gone(fixture: &Fixture, pod: &str) -> Result<()> {
    let start = std::time::Instant::now();
    while fixture.pods().get_opt(pod).await?.is_some() {
        ensure!(start.elapsed() < PATIENCE, "pod {pod} was not removed");
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

async fn until_group_gone(fixture: &Fixture) -> Result<()> {
    let start = std::time::Instant::now();
    while let Some(group) = fixture.api("OaatGroup").get_opt("group").await? {
        let group = group.name_any();
        ensure!(start.elapsed() < PATIENCE, "{group} was not removed");
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
