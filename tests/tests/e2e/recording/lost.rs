//! Pods that do not end by themselves: evicted, on a lost node, or deleted by hand.

use crate::fixture::{Fixture, item};
use crate::helpers::{Barrier, GROUP_LABEL, history, latest, runnable, text};
use anyhow::{Result, ensure};
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};

/// Creates a group of one item that runs until it is ended, and is not retried.
async fn running(namespace: &str, script: &str) -> Result<(Fixture, String)> {
    let fixture = Fixture::new(namespace).await?;
    fixture.work(script, json!({})).await?;
    fixture
        .group(&["a"], json!({"failureCoolOff": "1h"}))
        .await?;
    let pod = fixture.until_running().await?.name_any();
    Ok((fixture, pod))
}

/// Checks that exactly one failure is recorded, with one of these reasons.
async fn ensure_one_failure(fixture: &Fixture, reasons: &[&str]) -> Result<Value> {
    fixture.until_recorded("a").await?;
    let group = fixture.look().await?;
    ensure!(item(&group, "a")["failures"] == 1, "{group:#}");
    ensure!(item(&group, "a")["runs"] == 1, "{group:#}");
    ensure!(item(&group, "a")["lastSuccess"].is_null(), "{group:#}");
    ensure!(history(&group).len() == 1, "{group:#}");
    let run = latest(&group)?;
    ensure!(reasons.contains(&&*text(&run["reason"])), "{run}");
    let said = text(&item(&group, "a")["message"]);
    ensure!(said.contains(&text(&run["message"])), "{said}");
    Ok(group)
}

const LONG: &str = "sleep 600";
/// Exits with 0 at SIGTERM. The process group receives it, so the child must not determine the exit
/// code.
const OBEDIENT: &str = "trap 'exit 0' TERM; while true; do sleep 0.1; done";

#[tokio::test]
async fn eviction_is_one_failure_with_its_reason() -> Result<()> {
    let (fixture, pod) = running("evicted", LONG).await?;
    fixture.node.evict(&fixture.namespace, &pod).await?;
    let group = ensure_one_failure(&fixture, &["Evicted"]).await?;
    assert!(text(&latest(&group)?["message"]).contains("low on resource"));
    Ok(())
}

#[tokio::test]
async fn run_past_its_deadline_is_one_failure_with_its_reason() -> Result<()> {
    let fixture = Fixture::new("lost-deadline").await?;
    let deadline = json!({ "podspec": { "activeDeadlineSeconds": 1 } });
    fixture.work(LONG, deadline).await?;
    fixture
        .group(&["a"], json!({"failureCoolOff": "1h"}))
        .await?;
    ensure_one_failure(&fixture, &["DeadlineExceeded"]).await?;
    Ok(())
}

#[tokio::test]
async fn pod_on_a_lost_node_is_one_failure_once_it_is_gone() -> Result<()> {
    let (fixture, pod) = running("node-lost", LONG).await?;
    // The pod garbage collector marks a pod of a missing node as failed, and removes it. The
    // container's status still shows that it runs.
    let lost = json!({ "phase": "Failed", "reason": "NodeLost", "message": "node is gone" });
    fixture.write_pod_status(&pod, lost).await?;
    let group = fixture.look().await?;
    assert_eq!(group["status"]["pod"], pod, "{group:#}");
    let now = DeleteParams::default().grace_period(0);
    fixture.pods().delete(&pod, &now).await?;
    ensure_one_failure(&fixture, &["PodDisappeared", "NodeLost"]).await?;
    Ok(())
}

#[tokio::test]
async fn running_pod_deleted_by_hand_is_one_failure() -> Result<()> {
    let (fixture, pod) = running("lost", LONG).await?;
    fixture.delete_pod(&pod).await?;
    ensure_one_failure(&fixture, &["PodDisappeared", "PodDeleted"]).await?;
    Ok(())
}

#[tokio::test]
async fn force_deleted_running_pod_is_pod_disappeared() -> Result<()> {
    let (fixture, pod) = running("lost-force", LONG).await?;
    let now = DeleteParams::default().grace_period(0);
    fixture.pods().delete(&pod, &now).await?;
    ensure_one_failure(&fixture, &["PodDisappeared"]).await?;
    Ok(())
}

#[tokio::test]
async fn running_pod_deleted_while_the_operator_is_down_is_pod_disappeared() -> Result<()> {
    let (mut fixture, pod) = running("lost-down", LONG).await?;
    fixture.take_operator().kill().await;
    fixture.delete_pod(&pod).await?;
    fixture.until_pod_gone(&pod).await?;
    fixture.start_operator().await?;
    ensure_one_failure(&fixture, &["PodDisappeared"]).await?;
    Ok(())
}

#[tokio::test]
async fn exit_0_after_a_deletion_by_hand_is_a_failure() -> Result<()> {
    let (fixture, pod) = running("lost-exit-0", OBEDIENT).await?;
    fixture.delete_pod(&pod).await?;
    ensure_one_failure(&fixture, &["PodDisappeared", "PodDeleted"]).await?;
    Ok(())
}

#[tokio::test]
async fn exit_0_after_a_deletion_by_hand_is_a_failure_when_the_operator_was_down() -> Result<()> {
    let (mut fixture, pod) = running("lost-exit-0-down", OBEDIENT).await?;
    fixture.take_operator().kill().await;
    fixture.delete_pod(&pod).await?;
    fixture.until_pod_gone(&pod).await?;
    fixture.start_operator().await?;
    ensure_one_failure(&fixture, &["PodDisappeared"]).await?;
    Ok(())
}

#[tokio::test]
async fn pod_deleted_before_it_started_is_one_failure() -> Result<()> {
    let fixture = Fixture::new("lost-pending").await?;
    fixture.node.hold(true);
    fixture.work("true", json!({})).await?;
    fixture
        .group(&["a"], json!({"failureCoolOff": "1h"}))
        .await?;
    let group = fixture
        .until("it is started", |g| g["status"]["pod"].is_string())
        .await?;
    let pod = text(&group["status"]["pod"]);
    fixture.until_pod(&pod, "may run", runnable).await?;
    fixture.delete_pod(&pod).await?;
    ensure_one_failure(&fixture, &["PodDisappeared", "PodDeleted"]).await?;
    assert_eq!(fixture.node.runs(), []);
    Ok(())
}

#[tokio::test]
async fn exit_0_after_a_deletion_by_hand_is_a_failure_whatever_the_nodes_clock_says() -> Result<()>
{
    let fixture = Fixture::new("lost-clock-behind").await?;
    fixture.node.set_clock_skew(-10 * 365 * 24 * 3600);
    fixture.work(OBEDIENT, json!({})).await?;
    fixture
        .group(&["a"], json!({"failureCoolOff": "1h"}))
        .await?;
    let pod = fixture.until_running().await?.name_any();
    fixture.delete_pod(&pod).await?;
    ensure_one_failure(&fixture, &["PodDisappeared", "PodDeleted"]).await?;
    Ok(())
}

#[tokio::test]
async fn run_whose_pod_lost_its_labels_is_recorded_when_it_ends() -> Result<()> {
    let fixture = Fixture::new("lost-label").await?;
    let barrier = Barrier::new()?;
    fixture.work(&barrier.wait(), json!({})).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    let pod = fixture.until_running().await?.name_any();
    fixture
        .kubectl(&["label", "pod", &pod, &format!("{GROUP_LABEL}-")])
        .await?;
    fixture.look().await?;
    fixture.ensure_alone(&pod).await?;
    barrier.release()?;
    let group = fixture
        .until("both succeed", |g| {
            ["a", "b"]
                .iter()
                .all(|name| item(g, name)["lastSuccess"].is_string())
        })
        .await?;
    assert_eq!(history(&group).len(), 2, "{group:#}");
    Ok(())
}
