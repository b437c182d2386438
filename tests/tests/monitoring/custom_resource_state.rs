//! manifests/kube-state-metrics, compared with the schemas of the CRDs. kube-state-metrics itself
//! does not run here.

use anyhow::{Context, Result, ensure};
use oaat_api::ItemStatus;
use oaat_tests::chart::documents;
use oaat_tests::operator::{crds, root};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;

/// Returns the schema at a path below an object.
fn field<'a>(schema: &'a Value, path: &Value) -> Result<&'a Value> {
    let mut schema = schema;
    for key in path.as_array().context("a path is not a list")? {
        let key = key.as_str().context("a path contains something else")?;
        schema = match key.parse::<usize>() {
            Ok(_) => &schema["items"],
            Err(_) => &schema["properties"][key],
        };
        ensure!(schema.is_object(), "{path} does not exist at {key}");
    }
    Ok(schema)
}

/// Checks that an item's status has a field. The schema does not list these fields.
fn check_item_field(path: &Value) -> Result<()> {
    let name = path[0].as_str().context("no path")?;
    let time = "2026-01-01T00:00:00Z";
    let samples = [json!(time), json!(1), json!([1]), json!("GivenUp")];
    let kept = samples.iter().any(|sample| {
        let status = serde_json::from_value::<ItemStatus>(json!({ name: sample }));
        let status = status.ok().and_then(|s| serde_json::to_value(s).ok());
        status.is_some_and(|status| status[name] == *sample)
    });
    ensure!(kept, "an item has no field {name}");
    Ok(())
}

/// Checks the paths of a metric.
fn check(schema: &Value, metric: &Value) -> Result<()> {
    let each = &metric["each"];
    let kind = each["type"].as_str().context("no type")?;
    let config = match kind {
        "Gauge" => &each["gauge"],
        "Info" => &each["info"],
        _ => &each["stateSet"],
    };
    let target = field(schema, &config["path"])?;
    let mut paths: Vec<&Value> = config["labelsFromPath"]
        .as_object()
        .into_iter()
        .flat_map(|labels| labels.values())
        .collect();
    paths.extend(config.get("valueFrom"));
    let by_name = config["labelFromKey"].is_string();
    for path in &paths {
        if by_name {
            check_item_field(path)?;
        } else if target["type"] == "array" {
            field(&target["items"], path)?;
        } else {
            field(target, path)?;
        }
    }
    if by_name {
        ensure!(target["x-kubernetes-preserve-unknown-fields"] == true);
        ensure!(!paths.is_empty());
    }
    if kind == "StateSet" {
        let text = target["description"].as_str().unwrap_or_default();
        let words = text.split([' ', ',', '.']).collect::<BTreeSet<_>>();
        let listed = config["list"].as_array().context("no list")?;
        let known = |state: &Value| state.as_str().is_some_and(|state| words.contains(state));
        ensure!(listed.iter().all(known), "{listed:?} are not all in {text}");
        ensure!(listed.len() == text.matches(',').count() + 1, "{text}");
    }
    Ok(())
}

#[test]
fn custom_resource_state_uses_fields_that_exist() -> Result<()> {
    let crds = documents(&fs::read_to_string(crds())?)?;
    let file = root().join("manifests/kube-state-metrics/custom-resource-state.yaml");
    let file: Value = serde_norway::from_str(&fs::read_to_string(file)?)?;
    let mut names = BTreeSet::new();
    for resource in file["spec"]["resources"].as_array().context("empty")? {
        let kind = &resource["groupVersionKind"];
        let crd = crds
            .iter()
            .find(|crd| crd["spec"]["names"]["kind"] == kind["kind"])
            .with_context(|| format!("there is no CRD for {kind}"))?;
        ensure!(crd["spec"]["group"] == kind["group"], "{kind}");
        let versions = crd["spec"]["versions"].as_array();
        let mut versions = versions.into_iter().flatten();
        let version = versions.find(|version| version["name"] == kind["version"]);
        let schema = &version.context("no such version")?["schema"]["openAPIV3Schema"];
        for metric in resource["metrics"].as_array().context("no metrics")? {
            let name = (&resource["metricNamePrefix"], &metric["name"]);
            ensure!(names.insert(format!("{name:?}")), "duplicate {name:?}");
            check(schema, metric).with_context(|| format!("{name:?}"))?;
        }
    }
    ensure!(names.len() == 10, "{names:?}");
    Ok(())
}

#[test]
fn wrong_paths_are_found() {
    let schema = json!({ "properties": { "status": { "properties": {
        "state": { "type": "string", "description": "One of A, B, and C." },
        "items": { "x-kubernetes-preserve-unknown-fields": true },
    } } } });
    let gauge = |gauge: Value| {
        check(
            &schema,
            &json!({ "each": { "type": "Gauge", "gauge": gauge } }),
        )
    };
    let items = |from: &str| {
        gauge(json!({ "path": ["status", "items"], "labelFromKey": "item", "valueFrom": [from] }))
    };
    assert!(items("lastSuccess").is_ok());
    assert!(items("lastSucceeded").is_err());
    assert!(gauge(json!({ "path": ["status", "state"] })).is_ok());
    assert!(gauge(json!({ "path": ["status", "phase"] })).is_err());
    let states = |list: Value| {
        let set = json!({ "path": ["status", "state"], "list": list });
        check(
            &schema,
            &json!({ "each": { "type": "StateSet", "stateSet": set } }),
        )
    };
    assert!(states(json!(["A", "B", "C"])).is_ok());
    assert!(states(json!(["A", "B"])).is_err());
    assert!(states(json!(["A", "B", "D"])).is_err());
}
