//! Whatever a pod is in short of its end, it keeps all others out.

use crate::by_hand::{Door, ensure_apart};
use crate::world::{World, item};
use anyhow::Result;
use kube::ResourceExt;
use serde_json::{Value, json};

fn both_succeeded(group: &Value) -> bool {
    ["a", "b"]
        .iter()
        .all(|name| item(group, name)["lastSuccess"].is_string())
}

#[tokio::test]
async fn a_pending_pod_keeps_the_next_one_out() -> Result<()> {
    let world = World::new("phase-pending").await?;
    world.node.hold(true);
    world.work("true", json!({})).await?;
    world.group(&["a", "b"], json!({})).await?;
    let group = world
        .until("an item is started", |g| g["status"]["state"] == "Running")
        .await?;
    let pod = group["status"]["pod"].as_str().unwrap_or_default();
    let looked = world.look().await?;
    assert_eq!(looked["status"]["pod"], pod, "{looked:#}");
    world.ensure_alone(pod).await?;

    world.node.hold(false);
    world.until("both succeed", both_succeeded).await?;
    ensure_apart(&world.node.runs())
}

#[tokio::test]
async fn a_running_pod_keeps_the_next_one_out() -> Result<()> {
    let world = World::new("phase-running").await?;
    let door = Door::new()?;
    world.work(&door.wait(), json!({})).await?;
    world.group(&["a", "b"], json!({})).await?;
    let pod = world.until_running().await?.name_any();
    let looked = world.look().await?;
    assert_eq!(looked["status"]["pod"], pod, "{looked:#}");
    world.ensure_alone(&pod).await?;

    door.open()?;
    world.until("both succeed", both_succeeded).await?;
    ensure_apart(&world.node.runs())
}

#[tokio::test]
async fn a_pod_in_phase_unknown_keeps_the_next_one_out_and_the_group_says_why() -> Result<()> {
    let world = World::new("phase-unknown").await?;
    let door = Door::new()?;
    world.work(&door.wait(), json!({})).await?;
    world.group(&["a", "b"], json!({})).await?;
    let pod = world.until_running().await?.name_any();
    world
        .write_pod_status(&pod, json!({ "phase": "Unknown" }))
        .await?;
    world
        .until("the message says what is wrong", |g| {
            let message = g["status"]["message"].as_str().unwrap_or_default();
            message.contains(&pod) && message.contains("node that does not respond")
        })
        .await?;
    world.look().await?;
    world.ensure_alone(&pod).await?;

    door.open()?;
    let group = world.until("both succeed", both_succeeded).await?;
    assert_eq!(group["status"]["run"], 2, "{group:#}");
    ensure_apart(&world.node.runs())
}

#[tokio::test]
async fn a_pod_that_ignores_its_termination_keeps_the_next_one_out() -> Result<()> {
    let world = World::new("phase-terminating").await?;
    let door = Door::new()?;
    let grace = json!({ "podspec": { "terminationGracePeriodSeconds": 600 } });
    world.work(&door.wait_deaf(), grace).await?;
    world
        .group(&["a", "b"], json!({ "failureCoolOff": "1h" }))
        .await?;
    let pod = world.until_running().await?.name_any();
    world.delete_pod(&pod).await?;
    world
        .until("the message says that it is being deleted", |g| {
            let message = g["status"]["message"].as_str().unwrap_or_default();
            message.contains(&pod) && message.contains("being deleted")
        })
        .await?;
    let looked = world.look().await?;
    assert_eq!(looked["status"]["pod"], pod, "{looked:#}");
    world.ensure_alone(&pod).await?;

    door.open()?;
    let group = world
        .until("the other one succeeds", |g| {
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
    ensure_apart(&world.node.runs())
}
