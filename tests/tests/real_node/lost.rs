//! A kubelet or a container runtime that is away for a while. Containers run on meanwhile.

use std::time::Duration;

use anyhow::{Result, ensure};
use oaat_tests::real_node;
use serde_json::json;
use tokio::time::sleep;

use crate::evictions::deleted_by;
use crate::place::{
    AT_THE_DOOR, JOURNAL, Place, alternating, history, item, millis, only_run, text,
};

/// How long it is away: long enough for everyone to notice that nothing comes.
const AWAY: Duration = Duration::from_secs(8);

/// Pods that do not tolerate it are deleted.
const TAINT: &str = "oaat.kawaja.net/given-up=true:NoExecute";

/// The container ends while the kubelet is frozen: nothing new starts, and the end is
/// recorded once, with its true time.
pub async fn a_frozen_kubelet_keeps_the_next_one_out(place: Place) -> Result<()> {
    let pod = begin(&place).await?;
    place.shared.node.freeze(true);
    place.open_door()?;
    until_lines(&place, 2).await?;
    sleep(AWAY).await;
    let group = place.read("group").await?;
    ensure!(
        text(&group["status"]["current"]["podName"]) == pod,
        "{group:#}"
    );
    ensure!(place.witness.opened()? == [pod.as_str()]);
    place.shared.node.freeze(false);
    let away = both_end(&place).await?;
    ensure!(
        away >= AWAY,
        "the end is recorded with the time at which it was told"
    );
    Ok(())
}

/// The same with a kubelet that dies and is started again.
pub async fn a_killed_kubelet_keeps_the_next_one_out(place: Place) -> Result<()> {
    let pod = begin(&place).await?;
    place.shared.node.kill_kubelet().await;
    place.open_door()?;
    until_lines(&place, 2).await?;
    sleep(AWAY).await;
    ensure!(place.witness.opened()? == [pod.as_str()]);
    place.shared.node.start_kubelet()?;
    let away = both_end(&place).await?;
    ensure!(
        away >= AWAY,
        "the end is recorded with the time at which it was told"
    );
    place.shared.node.until_ready(&place.shared.plane).await
}

/// containerd dies and is started again while a container runs.
pub async fn a_killed_runtime_loses_no_run(place: Place) -> Result<()> {
    let pod = begin(&place).await?;
    place.shared.node.kill_runtime().await;
    sleep(AWAY).await;
    ensure!(place.witness.opened()? == [pod]);
    place.shared.node.start_runtime().await?;
    place.open_door()?;
    both_end(&place).await?;
    place.shared.node.until_ready(&place.shared.plane).await
}

/// The cluster gives the node up and deletes its pods, while their containers run on: they
/// are Terminating, and nothing new starts until the node is back and has ended them.
pub async fn a_node_that_is_given_up_keeps_the_next_one_out(place: Place) -> Result<()> {
    let more = json!({ "terminationGracePeriodSeconds": 1 });
    let script = format!("{JOURNAL}; start; while true; do sleep 0.1; echo >> /shared/alive; done");
    place.work(&script, more).await?;
    place.group(&["a", "b"], json!({})).await?;
    let pod = place.until_running().await?;
    place.shared.node.freeze(true);
    // What an administrator does, and the cluster itself where other nodes are left.
    place
        .kubectl(&["taint", "node", real_node::NAME, TAINT])
        .await?;
    place
        .until_pod(&pod, "is deleted by the cluster", |pod| {
            pod.metadata.deletion_timestamp.is_some()
        })
        .await?;
    place
        .until("the message names the pod that is being deleted", |g| {
            let message = text(&g["status"]["message"]);
            message.contains(&pod) && message.contains("being deleted")
        })
        .await?;
    // Well past its grace.
    sleep(AWAY).await;
    let alive = || std::fs::metadata(place.folder.join("alive")).map_or(0, |data| data.len());
    let before = alive();
    sleep(Duration::from_secs(1)).await;
    ensure!(alive() > before, "the container should run on");
    ensure!(place.witness.opened()? == [pod.as_str()]);

    place.shared.node.freeze(false);
    let untaint = format!("{TAINT}-");
    place
        .kubectl(&["taint", "node", real_node::NAME, &untaint])
        .await?;
    let group = place
        .until("the next one starts", |g| {
            let next = text(&g["status"]["current"]["podName"]);
            !next.is_empty() && next != pod
        })
        .await?;
    deleted_by(&group, "DeletionByTaintManager")?;
    ensure!(text(&only_run(&group)?["pod"]) == pod, "{group:#}");
    place.witness.opened()?;
    place.shared.node.until_ready(&place.shared.plane).await
}

/// Two items, one of which runs and waits at the door; gives its pod's name.
async fn begin(place: &Place) -> Result<String> {
    let script = format!("{JOURNAL}; start; {AT_THE_DOOR}; end");
    place.work(&script, json!({})).await?;
    place.group(&["a", "b"], json!({})).await?;
    let pod = place.until_running().await?;
    until_lines(place, 1).await?;
    Ok(pod)
}

/// Waits until both items have succeeded, each once and one after the other. Gives the time
/// between the end of the first and the start of the second.
async fn both_end(place: &Place) -> Result<Duration> {
    place.until_runs("a", 1).await?;
    let group = place.until_runs("b", 1).await?;
    for name in ["a", "b"] {
        ensure!(item(&group, name)["runs"] == 1, "{group:#}");
        ensure!(item(&group, name)["failures"] == 0, "{group:#}");
    }
    let runs = history(&group);
    ensure!(runs.len() == 2, "{group:#}");
    let mut opened = place.witness.opened()?;
    let mut wrote = alternating(&place.journal())?;
    opened.sort();
    wrote.sort();
    ensure!(opened == wrote, "opened {opened:?}, ran {wrote:?}");
    let between = millis(&runs[0]["started"]) - millis(&runs[1]["finished"]);
    // Containers' times have whole seconds.
    Ok(Duration::from_millis(u64::try_from(between + 999)?))
}

async fn until_lines(place: &Place, lines: usize) -> Result<()> {
    place
        .until("containers write", |_| place.journal().len() >= lines)
        .await?;
    Ok(())
}
