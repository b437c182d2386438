//! What the cluster does to pods: evictions, queues, sidecars, and runs that take unexpectedly long.

use crate::bad_input::message;
use crate::fixture::{Fixture, condition, item, millis};
use crate::helpers::{Barrier, GATE, history, state, text};
use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{EvictParams, Patch, PatchParams};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test]
async fn evicted_run_is_stopped_and_its_item_is_due_at_once() -> Result<()> {
    let fixture = Fixture::new("drained").await?;
    let barrier = Barrier::new()?;
    fixture.work(&barrier.wait(), json!({})).await?;
    fixture
        .group(&["a"], json!({ "failureCoolOff": "1h" }))
        .await?;
    let pod = fixture.until_running().await?.name_any();
    fixture.pods().evict(&pod, &EvictParams::default()).await?;
    barrier.release()?;
    let group = fixture
        .until("the item runs again and succeeds", |g| {
            item(g, "a")["lastSuccess"].is_string()
        })
        .await?;
    let runs = history(&group);
    ensure!(runs.len() == 2, "{group:#}");
    ensure!(runs[1]["result"] == "Stopped", "{group:#}");
    ensure!(runs[1]["reason"] == "EvictionByEvictionAPI", "{group:#}");
    ensure!(item(&group, "a")["lastFailure"].is_null(), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn pod_in_a_queue_does_not_time_out() -> Result<()> {
    let fixture = Fixture::new("queued").await?;
    let gates = json!({ "podspec": { "schedulingGates": [{ "name": "example.com/queue" }] } });
    fixture.work("true", gates).await?;
    fixture
        .group(&["a"], json!({ "startTimeout": "2s" }))
        .await?;
    let group = fixture
        .until("the message names the gate", |g| {
            message(g).contains("waiting for other scheduling gates: example.com/queue")
        })
        .await?;
    // Longer than the timeout.
    sleep(Duration::from_secs(4)).await;
    fixture.look().await?;
    let pod = text(&group["status"]["current"]["podName"]);
    let now = fixture.pods().get(&pod).await?;
    ensure!(now.metadata.deletion_timestamp.is_none());
    let gates = now.spec.and_then(|spec| spec.scheduling_gates);
    ensure!(
        gates
            .unwrap_or_default()
            .iter()
            .all(|gate| gate.name != GATE)
    );
    // The timeout begins when the gate is removed. The machine may be busy.
    fixture
        .change(json!({ "spec": { "startTimeout": "10m" } }))
        .await?;
    let open = json!({ "spec": { "schedulingGates": null } });
    fixture
        .pods()
        .patch(&pod, &PatchParams::default(), &Patch::Merge(&open))
        .await?;
    let group = fixture.until_recorded("a").await?;
    ensure!(history(&group)[0]["result"] == "Succeeded", "{group:#}");
    Ok(())
}

/// The timeout counts from the removal of the last gate.
#[tokio::test]
async fn pod_that_left_the_queue_times_out() -> Result<()> {
    let fixture = Fixture::new("left-queue").await?;
    fixture.node.hold(true);
    let gates = json!({ "podspec": { "schedulingGates": [{ "name": "example.com/queue" }] } });
    fixture.work("true", gates).await?;
    fixture
        .group(
            &["a"],
            json!({ "startTimeout": "2s", "failureCoolOff": "1h" }),
        )
        .await?;
    let group = fixture
        .until("the status shows that the pod is queued", |g| {
            g["status"]["current"]["otherGates"].is_object()
        })
        .await?;
    let pod = text(&group["status"]["current"]["podName"]);
    let open = json!({ "spec": { "schedulingGates": null } });
    fixture
        .until_pod(&pod, "is claimed", |pod| {
            let gates = pod
                .spec
                .as_ref()
                .and_then(|spec| spec.scheduling_gates.as_ref());
            gates.is_none_or(|gates| gates.iter().all(|gate| gate.name != GATE))
        })
        .await?;
    // Longer than the timeout.
    sleep(Duration::from_secs(3)).await;
    let opened = Timestamp::now().as_millisecond();
    fixture
        .pods()
        .patch(&pod, &PatchParams::default(), &Patch::Merge(&open))
        .await?;
    let group = fixture.until_recorded("a").await?;
    ensure!(history(&group)[0]["reason"] == "StartTimeout", "{group:#}");
    let waited = millis(&item(&group, "a")["lastFailure"]) - opened;
    ensure!(waited >= 2000, "{waited} ms: {group:#}");
    Ok(())
}

/// A container that never ends, as injected by a service mesh.
fn with_sidecar(script: &str) -> serde_json::Value {
    let container = |name: &str, script: &str| json!({ "name": name, "image": "any", "command": ["sh", "-c", script] });
    json!({ "podspec": {
        "container": null,
        "containers": [container("main", script), container("mesh", "sleep 1000")],
    } })
}

#[tokio::test]
async fn running_sidecar_is_named_in_the_message() -> Result<()> {
    let fixture = Fixture::new("mesh").await?;
    fixture.work("true", with_sidecar("true")).await?;
    fixture.group(&["a"], json!({})).await?;
    let group = fixture
        .until("the message names what ended and what still runs", |g| {
            message(g).contains("main ended at ") && message(g).contains("but mesh has not ended")
        })
        .await?;
    ensure!(
        message(&group).contains("completionContainers"),
        "{group:#}"
    );
    ensure!(state(&group) == "Running", "{group:#}");
    Ok(())
}

#[tokio::test]
async fn completion_container_decides_when_a_run_ends_and_its_result() -> Result<()> {
    let fixture = Fixture::new("mesh-complete").await?;
    let mut type_ = with_sidecar("echo \"$OAAT_ITEM\" is full >&2; [ \"$OAAT_ITEM\" = a ]");
    type_["completionContainers"] = json!(["main"]);
    fixture.work("true", type_).await?;
    fixture
        .group(&["a", "b"], json!({ "failureCoolOff": "1h" }))
        .await?;
    let group = fixture
        .until("both have run", |g| history(g).len() == 2)
        .await?;
    let run = |name: &str| {
        let runs = history(&group);
        let run = runs.iter().find(|run| run["item"] == name).cloned();
        run.with_context(|| format!("{name}: {group:#}"))
    };
    let (a, b) = (run("a")?, run("b")?);
    ensure!(
        a["result"] == "Succeeded" && a["reason"] == "Completed",
        "{a:#}"
    );
    ensure!(a["exitCode"] == 0 && a["message"].is_null(), "{a:#}");
    ensure!(b["result"] == "Failed" && b["exitCode"] == 1, "{b:#}");
    ensure!(text(&b["message"]).contains("b is full"), "{b:#}");
    for run in [a, b] {
        fixture.until_pod_gone(&text(&run["pod"])).await?;
    }
    Ok(())
}

#[tokio::test]
async fn list_is_read_while_a_sidecar_is_running() -> Result<()> {
    let fixture = Fixture::new("mesh-list").await?;
    fixture.work("true", json!({})).await?;
    let container = json!({
        "podspec": with_sidecar("echo x")["podspec"], "refresh": "1h", "timeout": "10m",
    });
    fixture
        .group(
            &[],
            json!({ "itemsFrom": [{ "name": "list", "container": container }] }),
        )
        .await?;
    fixture.until_recorded("x").await?;
    Ok(())
}

#[tokio::test]
async fn run_that_takes_unexpectedly_long_is_reported() -> Result<()> {
    let mut fixture = Fixture::without_operator("overdue").await?;
    let barrier = Barrier::new()?;
    fixture.work(&barrier.wait(), json!({})).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    fixture.start_operator().await?;
    let group = fixture
        .until("a run is in progress", |g| {
            g["status"]["current"].is_object()
        })
        .await?;
    let running = text(&group["status"]["current"]["item"]);
    fixture.until_running().await?;
    // As if it had started five minutes ago, and usually took one.
    let began = Timestamp::now().checked_sub(SignedDuration::from_mins(5))?;
    let mut items = group["status"]["items"].clone();
    items[&running]["durations"] = json!([50, 60, 1]);
    fixture
        .write_status(json!({ "items": items, "current": { "claimed": began.to_string() } }))
        .await?;
    let group = fixture
        .until("the message shows it", |g| {
            message(g).contains("more than three times as long") && message(g).contains("(1m)")
        })
        .await?;
    ensure!(message(&group).contains("1 other item is due"), "{group:#}");
    ensure!(condition(&group, "Running").1 == "Overdue", "{group:#}");
    let note = fixture.until_event("group", "Overdue").await?;
    ensure!(note.contains("more than three times"), "{note}");
    barrier.release()?;
    fixture
        .until("both items have run", |g| state(g) == "Idle")
        .await?;
    Ok(())
}
