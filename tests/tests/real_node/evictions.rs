//! Pods that the node or the cluster ends before their time. Each is one failure.

use anyhow::{Result, ensure};
use kube::api::EvictParams;
use serde_json::{Value, json};

use crate::place::{AT_THE_DOOR, Place, item, only_run, text};

/// A volume in which more is written than it may hold.
pub async fn a_volume_that_grows_too_large_evicts(place: Place) -> Result<()> {
    let mut container = place.container(
        "main",
        "dd if=/dev/zero of=/scratch/x bs=1M count=20; sleep 600",
    );
    container["volumeMounts"] = json!([{ "name": "scratch", "mountPath": "/scratch" }]);
    let volumes = json!([{ "name": "scratch", "emptyDir": { "sizeLimit": "5Mi" } }]);
    let more = json!({ "container": container, "volumes": volumes });
    evicted_by_the_kubelet(&place, more, "scratch").await
}

/// A container that writes more into its own files than it may.
pub async fn too_much_ephemeral_storage_evicts(place: Place) -> Result<()> {
    let mut container = place.container("main", "dd if=/dev/zero of=/x bs=1M count=40; sleep 600");
    container["resources"] = json!({ "limits": { "ephemeral-storage": "10Mi" } });
    evicted_by_the_kubelet(&place, json!({ "container": container }), "phemeral").await
}

async fn evicted_by_the_kubelet(place: &Place, mut podspec: Value, words: &str) -> Result<()> {
    podspec["terminationGracePeriodSeconds"] = json!(1);
    place.work("", podspec).await?;
    place.group(&["a"], json!({})).await?;
    let group = place.until_runs("a", 1).await?;
    let run = only_run(&group)?;
    ensure!(text(&run["reason"]) == "Evicted", "{run:#}");
    ensure!(text(&run["message"]).contains(words), "{run:#}");
    ensure!(item(&group, "a")["failures"] == 1, "{group:#}");
    ensure!(place.witness.opened()?.len() == 1);
    Ok(())
}

/// The eviction API, as `kubectl drain` uses it: the pod is deleted, and the record says by
/// whom.
pub async fn the_eviction_api_is_one_failure(place: Place) -> Result<()> {
    let more = json!({ "terminationGracePeriodSeconds": 1 });
    place.work(AT_THE_DOOR, more).await?;
    place.group(&["a"], json!({})).await?;
    let pod = place.until_running().await?;
    place.pods().evict(&pod, &EvictParams::default()).await?;
    let group = place.until_runs("a", 1).await?;
    deleted_by(&group, "EvictionByEvictionAPI")?;
    ensure!(place.witness.opened()?.len() == 1);
    Ok(())
}

/// That the only run was ended by a deletion, and that its record names this reason.
pub fn deleted_by(group: &Value, reason: &str) -> Result<()> {
    let run = only_run(group)?;
    let found = text(&run["reason"]);
    ensure!(
        matches!(found.as_str(), "PodDeleted" | "PodDisappeared"),
        "{run:#}"
    );
    ensure!(text(&run["message"]).contains(reason), "{run:#}");
    let failures: i64 = ["a", "b"]
        .iter()
        .filter_map(|name| item(group, name)["failures"].as_i64())
        .sum();
    ensure!(failures == 1, "{group:#}");
    Ok(())
}
