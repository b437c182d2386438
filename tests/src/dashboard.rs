//! The dashboard for Grafana: its queries, and the metrics and labels that they use.

use crate::chart;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// The labels that Prometheus adds to each series of a target.
const TARGET_LABELS: [&str; 4] = ["instance", "job", "namespace", "pod"];

/// A query of a panel or of a variable.
#[derive(Clone, Debug)]
pub struct Query {
    /// The title of the panel, or the name of the variable.
    pub title: String,
    /// The PromQL expression. The variables of Grafana are replaced by values that match everything.
    pub expr: String,
    /// The labels that the legend shows, or that the variable contains.
    pub shown: BTreeSet<String>,
}

/// Returns the dashboard.
///
/// # Errors
/// Returns an error if the file is not JSON.
pub fn read() -> Result<Value> {
    let text = fs::read_to_string(chart::folder().join("files/dashboard.json"))?;
    Ok(serde_json::from_str(&text)?)
}

/// Returns the queries of all panels and variables.
///
/// # Errors
/// Returns an error if a panel has no title, or if a query has an unknown form.
pub fn queries(dashboard: &Value) -> Result<Vec<Query>> {
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().context("no panels")? {
        let title = panel["title"].as_str().context("a panel has no title")?;
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expr = target["expr"].as_str();
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            queries.push(Query {
                title: title.to_owned(),
                expr: without_variables(expr.with_context(|| format!("{title}: no expr"))?),
                shown: between(legend, "{{", "}}").map(str::to_owned).collect(),
            });
        }
    }
    let variables = dashboard["templating"]["list"].as_array();
    for variable in variables.into_iter().flatten() {
        let Some(query) = variable["query"]["query"].as_str() else {
            continue;
        };
        let inner = between(query, "label_values(", ")").next();
        let (expr, label) = inner
            .and_then(|inner| inner.rsplit_once(", "))
            .with_context(|| format!("{query} is not label_values(SERIES, LABEL)"))?;
        queries.push(Query {
            title: variable["name"].as_str().unwrap_or_default().to_owned(),
            expr: without_variables(expr),
            shown: [label.to_owned()].into(),
        });
    }
    Ok(queries)
}

fn without_variables(expr: &str) -> String {
    expr.replace("$namespace", ".*")
        .replace("$group", ".*")
        .replace("$__rate_interval", "5m")
}

/// Returns the texts between each `start` and the next `end`.
fn between<'a>(text: &'a str, start: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    let parts = text.split(start).skip(1);
    parts.filter_map(move |part| Some(part.split_once(end)?.0))
}

/// Returns the metrics that an expression uses.
pub fn metrics(expr: &str) -> BTreeSet<&str> {
    expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("oaat_"))
        .collect()
}

/// Returns the labels in the matchers and in the `by` clauses of an expression.
fn labels(expr: &str) -> BTreeSet<&str> {
    let matchers = between(expr, "{", "}").flat_map(|list| list.split(','));
    let matchers = matchers.filter_map(|matcher| matcher.split(['=', '!']).next());
    let by = between(expr, "by (", ")").flat_map(|list| list.split(", "));
    matchers.chain(by).collect()
}

/// Returns the metrics in the table of docs/reference-metrics.md, with their labels.
pub fn documented(reference: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let rows = reference.lines().filter_map(|l| l.strip_prefix("| `"));
    let metrics = rows.filter(|row| row.starts_with("oaat_"));
    metrics
        .filter_map(|row| {
            let mut cells = row.split(" | ");
            let name = cells.next()?.trim_end_matches('`');
            // Every second part is between backticks.
            let labels = cells.nth(1)?.split('`').skip(1).step_by(2);
            Some((name, labels.collect()))
        })
        .collect()
}

/// Checks that the metrics and the labels of a query are documented.
///
/// # Errors
/// Returns an error that names the metric or the label.
pub fn check(query: &Query, documented: &BTreeMap<&str, BTreeSet<&str>>) -> Result<()> {
    let title = &query.title;
    let metrics = metrics(&query.expr);
    ensure!(
        !metrics.is_empty(),
        "{title}: {} uses no metric",
        query.expr
    );
    let mut known: BTreeSet<&str> = TARGET_LABELS.into();
    for metric in metrics {
        let histogram = ["_bucket", "_sum", "_count"];
        let family = histogram.iter().find_map(|end| metric.strip_suffix(end));
        let labels = documented
            .get(metric)
            .or_else(|| documented.get(family?))
            .with_context(|| format!("{title}: {metric} is not documented"))?;
        known.extend(labels);
        known.extend(metric.ends_with("_bucket").then_some("le"));
    }
    let used = labels(&query.expr);
    let used = used.into_iter().chain(query.shown.iter().map(|l| &**l));
    let unknown: BTreeSet<_> = used.filter(|label| !known.contains(label)).collect();
    ensure!(unknown.is_empty(), "{title}: no metric has {unknown:?}");
    Ok(())
}
