//! Pods with the label of a group that they do not belong to.

use crate::fixture::{Fixture, condition, item};
use crate::helpers::{Barrier, GROUP_LABEL, ensure_apart, history};
use anyhow::Result;
use kube::ResourceExt;
use serde_json::json;

fn stranger() -> serde_json::Value {
    json!({ "name": "stranger", "labels": { GROUP_LABEL: "group" } })
}

#[tokio::test]
async fn foreign_pod_blocks_the_group_and_is_named_until_it_ends() -> Result<()> {
    let fixture = Fixture::new("foreign-first").await?;
    let barrier = Barrier::new()?;
    fixture
        .pod_by_hand(stranger(), &barrier.wait(), false)
        .await?;
    fixture.work("true", json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    let group = fixture
        .until("the group is blocked", |g| {
            g["status"]["state"] == "Blocked"
        })
        .await?;
    let message = group["status"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("pod stranger"), "{message}");
    let (status, reason, words) = condition(&group, "Ready");
    assert_eq!((&*status, &*reason), ("False", "ForeignPod"));
    assert!(words.contains("pod stranger"), "{words}");
    fixture.look().await?;
    fixture.ensure_alone("stranger").await?;

    barrier.release()?;
    let group = fixture.until_recorded("a").await?;
    assert!(item(&group, "a")["failures"].is_null(), "{group:#}");
    assert_eq!(history(&group).len(), 1, "{group:#}");
    let stranger = fixture.pods().get("stranger").await?;
    assert_eq!(stranger.metadata.deletion_timestamp, None);
    ensure_apart(&fixture.node.runs())
}

#[tokio::test]
async fn foreign_pod_does_not_affect_the_current_pod() -> Result<()> {
    let fixture = Fixture::new("foreign-later").await?;
    let (own, foreign) = (Barrier::new()?, Barrier::new()?);
    fixture.work(&own.wait(), json!({})).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    let pod = fixture.until_running().await?;
    fixture
        .pod_by_hand(stranger(), &foreign.wait(), false)
        .await?;
    fixture
        .until("the message names it", |g| {
            let message = g["status"]["message"].as_str().unwrap_or_default();
            g["status"]["pod"] == pod.name_any() && message.contains("pod stranger")
        })
        .await?;
    let ours = fixture.pods().get(&pod.name_any()).await?;
    assert_eq!(ours.metadata.deletion_timestamp, None);

    own.release()?;
    let group = fixture
        .until("the run is recorded", |g| !history(g).is_empty())
        .await?;
    assert_eq!(history(&group)[0]["result"], "Succeeded", "{group:#}");
    let looked = fixture.look().await?;
    assert_eq!(looked["status"]["state"], "Blocked", "{looked:#}");
    assert_eq!(looked["status"]["run"], 1, "{looked:#}");
    fixture.ensure_alone("stranger").await?;

    fixture.delete_pod("stranger").await?;
    let group = fixture
        .until("the other item runs", |g| g["status"]["state"] == "Idle")
        .await?;
    assert_eq!(history(&group).len(), 2, "{group:#}");
    Ok(())
}

#[tokio::test]
async fn relabelled_foreign_pod_no_longer_blocks() -> Result<()> {
    let fixture = Fixture::new("foreign-relabelled").await?;
    let barrier = Barrier::new()?;
    fixture
        .pod_by_hand(stranger(), &barrier.wait(), false)
        .await?;
    fixture.work("true", json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    fixture
        .until("the group is blocked", |g| {
            g["status"]["state"] == "Blocked"
        })
        .await?;
    let label = format!("{GROUP_LABEL}=elsewhere");
    fixture
        .kubectl(&["label", "--overwrite", "pod", "stranger", &label])
        .await?;
    fixture.until_recorded("a").await?;
    barrier.release()
}
