//! Policies in ConfigMaps: the time until a new policy decides, and the memory for fifty policies.

use crate::handover::{groups, node, rss};
use crate::samples::{Samples, ms};
use anyhow::{Context, Result, bail};
use built_in_policies::DEFAULT_POLICY;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::{Api, Client};
use oaat_tests::{ControlPlane, Operator, OperatorOptions, operator};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// The timeout of every wait.
const PATIENCE: Duration = Duration::from_secs(120);
/// The number of measured replacements.
const SWAPS: usize = 30;
/// The number of groups in the measurement of memory.
const GROUPS: usize = 1000;
/// The number of different policies in the measurement of memory.
const POLICIES: usize = 50;

pub async fn measure(plane: &ControlPlane, kubeconfig: &Path) -> Result<()> {
    swap(plane, kubeconfig).await?;
    memory(plane, kubeconfig).await
}

/// Returns the built-in policy with a different digest for each number.
pub fn variant(number: usize) -> Vec<u8> {
    let name = format!("variant {number}");
    let mut wasm = DEFAULT_POLICY.to_vec();
    wasm.extend([0, name.len() as u8 + 1, name.len() as u8]);
    wasm.extend(name.as_bytes());
    wasm
}

pub async fn put(client: &Client, namespace: &str, name: &str, wasm: Vec<u8>) -> Result<()> {
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

pub async fn create(client: &Client, namespace: &str, name: &str, spec: Value) -> Result<()> {
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

pub async fn start(plane: &ControlPlane, kubeconfig: &Path, namespace: &str) -> Result<Operator> {
    start_in(plane, kubeconfig, vec![namespace.to_owned()]).await
}

/// Starts an operator that watches several namespaces.
pub async fn start_in(
    plane: &ControlPlane,
    kubeconfig: &Path,
    namespaces: Vec<String>,
) -> Result<Operator> {
    Operator::start(&OperatorOptions {
        binary: operator::binary(true)?,
        kubeconfig: kubeconfig.to_owned(),
        namespaces,
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

/// Creates an OaatType `work` whose pods run for this number of seconds.
pub async fn work(plane: &ControlPlane, namespace: &str, seconds: &str) -> Result<()> {
    let type_ = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatType",
        "metadata": { "name": "work", "namespace": namespace },
        "spec": { "type": "pod", "podspec": { "container": { "name": "main", "image": "any", "command": ["sleep", seconds] } } },
    });
    plane.apply(&type_.to_string()).await?;
    Ok(())
}

/// Measures the time from a change of the ConfigMap to the first decision of the new policy. The
/// policy before it waits forever, so the group is idle and the next run is by the new policy.
async fn swap(plane: &ControlPlane, kubeconfig: &Path) -> Result<()> {
    let (namespace, client) = ("swap", plane.admin());
    let _node = node(plane, namespace).await?;
    work(plane, namespace, "0").await?;
    let all = tokio::task::spawn_blocking(hostile_policies::all).await??;
    let waits = all.into_iter().find(|policy| policy.name == "wait-ever");
    let waits = waits.context("the policy wait-ever is missing")?.bytes;
    put(&client, namespace, "mine", waits.clone()).await?;
    let spec = json!({
        "oaatType": "work", "oaatItems": ["a"], "frequency": "1ms", "podHistoryLimit": 5,
        "policy": { "configMap": { "name": "mine" } },
    });
    create(&client, namespace, "group", spec).await?;
    let operator = start(plane, kubeconfig, namespace).await?;
    let mut samples = Samples::default();
    let digest = |group: &Value| {
        let digest = &group["status"]["lastDecision"]["digest"];
        digest.as_str().unwrap_or_default().to_owned()
    };
    let mut before = String::new();
    let mut idle = String::new();
    for number in 0..SWAPS {
        // Until the waiting policy decides and nothing runs.
        let group = until(&client, namespace, |group| {
            let message = policy_ready(group);
            let waits = idle.is_empty() || message == idle;
            waits && message.ends_with(" is in use") && group["status"]["current"].is_null()
        })
        .await?;
        idle = policy_ready(&group).to_owned();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let begin = Instant::now();
        put(&client, namespace, "mine", variant(number)).await?;
        let group = until(&client, namespace, |group| digest(group) != before).await?;
        samples.0.push(begin.elapsed());
        before = digest(&group);
        put(&client, namespace, "mine", waits.clone()).await?;
    }
    println!(
        "change of a policy's ConfigMap → first run that it decides is claimed: p50 {}, p99 {} (goal 100 ms)",
        ms(samples.quantile(0.5)),
        ms(samples.quantile(0.99))
    );
    drop(operator);
    Ok(())
}

/// Polls the group until it meets the condition.
async fn until(
    client: &Client,
    namespace: &str,
    condition: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let begin = Instant::now();
    let mut group = Value::Null;
    while begin.elapsed() < PATIENCE {
        group = serde_json::to_value(groups(client, namespace).get("group").await?)?;
        if condition(&group) {
            return Ok(group);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    bail!("the policy was not replaced: {:#}", group["status"])
}

/// Measures the memory of an operator with a thousand groups that use one policy, and fifty.
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
                policy_ready(&group).ends_with(" is in use")
            });
            if ready.count() == GROUPS {
                break;
            }
            if begin.elapsed() > PATIENCE {
                bail!("not all groups in {namespace} use their policy");
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let loads = operator.log().matches("policy loaded").count();
        measured.push(rss(operator.process().pid())?);
        println!(
            "RSS with {GROUPS} groups and {policies} policies: {:.1} MB ({loads} loaded)",
            measured[measured.len() - 1]
        );
    }
    let [one, fifty] = measured[..] else {
        return Ok(());
    };
    println!(
        "  {POLICIES} policies take {:.1} MB more than one (goal 60 MB)",
        fifty - one
    );
    Ok(())
}
