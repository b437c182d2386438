//! A scrape of the metrics of many items.

use crate::handover::{groups, operator_options};
use crate::report::Report;
use crate::samples::Samples;
use crate::scale::{group, type_, until_requests};
use anyhow::{Result, ensure};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use oaat_tests::{ControlPlane, Operator};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::sleep;

const NAMESPACE: &str = "scrape";
const GROUPS: usize = 20;
const ITEMS: usize = 2000;
const SCRAPES: usize = 20;

pub async fn measure(plane: &ControlPlane, kubeconfig: &Path, report: &mut Report) -> Result<()> {
    println!("a scrape of {GROUPS} groups of {ITEMS} items, which have run:");
    plane.namespace(NAMESPACE).await?;
    plane.apply(&type_(NAMESPACE).to_string()).await?;
    let api = groups(&plane.admin(), NAMESPACE);
    for number in 0..GROUPS {
        let name = format!("group-{number}");
        let new: DynamicObject = serde_json::from_value(group(NAMESPACE, &name, ITEMS, true))?;
        api.create(&PostParams::default(), &new).await?;
        let status = Patch::Merge(json!({ "status": { "items": items() } }));
        api.patch_status(&name, &PatchParams::default(), &status)
            .await?;
    }
    let operator = Operator::start(&operator_options(plane, kubeconfig, Vec::new())?).await?;
    until_requests(&operator, "patch", GROUPS).await?;
    let (mut took, mut compressed) = (Samples::default(), 0);
    for _ in 0..SCRAPES {
        // A large page is kept for a second.
        sleep(Duration::from_millis(1100)).await;
        let began = Instant::now();
        let (_, body) = operator.response("/metrics").await?;
        took.0.push(began.elapsed());
        compressed = body.len();
    }
    let (_, text) = operator.page("/metrics").await?;
    let successes = "oaat_item_last_success_timestamp_seconds{";
    let successes = text.lines().filter(|line| line.starts_with(successes));
    ensure!(successes.count() == GROUPS * ITEMS, "items are missing");
    let quantile = |share| took.quantile(share).as_secs_f64() * 1e3;
    report.at_most("scrape of many items, p50", quantile(0.5), "ms", 200.0);
    report.at_most("scrape of many items, p99", quantile(0.99), "ms", None);
    let megabytes = |bytes: usize| bytes as f64 / 1e6;
    report.at_most("transferred bytes", megabytes(compressed), "MB", 10.0);
    report.at_most("uncompressed bytes", megabytes(text.len()), "MB", None);
    operator.stop().await;
    Ok(())
}

/// Returns the status of the items. Each has succeeded, and each seventh has failed since.
fn items() -> Map<String, Value> {
    let item = |number: usize| {
        let failures = usize::from(number.is_multiple_of(7));
        let status = json!({
            "state": "Fresh", "lastStarted": "2026-01-01T01:00:00Z",
            "lastSuccess": "2026-01-01T01:00:07Z", "runs": 3, "failures": failures,
        });
        (format!("item-{number}"), status)
    };
    (0..ITEMS).map(item).collect()
}
