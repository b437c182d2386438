//! Policies in ConfigMaps: how soon a new one decides, what fifty of them weigh, and what twenty
//! hostile ones cost the honest group beside them.

use crate::handover::{collect, groups, node, rss, steps};
use crate::samples::{Samples, ms};
use anyhow::{Context, Result, bail};
use hostile_policies::Expected;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::{Api, Client};
use oaat_operator::DEFAULT_POLICY;
use oaat_tests::{ControlPlane, Operator, OperatorOptions, operator};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(120);
/// Swaps that are measured.
const SWAPS: usize = 30;
/// Groups and distinct policies of the memory measurement.
const GROUPS: usize = 1000;
const POLICIES: usize = 50;
/// Hostile groups beside the honest one.
const HOSTILE: usize = 20;

pub async fn measure(plane: &ControlPlane, kubeconfig: &Path, runs: usize) -> Result<()> {
    swap(plane, kubeconfig).await?;
    memory(plane, kubeconfig).await?;
    beside_hostile(plane, kubeconfig, runs).await
}

/// The documented algorithm under as many digests as one likes.
fn variant(number: usize) -> Vec<u8> {
    let name = format!("variant {number}");
    let mut wasm = DEFAULT_POLICY.to_vec();
    wasm.extend([0, name.len() as u8 + 1, name.len() as u8]);
    wasm.extend(name.as_bytes());
    wasm
}

async fn put(client: &Client, namespace: &str, name: &str, wasm: Vec<u8>) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        },
        binary_data: Some(BTreeMap::from([("policy.wasm".into(), ByteString(wasm))])),
        ..ConfigMap::default()
    };
    let params = PatchParams::apply("bench").force();
    maps.patch(name, &params, &Patch::Apply(&map)).await?;
    Ok(())
}

async fn create(client: &Client, namespace: &str, name: &str, spec: Value) -> Result<()> {
    let group = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": name }, "spec": spec,
    });
    let params = PatchParams::apply("bench").force();
    groups(client, namespace)
        .patch(name, &params, &Patch::Apply(&group))
        .await?;
    Ok(())
}

async fn start(plane: &ControlPlane, kubeconfig: &Path, namespace: &str) -> Result<Operator> {
    Operator::start(&OperatorOptions {
        binary: operator::binary(true)?,
        kubeconfig: kubeconfig.to_owned(),
        namespaces: vec![namespace.to_owned()],
        leader_elect: false,
        retry_floor: "0s".into(),
        log_dir: plane.folder().to_owned(),
        more: Vec::new(),
    })
    .await
}

fn policy_ready(group: &Value) -> &str {
    let conditions = group["status"]["conditions"].as_array();
    let found = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "PolicyReady");
    found.map_or("", |condition| {
        condition["message"].as_str().unwrap_or_default()
    })
}

/// From the ConfigMap's change to the status of an idle group that says the new policy has
/// decided: one write of the status more than the decision itself.
async fn swap(plane: &ControlPlane, kubeconfig: &Path) -> Result<()> {
    let (namespace, client) = ("swap", plane.admin());
    plane.namespace(namespace).await?;
    put(&client, namespace, "mine", variant(0)).await?;
    // Of no type: nothing runs, and the policy is adopted all the same.
    let spec = json!({ "oaatType": "none", "oaatItems": ["a"], "policy": { "configMap": { "name": "mine" } } });
    create(&client, namespace, "group", spec).await?;
    let operator = start(plane, kubeconfig, namespace).await?;
    let mut samples = Samples::default();
    let mut before = until_message(&client, namespace, "").await?;
    for number in 1..=SWAPS {
        let begin = Instant::now();
        put(&client, namespace, "mine", variant(number)).await?;
        before = until_message(&client, namespace, &before).await?;
        samples.0.push(begin.elapsed());
    }
    println!(
        "ConfigMap changed → the new policy is checked, compiled, adopted, and said so in the status: p50 {}, p99 {} (goal 100 ms)",
        ms(samples.quantile(0.5)),
        ms(samples.quantile(0.99))
    );
    drop(operator);
    Ok(())
}

/// Polls until the message is another than `before`, and one of success.
async fn until_message(client: &Client, namespace: &str, before: &str) -> Result<String> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        let group = serde_json::to_value(groups(client, namespace).get("group").await?)?;
        let message = policy_ready(&group);
        if message != before && message.ends_with("decides") {
            return Ok(message.to_owned());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    bail!("the policy was not swapped")
}

/// Memory of an operator with a thousand groups on one policy, and on fifty.
async fn memory(plane: &ControlPlane, kubeconfig: &Path) -> Result<()> {
    let client = plane.admin();
    let mut measured = Vec::new();
    for (namespace, policies) in [("one-policy", 1), ("fifty-policies", POLICIES)] {
        plane.namespace(namespace).await?;
        for number in 0..policies {
            put(
                &client,
                namespace,
                &format!("policy-{number}"),
                variant(number),
            )
            .await?;
        }
        for number in 0..GROUPS {
            let policy =
                json!({ "configMap": { "name": format!("policy-{}", number % policies) } });
            let spec =
                json!({ "oaatType": "none", "oaatItems": ["a", "b", "c"], "policy": policy });
            create(&client, namespace, &format!("group-{number}"), spec).await?;
        }
        let operator = start(plane, kubeconfig, namespace).await?;
        let begin = Instant::now();
        loop {
            let all = groups(&client, namespace).list(&Default::default()).await?;
            let ready = all.iter().filter(|group| {
                let group = json!({ "status": group.data["status"] });
                policy_ready(&group).ends_with("decides")
            });
            if ready.count() == GROUPS {
                break;
            }
            if begin.elapsed() > PATIENCE {
                bail!("the policies of {namespace} were not all adopted");
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let loads = operator.log().matches("policy loaded").count();
        measured.push(rss(operator.process().pid())?);
        println!(
            "RSS with {GROUPS} groups on {policies} policies: {:.1} MB ({loads} loaded)",
            measured[measured.len() - 1]
        );
    }
    let [one, fifty] = measured[..] else {
        return Ok(());
    };
    println!(
        "  {POLICIES} policies weigh {:.1} MB more than one (goal 60 MB)",
        fifty - one
    );
    Ok(())
}

/// Hand-overs of an honest group by itself, and with hostile groups beside it that are asked
/// again and again.
async fn beside_hostile(plane: &ControlPlane, kubeconfig: &Path, runs: usize) -> Result<()> {
    let client = plane.admin();
    let hostile = tokio::task::spawn_blocking(hostile_policies::all).await??;
    // Those that get to run, first of all those that use something up.
    let mut running: Vec<_> = hostile
        .into_iter()
        .filter(|policy| {
            !matches!(policy.expected, Expected::Load(_)) && policy.bytes.len() < 1 << 20
        })
        .collect();
    running.sort_by_key(|policy| matches!(policy.expected, Expected::Legal));
    running.truncate(HOSTILE);
    let mut measured = Vec::new();
    for (namespace, enemies) in [("alone", &[][..]), ("beside-hostile", &running[..])] {
        let _node = node(plane, namespace).await?;
        let type_ = json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatType",
            "metadata": { "name": "work", "namespace": namespace },
            "spec": { "type": "pod", "podspec": { "container": { "name": "main", "image": "any", "command": ["sleep", "0.15"] } } },
        });
        plane.apply(&type_.to_string()).await?;
        for (number, policy) in enemies.iter().enumerate() {
            let name = format!("hostile-{number}");
            put(&client, namespace, &name, policy.bytes.clone()).await?;
            // Of a type that is refused would not be asked: these are, and start nothing for long.
            let mut chosen = json!({ "configMap": { "name": name } });
            if let Some(settings) = policy.settings {
                chosen["settings"] = serde_json::from_str(settings)?;
            }
            let spec = json!({ "oaatType": "work", "oaatItems": ["a", "b"], "frequency": "1h", "policy": chosen });
            create(&client, namespace, &name, spec).await?;
        }
        let items: Vec<_> = (0..20).map(|i| format!("item-{i}")).collect();
        let spec = json!({ "oaatType": "work", "oaatItems": items, "frequency": "1ms", "podHistoryLimit": 10 });
        create(&client, namespace, "honest", spec).await?;
        let operator = start(plane, kubeconfig, namespace).await?;
        // A change of the spec has the policy asked again: twenty times a second, in turn.
        let names: Vec<_> = (0..enemies.len()).map(|i| format!("hostile-{i}")).collect();
        let poke = tokio::spawn(poke(client.clone(), namespace.to_owned(), names));
        let samples = collect(steps(&client, namespace, "honest"), runs).await;
        poke.abort();
        measured.push(samples?);
        drop(operator);
    }
    let [alone, beside] = &measured[..] else {
        return Ok(());
    };
    println!(
        "hand-over of an honest group: alone p50 {}, p99 {}; beside {HOSTILE} hostile ones p50 {}, p99 {}: × {:.2} and {:.2} (goal p99 × 2)",
        ms(alone.quantile(0.5)),
        ms(alone.quantile(0.99)),
        ms(beside.quantile(0.5)),
        ms(beside.quantile(0.99)),
        beside.quantile(0.5).as_secs_f64() / alone.quantile(0.5).as_secs_f64(),
        beside.quantile(0.99).as_secs_f64() / alone.quantile(0.99).as_secs_f64(),
    );
    Ok(())
}

async fn poke(client: Client, namespace: String, names: Vec<String>) -> Result<()> {
    for round in 0_u64.. {
        for name in &names {
            let spec = json!({ "spec": { "failureCoolOff": format!("{}ms", 1 + round % 1000) } });
            groups(&client, &namespace)
                .patch(name, &PatchParams::default(), &Patch::Merge(&spec))
                .await
                .context("poke")?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if names.is_empty() {
            break;
        }
    }
    Ok(())
}
