//! The chart, rendered and linted by Helm. `e2e/chart.rs` installs it.

use anyhow::{Context, Result, ensure};
use oaat_tests::{alerts, chart, operator};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;

/// Renders the chart with values.
fn render(values: &Value) -> Result<String> {
    let home = tempfile::tempdir()?;
    let file = home.path().join("values.json");
    std::fs::write(&file, values.to_string())?;
    let chart = chart::folder().to_string_lossy().into_owned();
    let file = file.to_string_lossy();
    let args = ["template", "oaat-operator", &chart, "--values", &file];
    chart::run(&chart::tools()?.helm, home.path(), &args)
}

/// Returns values that render all kinds of objects.
fn everything() -> Value {
    json!({
        "createNamespace": true,
        "networkPolicy": { "enabled": true },
        "metrics": {
            "dashboard": { "enabled": true },
            "prometheusRule": { "enabled": true },
            "serviceMonitor": { "enabled": true },
        },
        "guard": { "enabled": true },
        "priorityAndFairness": { "enabled": true },
    })
}

/// Sets the value at a path, such as `image.tag`.
fn set(values: &mut Value, path: &str, value: Value) {
    let mut place = values;
    for key in path.split('.') {
        place = &mut place[key];
    }
    *place = value;
}

/// Removes the value at a path.
fn remove(values: &mut Value, path: &str) {
    let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
    let pointer = format!("/{}", parent.replace('.', "/"));
    let parent = if parent.is_empty() {
        Some(values)
    } else {
        values.pointer_mut(&pointer)
    };
    if let Some(parent) = parent.and_then(Value::as_object_mut) {
        parent.remove(key);
    }
}

#[test]
fn chart_passes_the_lint_of_helm() -> Result<()> {
    let home = tempfile::tempdir()?;
    let chart = chart::folder().to_string_lossy().into_owned();
    let mut args = vec!["lint", "--strict", &chart];
    chart::run(&chart::tools()?.helm, home.path(), &args)?;
    let values = home.path().join("values.json");
    std::fs::write(&values, everything().to_string())?;
    let values = values.to_string_lossy();
    args.extend(["--values", &values]);
    chart::run(&chart::tools()?.helm, home.path(), &args)?;
    Ok(())
}

#[test]
fn chart_rejects_releases_of_kubernetes_that_are_too_old() -> Result<()> {
    let home = tempfile::tempdir()?;
    let chart = chart::folder().to_string_lossy().into_owned();
    let template = |version| {
        let args = [
            "template",
            "oaat-operator",
            &chart,
            "--kube-version",
            version,
        ];
        chart::run(&chart::tools()?.helm, home.path(), &args)
    };
    template("1.30.0")?;
    let error = template("1.29.9").err().context("it was rendered")?;
    ensure!(
        error.to_string().contains("chart requires kubeVersion"),
        "{error:#}"
    );
    Ok(())
}

#[test]
fn chart_passes_its_own_tests() -> Result<()> {
    let home = tempfile::tempdir()?;
    let chart = chart::folder().to_string_lossy().into_owned();
    let output = chart::run(
        &chart::tools()?.helm_unittest,
        home.path(),
        &["--strict", &chart],
    )?;
    let cases = chart::cases()?.len();
    let passed = format!("{cases} passed, {cases} total");
    ensure!(output.contains(&passed), "not {passed}:\n{output}");
    Ok(())
}

#[test]
fn manifests_and_the_chart_are_up_to_date() -> Result<()> {
    let output = Command::new(operator::xtask()?)
        .args(["manifests", "--check"])
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{errors}");
    Ok(())
}

/// Removes each value from a case that sets it, and compares what is rendered.
#[test]
fn each_value_changes_what_is_rendered() -> Result<()> {
    let cases = chart::cases()?;
    for (path, _) in chart::leaves(&chart::default_values()?) {
        let case = cases
            .iter()
            .find(|case| case.error.is_none() && !case.values_at(&path).is_empty())
            .with_context(|| format!("no case sets {path}"))?;
        let mut values = json!({});
        for (path, value) in &case.set {
            set(&mut values, path, value.clone());
        }
        let with = render(&values).with_context(|| format!("{path}: {}", case.it))?;
        remove(&mut values, &path);
        // Some values are required by another one.
        let without = render(&values).unwrap_or_default();
        ensure!(with != without, "{path} has no effect in: {}", case.it);
    }
    Ok(())
}

#[test]
fn chart_contains_the_alerts_unchanged() -> Result<()> {
    let rendered = chart::documents(&render(&everything())?)?;
    let mut rules = rendered.iter().filter(|o| o["kind"] == "PrometheusRule");
    let rule = rules.next().context("no PrometheusRule was rendered")?;
    let file: Value = serde_norway::from_str(&std::fs::read_to_string(alerts::file())?)?;
    ensure!(rule["spec"] == file, "{rule:#}");
    ensure!(file.to_string().contains("{{ $labels.item }}"), "{file}");
    Ok(())
}

#[test]
fn operator_knows_the_variables_that_the_chart_sets() -> Result<()> {
    let mut values = everything();
    for (path, value) in [
        ("namespaces", json!(["a"])),
        ("groupSelector", "team=a".into()),
        ("retryFloor", "1m 30s".into()),
        ("logDecisions", "full".into()),
        ("leaderElection", false.into()),
    ] {
        set(&mut values, path, value);
    }
    let mut names = BTreeSet::new();
    for object in chart::documents(&render(&values)?)? {
        let env = &object["spec"]["template"]["spec"]["containers"][0]["env"];
        let env = env.as_array().map_or(&[][..], |env| env);
        let variables = env.iter().filter_map(|v| v["name"].as_str());
        names.extend(
            variables
                .filter(|v| v.starts_with("OAAT_"))
                .map(str::to_owned),
        );
    }
    let help = Command::new(operator::binary(false)?)
        .args(["run", "--help"])
        .output()?;
    let help = String::from_utf8(help.stdout)?;
    ensure!(names.len() == 7, "{names:?}");
    for name in names {
        ensure!(help.contains(&format!("[env: {name}=")), "{name}");
    }
    Ok(())
}
