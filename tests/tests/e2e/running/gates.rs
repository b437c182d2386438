//! Somebody between the operator and the API server takes the gate off new pods.

use crate::by_hand::{gated, history, text};
use crate::world::{PATIENCE, World, condition, item};
use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use oaat_tests::witness::Witness;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Something that changes pods of this namespace on their way into the API server.
async fn change_pods(world: &World, operation: &str, if_: &[&str], change: &str) -> Result<()> {
    let name = &world.namespace;
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
        world.plane.apply(&object.to_string()).await?;
    }
    Ok(())
}

/// Takes the gates off pods for which a CEL expression holds, in this namespace.
async fn take_gates(world: &World, from: &str, named: &str) -> Result<()> {
    let remove = "[JSONPatch{op: 'remove', path: '/spec/schedulingGates'}]";
    let conditions = ["has(object.spec.schedulingGates)", from];
    change_pods(world, "CREATE", &conditions, remove).await?;
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

/// Lets this world's operators run by another service account with the same rights, to which the
/// guard does not apply.
async fn unguarded(world: &mut World) -> Result<()> {
    let namespace = world.namespace.clone();
    world
        .kubectl(&["create", "serviceaccount", "unguarded"])
        .await?;
    let account = format!("--serviceaccount={namespace}:unguarded");
    let role = "--clusterrole=oaat-operator";
    world
        .kubectl(&["create", "rolebinding", "unguarded", role, &account])
        .await?;
    world.options.kubeconfig = world
        .plane
        .kubeconfig_for_service_account(&namespace, "unguarded")
        .await?;
    Ok(())
}

#[tokio::test]
async fn the_guard_refuses_a_pod_that_lost_its_gate_so_that_it_never_runs() -> Result<()> {
    let world = World::new("guarded-gates").await?;
    let theirs = "object.metadata.?annotations['oaat.kawaja.net/item'].orValue('') == 'a'";
    take_gates(&world, theirs, "a").await?;
    world.work("true", json!({})).await?;
    world
        .group(&["a"], json!({ "failureCoolOff": "1h" }))
        .await?;
    let group = world
        .until("it is refused", |g| !history(g).is_empty())
        .await?;
    let run = &history(&group)[0];
    assert_eq!(run["reason"], "CreateRejected", "{group:#}");
    let words = "only with the scheduling gate oaat.kawaja.net/claim";
    assert!(text(&run["message"]).contains(words), "{group:#}");
    assert_eq!(world.node.runs(), []);
    Ok(())
}

#[tokio::test]
async fn a_gate_that_the_guard_keeps_shut_is_shown_with_its_words() -> Result<()> {
    let world = World::new("guarded-updates").await?;
    let fresh = "!('x' in object.metadata.annotations)";
    let add = "[JSONPatch{op: 'add', path: '/metadata/annotations/x', value: 'y'}]";
    change_pods(&world, "UPDATE", &[fresh], add).await?;
    let metadata = json!({ "name": "probe", "annotations": { "a": "b" } });
    world.pod_by_hand(metadata, "true", true).await?;
    let start = Instant::now();
    loop {
        let label = json!({ "metadata": { "labels": { "a": "b" } } });
        let (params, patch) = (PatchParams::default(), Patch::Merge(&label));
        let pod = world.pods().patch("probe", &params, &patch).await?;
        if pod.annotations().contains_key("x") {
            break;
        }
        ensure!(start.elapsed() < PATIENCE, "pods are not changed");
        sleep(Duration::from_millis(50)).await;
    }
    world.work("true", json!({})).await?;
    world.group(&["a"], json!({})).await?;
    let group = world
        .until("the group says why", |g| {
            text(&g["status"]["message"]).contains("may not change a pod's metadata")
        })
        .await?;
    let message = text(&group["status"]["message"]);
    assert!(message.contains("cannot be removed"), "{message}");
    assert_eq!(world.node.runs(), []);

    let policy = ["delete", "mutatingadmissionpolicybinding", &world.namespace];
    world.plane.kubectl(&policy).await?;
    let group = world.until_recorded("a").await?;
    assert!(item(&group, "a")["lastSuccess"].is_string(), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn a_run_whose_pod_lost_its_gate_is_ended_and_counted_once_beside_no_other() -> Result<()> {
    let mut world = World::without_operator("lost-gates").await?;
    unguarded(&mut world).await?;
    world.start_operator().await?;
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
