//! When the API server, or a webhook that it asks, does not answer: nobody's fault, so
//! nothing is counted, and all goes on by itself.

use crate::by_hand::{Door, history, text, until_refused};
use crate::world::{PATIENCE, World, condition, item};
use anyhow::{Result, ensure};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::Api;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Waits until the operator's log speaks of something.
async fn until_logged(world: &World, words: &str) -> Result<()> {
    let start = Instant::now();
    while !world.operator().log().contains(words) {
        ensure!(start.elapsed() < PATIENCE, "not logged: {words}");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test]
async fn an_outage_of_the_api_server_counts_for_nothing() -> Result<()> {
    let world = World::with_own_plane("outage").await?;
    let door = Door::new()?;
    world.work(&door.wait(), json!({})).await?;
    world.group(&["a", "b"], json!({})).await?;
    let pod = world.until_running().await?;
    world.plane.stop_api_server().await;
    // The run ends while nobody can be told.
    door.open()?;
    until_logged(&world, "interrupted").await?;
    sleep(Duration::from_secs(2)).await;
    world.plane.start_api_server().await?;
    let group = world
        .until("both succeed", |g| {
            ["a", "b"]
                .iter()
                .all(|name| item(g, name)["lastSuccess"].is_string())
        })
        .await?;
    for run in history(&group) {
        assert_eq!(run["result"], "Succeeded", "{group:#}");
    }
    assert_eq!(history(&group).len(), 2, "{group:#}");
    assert_eq!(world.node.runs().len(), 2);
    assert_eq!(Some(&world.node.runs()[0].uid), pod.metadata.uid.as_ref());
    Ok(())
}

/// A webhook that every pod of the namespace depends on and that nobody serves.
async fn silent_webhook(world: &World) -> Result<Api<ValidatingWebhookConfiguration>> {
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": world.namespace },
        "webhooks": [{
            "name": "nobody.example.com",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "timeoutSeconds": 1,
            // The port of nobody.
            "clientConfig": { "url": "https://127.0.0.1:1/" },
            "namespaceSelector": { "matchLabels": {
                "kubernetes.io/metadata.name": world.namespace,
            } },
            "rules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                "resources": ["pods"],
            }],
        }],
    });
    world.plane.apply(&webhook.to_string()).await?;
    until_refused(world, "any").await?;
    Ok(Api::all(world.client.clone()))
}

#[tokio::test]
async fn a_webhook_that_does_not_answer_counts_for_nothing() -> Result<()> {
    let world = World::new("webhook").await?;
    world.work("true", json!({})).await?;
    world
        .until_object("OaatType", "work", "the type is checked", |t| {
            condition(t, "Valid").0 == "True"
        })
        .await?;
    let webhooks = silent_webhook(&world).await?;
    world.group(&["a", "b"], json!({})).await?;
    let group = world
        .until("the message says what is wrong", |g| {
            text(&g["status"]["message"]).contains("nobody.example.com")
        })
        .await?;
    assert!(history(&group).is_empty(), "{group:#}");

    webhooks
        .delete(&world.namespace, &Default::default())
        .await?;
    let group = world
        .until("both run", |g| g["status"]["state"] == "Idle")
        .await?;
    assert_eq!(history(&group).len(), 2, "{group:#}");
    for name in ["a", "b"] {
        assert_eq!(item(&group, name)["failures"], 0, "{group:#}");
        assert_eq!(item(&group, name)["runs"], 1, "{group:#}");
    }
    Ok(())
}

#[tokio::test]
async fn a_run_is_recorded_and_told_although_the_next_pod_cannot_be_created() -> Result<()> {
    let world = World::new("webhook-record").await?;
    let door = Door::new()?;
    world.work(&door.wait(), json!({})).await?;
    world.group(&["a", "b"], json!({})).await?;
    world.until_running().await?;
    silent_webhook(&world).await?;
    door.open()?;
    let group = world
        .until("the run is recorded", |g| !history(g).is_empty())
        .await?;
    assert_eq!(history(&group)[0]["result"], "Succeeded", "{group:#}");
    assert!(group["status"]["current"].is_null(), "{group:#}");
    let note = world.until_event("group", "Succeeded").await?;
    assert!(note.contains("run 1"), "{note}");
    Ok(())
}
