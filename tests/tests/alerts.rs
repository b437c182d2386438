//! The alerts: checked and tested by promtool, and compared with the metrics and the runbooks.
//! `e2e/alerts.rs` evaluates them on the metrics of a running operator.

use anyhow::{Context, Result, ensure};
use oaat_operator::metrics::{Metrics, ReconcileResultMetric};
use oaat_tests::alerts;
use oaat_tests::dashboard::metrics;
use oaat_tests::operator::root;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Returns the cases for promtool.
fn cases() -> PathBuf {
    root().join("tests/data/alerts_test.yaml")
}

#[test]
fn alerts_pass_the_checks_of_promtool() -> Result<()> {
    let file = alerts::file();
    let file = file.to_string_lossy();
    alerts::promtool(&["check", "rules", "--lint=all", "--lint-fatal", &file])?;
    Ok(())
}

#[test]
fn alerts_fire_as_the_cases_expect() -> Result<()> {
    let cases = cases();
    alerts::promtool(&["test", "rules", &cases.to_string_lossy()])?;
    Ok(())
}

#[test]
fn each_alert_has_a_case_that_fires_and_one_that_does_not() -> Result<()> {
    let file: Value = serde_norway::from_str(&fs::read_to_string(cases())?)?;
    let groups = file["tests"].as_array().context("no tests")?;
    let (mut fires, mut does_not) = (BTreeSet::new(), BTreeSet::new());
    for case in groups
        .iter()
        .flat_map(|group| group["alert_rule_test"].as_array().into_iter().flatten())
    {
        let name = case["alertname"].as_str().unwrap_or_default();
        let expected = case["exp_alerts"].as_array().context("no exp_alerts")?;
        if expected.is_empty() {
            does_not.insert(name);
        } else {
            fires.insert(name);
        }
    }
    let alerts = alerts::all()?;
    let names: BTreeSet<_> = alerts.iter().map(|alert| alert.name.as_str()).collect();
    ensure!(names.len() == alerts.len(), "duplicate names");
    ensure!(fires == names, "{fires:?}");
    ensure!(does_not == names, "{does_not:?}");
    Ok(())
}

#[test]
fn alerts_use_documented_metrics_of_the_operator() -> Result<()> {
    let reference = fs::read_to_string(root().join("docs/reference-metrics.md"))?;
    let metrics_of_operator = Metrics::default();
    // A counter without a sample is not published.
    metrics_of_operator.reconcile(ReconcileResultMetric::Error, Duration::ZERO);
    let mut text = String::new();
    metrics_of_operator.encode(&mut text)?;
    let types = text.lines().filter_map(|l| l.strip_prefix("# TYPE "));
    let published: BTreeSet<_> = types.filter_map(|l| l.split(' ').next()).collect();
    for alert in alerts::all()? {
        let metrics = metrics(&alert.expr);
        ensure!(!metrics.is_empty(), "{alert:?}");
        for metric in metrics {
            ensure!(
                reference.contains(&format!("| `{metric}` |")),
                "docs/reference-metrics.md does not list {metric} of {}",
                alert.name
            );
            // The name of a counter has no suffix there.
            let family = metric.strip_suffix("_total").unwrap_or(metric);
            ensure!(published.contains(family), "{metric}: {published:?}");
        }
    }
    Ok(())
}

#[test]
fn each_alert_has_a_severity_texts_and_a_runbook() -> Result<()> {
    let runbooks = fs::read_to_string(root().join("docs/alerts.md"))?;
    let alerts = alerts::all()?;
    for alert in &alerts {
        let name = &alert.name;
        let severity = alert.labels.get("severity").map(String::as_str);
        ensure!(
            matches!(severity, Some("critical" | "warning" | "info")),
            "{alert:?}"
        );
        for text in ["summary", "description"] {
            ensure!(alert.annotations.contains_key(text), "{name}: no {text}");
        }
        let link = format!("docs/alerts.md#{}", name.to_lowercase());
        let url = alert.annotations.get("runbook_url");
        ensure!(url == Some(&link), "{name}: {url:?}");
        let (_, rest) = runbooks
            .split_once(&format!("\n### {name}\n"))
            .with_context(|| format!("docs/alerts.md has no section {name}"))?;
        let section = rest.split("\n#").next().unwrap_or_default();
        for part in ["**Cause.**", "**Check.**", "**Fix.**", "kubectl"] {
            ensure!(section.contains(part), "{name} has no {part}");
        }
    }
    let sections = runbooks.matches("\n### Oaat").count();
    ensure!(sections == alerts.len(), "{sections} sections");
    Ok(())
}
