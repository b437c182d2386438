//! Pods that are deleted by hand while they run.

use std::time::Duration;

use anyhow::{Result, ensure};
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::place::{AT_THE_DOOR, JOURNAL, Place, alternating, history, item, text};

/// A process that ignores SIGTERM: no second pod while it is Terminating.
pub async fn a_process_deaf_to_sigterm_keeps_the_next_one_out(place: Place) -> Result<()> {
    let deaf = format!("trap '' TERM; {JOURNAL}; start; {AT_THE_DOOR}; end");
    let more = json!({ "terminationGracePeriodSeconds": 10 });
    place.work(&deaf, more).await?;
    place.group(&["a", "b"], json!({})).await?;
    let pod = place.until_running().await?;
    place.delete_pod(&pod).await?;
    place
        .until("the message says that it is being deleted", |g| {
            let message = text(&g["status"]["message"]);
            message.contains(&pod) && message.contains("being deleted")
        })
        .await?;
    ensure!(place.witness.opened()? == [pod.as_str()]);
    // Its grace runs out, the kubelet kills it, and the other item's turn comes.
    let group = place
        .until("the next one starts", |g| {
            let next = text(&g["status"]["current"]["podName"]);
            !next.is_empty() && next != pod
        })
        .await?;
    ensure!(failures(&group) == 1, "{group:#}");
    let first = place.journal();
    ensure!(
        first.iter().any(|line| *line == format!("start {pod}")),
        "{first:?}"
    );
    ensure!(
        !first.contains(&format!("end {pod}")),
        "it was killed: {first:?}"
    );
    place.open_door()?;
    let group = place
        .until("the other one succeeds", |g| {
            ["a", "b"]
                .iter()
                .any(|name| item(g, name)["lastSuccess"].is_string())
        })
        .await?;
    ensure!(
        history(&group).len() == 2 && failures(&group) == 1,
        "{group:#}"
    );
    ensure!(place.witness.opened()?.len() == 2);
    Ok(())
}

/// A process that ends with 0 because it was told to stop has not done its work.
pub async fn a_deleted_pod_that_exits_with_0_is_a_failure(place: Place) -> Result<()> {
    let polite = format!("trap 'end; exit 0' TERM; {JOURNAL}; start; {AT_THE_DOOR}");
    place.work(&polite, json!({})).await?;
    place.group(&["a"], json!({})).await?;
    let pod = place.until_running().await?;
    until_written(&place, 1).await?;
    place.delete_pod(&pod).await?;
    let group = place.until_runs("a", 1).await?;
    ensure!(
        alternating(&place.journal())? == [pod],
        "{:?}",
        place.journal()
    );
    ensure!(item(&group, "a")["failures"] == 1, "{group:#}");
    ensure!(item(&group, "a")["lastSuccess"].is_null(), "{group:#}");
    Ok(())
}

/// The same while no operator is there.
pub async fn a_pod_deleted_while_the_operator_is_down_is_a_failure(mut place: Place) -> Result<()> {
    let polite = format!("trap 'exit 0' TERM; {JOURNAL}; start; {AT_THE_DOOR}");
    place.work(&polite, json!({})).await?;
    place.group(&["a"], json!({})).await?;
    let pod = place.until_running().await?;
    until_written(&place, 1).await?;
    place.kill_operator().await;
    place.delete_pod(&pod).await?;
    while place.pods().get_opt(&pod).await?.is_some() {
        sleep(Duration::from_millis(200)).await;
    }
    place.start_operator().await?;
    let group = place.until_runs("a", 1).await?;
    ensure!(
        history(&group).len() == 1 && failures(&group) == 1,
        "{group:#}"
    );
    Ok(())
}

/// A group that is deleted takes its pod with it, also while the operator is down, and one of
/// the same name made at once waits for the old pod's end.
pub async fn a_replaced_group_waits_for_the_old_pods_end(place: Place) -> Result<()> {
    let deaf = format!("trap '' TERM; {JOURNAL}; start; {AT_THE_DOOR}; end");
    let more = json!({ "terminationGracePeriodSeconds": 8 });
    place.work(&deaf, more).await?;
    place.group(&["a"], json!({})).await?;
    let old = place.until_running().await?;
    place
        .api("OaatGroup")
        .delete("group", &Default::default())
        .await?;
    while place.api("OaatGroup").get_opt("group").await?.is_some() {
        sleep(Duration::from_millis(100)).await;
    }
    place.group(&["a"], json!({})).await?;
    place
        .until("the new group is blocked by the old pod", |g| {
            g["status"]["state"] == "Blocked" && text(&g["status"]["message"]).contains(&old)
        })
        .await?;
    place.open_door()?;
    let group = place.until_runs("a", 1).await?;
    ensure!(item(&group, "a")["lastSuccess"].is_string(), "{group:#}");
    ensure!(history(&group).len() == 1, "{group:#}");
    let left: Vec<_> = place.pods().list(&Default::default()).await?.items;
    ensure!(
        left.iter().all(|pod| pod.name_any() != old),
        "it is still there"
    );
    ensure!(place.witness.opened()?.len() == 2);
    Ok(())
}

/// Waits until containers have written this many lines.
async fn until_written(place: &Place, lines: usize) -> Result<()> {
    place
        .until("containers write", |_| place.journal().len() >= lines)
        .await?;
    Ok(())
}

fn failures(group: &Value) -> i64 {
    ["a", "b"]
        .iter()
        .filter_map(|name| item(group, name)["failures"].as_i64())
        .sum()
}
