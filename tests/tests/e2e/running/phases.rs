//! A pod in any phase before its end prevents the next start.

use crate::fixture::{Fixture, item};
use crate::helpers::{Barrier, ensure_apart};
use anyhow::Result;
use kube::ResourceExt;
use serde_json::{Value, json};

fn both_succeeded(group: &Value) -> bool {
    ["a", "b"]
        .iter()
        .all(|name| item(group, name)["lastSuccess"].is_string())
}

#[tokio::test]
async fn pending_pod_prevents_the_next_start() -> Result<()> {
    let fixture = Fixture::new("phase-pending").await?;
    fixture.node.hold(true);
    fixture.work("true", json!({})).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    let group = fixture
        .until("an item is started", |g| g["status"]["state"] == "Running")
        .await?;
    let pod = group["status"]["pod"].as_str().unwrap_or_default();
    let looked = fixture.look().await?;
    assert_eq!(looked["status"]["pod"], pod, "{looked:#}");
    fixture.ensure_alone(pod).await?;

    fixture.node.hold(false);
    fixture.until("both succeed", both_succeeded).await?;
    ensure_apart(&fixture.node.runs())
}

#[tokio::test]
async fn running_pod_prevents_the_next_start() -> Result<()> {
    let fixture = Fixture::new("phase-running").await?;
    let barrier = Barrier::new()?;
    fixture.work(&barrier.wait(), json!({})).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    let pod = fixture.until_running().await?.name_any();
    let looked = fixture.look().await?;
    assert_eq!(looked["status"]["pod"], pod, "{looked:#}");
    fixture.ensure_alone(&pod).await?;

    barrier.release()?;
    fixture.until("both succeed", both_succeeded).await?;
    ensure_apart(&fixture.node.runs())
}

#[tokio::test]
async fn pod_in_phase_unknown_prevents_the_next_start_and_is_reported() -> Result<()> {
    let fixture = Fixture::new("phase-unknown").await?;
    let barrier = Barrier::new()?;
    fixture.work(&barrier.wait(), json!({})).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    let pod = fixture.until_running().await?.name_any();
    fixture
        .write_pod_status(&pod, json!({ "phase": "Unknown" }))
        .await?;
    fixture
        .until("the message shows the problem", |g| {
            let message = g["status"]["message"].as_str().unwrap_or_default();
            message.contains(&pod) && message.contains("node that does not respond")
        })
        .await?;
    fixture.look().await?;
    fixture.ensure_alone(&pod).await?;

    barrier.release()?;
    let group = fixture.until("both succeed", both_succeeded).await?;
    assert_eq!(group["status"]["run"], 2, "{group:#}");
    ensure_apart(&fixture.node.runs())
}

#[tokio::test]
async fn pod_that_ignores_sigterm_prevents_the_next_start() -> Result<()> {
    let fixture = Fixture::new("phase-terminating").await?;
    let barrier = Barrier::new()?;
    let grace = json!({ "podspec": { "terminationGracePeriodSeconds": 600 } });
    fixture.work(&barrier.wait_deaf(), grace).await?;
    fixture
        .group(&["a", "b"], json!({ "failureCoolOff": "1h" }))
        .await?;
    let pod = fixture.until_running().await?.name_any();
    fixture.delete_pod(&pod).await?;
    fixture
        .until("the message says that it is being deleted", |g| {
            let message = g["status"]["message"].as_str().unwrap_or_default();
            message.contains(&pod) && message.contains("terminating")
        })
        .await?;
    let looked = fixture.look().await?;
    assert_eq!(looked["status"]["pod"], pod, "{looked:#}");
    fixture.ensure_alone(&pod).await?;

    barrier.release()?;
    let group = fixture
        .until("the other item succeeds", |g| {
            ["a", "b"]
                .iter()
                .any(|name| item(g, name)["lastSuccess"].is_string())
        })
        .await?;
    let failures: i64 = ["a", "b"]
        .iter()
        .filter_map(|name| item(&group, name)["failures"].as_i64())
        .sum();
    assert_eq!(failures, 1, "{group:#}");
    assert_eq!(group["status"]["run"], 2, "{group:#}");
    ensure_apart(&fixture.node.runs())
}
