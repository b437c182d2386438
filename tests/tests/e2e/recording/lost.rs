//! Pods that do not end by themselves: evicted, on a lost node, deleted by hand.

use crate::by_hand::{Door, GROUP_LABEL, history, latest, runnable, text};
use crate::world::{World, item};
use anyhow::{Result, ensure};
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};

/// A group of one item that runs until someone ends it, and is not tried again.
async fn running(namespace: &str, script: &str) -> Result<(World, String)> {
    let world = World::new(namespace).await?;
    world.work(script, json!({})).await?;
    world.group(&["a"], json!({"failureCoolOff": "1h"})).await?;
    let pod = world.until_running().await?.name_any();
    Ok((world, pod))
}

/// One failure, for one of these reasons, and that stays so.
async fn ensure_one_failure(world: &World, reasons: &[&str]) -> Result<Value> {
    world.until_recorded("a").await?;
    let group = world.look().await?;
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
/// Ends well when it is asked to end. It is asked to as a process group, so its child
/// must not be the one that ends badly.
const OBEDIENT: &str = "trap 'exit 0' TERM; while true; do sleep 0.1; done";

#[tokio::test]
async fn an_eviction_is_one_failure_with_the_reason() -> Result<()> {
    let (world, pod) = running("evicted", LONG).await?;
    world.node.evict(&world.namespace, &pod).await?;
    let group = ensure_one_failure(&world, &["Evicted"]).await?;
    assert!(text(&latest(&group)?["message"]).contains("low on resource"));
    Ok(())
}

#[tokio::test]
async fn a_run_that_takes_longer_than_its_deadline_is_one_failure_with_the_reason() -> Result<()> {
    let world = World::new("lost-deadline").await?;
    let deadline = json!({ "podspec": { "activeDeadlineSeconds": 1 } });
    world.work(LONG, deadline).await?;
    world.group(&["a"], json!({"failureCoolOff": "1h"})).await?;
    ensure_one_failure(&world, &["DeadlineExceeded"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_pod_on_a_lost_node_is_one_failure_and_only_once_it_is_gone() -> Result<()> {
    let (world, pod) = running("node-lost", LONG).await?;
    // What the pod garbage collector does about a pod whose node is gone: it says that
    // the pod has failed, and removes it. The container is still told to run.
    let lost = json!({ "phase": "Failed", "reason": "NodeLost", "message": "node is gone" });
    world.write_pod_status(&pod, lost).await?;
    let group = world.look().await?;
    assert_eq!(group["status"]["pod"], pod, "{group:#}");
    let now = DeleteParams::default().grace_period(0);
    world.pods().delete(&pod, &now).await?;
    ensure_one_failure(&world, &["PodDisappeared", "NodeLost"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_running_pod_deleted_by_hand_is_one_failure() -> Result<()> {
    let (world, pod) = running("lost", LONG).await?;
    world.delete_pod(&pod).await?;
    ensure_one_failure(&world, &["PodDisappeared", "PodDeleted"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_running_pod_deleted_by_force_has_disappeared() -> Result<()> {
    let (world, pod) = running("lost-force", LONG).await?;
    let now = DeleteParams::default().grace_period(0);
    world.pods().delete(&pod, &now).await?;
    ensure_one_failure(&world, &["PodDisappeared"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_running_pod_deleted_while_the_operator_is_down_has_disappeared() -> Result<()> {
    let (mut world, pod) = running("lost-down", LONG).await?;
    world.take_operator().kill().await;
    world.delete_pod(&pod).await?;
    world.until_pod_gone(&pod).await?;
    world.start_operator().await?;
    ensure_one_failure(&world, &["PodDisappeared"]).await?;
    Ok(())
}

#[tokio::test]
async fn exit_0_after_a_deletion_by_hand_is_a_failure() -> Result<()> {
    let (world, pod) = running("lost-exit-0", OBEDIENT).await?;
    world.delete_pod(&pod).await?;
    ensure_one_failure(&world, &["PodDisappeared", "PodDeleted"]).await?;
    Ok(())
}

#[tokio::test]
async fn exit_0_after_a_deletion_by_hand_is_a_failure_when_the_operator_was_down() -> Result<()> {
    let (mut world, pod) = running("lost-exit-0-down", OBEDIENT).await?;
    world.take_operator().kill().await;
    world.delete_pod(&pod).await?;
    world.until_pod_gone(&pod).await?;
    world.start_operator().await?;
    ensure_one_failure(&world, &["PodDisappeared"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_pod_deleted_before_it_started_is_one_failure() -> Result<()> {
    let world = World::new("lost-pending").await?;
    world.node.hold(true);
    world.work("true", json!({})).await?;
    world.group(&["a"], json!({"failureCoolOff": "1h"})).await?;
    let group = world
        .until("it is started", |g| g["status"]["pod"].is_string())
        .await?;
    let pod = text(&group["status"]["pod"]);
    world.until_pod(&pod, "may run", runnable).await?;
    world.delete_pod(&pod).await?;
    ensure_one_failure(&world, &["PodDisappeared", "PodDeleted"]).await?;
    assert_eq!(world.node.runs(), []);
    Ok(())
}

#[tokio::test]
async fn exit_0_after_a_deletion_by_hand_is_a_failure_whatever_the_nodes_clock_says() -> Result<()>
{
    let world = World::new("lost-clock-behind").await?;
    world.node.set_clock_skew(-10 * 365 * 24 * 3600);
    world.work(OBEDIENT, json!({})).await?;
    world.group(&["a"], json!({"failureCoolOff": "1h"})).await?;
    let pod = world.until_running().await?.name_any();
    world.delete_pod(&pod).await?;
    ensure_one_failure(&world, &["PodDisappeared", "PodDeleted"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_run_whose_pod_lost_its_labels_is_recorded_when_it_ends() -> Result<()> {
    let world = World::new("lost-label").await?;
    let door = Door::new()?;
    world.work(&door.wait(), json!({})).await?;
    world.group(&["a", "b"], json!({})).await?;
    let pod = world.until_running().await?.name_any();
    world
        .kubectl(&["label", "pod", &pod, &format!("{GROUP_LABEL}-")])
        .await?;
    world.look().await?;
    world.ensure_alone(&pod).await?;
    door.open()?;
    let group = world
        .until("both succeed", |g| {
            ["a", "b"]
                .iter()
                .all(|name| item(g, name)["lastSuccess"].is_string())
        })
        .await?;
    assert_eq!(history(&group).len(), 2, "{group:#}");
    Ok(())
}
