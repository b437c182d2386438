//! Turns of groups while the operator has more to do than the API server can serve.

use crate::fixture::{PATIENCE, say, shared};
use crate::many_groups::ManyGroups;
use anyhow::{Context, Result, ensure};
use kube::api::{DynamicObject, ListParams};
use kube::{Api, ResourceExt};
use oaat_tests::proxy::{Fate, Proxy};
use oaat_tests::{Operator, OperatorOptions};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::sleep;

const NAMESPACE: &str = "fairness";
const GROUPS: usize = 60;
/// The average number of runs of a group.
const RUNS_PER_GROUP: i64 = 12;
/// The maximum difference between the runs of two groups.
const MAX_DIFFERENCE: i64 = 3;
/// The delay of each write of a pod or a group. The operator then starts fewer runs than are due,
/// and each pod ends long before the next turn of its group.
const WRITE_DELAY: Duration = Duration::from_millis(200);

/// The name of a group and the number of its runs.
type GroupRuns = (i64, String);

/// Returns the groups with the fewest and with the most runs, and the number of all runs.
async fn count(api: &Api<DynamicObject>) -> Result<(GroupRuns, GroupRuns, i64)> {
    let groups = api.list(&ListParams::default()).await?.items;
    ensure!(groups.len() == GROUPS, "{} groups", groups.len());
    let runs = groups.iter().map(|group| {
        let run = group.data["status"]["run"].as_i64().unwrap_or_default();
        (run, group.name_any())
    });
    let (fewest, most) = (runs.clone().min(), runs.clone().max());
    let total = runs.map(|(run, _)| run).sum();
    Ok((
        fewest.context("no groups")?,
        most.context("no groups")?,
        total,
    ))
}

#[tokio::test]
async fn busy_groups_take_turns() -> Result<()> {
    let (plane, kubeconfig, binary) = shared().await?;
    let groups = ManyGroups::new(NAMESPACE).await?;
    // With several items, one is due whenever a run ends.
    let spec = json!({ "oaatType": "work", "oaatItems": ["a", "b", "c"], "frequency": "1ms" });
    groups.create(GROUPS, &spec).await?;
    let proxy = Proxy::start(kubeconfig, |seen| match seen.write {
        Some(_) => Fate::Late(WRITE_DELAY),
        None => Fate::Passes,
    })
    .await?;
    let operator = Operator::start(&OperatorOptions {
        binary: binary.to_owned(),
        kubeconfig: proxy.kubeconfig().to_owned(),
        namespaces: vec![NAMESPACE.to_owned()],
        leader_elect: false,
        retry_floor: "0s".into(),
        log_dir: plane.folder().to_owned(),
        more: Vec::new(),
    })
    .await?;
    let start = Instant::now();
    let wanted = i64::try_from(GROUPS)? * RUNS_PER_GROUP;
    loop {
        let (fewest, most, total) = count(&groups.api).await?;
        ensure!(
            most.0 - fewest.0 <= MAX_DIFFERENCE,
            "after {total} runs, {} of {} and {} of {}:\n{}",
            fewest.0,
            fewest.1,
            most.0,
            most.1,
            operator.last_log(50)
        );
        if total >= wanted {
            let took = start.elapsed().as_secs();
            say(&format!(
                "{total} runs of {GROUPS} groups after {took} s, from {} to {} runs a group",
                fewest.0, most.0
            ));
            return Ok(());
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "only {total} runs:\n{}",
            operator.last_log(50)
        );
        sleep(Duration::from_millis(500)).await;
    }
}
