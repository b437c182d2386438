//! Two operators at the same time, without leader election.

use crate::fixture::Fixture;
use crate::helpers::{ensure_apart, gated, history};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::collections::HashSet;

const ITEMS: [&str; 16] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p",
];

fn runs_recorded(group: &Value) -> i64 {
    let items = group["status"]["items"].as_object();
    let runs = items
        .into_iter()
        .flatten()
        .filter_map(|(_, item)| item["runs"].as_i64());
    runs.sum()
}

fn all_recorded(group: &Value) -> bool {
    let state = &group["status"]["state"];
    state == "Idle"
        && ITEMS
            .iter()
            .all(|i| group["status"]["items"][i]["runs"] == 1)
}

/// Checks that every process is recorded once, that none overlapped another, and that nothing is
/// left.
async fn ensure_sound(fixture: &Fixture) -> Result<()> {
    let group = fixture
        .until("every item is recorded", all_recorded)
        .await?;
    let runs = fixture.node.runs();
    ensure_apart(&runs)?;
    ensure!(
        runs_recorded(&group) == i64::try_from(runs.len())?,
        "{} processes ran: {group:#}",
        runs.len()
    );
    let pods: HashSet<String> = history(&group)
        .iter()
        .filter_map(|run| run["pod"].as_str().map(str::to_owned))
        .collect();
    let ran: HashSet<String> = runs.into_iter().map(|run| run.pod).collect();
    ensure!(pods == ran, "recorded {pods:?}, ran {ran:?}");
    ensure!(!fixture.list_pods().await?.iter().any(gated));
    Ok(())
}

#[tokio::test]
async fn simultaneous_operators_never_run_two_pods_of_a_group() -> Result<()> {
    let mut fixture = Fixture::new("two-replicas").await?;
    fixture.start_operator().await?;
    fixture.work("sleep 0.1", json!({})).await?;
    fixture.group(&ITEMS, json!({})).await?;
    ensure_sound(&fixture).await
}
