//! The README's quick start, as a newcomer does it.

use anyhow::{Context, Result, ensure};
use oaat_tests::readme;

use crate::place::{Place, item, text};

/// Its objects run to success, and its line for the logs shows what they printed.
pub async fn the_quick_start_runs_in_containers(place: Place) -> Result<()> {
    let (type_, group) = readme::quick_start()?;
    // Word for word, but for its patience and the pull of an image that is there already.
    let hasty = type_.replace("shuf -i 10-180 -n 1", "echo 1").replace(
        "image: busybox\n",
        "image: busybox\n      imagePullPolicy: IfNotPresent\n",
    );
    ensure!(hasty.len() > type_.len(), "the quick start has changed");
    place.apply(&hasty).await?;
    place.apply(&group).await?;
    let group = place
        .until_group("testsimple-oaat", "both items succeed", |g| {
            ["item1", "item2"]
                .iter()
                .all(|name| item(g, name)["lastSuccess"].is_string())
        })
        .await?;
    ensure!(text(&group["status"]["state"]) == "Idle", "{group:#}");

    let line = [
        "logs",
        "-l",
        "oaat.kawaja.net/item=item1",
        "--tail=-1",
        "--prefix",
    ];
    let printed = place
        .kubectl(&line)
        .await
        .context("the README's line for logs")?;
    ensure!(printed.contains("OAAT_ITEM=item1"), "{printed}");
    ensure!(!printed.contains("OAAT_ITEM=item2"), "{printed}");
    let runs = group["status"]["run"].as_i64().unwrap_or_default();
    let opened = place.witness.opened()?.len();
    ensure!(i64::try_from(opened)? == runs, "{opened} pods, {runs} runs");
    Ok(())
}
