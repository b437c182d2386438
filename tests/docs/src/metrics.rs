//! The reference of the metrics, from the registry of the operator.

use crate::markdown::{cell, code, header, paragraphs, sentence, table};
use anyhow::{Context, Result};
use oaat_api::validate::validate;
use oaat_api::{BuiltInPolicy, OaatGroup, OaatGroupStatus, Timestamp};
use oaat_operator::group_metrics::GroupSample;
use oaat_operator::group_ref::GroupRef;
use oaat_operator::metrics::{Metrics, ReconcileResultMetric, RunResultMetric};
use oaat_operator::policy_metrics::{DecisionSample, ShadowOutcome};
use oaat_operator::policy_source::PolicySource;
use oaat_operator::snapshot::{CurrentPod, GroupSnapshot, TypeRead};
use policy_host::{EvalError, Evaluation};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// A metric in the OpenMetrics format.
#[derive(Default)]
struct Metric {
    type_: String,
    help: String,
    labels: Vec<String>,
}

/// Returns the page.
pub(crate) fn page() -> Result<String> {
    // With the metrics of items, and with the number of items that have none.
    let mut metrics = BTreeMap::new();
    for with_items in [true, false] {
        let mut text = String::new();
        example(with_items)?.encode(&mut text)?;
        read(&text, &mut metrics);
    }
    let mut page = header("Metrics reference");
    page.push_str(&paragraphs(
        "All metrics of the operator. [Metrics](reference.md#metrics) explains how to read them, \
         and when a series is absent. [Alerts](alerts.md) uses them.",
    ));
    let rows: Vec<_> = metrics
        .into_iter()
        .map(|(name, metric)| {
            let labels: Vec<_> = metric.labels.iter().map(|label| code(label)).collect();
            [
                code(&name),
                metric.type_,
                labels.join(", "),
                sentence(&cell(&metric.help)),
            ]
        })
        .collect();
    page.push_str(&table(["metric", "type", "labels", "meaning"], &rows));
    Ok(page.trim_end().to_owned() + "\n")
}

/// Returns metrics that each have a series.
fn example(with_items: bool) -> Result<Metrics> {
    let metrics = Metrics::new(with_items);
    metrics.request(&http::Method::GET, &http::Uri::from_static("/api/v1/pods"));
    metrics.run(RunResultMetric::Started);
    metrics.reconcile(ReconcileResultMetric::Ok, Duration::ZERO);
    let evaluation = Evaluation {
        answer: Err(EvalError::OutOfFuel(1)),
        fuel: 1,
        log: Vec::new(),
        log_dropped: 0,
    };
    let policy = PolicySource::BuiltIn(BuiltInPolicy::Default);
    metrics.decision(&DecisionSample::new(&policy, &evaluation, Duration::ZERO));
    metrics.shadow(&policy, ShadowOutcome::Agrees);
    metrics.handover(Duration::ZERO);
    metrics.watch_restarts("pods").inc();
    let time = "1970-01-02T00:00:00Z";
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "Ready", "message": "",
        "lastTransitionTime": time,
    });
    let running = json!({
        "state": "Running",
        "conditions": [ready],
        "current": { "run": 1, "item": "a", "podName": "p", "podUid": "u", "claimed": time },
        "items": { "a": {
            "state": "GivenUp", "failures": 1, "lastSuccess": time, "lastStarted": time,
            "lastFailure": time,
        } },
    });
    let waiting = json!({
        "state": "Waiting", "items": { "a": { "state": "Cooling", "next": time } },
    });
    for (name, status) in [("running", running), ("waiting", waiting)] {
        let status: OaatGroupStatus = serde_json::from_value(status)?;
        let group: OaatGroup = serde_json::from_value(json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
            "metadata": { "name": name, "namespace": "n", "creationTimestamp": time },
            "spec": { "oaatType": "t", "oaatItems": ["a"] },
        }))?;
        let snapshot = snapshot(group);
        let valid = validate(&snapshot.group.spec)
            .ok()
            .context("the group is invalid")?;
        let sample = GroupSample::new(&snapshot, Some(&valid), &status);
        metrics
            .groups
            .record(&GroupRef::new(name).within("n"), sample);
    }
    Ok(metrics)
}

fn snapshot(group: OaatGroup) -> GroupSnapshot {
    GroupSnapshot {
        now: Timestamp(0),
        items: group.spec.oaat_items.clone(),
        group,
        listing: Default::default(),
        uid: String::new(),
        pods: Vec::new(),
        current: CurrentPod::None,
        deleted_while_running: false,
        terminating: false,
        type_: TypeRead::Unchecked,
        item_types: BTreeMap::new(),
        leads: true,
        retry_floor: Duration::ZERO,
    }
}

/// Adds the metrics of a text in the OpenMetrics format. The names are those that Prometheus stores.
fn read(text: &str, metrics: &mut BTreeMap<String, Metric>) {
    let mut name = String::new();
    for line in text.lines() {
        if let Some((family, help)) = line
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split_once(' '))
        {
            name = family.to_owned();
            metrics.entry(name.clone()).or_default().help = help.to_owned();
        } else if let Some((family, type_)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            metrics.entry(family.to_owned()).or_default().type_ = type_.to_owned();
        } else if let Some((_, labels)) = line.split_once('{') {
            let labels = labels
                .split("\",")
                .filter_map(|label| Some(label.split_once("=\"")?.0.to_owned()));
            let metric = metrics.entry(name.clone()).or_default();
            for label in labels.filter(|label| label != "le") {
                if !metric.labels.contains(&label) {
                    metric.labels.push(label);
                }
            }
        }
    }
    // The suffixes of the series.
    for (type_, suffix) in [("counter", "_total"), ("info", "_info")] {
        let without =
            |(name, metric): &(&String, &Metric)| metric.type_ == type_ && !name.ends_with(suffix);
        let names: Vec<_> = metrics
            .iter()
            .filter(without)
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            if let Some(metric) = metrics.remove(&name) {
                metrics.entry(name + suffix).or_insert(metric);
            }
        }
    }
}
