//! The dashboard for Grafana, compared with the documented metrics. `../e2e/alerts.rs` evaluates its
//! queries on the metrics of a running operator.

use anyhow::{Context, Result, ensure};
use oaat_tests::dashboard::{self, Query};
use oaat_tests::operator::root;
use oaat_tests::{alerts, chart};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;

#[test]
fn dashboard_uses_documented_metrics_and_their_labels() -> Result<()> {
    let reference = fs::read_to_string(root().join("docs/reference-metrics.md"))?;
    let documented = dashboard::documented(&reference);
    let queries = dashboard::queries(&dashboard::read()?)?;
    ensure!(queries.len() > 30, "{} queries", queries.len());
    for query in &queries {
        dashboard::check(query, &documented)?;
    }
    for (expr, shown, problem) in [
        (
            "sum by (result) (oaat_run_total)",
            "result",
            "oaat_run_total is not",
        ),
        (
            "sum by (results) (oaat_runs_total)",
            "result",
            "\"results\"",
        ),
        ("oaat_runs_total{group=~\"a\"}", "result", "\"group\""),
        ("sum by (result) (oaat_runs_total)", "item", "\"item\""),
    ] {
        let query = Query {
            title: "bad".to_owned(),
            expr: expr.to_owned(),
            shown: [shown.to_owned()].into(),
        };
        let error = dashboard::check(&query, &documented).err();
        let error = error.with_context(|| format!("{expr} was accepted"))?;
        ensure!(error.to_string().contains(problem), "{error:#}");
    }
    Ok(())
}

#[test]
fn queries_of_the_dashboard_are_promql() -> Result<()> {
    let queries = dashboard::queries(&dashboard::read()?)?;
    let rules = queries
        .iter()
        .enumerate()
        .map(|(number, query)| json!({ "record": format!("query:{number}"), "expr": query.expr }));
    let file = json!({ "groups": [{ "name": "a", "rules": rules.collect::<Vec<_>>() }] });
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("rules.yaml");
    fs::write(&path, file.to_string())?;
    let path = path.to_string_lossy();
    alerts::promtool(&["check", "rules", "--lint=none", &path])?;
    Ok(())
}

#[test]
fn panels_have_an_own_id_a_description_and_do_not_overlap() -> Result<()> {
    let dashboard = dashboard::read()?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        let title = &panel["title"];
        ensure!(ids.insert(panel["id"].as_u64()), "{title}: duplicate id");
        let text = panel["description"].as_str().unwrap_or_default();
        ensure!(panel["type"] == "row" || text.ends_with('.'), "{title}");
        let size = |key| panel["gridPos"][key].as_u64().context("no gridPos");
        let (x, y, w, h) = (size("x")?, size("y")?, size("w")?, size("h")?);
        ensure!(x + w <= 24, "{title} is too far to the right");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            ensure!(cells.insert(cell), "{title} overlaps another panel");
        }
        let targets = panel["targets"].as_array();
        for target in targets.into_iter().flatten() {
            ensure!(target["datasource"]["uid"] == "${datasource}", "{title}");
        }
    }
    Ok(())
}

#[test]
fn chart_contains_the_dashboard_unchanged() -> Result<()> {
    let home = tempfile::tempdir()?;
    let folder = chart::folder().to_string_lossy().into_owned();
    let args = [
        "template",
        "a",
        &folder,
        "--set",
        "metrics.dashboard.enabled=true",
    ];
    let rendered = chart::run(&chart::tools()?.helm, home.path(), &args)?;
    let rendered = chart::documents(&rendered)?;
    let mut texts = rendered
        .iter()
        .filter_map(|object| object["data"]["oaat-operator.json"].as_str());
    let text = texts.next().context("no ConfigMap with the dashboard")?;
    ensure!(serde_json::from_str::<Value>(text)? == dashboard::read()?);
    Ok(())
}
