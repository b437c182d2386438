//! Something between the operator and the API server removes the gate from new pods.

use crate::fixture::{Fixture, PATIENCE, condition, item, say};
use crate::helpers::{gated, history, text};
use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use oaat_tests::witness::Witness;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// The first minor release of Kubernetes that serves version v1 of MutatingAdmissionPolicy.
const FIRST_MINOR_WITH_MUTATING_POLICIES: u32 = 36;

/// Returns whether the API server does not serve MutatingAdmissionPolicy v1. If so, prints that the
/// test is skipped.
async fn lacks_mutating_policies(fixture: &Fixture) -> Result<bool> {
    let version = fixture.client.apiserver_version().await?;
    let lacks_them = version.minor.parse::<u32>()? < FIRST_MINOR_WITH_MUTATING_POLICIES;
    if lacks_them {
        say(&format!(
            "{}: skipped: Kubernetes {} does not serve MutatingAdmissionPolicy v1",
            fixture.namespace, version.git_version
        ));
    }
    Ok(lacks_them)
}

/// Creates a mutating admission policy that changes pods of this namespace.
async fn change_pods(fixture: &Fixture, operation: &str, if_: &[&str], change: &str) -> Result<()> {
    let name = &fixture.namespace;
    let conditions = if_.iter().enumerate();
    let conditions: Vec<_> = conditions
        .map(|(number, expression)| json!({ "name": format!("c{number}"), "expression": expression }))
        .collect();
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
        "metadata": { "name": name },
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": { "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": [operation],
                "resources": ["pods"],
            }] },
            "matchConditions": conditions,
            "mutations": [{
                "patchType": "JSONPatch",
                "jsonPatch": { "expression": change },
            }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": { "name": name },
        "spec": {
            "policyName": name,
            "matchResources": { "namespaceSelector": { "matchLabels": {
                "kubernetes.io/metadata.name": name,
            } } },
        },
    });
    for object in [policy, binding] {
        fixture.plane.apply(&object.to_string()).await?;
    }
    Ok(())
}

/// Removes the gates of pods that match a CEL expression, in this namespace.
async fn take_gates(fixture: &Fixture, from: &str, named: &str) -> Result<()> {
    let remove = "[JSONPatch{op: 'remove', path: '/spec/schedulingGates'}]";
    let conditions = ["has(object.spec.schedulingGates)", from];
    change_pods(fixture, "CREATE", &conditions, remove).await?;
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {
            "generateName": "trial-", "annotations": { "oaat.kawaja.net/item": named },
        },
        "spec": {
            "containers": [{ "name": "main", "image": "any" }],
            "schedulingGates": [{ "name": "oaat.kawaja.net/claim" }],
        },
    }))?;
    let trial = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let start = Instant::now();
    while gated(&fixture.pods().create(&trial, &pod).await?) {
        ensure!(start.elapsed() < PATIENCE, "the gate is still on the pod");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test]
async fn type_whose_pods_lose_their_gate_is_invalid_and_starts_nothing() -> Result<()> {
    let fixture = Fixture::new("no-gates").await?;
    if lacks_mutating_policies(&fixture).await? {
        return Ok(());
    }
    take_gates(&fixture, "true", "any").await?;
    fixture.work("true", json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    let type_ = fixture
        .until_object("OaatType", "work", "the type is invalid", |t| {
            condition(t, "Valid").0 == "False"
        })
        .await?;
    let (_, reason, message) = condition(&type_, "Valid");
    assert_eq!(reason, "GateRemoved");
    assert!(message.contains("spec.schedulingGates"), "{message}");
    fixture
        .until("the group reports the reason", |g| {
            text(&g["status"]["message"]).contains("scheduling gate")
        })
        .await?;
    assert_eq!(fixture.list_pods().await?, []);
    Ok(())
}

/// Makes the operators of this fixture use another service account with the same rights, to which
/// the guard does not apply.
async fn unguarded(fixture: &mut Fixture) -> Result<()> {
    let namespace = fixture.namespace.clone();
    fixture
        .kubectl(&["create", "serviceaccount", "unguarded"])
        .await?;
    let account = format!("--serviceaccount={namespace}:unguarded");
    let role = "--clusterrole=oaat-operator";
    fixture
        .kubectl(&["create", "rolebinding", "unguarded", role, &account])
        .await?;
    fixture.options.kubeconfig = fixture
        .plane
        .kubeconfig_for_service_account(&namespace, "unguarded")
        .await?;
    Ok(())
}

#[tokio::test]
async fn guard_denies_a_pod_that_lost_its_gate() -> Result<()> {
    let fixture = Fixture::new("guarded-gates").await?;
    if lacks_mutating_policies(&fixture).await? {
        return Ok(());
    }
    let theirs = "object.metadata.?annotations['oaat.kawaja.net/item'].orValue('') == 'a'";
    take_gates(&fixture, theirs, "a").await?;
    fixture.work("true", json!({})).await?;
    fixture
        .group(&["a"], json!({ "failureCoolOff": "1h" }))
        .await?;
    let group = fixture
        .until("the pod is rejected", |g| !history(g).is_empty())
        .await?;
    let run = &history(&group)[0];
    assert_eq!(run["reason"], "CreateRejected", "{group:#}");
    let words = "only with the scheduling gate oaat.kawaja.net/claim";
    assert!(text(&run["message"]).contains(words), "{group:#}");
    assert_eq!(fixture.node.runs(), []);
    Ok(())
}

#[tokio::test]
async fn gate_that_the_guard_keeps_is_reported_with_its_message() -> Result<()> {
    let fixture = Fixture::new("guarded-updates").await?;
    if lacks_mutating_policies(&fixture).await? {
        return Ok(());
    }
    let fresh = "!('x' in object.metadata.annotations)";
    let add = "[JSONPatch{op: 'add', path: '/metadata/annotations/x', value: 'y'}]";
    change_pods(&fixture, "UPDATE", &[fresh], add).await?;
    let metadata = json!({ "name": "probe", "annotations": { "a": "b" } });
    fixture.pod_by_hand(metadata, "true", true).await?;
    let start = Instant::now();
    loop {
        let label = json!({ "metadata": { "labels": { "a": "b" } } });
        let (params, patch) = (PatchParams::default(), Patch::Merge(&label));
        let pod = fixture.pods().patch("probe", &params, &patch).await?;
        if pod.annotations().contains_key("x") {
            break;
        }
        ensure!(start.elapsed() < PATIENCE, "pods are not changed");
        sleep(Duration::from_millis(50)).await;
    }
    fixture.work("true", json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    let group = fixture
        .until("the group reports the reason", |g| {
            text(&g["status"]["message"]).contains("may not change a pod's metadata")
        })
        .await?;
    let message = text(&group["status"]["message"]);
    assert!(message.contains("cannot be removed"), "{message}");
    assert_eq!(fixture.node.runs(), []);

    let policy = [
        "delete",
        "mutatingadmissionpolicybinding",
        &fixture.namespace,
    ];
    fixture.plane.kubectl(&policy).await?;
    let group = fixture.until_recorded("a").await?;
    assert!(item(&group, "a")["lastSuccess"].is_string(), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn run_whose_pod_lost_its_gate_is_ended_and_counted_once() -> Result<()> {
    let mut fixture = Fixture::without_operator("lost-gates").await?;
    if lacks_mutating_policies(&fixture).await? {
        return Ok(());
    }
    unguarded(&mut fixture).await?;
    fixture.start_operator().await?;
    let theirs = "object.metadata.?annotations['oaat.kawaja.net/item'].orValue('') == 'a'";
    take_gates(&fixture, theirs, "a").await?;
    let witness = Witness::start(fixture.pods()).await?;
    fixture.work("sleep 1", json!({})).await?;
    fixture
        .group(&["a", "b"], json!({ "failureCoolOff": "1h" }))
        .await?;
    let group = fixture
        .until("both have run", |g| history(g).len() >= 2)
        .await?;
    let lost: Vec<_> = history(&group)
        .into_iter()
        .filter(|run| run["item"] == "a")
        .collect();
    assert_eq!(lost.len(), 1, "{group:#}");
    assert_eq!(lost[0]["reason"], "GateRemoved", "{group:#}");
    assert_eq!(item(&group, "a")["failures"], 1, "{group:#}");
    assert!(item(&group, "b")["lastSuccess"].is_string(), "{group:#}");
    assert_eq!(witness.wrong(), Vec::<String>::new());
    Ok(())
}
