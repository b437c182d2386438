//! Somebody wipes a group's status while its pod runs.

use crate::by_hand::{Door, latest};
use crate::world::{World, item};
use anyhow::Result;
use kube::ResourceExt;
use serde_json::{Value, json};

/// A status without anything in it.
async fn wipe(world: &World) -> Result<()> {
    world.write_status(Value::Null).await
}

#[tokio::test]
async fn a_running_pod_is_adopted_after_the_status_was_wiped() -> Result<()> {
    let world = World::new("wiped").await?;
    let door = Door::new()?;
    world.work(&door.wait(), json!({})).await?;
    world.group(&["a"], json!({})).await?;
    let pod = world.until_running().await?;
    wipe(&world).await?;
    let group = world
        .until("the pod is adopted", |g| {
            g["status"]["current"]["podUid"] == json!(pod.uid())
        })
        .await?;
    assert_eq!(group["status"]["currentlyRunning"], "a", "{group:#}");
    assert_eq!(group["status"]["run"], 2, "{group:#}");
    world.ensure_alone(&pod.name_any()).await?;

    door.open()?;
    let group = world.until_recorded("a").await?;
    assert!(item(&group, "a")["lastSuccess"].is_string(), "{group:#}");
    assert_eq!(latest(&group)?["pod"], pod.name_any());
    assert_eq!(world.node.runs().len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_pod_is_adopted_at_the_start_when_the_status_was_wiped_before() -> Result<()> {
    let mut world = World::new("wiped-down").await?;
    let door = Door::new()?;
    world.work(&door.wait(), json!({})).await?;
    world.group(&["a", "b"], json!({})).await?;
    let pod = world.until_running().await?;
    world.take_operator().kill().await;
    wipe(&world).await?;
    world.start_operator().await?;
    world
        .until("the pod is adopted", |g| {
            g["status"]["current"]["podUid"] == json!(pod.uid())
        })
        .await?;
    world.ensure_alone(&pod.name_any()).await?;
    world.until_event("group", "Adopted").await?;
    Ok(())
}
