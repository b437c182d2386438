//! What an operator leaves behind that died between two steps of a start: the pod with
//! its gate, the claim in the status.

use crate::by_hand::{GROUP_LABEL, gated, history, text};
use crate::world::{World, item};
use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

/// A group and its type, of which no operator knows yet; gives the group's uid.
async fn prepare(world: &World) -> Result<String> {
    world.work("true", json!({})).await?;
    world.group(&["a"], json!({})).await?;
    let group = world.api("OaatGroup").get("group").await?;
    group.uid().context("the group has no uid")
}

/// What the first step of a start makes.
async fn candidate(world: &World, group_uid: &str) -> Result<Pod> {
    let metadata = json!({
        "name": "group-a-left",
        "labels": {
            GROUP_LABEL: "group",
            "oaat.kawaja.net/item": "a",
            "oaat.kawaja.net/run": "1",
            "app.kubernetes.io/managed-by": "oaat-operator",
        },
        "annotations": { "oaat.kawaja.net/group": "group", "oaat.kawaja.net/item": "a" },
        "ownerReferences": [{
            "apiVersion": "kawaja.net/v1", "kind": "OaatGroup", "name": "group",
            "uid": group_uid, "controller": true, "blockOwnerDeletion": true,
        }],
    });
    world.pod_by_hand(metadata, "true", true).await
}

/// The second step: the pod is the group's current one.
async fn claim(world: &World, pod: &Pod) -> Result<()> {
    let status = json!({
        "run": 1,
        "current": {
            "run": 1, "item": "a", "podName": pod.name_any(), "podUid": pod.uid(),
            "claimed": pod.creation_timestamp(), "stopping": null,
        },
    });
    world.write_status(status).await
}

#[tokio::test]
async fn a_candidate_that_nobody_claimed_is_removed_and_the_group_goes_on() -> Result<()> {
    let mut world = World::without_operator("crash-candidate").await?;
    let uid = prepare(&world).await?;
    let left = candidate(&world, &uid).await?.name_any();
    world.start_operator().await?;
    world.until_pod_gone(&left).await?;
    let group = world.until_recorded("a").await?;
    assert!(item(&group, "a")["lastSuccess"].is_string(), "{group:#}");
    let runs = world.node.runs();
    assert_eq!(runs.len(), 1);
    assert_ne!(runs[0].pod, left);
    Ok(())
}

#[tokio::test]
async fn a_candidate_beside_a_run_is_removed_and_the_run_goes_on() -> Result<()> {
    let world = World::new("crash-candidate-beside").await?;
    let door = crate::by_hand::Door::new()?;
    world.work(&door.wait(), json!({})).await?;
    world.group(&["a"], json!({})).await?;
    let current = world.until_running().await?.name_any();
    let group = world.api("OaatGroup").get("group").await?;
    let uid = group.uid().context("the group has no uid")?;
    let left = candidate(&world, &uid).await?.name_any();
    world.until_pod_gone(&left).await?;
    world.ensure_alone(&current).await?;
    door.open()?;
    let group = world.until_recorded("a").await?;
    assert_eq!(item(&group, "a")["failures"], 0, "{group:#}");
    Ok(())
}

#[tokio::test]
async fn a_claimed_pod_whose_gate_is_still_shut_is_opened_and_recorded() -> Result<()> {
    let mut world = World::without_operator("crash-claimed").await?;
    let uid = prepare(&world).await?;
    let left = candidate(&world, &uid).await?;
    claim(&world, &left).await?;
    world.start_operator().await?;
    let group = world.until_recorded("a").await?;
    let runs = history(&group);
    assert_eq!(runs.len(), 1, "{group:#}");
    assert_eq!(text(&runs[0]["pod"]), left.name_any());
    assert_eq!(runs[0]["result"], "Succeeded", "{group:#}");
    assert_eq!(world.node.runs().len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_claim_on_a_pod_that_is_gone_frees_the_group() -> Result<()> {
    let mut world = World::without_operator("crash-claim-void").await?;
    let uid = prepare(&world).await?;
    let left = candidate(&world, &uid).await?;
    claim(&world, &left).await?;
    world.delete_pod(&left.name_any()).await?;
    world.until_pod_gone(&left.name_any()).await?;
    world.start_operator().await?;
    let group = world
        .until("the item succeeds", |g: &Value| {
            item(g, "a")["lastSuccess"].is_string()
        })
        .await?;
    assert_eq!(group["status"]["run"], 2, "{group:#}");
    assert!(!world.list_pods().await?.iter().any(gated));
    Ok(())
}
