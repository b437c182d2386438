//! The thinnest slice of the whole: a group's items run one after the other.

use crate::world::World;
use anyhow::Result;
use serde_json::json;

#[tokio::test]
async fn the_items_of_a_group_run_one_after_the_other() -> Result<()> {
    let world = World::new("first-slice").await?;
    world
        .work("echo working on $OAAT_ITEM; sleep 0.1", json!({}))
        .await?;
    world.group(&["a", "b"], json!({"frequency": "1h"})).await?;
    let group = world
        .until("both items succeed", |g| {
            ["a", "b"]
                .iter()
                .all(|i| g["status"]["items"][i]["lastSuccess"].is_string())
                && g["status"]["state"] == "Idle"
        })
        .await?;
    assert_eq!(group["status"]["run"], 2, "{group:#}");
    let runs = world.node.runs();
    assert_eq!(runs.len(), 2);
    Ok(())
}
