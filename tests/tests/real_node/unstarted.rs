//! Pods that do not start.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::fixture::{Fixture, history, item, only_run, text};

/// An image that cannot be pulled.
pub async fn image_pull_error_is_reported_and_times_out(fixture: Fixture) -> Result<()> {
    let mut container = fixture.container("main", "true");
    container["image"] = json!("registry.invalid/nothing");
    ensure_reason_is_shown_until_the_start_timeout(
        &fixture,
        json!({ "container": container }),
        "registry.invalid/nothing",
    )
    .await
}

/// A native sidecar runs, but the image of the main container cannot be pulled.
pub async fn running_sidecar_does_not_count_as_started(fixture: Fixture) -> Result<()> {
    let mut sidecar = fixture.container("sidecar", "while true; do sleep 1; done");
    sidecar["restartPolicy"] = json!("Always");
    let mut container = fixture.container("main", "true");
    container["image"] = json!("registry.invalid/nothing");
    ensure_reason_is_shown_until_the_start_timeout(
        &fixture,
        json!({
            "initContainers": [sidecar], "container": container,
            "terminationGracePeriodSeconds": 2,
        }),
        "container main",
    )
    .await
}

/// An image that must not be pulled and does not exist.
pub async fn image_that_is_never_pulled_is_reported_and_times_out(fixture: Fixture) -> Result<()> {
    let mut container = fixture.container("main", "true");
    container["image"] = json!("nothing");
    container["imagePullPolicy"] = json!("Never");
    ensure_reason_is_shown_until_the_start_timeout(
        &fixture,
        json!({ "container": container }),
        "ErrImageNeverPull",
    )
    .await
}

/// A pod that fits no node.
pub async fn unschedulable_pod_is_reported_and_times_out(fixture: Fixture) -> Result<()> {
    ensure_reason_is_shown_until_the_start_timeout(
        &fixture,
        json!({ "nodeSelector": { "disk": "golden" } }),
        "is not scheduled",
    )
    .await
}

/// A pod that requests more than the node has.
pub async fn pod_with_excessive_requests_is_reported_and_times_out(fixture: Fixture) -> Result<()> {
    let mut container = fixture.container("main", "true");
    container["resources"] = json!({ "requests": { "cpu": "1000" } });
    ensure_reason_is_shown_until_the_start_timeout(
        &fixture,
        json!({ "container": container }),
        "Insufficient cpu",
    )
    .await
}

/// A missing volume keeps the pod in ContainerCreating. That is shown after a while.
pub async fn missing_volume_times_out(fixture: Fixture) -> Result<()> {
    let volumes = json!([{ "name": "shared", "configMap": { "name": "nothing" } }]);
    fixture.work("true", json!({ "volumes": volumes })).await?;
    fixture
        .group(&["a"], json!({ "startTimeout": "50s" }))
        .await?;
    let creating = "has been creating its containers since ";
    fixture
        .until("the message shows what takes long", |g| {
            text(&g["status"]["message"]).contains(creating)
        })
        .await?;
    let group = fixture.until_runs("a", 1).await?;
    let run = only_run(&group)?;
    ensure!(text(&run["reason"]) == "StartTimeout", "{run:#}");
    ensure!(text(&run["message"]).contains(creating), "{run:#}");
    fixture.witness.opened()?;
    Ok(())
}

/// Checks that the reason is shown while the pod waits, and that it becomes one failure after
/// `startTimeout`.
async fn ensure_reason_is_shown_until_the_start_timeout(
    fixture: &Fixture,
    podspec: Value,
    words: &str,
) -> Result<()> {
    fixture.work("true", podspec).await?;
    fixture
        .group(&["a"], json!({ "startTimeout": "30s" }))
        .await?;
    let group = fixture
        .until("the message shows why the pod does not start", |g| {
            text(&g["status"]["message"]).contains(words)
        })
        .await?;
    ensure!(history(&group).is_empty(), "it shows too late: {group:#}");
    ensure!(group["status"]["state"] == "Running", "{group:#}");

    let group = fixture.until_runs("a", 1).await?;
    let run = only_run(&group)?;
    ensure!(text(&run["reason"]) == "StartTimeout", "{run:#}");
    ensure!(text(&run["message"]).contains(words), "{run:#}");
    ensure!(item(&group, "a")["failures"] == 1, "{group:#}");
    ensure!(fixture.witness.opened()?.len() == 1);
    Ok(())
}
