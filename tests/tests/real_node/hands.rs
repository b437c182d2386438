//! What people do by hand beside a run: pods of their own, a wiped status, groups and namespaces
//! that are deleted.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;

use crate::place::{
    AT_THE_DOOR, JOURNAL, PATIENCE, Place, alternating, history, item, only_run, text,
};

/// A script that writes when it starts and ends, and ends when the test opens the door.
fn waiting() -> String {
    format!("{JOURNAL}; start; {AT_THE_DOOR}; end")
}

/// The same, deaf to SIGTERM.
fn deaf() -> String {
    format!("trap '' TERM; {}", waiting())
}

/// A pod that somebody made with the group's label blocks the next run and is named; the run in
/// progress and its result stay as they are.
pub async fn a_foreign_pod_beside_a_run_blocks_the_next_one(place: Place) -> Result<()> {
    place.work(&waiting(), json!({})).await?;
    place.group(&["a", "b"], json!({})).await?;
    let own = place.until_running().await?;
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
    place
        .pods()
        .create(&PostParams::default(), &stranger)
        .await?;
    place
        .until_pod("stranger", "runs", |pod| {
            crate::place::phase(pod) == "Running"
        })
        .await?;
    place.open_door()?;
    let group = place
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
    place.delete_pod("stranger").await?;
    place
        .until("the other item has run as well", |g| history(g).len() == 2)
        .await?;
    ensure!(alternating(&place.journal())?.len() == 2);
    Ok(())
}

/// A status that is wiped while a container runs: the pod is adopted, and no second one starts.
pub async fn a_wiped_status_adopts_the_running_pod(place: Place) -> Result<()> {
    place.work(&waiting(), json!({})).await?;
    place.group(&["a"], json!({})).await?;
    let pod = place.until_running().await?;
    place
        .api("OaatGroup")
        .patch_status(
            "group",
            &PatchParams::default(),
            &Patch::Merge(json!({ "status": null })),
        )
        .await?;
    let group = place
        .until("the pod is adopted", |g| {
            text(&g["status"]["current"]["podName"]) == pod && g["status"]["run"] == 2
        })
        .await?;
    ensure!(history(&group).is_empty(), "{group:#}");
    place.open_door()?;
    let group = place.until_runs("a", 1).await?;
    let run = only_run(&group)?;
    ensure!(text(&run["pod"]) == pod, "{run:#}");
    ensure!(text(&run["result"]) == "Succeeded", "{run:#}");
    ensure!(alternating(&place.journal())? == [pod]);
    Ok(())
}

/// A group that is deleted while no operator is there goes, and so does its pod.
pub async fn a_group_deleted_while_the_operator_is_down_takes_its_pod_along(
    mut place: Place,
) -> Result<()> {
    let more = json!({ "terminationGracePeriodSeconds": 1 });
    place.work(&waiting(), more).await?;
    place.group(&["a"], json!({})).await?;
    let pod = place.until_running().await?;
    place.kill_operator().await;
    delete_group(&place, DeleteParams::default()).await?;
    until_gone(&place, &pod).await?;
    ensure!(place.api("OaatGroup").get_opt("group").await?.is_none());
    Ok(())
}

/// A group that is deleted after its pods, as with foreground cascading: nothing starts in
/// between.
pub async fn a_group_deleted_in_the_foreground_starts_nothing(place: Place) -> Result<()> {
    let more = json!({ "terminationGracePeriodSeconds": 600 });
    place.work(&deaf(), more).await?;
    place.group(&["a", "b"], json!({})).await?;
    let pod = place.until_running().await?;
    delete_group(&place, DeleteParams::foreground()).await?;
    place
        .until_pod(&pod, "is being deleted", |pod| {
            pod.metadata.deletion_timestamp.is_some()
        })
        .await?;
    let group = place.read("group").await?;
    ensure!(history(&group).is_empty(), "{group:#}");
    place.open_door()?;
    until_gone(&place, &pod).await?;
    until_group_gone(&place).await?;
    ensure!(place.witness.opened()? == [pod.as_str()]);
    ensure!(alternating(&place.journal())? == [pod]);
    Ok(())
}

/// A namespace that is deleted: nothing starts in it any more, and nothing is a failure.
pub async fn a_namespace_that_ends_starts_nothing_and_fails_nothing(place: Place) -> Result<()> {
    let more = json!({ "terminationGracePeriodSeconds": 600 });
    place.work(&deaf(), more).await?;
    place.group(&["a", "b"], json!({})).await?;
    let pod = place.until_running().await?;
    let namespaces: Api<Namespace> = Api::all(place.client.clone());
    namespaces
        .delete(&place.namespace, &DeleteParams::default())
        .await?;
    place
        .until_pod(&pod, "is being deleted", |pod| {
            pod.metadata.deletion_timestamp.is_some()
        })
        .await?;
    // The group may go before its pod.
    if let Some(group) = place.api("OaatGroup").get_opt("group").await? {
        let group: Value = serde_json::to_value(group)?;
        ensure!(history(&group).is_empty(), "{group:#}");
    }
    place.open_door()?;
    until_gone(&place, &pod).await?;
    ensure!(place.witness.opened()? == [pod.as_str()]);
    let failed = place
        .operator()?
        .metric("oaat_runs_total", &["Failed"])
        .await?;
    ensure!(failed == 0.0, "{failed} failures were counted");
    Ok(())
}

/// A pod with a gate of the user's own runs when that is taken away as well, and not before.
pub async fn a_users_own_gate_is_left_to_the_user(place: Place) -> Result<()> {
    let gate = json!({ "schedulingGates": [{ "name": "example.com/later" }] });
    place.work(&waiting(), gate).await?;
    place.group(&["a"], json!({ "startTimeout": "0s" })).await?;
    let group = place
        .until("the message tells of the gate", |g| {
            text(&g["status"]["message"]).contains("example.com/later")
        })
        .await?;
    let pod = text(&group["status"]["current"]["podName"]);
    ensure!(place.journal().is_empty(), "{:?}", place.journal());
    let open = json!({ "spec": { "schedulingGates": null } });
    place
        .pods()
        .patch(&pod, &PatchParams::default(), &Patch::Merge(open))
        .await?;
    place.open_door()?;
    let group = place.until_runs("a", 1).await?;
    ensure!(item(&group, "a")["failures"] == 0, "{group:#}");
    ensure!(alternating(&place.journal())? == [pod]);
    Ok(())
}

async fn delete_group(place: &Place, how: DeleteParams) -> Result<()> {
    place.api("OaatGroup").delete("group", &how).await?;
    Ok(())
}

async fn until_gone(place: &Place, pod: &str) -> Result<()> {
    let start = std::time::Instant::now();
    while place.pods().get_opt(pod).await?.is_some() {
        ensure!(start.elapsed() < PATIENCE, "pod {pod} stays");
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

async fn until_group_gone(place: &Place) -> Result<()> {
    let start = std::time::Instant::now();
    while let Some(group) = place.api("OaatGroup").get_opt("group").await? {
        let group = group.name_any();
        ensure!(start.elapsed() < PATIENCE, "{group} stays");
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
