//! What an operator leaves behind if it crashes between two steps of a start: a gated pod, or a
//! claim in the status.

use crate::fixture::{Fixture, PATIENCE, item};
use crate::helpers::{GROUP_LABEL, gated, history, text};
use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Creates a group and its type before any operator runs. Returns the group's UID.
async fn prepare(fixture: &Fixture) -> Result<String> {
    fixture.work("true", json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    let group = fixture.api("OaatGroup").get("group").await?;
    group.uid().context("the group has no uid")
}

/// Creates a candidate, which is the first step of a start.
async fn candidate(fixture: &Fixture, group_uid: &str) -> Result<Pod> {
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
    fixture.pod_by_hand(metadata, "true", true).await
}

/// Claims the candidate, which is the second step of a start.
async fn claim(fixture: &Fixture, pod: &Pod) -> Result<()> {
    let status = json!({
        "run": 1,
        "current": {
            "run": 1, "item": "a", "podName": pod.name_any(), "podUid": pod.uid(),
            "claimed": pod.creation_timestamp(), "stopping": null,
        },
    });
    fixture.write_status(status).await
}

#[tokio::test]
async fn unclaimed_candidate_is_removed_and_the_group_continues() -> Result<()> {
    let mut fixture = Fixture::without_operator("crash-candidate").await?;
    let uid = prepare(&fixture).await?;
    let left = candidate(&fixture, &uid).await?.name_any();
    fixture.start_operator().await?;
    fixture.until_pod_gone(&left).await?;
    let group = fixture.until_recorded("a").await?;
    assert!(item(&group, "a")["lastSuccess"].is_string(), "{group:#}");
    let runs = fixture.node.runs();
    assert_eq!(runs.len(), 1);
    assert_ne!(runs[0].pod, left);
    Ok(())
}

#[tokio::test]
async fn unclaimed_candidate_is_removed_while_another_run_continues() -> Result<()> {
    let fixture = Fixture::new("crash-candidate-beside").await?;
    let barrier = crate::helpers::Barrier::new()?;
    fixture.work(&barrier.wait(), json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    let current = fixture.until_running().await?.name_any();
    let group = fixture.api("OaatGroup").get("group").await?;
    let uid = group.uid().context("the group has no uid")?;
    let left = candidate(&fixture, &uid).await?.name_any();
    fixture.until_pod_gone(&left).await?;
    fixture.ensure_alone(&current).await?;
    barrier.release()?;
    let group = fixture.until_recorded("a").await?;
    assert!(item(&group, "a")["failures"].is_null(), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn claimed_pod_with_a_gate_is_opened_and_recorded() -> Result<()> {
    let mut fixture = Fixture::without_operator("crash-claimed").await?;
    let uid = prepare(&fixture).await?;
    let left = candidate(&fixture, &uid).await?;
    claim(&fixture, &left).await?;
    fixture.start_operator().await?;
    let group = fixture.until_recorded("a").await?;
    let runs = history(&group);
    assert_eq!(runs.len(), 1, "{group:#}");
    assert_eq!(text(&runs[0]["pod"]), left.name_any());
    assert_eq!(runs[0]["result"], "Succeeded", "{group:#}");
    assert_eq!(fixture.node.runs().len(), 1);
    Ok(())
}

#[tokio::test]
async fn claim_on_a_deleted_pod_is_withdrawn() -> Result<()> {
    let mut fixture = Fixture::without_operator("crash-claim-void").await?;
    let uid = prepare(&fixture).await?;
    let left = candidate(&fixture, &uid).await?;
    claim(&fixture, &left).await?;
    fixture.delete_pod(&left.name_any()).await?;
    fixture.until_pod_gone(&left.name_any()).await?;
    fixture.start_operator().await?;
    let group = fixture
        .until("the item succeeds", |g: &Value| {
            item(g, "a")["lastSuccess"].is_string()
        })
        .await?;
    assert_eq!(group["status"]["run"], 2, "{group:#}");
    assert!(!fixture.list_pods().await?.iter().any(gated));
    Ok(())
}

/// Creates a candidate whose deletion is not completed: the client's connection breaks between the
/// two steps in which the API server deletes a pod without a node.
async fn candidate_with_interrupted_deletion(fixture: &Fixture, group_uid: &str) -> Result<Pod> {
    // Approaches the time that the first step takes, which depends on the load of the machine.
    let mut delay = Duration::from_millis(2);
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let name = candidate(fixture, group_uid).await?.name_any();
        let _ = timeout(delay, fixture.delete_pod(&name)).await;
        // The API server may still be processing the request.
        sleep(Duration::from_millis(200)).await;
        let Some(left) = fixture.pods().get_opt(&name).await? else {
            delay = (delay * 4 / 5).max(Duration::from_micros(500));
            continue;
        };
        if left.metadata.deletion_timestamp.is_some() {
            // The request may have been slow rather than interrupted.
            sleep(Duration::from_secs(1)).await;
            if fixture.pods().get_opt(&name).await?.is_some() {
                return Ok(left);
            }
            continue;
        }
        delay = (delay * 5 / 4).min(Duration::from_millis(200));
        // It may also be gone by now.
        let _ = fixture.delete_pod(&name).await;
        fixture.until_pod_gone(&name).await?;
    }
    bail!("no deletion was interrupted between its steps")
}

#[tokio::test]
async fn interrupted_deletion_of_a_candidate_is_completed() -> Result<()> {
    let mut fixture = Fixture::without_operator("crash-half-deleted").await?;
    let uid = prepare(&fixture).await?;
    let left = candidate_with_interrupted_deletion(&fixture, &uid).await?;
    fixture.start_operator().await?;
    fixture.until_pod_gone(&left.name_any()).await?;
    let group = fixture.until_recorded("a").await?;
    assert!(item(&group, "a")["lastSuccess"].is_string(), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn interrupted_deletion_of_a_claimed_pod_is_completed() -> Result<()> {
    let mut fixture = Fixture::without_operator("crash-half-deleted-claim").await?;
    let uid = prepare(&fixture).await?;
    let left = candidate_with_interrupted_deletion(&fixture, &uid).await?;
    claim(&fixture, &left).await?;
    fixture.start_operator().await?;
    fixture.until_pod_gone(&left.name_any()).await?;
    fixture
        .until("the item succeeds", |g: &Value| {
            item(g, "a")["lastSuccess"].is_string()
        })
        .await?;
    Ok(())
}
