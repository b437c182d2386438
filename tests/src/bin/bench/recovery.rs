//! From the start of an operator, after its predecessor was killed, to its next correct action
//! in a cluster with many groups.

use crate::election::until_it_starts_runs;
use crate::handover::{PATIENCE, groups, node};
use crate::samples::{Samples, ms};
use anyhow::{Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{DynamicObject, PostParams};
use oaat_tests::{ControlPlane, Mode, Node, NodeOptions, Operator, OperatorOptions, operator};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Groups that have nothing to do.
const IDLE: usize = 999;
const ROUNDS: usize = 5;
/// Namespaces of those, and of the one that has something to do.
const CROWD: &str = "recovery-crowd";
const ONE: &str = "recovery";

pub async fn measure(plane: &ControlPlane, kubeconfig: &Path) -> Result<()> {
    let mut options = OperatorOptions {
        binary: operator::binary(true)?,
        kubeconfig: kubeconfig.to_owned(),
        namespaces: Vec::new(),
        leader_elect: false,
        retry_floor: "0s".into(),
        log_dir: plane.folder().to_owned(),
        more: Vec::new(),
    };
    crowd(plane, &options).await?;
    let _node = node(plane, ONE).await?;
    let door = plane.folder().join("recovery-door");
    let script = format!("while [ ! -e {} ]; do sleep 0.02; done", door.display());
    plane.apply(&type_(ONE, &script).to_string()).await?;
    println!(
        "start of an operator whose predecessor was killed → a run that ended meanwhile is recorded and \
         the next started, {} groups:",
        IDLE + 1
    );
    for leader_elect in [false, true] {
        options.leader_elect = leader_elect;
        let (mut samples, mut all) = (Samples::default(), Samples::default());
        for round in 0..ROUNDS {
            let name = format!("group-{leader_elect}-{round}");
            let _ = std::fs::remove_file(&door);
            let items = ["a", "b"];
            plane.apply(&group(ONE, &name, &items).to_string()).await?;
            let killed = start(&options).await?;
            until(plane, &name, |status| status["pod"].is_string()).await?;
            looked_at_all(&killed).await?;
            killed.kill().await;
            std::fs::write(&door, "")?;
            // The run ends.
            sleep(Duration::from_secs(1)).await;
            let begun = Instant::now();
            let next = start(&options).await?;
            samples.0.push(until_it_starts_runs(&next).await? - begun);
            looked_at_all(&next).await?;
            all.0.push(begun.elapsed());
            until(plane, &name, |status| status["state"] == "Idle").await?;
            next.stop().await;
        }
        let words = if leader_elect {
            "with an election"
        } else {
            "without an election"
        };
        println!(
            "  {words:<20} p50 {:>9}   max {:>9}   ({ROUNDS} times; goal 2 s); all groups looked at: p50 {}",
            ms(samples.quantile(0.5)),
            ms(samples.quantile(1.0)),
            ms(all.quantile(0.5)),
        );
    }
    Ok(())
}

/// An operator that is the same pod as the one before, its container started again.
async fn start(options: &OperatorOptions) -> Result<Operator> {
    let pod = [("POD_NAME", "recovery"), ("POD_UID", "the-same")];
    Operator::start_as(options, &pod).await
}

async fn looked_at_all(operator: &Operator) -> Result<()> {
    let start = Instant::now();
    while operator.metric("oaat_cycles_total", &[]).await? < IDLE as f64 + 1.0 {
        if start.elapsed() > PATIENCE {
            bail!("it does not look at all groups:\n{}", operator.last_log(30));
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Many groups, all of whose items have succeeded.
async fn crowd(plane: &ControlPlane, options: &OperatorOptions) -> Result<()> {
    plane.namespace(CROWD).await?;
    let node = NodeOptions {
        name: format!("node-{CROWD}"),
        mode: Mode::Instant { exit_code: 0 },
        namespace: Some(CROWD.into()),
        ..NodeOptions::default()
    };
    let _node = Node::start(plane.admin(), node).await?;
    plane.apply(&type_(CROWD, "true").to_string()).await?;
    let api = groups(&plane.admin(), CROWD);
    let create = |n: usize| {
        let api = api.clone();
        async move {
            let group: DynamicObject =
                serde_json::from_value(group(CROWD, &format!("g{n}"), &["a"]))?;
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
        let rest = all.len() - all.iter().filter(idle).count();
        if rest == 0 {
            break;
        }
        if start.elapsed() > 5 * PATIENCE {
            bail!(
                "{rest} groups do not come to rest:\n{}",
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

async fn until(plane: &ControlPlane, name: &str, what: impl Fn(&Value) -> bool) -> Result<()> {
    let api = groups(&plane.admin(), ONE);
    let start = Instant::now();
    loop {
        let group = api.get(name).await?;
        if what(&group.data["status"]) {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            bail!("{name}: {:#}", group.data["status"]);
        }
        sleep(Duration::from_millis(20)).await;
    }
}
