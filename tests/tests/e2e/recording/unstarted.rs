//! Pods that do not get to start.

use crate::by_hand::{history, latest, text};
use crate::world::{World, condition, item, millis};
use anyhow::Result;
use serde_json::{Value, json};

/// The reason shows while the pod waits, and after startTimeout the run has failed.
async fn shows_and_gives_up(world: &World, podspec: Value, words: &str) -> Result<()> {
    world.work("true", json!({ "podspec": podspec })).await?;
    let patient = json!({"startTimeout": "4s", "failureCoolOff": "1h"});
    world.group(&["a"], patient).await?;
    let group = world
        .until("the message says why it does not start", |g| {
            text(&g["status"]["message"]).contains(words)
        })
        .await?;
    assert_eq!(group["status"]["state"], "Running", "{group:#}");
    assert!(history(&group).is_empty(), "{group:#}");
    assert_eq!(condition(&group, "Running").1, "NotStarted");
    let pod = text(&group["status"]["pod"]);

    let group = world.until_recorded("a").await?;
    world.until_pod_gone(&pod).await?;
    assert_eq!(item(&group, "a")["failures"], 1, "{group:#}");
    let run = latest(&group)?;
    assert_eq!(
        (&run["reason"], &run["result"]),
        (&json!("StartTimeout"), &json!("Failed"))
    );
    assert!(text(&run["message"]).contains(words), "{run}");
    // The rest after a failure begins when the pod was given up, not when it was made.
    let waited = millis(&item(&group, "a")["lastFailure"]) - millis(&run["started"]);
    assert!(waited >= 4000, "{waited} ms: {run}");
    let note = world.until_event("group", "StartTimeout").await?;
    assert!(note.contains(words), "{note}");
    let group = world.look().await?;
    assert_eq!(history(&group).len(), 1, "{group:#}");
    assert_eq!(world.node.runs(), []);
    Ok(())
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_shows_at_once_and_fails_after_the_timeout() -> Result<()> {
    let world = World::new("no-image").await?;
    let podspec = json!({ "container": { "image": "missing/x" } });
    shows_and_gives_up(&world, podspec, "missing/x").await
}

#[tokio::test]
async fn a_pod_that_fits_no_node_shows_at_once_and_fails_after_the_timeout() -> Result<()> {
    let world = World::new("no-node").await?;
    let podspec = json!({ "nodeSelector": { "disk": "golden" } });
    shows_and_gives_up(&world, podspec, "is not scheduled").await
}

#[tokio::test]
async fn a_deletion_for_the_timeout_is_seen_through_by_the_next_operator() -> Result<()> {
    let mut world = World::new("no-node-killed").await?;
    world
        .work(
            "true",
            json!({ "podspec": { "nodeSelector": { "disk": "golden" } } }),
        )
        .await?;
    let patient = json!({"startTimeout": "1s", "failureCoolOff": "1h"});
    world.group(&["a"], patient).await?;
    world
        .until("it is started", |g| g["status"]["pod"].is_string())
        .await?;
    world.take_operator().kill().await;
    world.start_operator().await?;
    let group = world.until_recorded("a").await?;
    assert_eq!(item(&group, "a")["failures"], 1, "{group:#}");
    assert_eq!(latest(&group)?["reason"], "StartTimeout");
    Ok(())
}
