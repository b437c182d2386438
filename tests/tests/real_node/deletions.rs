//! Pods that are deleted by hand while they run.

use std::time::Duration;

use anyhow::{Result, ensure};
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::fixture::{Fixture, JOURNAL, WAIT_AT_BARRIER, alternating, history, item, text};

/// A process that ignores SIGTERM prevents another pod while its pod is Terminating.
pub async fn process_that_ignores_sigterm_prevents_the_next_start(fixture: Fixture) -> Result<()> {
    let deaf = format!("trap '' TERM; {JOURNAL}; start; {WAIT_AT_BARRIER}; end");
    let more = json!({ "terminationGracePeriodSeconds": 10 });
    fixture.work(&deaf, more).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    let pod = fixture.until_running().await?;
    fixture.delete_pod(&pod).await?;
    fixture
        .until("the message says that it is being deleted", |g| {
            let message = text(&g["status"]["message"]);
            message.contains(&pod) && message.contains("terminating")
        })
        .await?;
    ensure!(fixture.witness.opened()? == [pod.as_str()]);
    // After its grace period, the kubelet kills it, and the other item runs.
    let group = fixture
        .until("the next run starts", |g| {
            let next = text(&g["status"]["current"]["podName"]);
            !next.is_empty() && next != pod
        })
        .await?;
    ensure!(failures(&group) == 1, "{group:#}");
    let first = fixture.journal();
    ensure!(
        first.iter().any(|line| *line == format!("start {pod}")),
        "{first:?}"
    );
    ensure!(
        !first.contains(&format!("end {pod}")),
        "it was killed: {first:?}"
    );
    fixture.release_barrier()?;
    let group = fixture
        .until("the other item succeeds", |g| {
            ["a", "b"]
                .iter()
                .any(|name| item(g, name)["lastSuccess"].is_string())
        })
        .await?;
    ensure!(
        history(&group).len() == 2 && failures(&group) == 1,
        "{group:#}"
    );
    ensure!(fixture.witness.opened()?.len() == 2);
    Ok(())
}

/// A process that exits with 0 at SIGTERM has not completed its work.
pub async fn deleted_pod_that_exits_with_0_is_a_failure(fixture: Fixture) -> Result<()> {
    let polite = format!("trap 'end; exit 0' TERM; {JOURNAL}; start; {WAIT_AT_BARRIER}");
    fixture.work(&polite, json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    let pod = fixture.until_running().await?;
    until_written(&fixture, 1).await?;
    fixture.delete_pod(&pod).await?;
    let group = fixture.until_runs("a", 1).await?;
    ensure!(
        alternating(&fixture.journal())? == [pod],
        "{:?}",
        fixture.journal()
    );
    ensure!(item(&group, "a")["failures"] == 1, "{group:#}");
    ensure!(item(&group, "a")["lastSuccess"].is_null(), "{group:#}");
    Ok(())
}

/// The same while the operator is down.
pub async fn pod_deleted_while_the_operator_is_down_is_a_failure(
    mut fixture: Fixture,
) -> Result<()> {
    let polite = format!("trap 'exit 0' TERM; {JOURNAL}; start; {WAIT_AT_BARRIER}");
    fixture.work(&polite, json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    let pod = fixture.until_running().await?;
    until_written(&fixture, 1).await?;
    fixture.kill_operator().await;
    fixture.delete_pod(&pod).await?;
    while fixture.pods().get_opt(&pod).await?.is_some() {
        sleep(Duration::from_millis(200)).await;
    }
    fixture.start_operator().await?;
    let group = fixture.until_runs("a", 1).await?;
    ensure!(
        history(&group).len() == 1 && failures(&group) == 1,
        "{group:#}"
    );
    Ok(())
}

/// A deleted group is removed with its pod, also while the operator is down. A new group of the
/// same name waits for the end of the old pod.
pub async fn replaced_group_waits_for_the_end_of_the_old_pod(fixture: Fixture) -> Result<()> {
    let deaf = format!("trap '' TERM; {JOURNAL}; start; {WAIT_AT_BARRIER}; end");
    let more = json!({ "terminationGracePeriodSeconds": 8 });
    fixture.work(&deaf, more).await?;
    fixture.group(&["a"], json!({})).await?;
    let old = fixture.until_running().await?;
    fixture
        .api("OaatGroup")
        .delete("group", &Default::default())
        .await?;
    while fixture.api("OaatGroup").get_opt("group").await?.is_some() {
        sleep(Duration::from_millis(100)).await;
    }
    fixture.group(&["a"], json!({})).await?;
    fixture
        .until("the new group is blocked by the old pod", |g| {
            g["status"]["state"] == "Blocked" && text(&g["status"]["message"]).contains(&old)
        })
        .await?;
    fixture.release_barrier()?;
    let group = fixture.until_runs("a", 1).await?;
    ensure!(item(&group, "a")["lastSuccess"].is_string(), "{group:#}");
    ensure!(history(&group).len() == 1, "{group:#}");
    let left: Vec<_> = fixture.pods().list(&Default::default()).await?.items;
    ensure!(
        left.iter().all(|pod| pod.name_any() != old),
        "it is still there"
    );
    ensure!(fixture.witness.opened()?.len() == 2);
    Ok(())
}

/// Waits until containers have written this number of lines.
async fn until_written(fixture: &Fixture, lines: usize) -> Result<()> {
    fixture
        .until("containers write", |_| fixture.journal().len() >= lines)
        .await?;
    Ok(())
}

fn failures(group: &Value) -> i64 {
    ["a", "b"]
        .iter()
        .filter_map(|name| item(group, name)["failures"].as_i64())
        .sum()
}
