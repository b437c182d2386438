//! The time from the start of an operator, whose predecessor was killed, to its next correct action
//! in a cluster with many groups.

use crate::election::until_it_starts_runs;
use crate::handover::{PATIENCE, groups, node, operator_options};
use crate::samples::{Samples, ms};
use anyhow::{Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{DynamicObject, PostParams};
use oaat_tests::{ControlPlane, Mode, Node, NodeOptions, Operator, OperatorOptions};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// The number of idle groups.
const IDLE: usize = 999;
const ROUNDS: usize = 5;
/// The namespace of the idle groups.
const IDLE_NAMESPACE: &str = "recovery-idle";
/// The namespace of the measured group.
const NAMESPACE: &str = "recovery";

pub async fn measure(plane: &ControlPlane, kubeconfig: &Path) -> Result<()> {
    let mut options = operator_options(plane, kubeconfig, Vec::new())?;
    create_idle_groups(plane, &options).await?;
    let _node = node(plane, NAMESPACE).await?;
    let end_file = plane.folder().join("recovery-end");
    let script = format!("while [ ! -e {} ]; do sleep 0.02; done", end_file.display());
    plane.apply(&type_(NAMESPACE, &script).to_string()).await?;
    println!(
        "start of an operator after a kill → a run that ended meanwhile is recorded and the next is \
         started, {} groups:",
        IDLE + 1
    );
    for leader_elect in [false, true] {
        options.leader_elect = leader_elect;
        let (mut samples, mut all) = (Samples::default(), Samples::default());
        for round in 0..ROUNDS {
            let name = format!("group-{leader_elect}-{round}");
            let _ = std::fs::remove_file(&end_file);
            let items = ["a", "b"];
            plane
                .apply(&group(NAMESPACE, &name, &items).to_string())
                .await?;
            let killed = start(&options).await?;
            until(plane, &name, |status| status["pod"].is_string()).await?;
            until_all_reconciled(&killed).await?;
            killed.kill().await;
            std::fs::write(&end_file, "")?;
            // Until the run has ended.
            sleep(Duration::from_secs(1)).await;
            let begun = Instant::now();
            let next = start(&options).await?;
            samples.0.push(until_it_starts_runs(&next).await? - begun);
            until_all_reconciled(&next).await?;
            all.0.push(begun.elapsed());
            until(plane, &name, |status| status["state"] == "Idle").await?;
            next.stop().await;
        }
        let words = if leader_elect {
            "with leader election"
        } else {
            "without leader election"
        };
        println!(
            "  {words:<23} p50 {:>9}   max {:>9}   ({ROUNDS} times; goal 2 s); all groups reconciled: p50 {}",
            ms(samples.quantile(0.5)),
            ms(samples.quantile(1.0)),
            ms(all.quantile(0.5)),
        );
    }
    Ok(())
}

/// Starts an operator with the identity of the one before, as a restarted container has.
async fn start(options: &OperatorOptions) -> Result<Operator> {
    let pod = [("POD_NAME", "recovery"), ("POD_UID", "the-same")];
    Operator::start_as(options, &pod).await
}

async fn until_all_reconciled(operator: &Operator) -> Result<()> {
    let start = Instant::now();
    while operator.metric("oaat_reconciles_total", &[]).await? < IDLE as f64 + 1.0 {
        if start.elapsed() > PATIENCE {
            bail!(
                "the operator has not reconciled all groups:\n{}",
                operator.last_log(30)
            );
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Creates many groups, and waits until all their items have succeeded.
async fn create_idle_groups(plane: &ControlPlane, options: &OperatorOptions) -> Result<()> {
    plane.namespace(IDLE_NAMESPACE).await?;
    let node = NodeOptions {
        name: format!("node-{IDLE_NAMESPACE}"),
        mode: Mode::Instant { exit_code: 0 },
        namespace: Some(IDLE_NAMESPACE.into()),
        ..NodeOptions::default()
    };
    let _node = Node::start(plane.admin(), node).await?;
    plane
        .apply(&type_(IDLE_NAMESPACE, "true").to_string())
        .await?;
    let api = groups(&plane.admin(), IDLE_NAMESPACE);
    let create = |n: usize| {
        let api = api.clone();
        async move {
            let group: DynamicObject =
                serde_json::from_value(group(IDLE_NAMESPACE, &format!("g{n}"), &["a"]))?;
            api.create(&PostParams::default(), &group).await?;
            anyhow::Ok(())
        }
    };
    let () = stream::iter((0..IDLE).map(create))
        .buffer_unordered(16)
        .try_collect()
        .await?;
    let operator = Operator::start(options).await?;
    let start = Instant::now();
    loop {
        let all = api.list(&Default::default()).await?.items;
        let idle = |group: &&DynamicObject| group.data["status"]["state"] == "Idle";
        let busy = all.len() - all.iter().filter(idle).count();
        if busy == 0 {
            break;
        }
        if start.elapsed() > 5 * PATIENCE {
            bail!(
                "{busy} groups do not become idle:\n{}",
                operator.last_log(30)
            );
        }
        sleep(Duration::from_secs(1)).await;
    }
    operator.stop().await;
    Ok(())
}

fn type_(namespace: &str, script: &str) -> Value {
    json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatType",
        "metadata": { "name": "work", "namespace": namespace },
        "spec": { "type": "pod", "podspec": { "container": { "name": "main", "image": "any", "command": ["sh", "-c", script] } } },
    })
}

fn group(namespace: &str, name: &str, items: &[&str]) -> Value {
    json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": name, "namespace": namespace },
        "spec": { "oaatType": "work", "oaatItems": items, "frequency": "30days" },
    })
}

async fn until(plane: &ControlPlane, name: &str, condition: impl Fn(&Value) -> bool) -> Result<()> {
    let api = groups(&plane.admin(), NAMESPACE);
    let start = Instant::now();
    loop {
        let group = api.get(name).await?;
        if condition(&group.data["status"]) {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            bail!("{name}: {:#}", group.data["status"]);
        }
        sleep(Duration::from_millis(20)).await;
    }
}
