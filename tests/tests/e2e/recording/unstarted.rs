//! Pods that do not start.

use crate::fixture::{Fixture, condition, item, millis};
use crate::helpers::{history, latest, text};
use anyhow::Result;
use serde_json::{Value, json};

/// Checks that the reason is shown while the pod waits, and that the run fails after startTimeout.
async fn ensure_reason_is_shown_until_the_start_timeout(
    fixture: &Fixture,
    podspec: Value,
    words: &str,
) -> Result<()> {
    fixture.work("true", json!({ "podspec": podspec })).await?;
    let patient = json!({"startTimeout": "10s", "failureCoolOff": "1h"});
    fixture.group(&["a"], patient).await?;
    let group = fixture
        .until("the message shows why the pod does not start", |g| {
            text(&g["status"]["message"]).contains(words)
        })
        .await?;
    assert_eq!(group["status"]["state"], "Running", "{group:#}");
    assert!(history(&group).is_empty(), "{group:#}");
    assert_eq!(condition(&group, "Running").1, "NotStarted");
    let pod = text(&group["status"]["pod"]);

    let group = fixture.until_recorded("a").await?;
    fixture.until_pod_gone(&pod).await?;
    assert_eq!(item(&group, "a")["failures"], 1, "{group:#}");
    let run = latest(&group)?;
    assert_eq!(
        (&run["reason"], &run["result"]),
        (&json!("StartTimeout"), &json!("Failed"))
    );
    assert!(text(&run["message"]).contains(words), "{run}");
    // The cool-off begins when the start timeout ends, not when the pod was created.
    let waited = millis(&item(&group, "a")["lastFailure"]) - millis(&run["started"]);
    assert!(waited >= 10_000, "{waited} ms: {run}");
    let note = fixture.until_event("group", "StartTimeout").await?;
    assert!(note.contains(words), "{note}");
    let group = fixture.look().await?;
    assert_eq!(history(&group).len(), 1, "{group:#}");
    assert_eq!(fixture.node.runs(), []);
    Ok(())
}

#[tokio::test]
async fn image_pull_error_is_reported_at_once_and_fails_after_the_timeout() -> Result<()> {
    let fixture = Fixture::new("no-image").await?;
    let podspec = json!({ "container": { "image": "missing/x" } });
    ensure_reason_is_shown_until_the_start_timeout(&fixture, podspec, "missing/x").await
}

#[tokio::test]
async fn unschedulable_pod_is_reported_at_once_and_fails_after_the_timeout() -> Result<()> {
    let fixture = Fixture::new("no-node").await?;
    let podspec = json!({ "nodeSelector": { "disk": "golden" } });
    ensure_reason_is_shown_until_the_start_timeout(&fixture, podspec, "is not scheduled").await
}

#[tokio::test]
async fn start_timeout_deletion_is_completed_by_the_next_operator() -> Result<()> {
    let mut fixture = Fixture::new("no-node-killed").await?;
    fixture
        .work(
            "true",
            json!({ "podspec": { "nodeSelector": { "disk": "golden" } } }),
        )
        .await?;
    let patient = json!({"startTimeout": "1s", "failureCoolOff": "1h"});
    fixture.group(&["a"], patient).await?;
    fixture
        .until("it is started", |g| g["status"]["pod"].is_string())
        .await?;
    fixture.take_operator().kill().await;
    fixture.start_operator().await?;
    let group = fixture.until_recorded("a").await?;
    assert_eq!(item(&group, "a")["failures"], 1, "{group:#}");
    assert_eq!(latest(&group)?["reason"], "StartTimeout");
    Ok(())
}
