//! Pods that the node or the cluster ends before their time. Each is one failure.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{EvictParams, Patch, PatchParams};
use oaat_tests::real_node;
use serde_json::{Value, json};

use crate::place::{AT_THE_DOOR, Place, item, only_run, phase, text};

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

/// A pod of higher priority that needs the same thing: the scheduler deletes ours.
pub async fn a_preempted_run_is_one_failure(place: Place) -> Result<()> {
    // Something that the node has one of.
    let slot =
        json!({ "requests": { "oaat.example/slot": "1" }, "limits": { "oaat.example/slot": "1" } });
    let nodes: Api<Node> = Api::all(place.client.clone());
    let one = json!({ "status": { "capacity": { "oaat.example/slot": "1" } } });
    nodes
        .patch_status(
            real_node::NAME,
            &PatchParams::default(),
            &Patch::Merge(&one),
        )
        .await?;
    let mut container = place.container("main", AT_THE_DOOR);
    container["resources"] = slot.clone();
    let more = json!({ "container": container, "terminationGracePeriodSeconds": 1 });
    place.work("", more).await?;
    place.group(&["a"], json!({})).await?;
    place.until_running().await?;

    let class = json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": { "name": "urgent" }, "value": 1000,
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "urgent" },
        "spec": {
            "priorityClassName": "urgent", "restartPolicy": "Never",
            "containers": [{
                "name": "main", "image": "busybox", "imagePullPolicy": "IfNotPresent",
                "command": ["true"], "resources": slot,
            }],
        },
    });
    place.apply(&class.to_string()).await?;
    place.apply(&pod.to_string()).await?;
    let group = place.until_runs("a", 1).await?;
    deleted_by(&group, "PreemptionByScheduler")?;
    place
        .until_pod("urgent", "ends", |pod| phase(pod) == "Succeeded")
        .await?;
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
