//! If the API server, or a webhook that it calls, does not respond, no failure is counted, and
//! everything continues afterwards.

use crate::fixture::{Fixture, PATIENCE, condition, item};
use crate::helpers::{Barrier, history, text, until_refused};
use anyhow::{Result, ensure};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::Api;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Waits until the operator's log contains these words.
async fn until_logged(fixture: &Fixture, words: &str) -> Result<()> {
    let start = Instant::now();
    while !fixture.operator().log().contains(words) {
        ensure!(start.elapsed() < PATIENCE, "not logged: {words}");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test]
async fn api_server_outage_counts_no_failure() -> Result<()> {
    let fixture = Fixture::with_own_plane("outage").await?;
    let barrier = Barrier::new()?;
    fixture.work(&barrier.wait(), json!({})).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    let pod = fixture.until_running().await?;
    fixture.plane.stop_api_server().await;
    // The run ends while the API server is down.
    barrier.release()?;
    until_logged(&fixture, "interrupted").await?;
    sleep(Duration::from_secs(2)).await;
    fixture.plane.start_api_server().await?;
    let group = fixture
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
    assert_eq!(fixture.node.runs().len(), 2);
    assert_eq!(Some(&fixture.node.runs()[0].uid), pod.metadata.uid.as_ref());
    Ok(())
}

/// Creates a webhook for every pod of the namespace that has no server.
async fn silent_webhook(fixture: &Fixture) -> Result<Api<ValidatingWebhookConfiguration>> {
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": fixture.namespace },
        "webhooks": [{
            "name": "nobody.example.com",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "timeoutSeconds": 1,
            // No process listens on this port.
            "clientConfig": { "url": "https://127.0.0.1:1/" },
            "namespaceSelector": { "matchLabels": {
                "kubernetes.io/metadata.name": fixture.namespace,
            } },
            "rules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                "resources": ["pods"],
            }],
        }],
    });
    fixture.plane.apply(&webhook.to_string()).await?;
    until_refused(fixture, "any").await?;
    Ok(Api::all(fixture.client.clone()))
}

#[tokio::test]
async fn unresponsive_webhook_counts_no_failure() -> Result<()> {
    let fixture = Fixture::new("webhook").await?;
    fixture.work("true", json!({})).await?;
    fixture
        .until_object("OaatType", "work", "the type is checked", |t| {
            condition(t, "Valid").0 == "True"
        })
        .await?;
    let webhooks = silent_webhook(&fixture).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    let group = fixture
        .until("the message shows the problem", |g| {
            text(&g["status"]["message"]).contains("nobody.example.com")
        })
        .await?;
    assert!(history(&group).is_empty(), "{group:#}");

    webhooks
        .delete(&fixture.namespace, &Default::default())
        .await?;
    let group = fixture
        .until("both run", |g| g["status"]["state"] == "Idle")
        .await?;
    assert_eq!(history(&group).len(), 2, "{group:#}");
    for name in ["a", "b"] {
        assert!(item(&group, name)["failures"].is_null(), "{group:#}");
        assert_eq!(item(&group, name)["runs"], 1, "{group:#}");
    }
    Ok(())
}

#[tokio::test]
async fn run_is_recorded_and_reported_although_the_next_pod_cannot_be_created() -> Result<()> {
    let fixture = Fixture::new("webhook-record").await?;
    let barrier = Barrier::new()?;
    fixture.work(&barrier.wait(), json!({})).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    fixture.until_running().await?;
    silent_webhook(&fixture).await?;
    barrier.release()?;
    let group = fixture
        .until("the run is recorded", |g| !history(g).is_empty())
        .await?;
    assert_eq!(history(&group)[0]["result"], "Succeeded", "{group:#}");
    assert!(group["status"]["current"].is_null(), "{group:#}");
    let note = fixture.until_event("group", "Succeeded").await?;
    assert!(note.contains("run 1"), "{note}");
    Ok(())
}
