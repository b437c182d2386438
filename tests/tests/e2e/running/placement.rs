//! Groups of the same name in two namespaces, and types with a node name.

use crate::fixture::{Fixture, item};
use crate::helpers::{Barrier, ensure_apart, history, latest};
use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

#[tokio::test]
async fn groups_of_the_same_name_in_two_namespaces_do_not_mix() -> Result<()> {
    let mut here = Fixture::without_operator("same-name-here").await?;
    let there = Fixture::without_operator("same-name-there").await?;
    here.options.namespaces.push(there.namespace.clone());
    here.start_operator().await?;
    let barrier = Barrier::new()?;
    here.work(&barrier.wait(), json!({})).await?;
    there
        .work(&format!("{}; exit 3", barrier.wait()), json!({}))
        .await?;
    here.group(&["a"], json!({})).await?;
    there.group(&["a"], json!({"failureCoolOff": "1h"})).await?;

    // Both run at the same time, so neither blocks the other.
    here.until_running().await?;
    there.until_running().await?;
    barrier.release()?;
    let group = here.until_recorded("a").await?;
    assert!(item(&group, "a")["failures"].is_null(), "{group:#}");
    let group = there.until_recorded("a").await?;
    assert_eq!(item(&group, "a")["failures"], 1, "{group:#}");
    assert_eq!(latest(&group)?["exitCode"], 3);
    assert_eq!((here.node.runs().len(), there.node.runs().len()), (1, 1));
    Ok(())
}

#[tokio::test]
async fn type_with_a_node_name_runs_on_that_node() -> Result<()> {
    let fixture = Fixture::new("node-name").await?;
    let node = fixture.node.name().to_owned();
    fixture
        .work("true", json!({ "podspec": { "nodeName": node } }))
        .await?;
    fixture.group(&["a"], json!({})).await?;
    let group = fixture.until_recorded("a").await?;
    assert!(item(&group, "a")["lastSuccess"].is_string(), "{group:#}");
    let pods = fixture.list_pods().await?;
    let on = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    assert_eq!(pods.iter().map(on).collect::<Vec<_>>(), [Some(node)]);
    Ok(())
}

#[tokio::test]
async fn pod_for_a_missing_node_waits_and_is_reported() -> Result<()> {
    let fixture = Fixture::new("node-name-other").await?;
    fixture
        .work("true", json!({ "podspec": { "nodeName": "elsewhere" } }))
        .await?;
    fixture.group(&["a"], json!({})).await?;
    fixture
        .until("the message shows the reason", |g| {
            let message = g["status"]["message"].as_str().unwrap_or_default();
            message.contains("is not scheduled")
        })
        .await?;
    assert_eq!(fixture.node.runs(), []);
    Ok(())
}

#[tokio::test]
async fn group_with_a_name_longer_than_a_label_runs_one_at_a_time() -> Result<()> {
    let fixture = Fixture::new("long-name").await?;
    fixture.work("sleep 0.1", json!({})).await?;
    let name = "long.".repeat(40) + "name";
    let group = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup", "metadata": { "name": name },
        "spec": { "oaatType": "work", "oaatItems": ["a", "b", "c"] },
    });
    fixture.apply(&group.to_string()).await?;
    let group = fixture
        .until_object("OaatGroup", &name, "all are done", |g| {
            g["status"]["state"] == "Idle"
        })
        .await?;
    assert_eq!(history(&group).len(), 3, "{group:#}");
    ensure_apart(&fixture.node.runs())
}
