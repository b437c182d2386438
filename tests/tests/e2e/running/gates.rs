//! Somebody between the operator and the API server takes the gate off new pods.

use crate::by_hand::{gated, history, text};
use crate::world::{PATIENCE, World, condition, item};
use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use oaat_tests::witness::Witness;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Takes the gates off pods for which a CEL expression holds, in this namespace.
async fn take_gates(world: &World, from: &str, named: &str) -> Result<()> {
    let name = &world.namespace;
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
        "metadata": { "name": name },
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": { "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                "resources": ["pods"],
            }] },
            "matchConditions": [
                { "name": "gated", "expression": "has(object.spec.schedulingGates)" },
                { "name": "meant", "expression": from },
            ],
            "mutations": [{
                "patchType": "JSONPatch",
                "jsonPatch": { "expression": "[JSONPatch{op: 'remove', path: '/spec/schedulingGates'}]" },
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
        world.plane.apply(&object.to_string()).await?;
    }
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
    while gated(&world.pods().create(&trial, &pod).await?) {
        ensure!(start.elapsed() < PATIENCE, "the gate is still on the pod");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_type_whose_pods_lose_their_gate_is_invalid_and_nothing_runs() -> Result<()> {
    let world = World::new("no-gates").await?;
    take_gates(&world, "true", "any").await?;
    world.work("true", json!({})).await?;
    world.group(&["a"], json!({})).await?;
    let type_ = world
        .until_object("OaatType", "work", "it is found invalid", |t| {
            condition(t, "Valid").0 == "False"
        })
        .await?;
    let (_, reason, message) = condition(&type_, "Valid");
    assert_eq!(reason, "GateRemoved");
    assert!(message.contains("spec.schedulingGates"), "{message}");
    world
        .until("the group says why", |g| {
            text(&g["status"]["message"]).contains("scheduling gate")
        })
        .await?;
    assert_eq!(world.list_pods().await?, []);
    Ok(())
}

#[tokio::test]
async fn a_run_whose_pod_lost_its_gate_is_ended_and_counted_once_beside_no_other() -> Result<()> {
    let world = World::new("lost-gates").await?;
    let theirs = "object.metadata.?annotations['oaat.kawaja.net/item'].orValue('') == 'a'";
    take_gates(&world, theirs, "a").await?;
    let witness = Witness::start(world.pods()).await?;
    world.work("sleep 1", json!({})).await?;
    world
        .group(&["a", "b"], json!({ "failureCoolOff": "1h" }))
        .await?;
    let group = world
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
