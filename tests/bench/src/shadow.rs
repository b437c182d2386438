//! Measures handovers and status writes, alternately with and without a shadow policy on every group.

use crate::handover::{PATIENCE, Step, groups, node, operator_options, steps};
use crate::policies::{create, work};
use crate::report::Report;
use crate::samples::{Samples, ms};
use anyhow::{Context, Result, ensure};
use futures::future::ready;
use futures::stream::select_all;
use futures::{Stream, StreamExt};
use kube::Client;
use kube::api::{Patch, PatchParams};
use oaat_tests::{ControlPlane, Operator};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

const NAMESPACE: &str = "shadow";
const GROUPS: usize = 5;
const ITEMS: usize = 20;
/// The number of times that the shadow is removed and added.
const ROUNDS: usize = 10;
/// The number of handovers that are not measured after a change.
const WARM_UP: usize = 5 * GROUPS;

/// The measurements with, or without, shadow policies.
#[derive(Default)]
struct Measured {
    handovers: Samples,
    runs: f64,
    writes: f64,
}

pub async fn measure(
    plane: &ControlPlane,
    kubeconfig: &Path,
    runs: usize,
    report: &mut Report,
) -> Result<()> {
    println!(
        "handovers of {GROUPS} groups without and with a shadow policy on each, {ROUNDS} times in turn:"
    );
    let client = plane.admin();
    let _node = node(plane, NAMESPACE).await?;
    work(plane, NAMESPACE, "0.15").await?;
    let items: Vec<_> = (0..ITEMS).map(|i| format!("item-{i}")).collect();
    for number in 0..GROUPS {
        let spec = json!({
            "oaatType": "work", "oaatItems": items, "frequency": "1ms", "podHistoryLimit": 10,
            "policy": { "builtIn": "backoff" },
        });
        create(&client, NAMESPACE, &name(number), spec).await?;
    }
    let options = operator_options(plane, kubeconfig, vec![NAMESPACE.to_owned()])?;
    let operator = Operator::start(&options).await?;
    let mut handovers = handovers(&client);
    let mut measured = [Measured::default(), Measured::default()];
    for round in 0..ROUNDS {
        for (with_shadow, measured) in measured.iter_mut().enumerate() {
            let shadow = (with_shadow == 1).then(|| json!({ "builtIn": "fair" }));
            let patch = json!({ "spec": { "policy": { "shadow": shadow } } });
            for number in 0..GROUPS {
                groups(&client, NAMESPACE)
                    .patch(
                        &name(number),
                        &PatchParams::default(),
                        &Patch::Merge(&patch),
                    )
                    .await?;
            }
            // In the first round, the shadow policy is compiled.
            let warm_up = if round == 0 { 5 * WARM_UP } else { WARM_UP };
            collect(&mut handovers, &mut Samples::default(), warm_up).await?;
            let (runs_before, writes_before) = counts(&operator).await?;
            collect(&mut handovers, &mut measured.handovers, runs / ROUNDS).await?;
            let (runs_after, writes_after) = counts(&operator).await?;
            measured.runs += runs_after - runs_before;
            measured.writes += writes_after - writes_before;
        }
    }
    let outcome = async |outcome: &str| {
        let label = format!("outcome=\"{outcome}\"");
        let name = "oaat_shadow_decisions_total";
        operator.metric(name, &[&label]).await
    };
    let compared = outcome("agree").await? + outcome("differ").await?;
    ensure!(compared > 0.0, "no decision was compared");
    println!(
        "  {compared} decisions compared, {} skipped",
        outcome("skipped").await?
    );
    let [without, with] = &measured;
    for (name, measured) in [("without", without), ("with", with)] {
        println!(
            "  {name:<8} p50 {:>8}   p99 {:>8}   {:.3} status writes per run, over {} runs",
            ms(measured.handovers.quantile(0.5)),
            ms(measured.handovers.quantile(0.99)),
            measured.writes / measured.runs,
            measured.runs
        );
    }
    for (name, share, goal) in [("p50", 0.5, 1.05), ("p99", 0.99, 1.05)] {
        let seconds = |measured: &Measured| measured.handovers.quantile(share).as_secs_f64();
        let name = format!("handover with a shadow against without, {name}");
        report.at_most(&name, seconds(with) / seconds(without), "×", goal);
    }
    operator.stop().await;
    Ok(())
}

fn name(number: usize) -> String {
    format!("group-{number}")
}

/// Returns the number of runs that started, and of status writes.
async fn counts(operator: &Operator) -> Result<(f64, f64)> {
    let runs = operator.metric("oaat_runs_total", &["Started"]).await?;
    let labels = ["verb=\"patch\"", "resource=\"oaatgroups\""];
    let writes = operator.metric("oaat_api_requests_total", &labels).await?;
    Ok((runs, writes))
}

/// Returns the time of each handover of all groups.
fn handovers(client: &Client) -> impl Stream<Item = Duration> + Unpin + use<> {
    select_all((0..GROUPS).map(|number| {
        let mut ended = None;
        let steps = steps(client, NAMESPACE, &name(number));
        Box::pin(steps.filter_map(move |(at, step)| {
            ready(match step {
                Step::Ended => {
                    ended = Some(at);
                    None
                }
                Step::Open => ended.take().map(|ended| at - ended),
            })
        }))
    }))
}

/// Collects `count` handovers.
async fn collect(
    handovers: &mut (impl Stream<Item = Duration> + Unpin),
    samples: &mut Samples,
    count: usize,
) -> Result<()> {
    for _ in 0..count {
        let next = tokio::time::timeout(PATIENCE, handovers.next()).await;
        let next = next.context("no handover before the timeout")?;
        samples.0.push(next.context("the watch ended")?);
    }
    Ok(())
}
