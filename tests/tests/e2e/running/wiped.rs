//! A user clears a group's status while its pod runs.

use crate::fixture::{Fixture, item};
use crate::helpers::{Barrier, latest};
use anyhow::Result;
use kube::ResourceExt;
use serde_json::{Value, json};

/// Clears the status.
async fn wipe(fixture: &Fixture) -> Result<()> {
    fixture.write_status(Value::Null).await
}

#[tokio::test]
async fn running_pod_is_adopted_after_the_status_was_cleared() -> Result<()> {
    let fixture = Fixture::new("wiped").await?;
    let barrier = Barrier::new()?;
    fixture.work(&barrier.wait(), json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    let pod = fixture.until_running().await?;
    wipe(&fixture).await?;
    let group = fixture
        .until("the pod is adopted", |g| {
            g["status"]["current"]["podUid"] == json!(pod.uid())
        })
        .await?;
    assert_eq!(group["status"]["currentlyRunning"], "a", "{group:#}");
    assert_eq!(group["status"]["run"], 2, "{group:#}");
    fixture.ensure_alone(&pod.name_any()).await?;

    barrier.release()?;
    let group = fixture.until_recorded("a").await?;
    assert!(item(&group, "a")["lastSuccess"].is_string(), "{group:#}");
    assert_eq!(latest(&group)?["pod"], pod.name_any());
    assert_eq!(fixture.node.runs().len(), 1);
    Ok(())
}

#[tokio::test]
async fn running_pod_is_adopted_at_startup_after_the_status_was_cleared() -> Result<()> {
    let mut fixture = Fixture::new("wiped-down").await?;
    let barrier = Barrier::new()?;
    fixture.work(&barrier.wait(), json!({})).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    let pod = fixture.until_running().await?;
    fixture.take_operator().kill().await;
    wipe(&fixture).await?;
    fixture.start_operator().await?;
    fixture
        .until("the pod is adopted", |g| {
            g["status"]["current"]["podUid"] == json!(pod.uid())
        })
        .await?;
    fixture.ensure_alone(&pod.name_any()).await?;
    fixture.until_event("group", "Adopted").await?;
    Ok(())
}
