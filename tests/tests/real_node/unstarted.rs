//! Pods that do not get to start.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::place::{Place, history, item, only_run, text};

/// An image that cannot be pulled.
pub async fn an_image_that_cannot_be_pulled_shows_and_times_out(place: Place) -> Result<()> {
    let mut container = place.container("main", "true");
    container["image"] = json!("registry.invalid/nothing");
    shows_and_gives_up(
        &place,
        json!({ "container": container }),
        "registry.invalid/nothing",
    )
    .await
}

/// An image that may not be pulled and is not there.
pub async fn an_image_that_is_never_pulled_shows_and_times_out(place: Place) -> Result<()> {
    let mut container = place.container("main", "true");
    container["image"] = json!("nothing");
    container["imagePullPolicy"] = json!("Never");
    shows_and_gives_up(
        &place,
        json!({ "container": container }),
        "ErrImageNeverPull",
    )
    .await
}

/// A pod that fits no node.
pub async fn a_pod_that_fits_no_node_shows_and_times_out(place: Place) -> Result<()> {
    shows_and_gives_up(
        &place,
        json!({ "nodeSelector": { "disk": "golden" } }),
        "is not scheduled",
    )
    .await
}

/// A pod that asks for more than the node has.
pub async fn a_pod_that_wants_too_much_shows_and_times_out(place: Place) -> Result<()> {
    let mut container = place.container("main", "true");
    container["resources"] = json!({ "requests": { "cpu": "1000" } });
    shows_and_gives_up(
        &place,
        json!({ "container": container }),
        "Insufficient cpu",
    )
    .await
}

/// A volume that is not there.
pub async fn a_missing_volume_times_out(place: Place) -> Result<()> {
    let volumes = json!([{ "name": "shared", "configMap": { "name": "nothing" } }]);
    place.work("true", json!({ "volumes": volumes })).await?;
    place.group(&["a"], json!({ "startTimeout": "5s" })).await?;
    let group = place.until_runs("a", 1).await?;
    ensure!(
        text(&only_run(&group)?["reason"]) == "StartTimeout",
        "{group:#}"
    );
    place.witness.opened()?;
    Ok(())
}

/// The reason shows while the pod waits; after startTimeout that is one failure.
async fn shows_and_gives_up(place: &Place, podspec: Value, words: &str) -> Result<()> {
    place.work("true", podspec).await?;
    place
        .group(&["a"], json!({ "startTimeout": "10s" }))
        .await?;
    let group = place
        .until("the message says why it does not start", |g| {
            text(&g["status"]["message"]).contains(words)
        })
        .await?;
    ensure!(history(&group).is_empty(), "it shows too late: {group:#}");
    ensure!(group["status"]["state"] == "Running", "{group:#}");

    let group = place.until_runs("a", 1).await?;
    let run = only_run(&group)?;
    ensure!(text(&run["reason"]) == "StartTimeout", "{run:#}");
    ensure!(text(&run["message"]).contains(words), "{run:#}");
    ensure!(item(&group, "a")["failures"] == 1, "{group:#}");
    ensure!(place.witness.opened()?.len() == 1);
    Ok(())
}
