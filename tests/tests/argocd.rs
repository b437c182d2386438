//! The examples for GitOps: the scripts for Argo CD, run by a Lua interpreter with the libraries that
//! Argo CD provides, and the kustomization, built by kubectl.

use anyhow::{Context, Result, ensure};
use argocd_lua::run;
use control_plane::ControllerManager;
use oaat_tests::operator::root;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

/// The cases in tests/data/argocd.yaml.
#[derive(Deserialize)]
struct Cases {
    health: Vec<HealthCase>,
    actions: Vec<ActionCase>,
}

/// An object with its expected health.
#[derive(Deserialize)]
struct HealthCase {
    name: String,
    kind: String,
    #[serde(default = "generation")]
    generation: i64,
    #[serde(default)]
    conditions: Vec<[String; 4]>,
    #[serde(default)]
    status: Map<String, Value>,
    health: String,
    message: Option<String>,
}

/// A group with the actions that are available.
#[derive(Deserialize)]
struct ActionCase {
    name: String,
    #[serde(default)]
    spec: Map<String, Value>,
    #[serde(default)]
    annotations: Map<String, Value>,
    available: BTreeSet<String>,
}

/// The actions of a kind, in the format of Argo CD.
#[derive(Deserialize)]
struct Actions {
    #[serde(rename = "discovery.lua")]
    discovery: String,
    definitions: Vec<Action>,
}

#[derive(Deserialize)]
struct Action {
    name: String,
    #[serde(rename = "action.lua")]
    script: String,
}

/// The generation that the conditions of the cases describe.
fn generation() -> i64 {
    2
}

fn cases() -> Result<Cases> {
    let text = fs::read_to_string(root().join("tests/data/argocd.yaml"))?;
    serde_norway::from_str(&text).context("tests/data/argocd.yaml")
}

/// Returns a customization in the example for `argocd-cm`.
fn customization(key: &str) -> Result<String> {
    let file = root().join("manifests/gitops/argocd/argocd-cm.yaml");
    let config: Value = serde_norway::from_str(&fs::read_to_string(file)?)?;
    let script = config["data"][format!("resource.customizations.{key}")].as_str();
    Ok(script.with_context(|| format!("no {key}"))?.to_owned())
}

fn actions() -> Result<Actions> {
    Ok(serde_norway::from_str(&customization(
        "actions.kawaja.net_OaatGroup",
    )?)?)
}

impl HealthCase {
    /// Returns the object.
    fn object(&self) -> Value {
        let condition = |[type_, status, reason, message]: &[String; 4]| {
            json!({
                "type": type_, "status": status, "reason": reason, "message": message,
                "observedGeneration": generation(), "lastTransitionTime": "2026-01-01T00:00:00Z",
            })
        };
        let conditions: Vec<_> = self.conditions.iter().map(condition).collect();
        let mut object = json!({
            "apiVersion": "kawaja.net/v1", "kind": self.kind, "spec": {},
            "metadata": { "name": "example", "generation": self.generation },
        });
        if !conditions.is_empty() {
            let mut status = Map::new();
            status.insert("observedGeneration".into(), generation().into());
            status.insert("conditions".into(), conditions.into());
            status.extend(self.status.clone());
            object["status"] = status.into();
        }
        object
    }
}

impl ActionCase {
    /// Returns the group.
    fn object(&self) -> Value {
        let mut spec = self.spec.clone();
        spec.insert("oaatType".into(), "work".into());
        let mut metadata = json!({ "name": "example", "generation": 2 });
        if !self.annotations.is_empty() {
            metadata["annotations"] = self.annotations.clone().into();
        }
        json!({ "apiVersion": "kawaja.net/v1", "kind": "OaatGroup", "metadata": metadata, "spec": spec })
    }
}

#[test]
fn argocd_shows_the_health_of_every_status() -> Result<()> {
    for case in cases()?.health {
        let script = customization(&format!("health.kawaja.net_{}", case.kind))?;
        let health = run(&script, &case.object()).with_context(|| case.name.clone())?;
        ensure!(health["status"] == case.health, "{}: {health}", case.name);
        if let Some(message) = &case.message {
            ensure!(health["message"] == *message, "{}: {health}", case.name);
        }
    }
    Ok(())
}

#[test]
fn argocd_cases_cover_every_reason_of_ready() -> Result<()> {
    let cases = cases()?.health;
    let reasons: BTreeSet<_> = cases
        .iter()
        .flat_map(|case| &case.conditions)
        .filter(|[type_, ..]| type_ == "Ready")
        .map(|[_, _, reason, _]| reason.as_str())
        .collect();
    // With one of these, the health depends only on the other conditions.
    let covered_by_other_cases = ["CreateRejected", "CreateUnavailable", "PodBeingRemoved"];
    let source = fs::read_to_string(root().join("crates/oaat-api/src/reasons.rs"))?;
    let ready = source.split("pub mod ready {").nth(1).unwrap_or_default();
    let ready = ready.split("\n}").next().unwrap_or_default();
    let names = ready.split("&str = \"").skip(1);
    let names: Vec<_> = names.filter_map(|rest| rest.split('"').next()).collect();
    ensure!(names.len() > 10, "{names:?}");
    for reason in names {
        ensure!(
            reasons.contains(reason) || covered_by_other_cases.contains(&reason),
            "tests/data/argocd.yaml has no group with Ready and the reason {reason}"
        );
    }
    Ok(())
}

#[test]
fn argocd_offers_the_actions_that_have_an_effect() -> Result<()> {
    let actions = actions()?;
    let defined: BTreeSet<_> = actions.definitions.iter().map(|a| a.name.clone()).collect();
    for case in cases()?.actions {
        let found = run(&actions.discovery, &case.object()).with_context(|| case.name.clone())?;
        let found: BTreeMap<String, Value> = serde_json::from_value(found)?;
        let names: BTreeSet<_> = found.keys().cloned().collect();
        ensure!(names == defined, "{}: {found:?}", case.name);
        let available = found
            .iter()
            .filter(|(_, action)| action["disabled"] == false);
        let available: BTreeSet<_> = available.map(|(name, _)| name.clone()).collect();
        ensure!(available == case.available, "{}: {found:?}", case.name);
    }
    Ok(())
}

#[test]
fn argocd_actions_change_only_what_they_name() -> Result<()> {
    let actions = actions()?;
    let act = |name: &str, object: &Value| {
        let action = actions
            .definitions
            .iter()
            .find(|action| action.name == name);
        run(&action.context("no such action")?.script, object)
    };
    let object = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup", "metadata": { "name": "example" },
        "spec": { "oaatType": "work", "oaatItems": ["a", "b"], "podHistoryLimit": 20 },
    });

    let mut suspended = act("suspend", &object)?;
    ensure!(suspended["spec"]["suspend"] == true, "{suspended}");
    let resumed = act("resume", &suspended)?;
    ensure!(resumed["spec"]["suspend"] == false, "{resumed}");
    suspended["metadata"]["annotations"] = json!({ "pause_new_jobs": "yes", "team": "storage" });
    let resumed = act("resume", &suspended)?;
    let annotations = json!({ "pause_new_jobs": "no", "team": "storage" });
    ensure!(
        resumed["metadata"]["annotations"] == annotations,
        "{resumed}"
    );

    let mut requested = act("run-now", &object)?;
    let request = requested["metadata"]["annotations"]["oaat.kawaja.net/run-now"].take();
    let request: Value = serde_json::from_str(request.as_str().context("no annotation")?)?;
    ensure!(request["items"] == "*", "{request}");
    let token = request["token"].as_str().unwrap_or_default();
    ensure!(
        token.starts_with("argocd-20") && token.len() == 27,
        "{token}"
    );
    ensure!(
        requested["spec"]["oaatItems"] == json!(["a", "b"]),
        "{requested}"
    );
    Ok(())
}

#[test]
fn kustomize_changes_the_references_in_groups_and_types() -> Result<()> {
    let tools = control_plane::ensure(ControllerManager::Required, &|line| eprintln!("{line}"))?;
    let folder = tempfile::tempdir()?;
    for entry in fs::read_dir(root().join("manifests/gitops/kustomize"))? {
        let entry = entry?;
        fs::copy(entry.path(), folder.path().join(entry.file_name()))?;
    }
    // Not text, so that it becomes `binaryData`, as a component does.
    fs::write(folder.path().join("policy.wasm"), b"\0asm\xff")?;
    // A suffix for all names, to test the references between kinds.
    let file = folder.path().join("kustomization.yaml");
    let kustomization = fs::read_to_string(&file)?;
    fs::write(&file, format!("{kustomization}nameSuffix: -test\n"))?;

    let output = Command::new(tools.kubectl)
        .arg("kustomize")
        .arg(folder.path())
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{errors}");
    let mut objects = Vec::new();
    for document in serde_norway::Deserializer::from_slice(&output.stdout) {
        objects.push(Value::deserialize(document)?);
    }
    let find = |kind: &str, name: &str| {
        let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
        let found = objects.iter().find(is_it);
        found.with_context(|| format!("no {kind} {name} in {objects:#?}"))
    };
    let type_ = find("OaatType", "fetch-test")?;
    let group = find("OaatGroup", "fetch-test")?;
    ensure!(group["spec"]["oaatType"] == "fetch-test", "{group:#}");
    ensure!(
        type_["spec"]["podspec"]["container"]["image"] == "busybox:1.37",
        "{type_:#}"
    );
    for (reference, prefix, content) in [
        (&group["spec"]["policy"], "backoff-test-", "binaryData"),
        (&group["spec"]["itemsFrom"][0], "to-fetch-test-", "data"),
    ] {
        let name = reference["configMap"]["name"].as_str().unwrap_or_default();
        ensure!(name.starts_with(prefix), "{group:#}");
        let map = find("ConfigMap", name)?;
        ensure!(map[content].is_object(), "{map:#}");
    }
    Ok(())
}
