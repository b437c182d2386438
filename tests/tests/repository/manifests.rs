//! Manifests, the image, and the chart.

use crate::files::{files, name};
use anyhow::{Context, Result, ensure};
use oaat_tests::chart;
use oaat_tests::operator::root;
use serde::Deserialize;
use serde_json::Value;
use std::fs;

/// Returns the fields of a manifest that set a user or a group. In the schema of a CRD, the value
/// of such a field is an object.
fn users_and_groups(value: &Value) -> Vec<&str> {
    let fields = ["runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"];
    match value {
        Value::Object(object) => object
            .iter()
            .flat_map(|(key, value)| {
                let mut found = users_and_groups(value);
                if fields.contains(&&**key) && !value.is_object() {
                    found.push(key);
                }
                found
            })
            .collect(),
        Value::Array(list) => list.iter().flat_map(users_and_groups).collect(),
        _ => Vec::new(),
    }
}

/// OpenShift assigns the user and the group of a pod, and rejects a pod that sets others. On other
/// platforms, the user of the image applies, which `runAsNonRoot` accepts only if it is numeric.
#[test]
fn manifests_set_no_user_and_the_image_sets_a_numeric_one() -> Result<()> {
    let mut operators = 0;
    for file in files(&root().join("manifests"), "yaml")? {
        let text = fs::read_to_string(&file)?;
        for document in serde_norway::Deserializer::from_str(&text) {
            let object = Value::deserialize(document)?;
            let found = users_and_groups(&object);
            ensure!(found.is_empty(), "{} sets {found:?}", name(&file));
            if object["kind"] == "Deployment" {
                let context = &object["spec"]["template"]["spec"]["securityContext"];
                ensure!(context["runAsNonRoot"] == true, "{}", name(&file));
                operators += 1;
            }
        }
    }
    ensure!(operators >= 2, "{operators} Deployments");

    let dockerfile = fs::read_to_string(root().join("Dockerfile"))?;
    let mut users = dockerfile.lines().filter_map(|l| l.strip_prefix("USER "));
    let user = users.next_back().context("the Dockerfile has no USER")?;
    let numeric = user
        .split(':')
        .all(|id| id.parse::<u32>().is_ok_and(|id| id > 0));
    ensure!(numeric, "USER {user} is not numeric");
    let image = fs::read_to_string(root().join("xtask/src/image.rs"))?;
    ensure!(
        image.contains(&format!("const USER: &str = {user:?};")),
        "xtask/src/image.rs sets another user than {user}"
    );
    Ok(())
}

/// The chart's own tests show what each value does, and that a bad one is rejected with its name.
/// `tests/chart.rs` runs them.
#[test]
fn each_value_of_the_chart_has_cases() -> Result<()> {
    let cases = chart::cases()?;
    let values = chart::leaves(&chart::default_values()?);
    ensure!(values.len() > 40, "{} values", values.len());
    for (path, default) in values {
        let changes = |case: &chart::Case| {
            let set = case.values_at(&path);
            case.error.is_none() && set.iter().any(|(_, value)| *value != default)
        };
        ensure!(cases.iter().any(changes), "no case changes {path}");
        let pointer = format!("'/{}", path.replace('.', "/"));
        let rejected = |case: &chart::Case| {
            let named = case.error.as_ref().is_some_and(|e| e.contains(&pointer));
            named && !case.values_at(&path).is_empty()
        };
        ensure!(cases.iter().any(rejected), "no case rejects a {path}");
    }
    Ok(())
}

#[test]
fn chart_installs_the_operator_of_this_version() -> Result<()> {
    let chart = fs::read_to_string(chart::folder().join("Chart.yaml"))?;
    let chart: Value = serde_norway::from_str(&chart)?;
    ensure!(chart["appVersion"] == env!("CARGO_PKG_VERSION"), "{chart}");
    Ok(())
}

/// The chart's copy of the CRDs. Helm reads only files in the folder of the chart.
#[test]
fn chart_contains_the_crds_of_the_manifests() -> Result<()> {
    let copy = fs::read_to_string(chart::folder().join("files/crds.yaml"))?;
    let crds = fs::read_to_string(oaat_tests::operator::crds())?;
    ensure!(copy == crds, "run: cargo xtask manifests");
    Ok(())
}
