//! A kubelet or a container runtime that is down for a while. Containers continue meanwhile.

use std::time::Duration;

use anyhow::{Result, ensure};
use oaat_tests::real_node;
use serde_json::json;
use tokio::time::sleep;

use crate::evictions::stopped_by;
use crate::fixture::{
    Fixture, JOURNAL, WAIT_AT_BARRIER, alternating, history, item, millis, only_run, text,
};

/// The duration of the outage, long enough for every component to notice it.
const AWAY: Duration = Duration::from_secs(8);

/// Pods that do not tolerate this taint are deleted.
const TAINT: &str = "oaat.kawaja.net/given-up=true:NoExecute";

/// The container ends while the kubelet is paused. Nothing else starts, and the end is recorded
/// once, with its true time.
pub async fn paused_kubelet_prevents_the_next_start(fixture: Fixture) -> Result<()> {
    let pod = begin(&fixture).await?;
    fixture.shared.node.freeze(true);
    fixture.release_barrier()?;
    until_lines(&fixture, 2).await?;
    sleep(AWAY).await;
    let group = fixture.read("group").await?;
    ensure!(
        text(&group["status"]["current"]["podName"]) == pod,
        "{group:#}"
    );
    ensure!(fixture.witness.opened()? == [pod.as_str()]);
    fixture.shared.node.freeze(false);
    let away = both_end(&fixture).await?;
    ensure!(
        away >= AWAY,
        "the end is recorded with the time at which it was told"
    );
    Ok(())
}

/// The same with a kubelet that is killed and restarted.
pub async fn killed_kubelet_prevents_the_next_start(fixture: Fixture) -> Result<()> {
    let pod = begin(&fixture).await?;
    fixture.shared.node.kill_kubelet().await;
    fixture.release_barrier()?;
    until_lines(&fixture, 2).await?;
    sleep(AWAY).await;
    ensure!(fixture.witness.opened()? == [pod.as_str()]);
    fixture.shared.node.start_kubelet()?;
    let away = both_end(&fixture).await?;
    ensure!(
        away >= AWAY,
        "the end is recorded with the time at which it was told"
    );
    fixture.shared.node.until_ready(&fixture.shared.plane).await
}

/// containerd is killed and restarted while a container runs.
pub async fn killed_runtime_loses_no_run(fixture: Fixture) -> Result<()> {
    let pod = begin(&fixture).await?;
    fixture.shared.node.kill_runtime().await;
    sleep(AWAY).await;
    ensure!(fixture.witness.opened()? == [pod]);
    fixture.shared.node.start_runtime().await?;
    fixture.release_barrier()?;
    both_end(&fixture).await?;
    fixture.shared.node.until_ready(&fixture.shared.plane).await
}

/// The cluster considers the node lost and deletes its pods, while their containers continue. The
/// pods are Terminating, and nothing else starts until the node is back and has ended them.
pub async fn deleted_node_prevents_the_next_start(fixture: Fixture) -> Result<()> {
    let more = json!({ "terminationGracePeriodSeconds": 1 });
    let script = format!("{JOURNAL}; start; while true; do sleep 0.1; echo >> /shared/alive; done");
    fixture.work(&script, more).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    let pod = fixture.until_running().await?;
    fixture.shared.node.freeze(true);
    // An administrator does this, and the cluster itself if other nodes remain.
    fixture
        .kubectl(&["taint", "node", real_node::NAME, TAINT])
        .await?;
    fixture
        .until_pod(&pod, "is deleted by the cluster", |pod| {
            pod.metadata.deletion_timestamp.is_some()
        })
        .await?;
    fixture
        .until("the message names the pod that is being deleted", |g| {
            let message = text(&g["status"]["message"]);
            message.contains(&pod) && message.contains("terminating")
        })
        .await?;
    // Well past its grace period.
    sleep(AWAY).await;
    let alive = || std::fs::metadata(fixture.folder.join("alive")).map_or(0, |data| data.len());
    let before = alive();
    sleep(Duration::from_secs(1)).await;
    ensure!(alive() > before, "the container should run on");
    ensure!(fixture.witness.opened()? == [pod.as_str()]);

    fixture.shared.node.freeze(false);
    let untaint = format!("{TAINT}-");
    fixture
        .kubectl(&["taint", "node", real_node::NAME, &untaint])
        .await?;
    let group = fixture
        .until("the next run starts", |g| {
            let next = text(&g["status"]["current"]["podName"]);
            !next.is_empty() && next != pod
        })
        .await?;
    stopped_by(&group, "DeletionByTaintManager")?;
    ensure!(text(&only_run(&group)?["pod"]) == pod, "{group:#}");
    fixture.witness.opened()?;
    fixture.shared.node.until_ready(&fixture.shared.plane).await
}

/// Creates two items, of which one runs and waits at the barrier. Returns the name of its pod.
async fn begin(fixture: &Fixture) -> Result<String> {
    let script = format!("{JOURNAL}; start; {WAIT_AT_BARRIER}; end");
    fixture.work(&script, json!({})).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    let pod = fixture.until_running().await?;
    until_lines(fixture, 1).await?;
    Ok(pod)
}

/// Waits until both items have succeeded once, one after the other. Returns the time between the
/// end of the first and the start of the second.
async fn both_end(fixture: &Fixture) -> Result<Duration> {
    fixture.until_runs("a", 1).await?;
    let group = fixture.until_runs("b", 1).await?;
    for name in ["a", "b"] {
        ensure!(item(&group, name)["runs"] == 1, "{group:#}");
        ensure!(item(&group, name)["failures"].is_null(), "{group:#}");
    }
    let runs = history(&group);
    ensure!(runs.len() == 2, "{group:#}");
    let mut opened = fixture.witness.opened()?;
    let mut wrote = alternating(&fixture.journal())?;
    opened.sort();
    wrote.sort();
    ensure!(opened == wrote, "opened {opened:?}, ran {wrote:?}");
    let between = millis(&runs[0]["started"]) - millis(&runs[1]["finished"]);
    // The times of containers have whole seconds.
    Ok(Duration::from_millis(u64::try_from(between + 999)?))
}

async fn until_lines(fixture: &Fixture, lines: usize) -> Result<()> {
    fixture
        .until("containers write", |_| fixture.journal().len() >= lines)
        .await?;
    Ok(())
}
