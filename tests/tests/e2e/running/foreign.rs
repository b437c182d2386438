//! Pods that bear a group's label and are not the group's.

use crate::by_hand::{Door, GROUP_LABEL, ensure_apart, history};
use crate::world::{World, condition, item};
use anyhow::Result;
use kube::ResourceExt;
use serde_json::json;

fn stranger() -> serde_json::Value {
    json!({ "name": "stranger", "labels": { GROUP_LABEL: "group" } })
}

#[tokio::test]
async fn a_foreign_pod_blocks_the_group_is_named_and_the_group_goes_on_when_it_ends() -> Result<()>
{
    let world = World::new("foreign-first").await?;
    let door = Door::new()?;
    world.pod_by_hand(stranger(), &door.wait(), false).await?;
    world.work("true", json!({})).await?;
    world.group(&["a"], json!({})).await?;
    let group = world
        .until("the group is blocked", |g| {
            g["status"]["state"] == "Blocked"
        })
        .await?;
    let message = group["status"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("pod stranger"), "{message}");
    let (status, reason, words) = condition(&group, "Ready");
    assert_eq!((&*status, &*reason), ("False", "ForeignPod"));
    assert!(words.contains("pod stranger"), "{words}");
    world.look().await?;
    world.ensure_alone("stranger").await?;

    door.open()?;
    let group = world.until_recorded("a").await?;
    assert_eq!(item(&group, "a")["failures"], 0, "{group:#}");
    assert_eq!(history(&group).len(), 1, "{group:#}");
    let stranger = world.pods().get("stranger").await?;
    assert_eq!(stranger.metadata.deletion_timestamp, None);
    ensure_apart(&world.node.runs())
}

#[tokio::test]
async fn a_foreign_pod_beside_the_current_one_does_that_one_no_harm() -> Result<()> {
    let world = World::new("foreign-later").await?;
    let (own, foreign) = (Door::new()?, Door::new()?);
    world.work(&own.wait(), json!({})).await?;
    world.group(&["a", "b"], json!({})).await?;
    let pod = world.until_running().await?;
    world
        .pod_by_hand(stranger(), &foreign.wait(), false)
        .await?;
    world
        .until("the message names it", |g| {
            let message = g["status"]["message"].as_str().unwrap_or_default();
            g["status"]["pod"] == pod.name_any() && message.contains("pod stranger")
        })
        .await?;
    let ours = world.pods().get(&pod.name_any()).await?;
    assert_eq!(ours.metadata.deletion_timestamp, None);

    own.open()?;
    let group = world
        .until("the run is recorded", |g| !history(g).is_empty())
        .await?;
    assert_eq!(history(&group)[0]["result"], "Succeeded", "{group:#}");
    let looked = world.look().await?;
    assert_eq!(looked["status"]["state"], "Blocked", "{looked:#}");
    assert_eq!(looked["status"]["run"], 1, "{looked:#}");
    world.ensure_alone("stranger").await?;

    world.delete_pod("stranger").await?;
    let group = world
        .until("the other item runs", |g| g["status"]["state"] == "Idle")
        .await?;
    assert_eq!(history(&group).len(), 2, "{group:#}");
    Ok(())
}

#[tokio::test]
async fn a_foreign_pod_that_is_relabelled_blocks_no_longer() -> Result<()> {
    let world = World::new("foreign-relabelled").await?;
    let door = Door::new()?;
    world.pod_by_hand(stranger(), &door.wait(), false).await?;
    world.work("true", json!({})).await?;
    world.group(&["a"], json!({})).await?;
    world
        .until("the group is blocked", |g| {
            g["status"]["state"] == "Blocked"
        })
        .await?;
    let label = format!("{GROUP_LABEL}=elsewhere");
    world
        .kubectl(&["label", "--overwrite", "pod", "stranger", &label])
        .await?;
    world.until_recorded("a").await?;
    door.open()
}
