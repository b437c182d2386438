//! Pods that the node or the cluster ends early. Each is one failure.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{EvictParams, Patch, PatchParams};
use oaat_tests::real_node;
use serde_json::{Value, json};

use crate::fixture::{Fixture, WAIT_AT_BARRIER, item, only_run, phase, text};

/// A volume that exceeds its size limit.
pub async fn oversized_volume_causes_an_eviction(fixture: Fixture) -> Result<()> {
    let mut container = fixture.container(
        "main",
        "dd if=/dev/zero of=/scratch/x bs=1M count=20; sleep 600",
    );
    container["volumeMounts"] = json!([{ "name": "scratch", "mountPath": "/scratch" }]);
    let volumes = json!([{ "name": "scratch", "emptyDir": { "sizeLimit": "5Mi" } }]);
    let more = json!({ "container": container, "volumes": volumes });
    evicted_by_the_kubelet(&fixture, more, "scratch").await
}

/// A container that exceeds its limit of ephemeral storage.
pub async fn excessive_ephemeral_storage_causes_an_eviction(fixture: Fixture) -> Result<()> {
    let mut container =
        fixture.container("main", "dd if=/dev/zero of=/x bs=1M count=40; sleep 600");
    container["resources"] = json!({ "limits": { "ephemeral-storage": "10Mi" } });
    evicted_by_the_kubelet(&fixture, json!({ "container": container }), "phemeral").await
}

async fn evicted_by_the_kubelet(fixture: &Fixture, mut podspec: Value, words: &str) -> Result<()> {
    podspec["terminationGracePeriodSeconds"] = json!(1);
    fixture.work("", podspec).await?;
    fixture.group(&["a"], json!({})).await?;
    let group = fixture.until_runs("a", 1).await?;
    let run = only_run(&group)?;
    ensure!(text(&run["reason"]) == "Evicted", "{run:#}");
    ensure!(text(&run["message"]).contains(words), "{run:#}");
    ensure!(item(&group, "a")["failures"] == 1, "{group:#}");
    ensure!(fixture.witness.opened()?.len() == 1);
    Ok(())
}

/// The eviction API, as in `kubectl drain`: the run counts as neither a success nor a failure, and the
/// record names the reason.
pub async fn run_evicted_by_the_api_is_stopped(fixture: Fixture) -> Result<()> {
    let more = json!({ "terminationGracePeriodSeconds": 1 });
    fixture.work(WAIT_AT_BARRIER, more).await?;
    fixture.group(&["a"], json!({})).await?;
    let pod = fixture.until_running().await?;
    fixture.pods().evict(&pod, &EvictParams::default()).await?;
    let group = fixture.until_runs("a", 1).await?;
    stopped_by(&group, "EvictionByEvictionAPI")?;
    fixture.witness.opened()?;
    Ok(())
}

/// A pod of higher priority that needs the same resource preempts the operator's pod.
pub async fn preempted_run_is_stopped(fixture: Fixture) -> Result<()> {
    // An extended resource of which the node has one.
    let slot =
        json!({ "requests": { "oaat.example/slot": "1" }, "limits": { "oaat.example/slot": "1" } });
    let nodes: Api<Node> = Api::all(fixture.client.clone());
    let one = json!({ "status": { "capacity": { "oaat.example/slot": "1" } } });
    nodes
        .patch_status(
            real_node::NAME,
            &PatchParams::default(),
            &Patch::Merge(&one),
        )
        .await?;
    let mut container = fixture.container("main", WAIT_AT_BARRIER);
    container["resources"] = slot.clone();
    let more = json!({ "container": container, "terminationGracePeriodSeconds": 1 });
    fixture.work("", more).await?;
    fixture.group(&["a"], json!({})).await?;
    fixture.until_running().await?;

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
    fixture.apply(&class.to_string()).await?;
    fixture.apply(&pod.to_string()).await?;
    let group = fixture.until_runs("a", 1).await?;
    stopped_by(&group, "PreemptionByScheduler")?;
    fixture
        .until_pod("urgent", "ends", |pod| phase(pod) == "Succeeded")
        .await?;
    Ok(())
}

/// Checks that the only run was stopped by this disruption, and that no item failed.
pub fn stopped_by(group: &Value, reason: &str) -> Result<()> {
    let run = only_run(group)?;
    ensure!(text(&run["result"]) == "Stopped", "{run:#}");
    ensure!(text(&run["reason"]) == reason, "{run:#}");
    let failures: i64 = ["a", "b"]
        .iter()
        .filter_map(|name| item(group, name)["failures"].as_i64())
        .sum();
    ensure!(failures == 0, "{group:#}");
    Ok(())
}
