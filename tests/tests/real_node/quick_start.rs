//! The README's quick start, as a new user runs it.

use anyhow::{Context, Result, ensure};
use oaat_tests::readme;

use crate::fixture::{Fixture, item, text};

/// Its items succeed, and its command for the logs shows their output.
pub async fn quick_start_runs_in_containers(fixture: Fixture) -> Result<()> {
    let (type_, group) = readme::quick_start()?;
    // Unchanged, except for its waiting time and for the pull of an image that already exists.
    let hasty = type_.replace("shuf -i 10-180 -n 1", "echo 1").replace(
        "image: busybox\n",
        "image: busybox\n      imagePullPolicy: IfNotPresent\n",
    );
    ensure!(hasty.len() > type_.len(), "the quick start has changed");
    fixture.apply(&hasty).await?;
    fixture.apply(&group).await?;
    let group = fixture
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
    let printed = fixture
        .kubectl(&line)
        .await
        .context("the README's line for logs")?;
    ensure!(printed.contains("OAAT_ITEM=item1"), "{printed}");
    ensure!(!printed.contains("OAAT_ITEM=item2"), "{printed}");
    let runs = group["status"]["run"].as_i64().unwrap_or_default();
    let opened = fixture.witness.opened()?.len();
    ensure!(i64::try_from(opened)? == runs, "{opened} pods, {runs} runs");
    Ok(())
}
