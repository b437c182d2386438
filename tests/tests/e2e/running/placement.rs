//! Groups of the same name in two namespaces, and types that name their node.

use crate::by_hand::{Door, ensure_apart, history, latest};
use crate::world::{World, item};
use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

#[tokio::test]
async fn groups_of_the_same_name_in_two_namespaces_do_not_mix() -> Result<()> {
    let mut here = World::without_operator("same-name-here").await?;
    let there = World::without_operator("same-name-there").await?;
    here.options.namespaces.push(there.namespace.clone());
    here.start_operator().await?;
    let door = Door::new()?;
    here.work(&door.wait(), json!({})).await?;
    there
        .work(&format!("{}; exit 3", door.wait()), json!({}))
        .await?;
    here.group(&["a"], json!({})).await?;
    there.group(&["a"], json!({"failureCoolOff": "1h"})).await?;

    // Both run at the same time, so neither keeps the other out.
    here.until_running().await?;
    there.until_running().await?;
    door.open()?;
    let group = here.until_recorded("a").await?;
    assert_eq!(item(&group, "a")["failures"], 0, "{group:#}");
    let group = there.until_recorded("a").await?;
    assert_eq!(item(&group, "a")["failures"], 1, "{group:#}");
    assert_eq!(latest(&group)?["exitCode"], 3);
    assert_eq!((here.node.runs().len(), there.node.runs().len()), (1, 1));
    Ok(())
}

#[tokio::test]
async fn a_type_that_names_its_node_runs_there() -> Result<()> {
    let world = World::new("node-name").await?;
    let node = world.node.name().to_owned();
    world
        .work("true", json!({ "podspec": { "nodeName": node } }))
        .await?;
    world.group(&["a"], json!({})).await?;
    let group = world.until_recorded("a").await?;
    assert!(item(&group, "a")["lastSuccess"].is_string(), "{group:#}");
    let pods = world.list_pods().await?;
    let on = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    assert_eq!(pods.iter().map(on).collect::<Vec<_>>(), [Some(node)]);
    Ok(())
}

#[tokio::test]
async fn a_pod_for_a_node_that_is_not_there_waits_and_says_so() -> Result<()> {
    let world = World::new("node-name-other").await?;
    world
        .work("true", json!({ "podspec": { "nodeName": "elsewhere" } }))
        .await?;
    world.group(&["a"], json!({})).await?;
    world
        .until("the message says why", |g| {
            let message = g["status"]["message"].as_str().unwrap_or_default();
            message.contains("is not scheduled")
        })
        .await?;
    assert_eq!(world.node.runs(), []);
    Ok(())
}

#[tokio::test]
async fn a_group_whose_name_is_longer_than_a_label_runs_one_at_a_time_too() -> Result<()> {
    let world = World::new("long-name").await?;
    world.work("sleep 0.1", json!({})).await?;
    let name = "long.".repeat(40) + "name";
    let group = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup", "metadata": { "name": name },
        "spec": { "oaatType": "work", "oaatItems": ["a", "b", "c"] },
    });
    world.apply(&group.to_string()).await?;
    let group = world
        .until_object("OaatGroup", &name, "all are done", |g| {
            g["status"]["state"] == "Idle"
        })
        .await?;
    assert_eq!(history(&group).len(), 3, "{group:#}");
    ensure_apart(&world.node.runs())
}
