//! A thousand groups whose items are always due: runs per second, their cost, and fair turns.

use crate::handover::{groups, node_with_mode, operator_options};
use crate::report::Report;
use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use oaat_tests::{ControlPlane, Mode, Operator};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::sleep;

const GROUPS: usize = 1_000;
/// The pods end at once.
const INSTANT: Mode = Mode::Instant { exit_code: 0 };
/// The time before the measurement: every group gets its first status and some runs.
const WARM_UP: Duration = Duration::from_secs(45);
/// The duration of the measurement.
const MEASURED: Duration = Duration::from_secs(30);
/// The number of concurrent loops without guarantees, as many as the operator's reconciles.
const LOOPS: usize = 32;

pub async fn measure(plane: &ControlPlane, kubeconfig: &Path, report: &mut Report) -> Result<()> {
    println!("{GROUPS} groups of 2 items, pods that end at once:");
    let naive = naive(plane).await?;
    report.at_most("runs per second, gated naive loop", naive, "", None);
    let namespace = "saturation";
    let _node = node_with_mode(plane, namespace, INSTANT).await?;
    plane
        .apply(&crate::scale::type_(namespace).to_string())
        .await?;
    let api = groups(&plane.admin(), namespace);
    create_groups(&api, json!({ "frequency": "1ms", "podHistoryLimit": 1 })).await?;
    let options = operator_options(plane, kubeconfig, vec![namespace.to_owned()])?;
    let operator = Operator::start(&options).await?;
    sleep(WARM_UP).await;
    let pid = operator.process().pid();
    let (runs_before, cpu_before, turns_before) =
        (runs(&operator).await?, cpu(pid)?, turns(&api).await?);
    let started = Instant::now();
    sleep(MEASURED).await;
    let seconds = started.elapsed().as_secs_f64();
    let (done, cpu) = (runs(&operator).await? - runs_before, cpu(pid)? - cpu_before);
    let turns = turns(&api).await?.into_iter().zip(turns_before);
    let turns: Vec<i64> = turns.map(|(after, before)| after - before).collect();
    operator.stop().await;
    report.at_most("runs per second, operator", done / seconds, "", None);
    let ratio = done / seconds / naive;
    report.at_least(
        "runs per second, operator against the naive loop",
        ratio,
        "×",
        0.85,
    );
    let own = cpu.as_secs_f64() * 1e3 / done;
    report.at_most("CPU time of the operator per run", own, "ms", 2.0);
    let (least, most) = (turns.iter().min(), turns.iter().max());
    let behind = most.zip(least).context("there are no groups")?;
    let behind = (behind.0 - behind.1) as f64;
    report.at_most(
        "largest difference in turns between groups",
        behind,
        "",
        3.0,
    );
    Ok(())
}

fn name(number: usize) -> String {
    format!("group-{number:04}")
}

async fn create_groups(api: &Api<DynamicObject>, more: Value) -> Result<()> {
    let create = |number: usize| {
        let mut group = json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatGroup", "metadata": { "name": name(number) },
            "spec": { "oaatType": "work", "oaatItems": ["a", "b"] },
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            group["spec"][field] = value.clone();
        }
        async move {
            let group = serde_json::from_value(group)?;
            api.create(&PostParams::default(), &group).await?;
            anyhow::Ok(())
        }
    };
    let creations = stream::iter((0..GROUPS).map(create));
    creations.buffer_unordered(16).try_collect().await
}

/// Returns the number of runs that have started.
async fn runs(operator: &Operator) -> Result<f64> {
    operator.metric("oaat_runs_total", &["Started"]).await
}

/// Returns the number of the latest run of each group, in the order of their names.
async fn turns(api: &Api<DynamicObject>) -> Result<Vec<i64>> {
    let list = api.list(&ListParams::default()).await?;
    let run = |group: &DynamicObject| group.data["status"]["run"].as_i64().unwrap_or(0);
    Ok(list.items.iter().map(run).collect())
}

/// Returns the CPU time that a process has used.
fn cpu(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("the name is missing")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |index: usize| -> Result<u64> {
        let field = fields.get(index).context("a field is missing")?;
        Ok(field.parse()?)
    };
    // utime and stime, in hundredths of a second.
    Ok(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
}

/// Returns the runs per second of loops that write what the operator writes, and guarantee nothing.
async fn naive(plane: &ControlPlane) -> Result<f64> {
    let namespace = "saturation-naive";
    let _node = node_with_mode(plane, namespace, INSTANT).await?;
    let client = plane.admin();
    create_groups(&groups(&client, namespace), json!({})).await?;
    let done = AtomicU64::new(0);
    let loops = (0..LOOPS).map(|number| naive_loop(&client, namespace, number, &done));
    let rate = async {
        sleep(Duration::from_secs(10)).await;
        let (before, started) = (done.load(Ordering::Relaxed), Instant::now());
        sleep(MEASURED).await;
        let runs = done.load(Ordering::Relaxed) - before;
        runs as f64 / started.elapsed().as_secs_f64()
    };
    tokio::select! {
        ended = futures::future::try_join_all(loops) => bail!("the loops ended: {ended:?}"),
        rate = rate => Ok(rate),
    }
}

/// For one group after the other: creates a gated pod, writes the status, removes the gate, and
/// deletes the pod of the group's run before.
async fn naive_loop(
    client: &Client,
    namespace: &str,
    first: usize,
    done: &AtomicU64,
) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let groups = groups(client, namespace);
    let status = sample_status();
    for run in 0.. {
        for number in (first..GROUPS).step_by(LOOPS) {
            let pod_name = |run: i64| format!("{}-{run}", name(number));
            let pod = serde_json::from_value(json!({
                "metadata": { "name": pod_name(run), "labels": { "run": run.to_string() } },
                "spec": {
                    "restartPolicy": "Never",
                    "schedulingGates": [{ "name": "example.net/gate" }],
                    "containers": [{ "name": "main", "image": "any", "command": ["true"] }],
                },
            }))?;
            pods.create(&PostParams::default(), &pod).await?;
            let mut status = status.clone();
            status["run"] = run.into();
            let params = PatchParams::default();
            let patch = json!({ "status": status });
            groups
                .patch_status(&name(number), &params, &Patch::Merge(&patch))
                .await?;
            let open = json!({ "spec": { "schedulingGates": [{ "name": "example.net/gate", "$patch": "delete" }] } });
            pods.patch(&pod_name(run), &params, &Patch::Strategic(&open))
                .await?;
            if run > 0 {
                pods.delete(&pod_name(run - 1), &DeleteParams::default())
                    .await?;
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Returns a status as large as that of the measured groups.
fn sample_status() -> Value {
    let time = "2026-01-01T00:00:00Z";
    let item = json!({
        "item": "a", "state": "Ready", "lastSuccess": time, "lastStarted": time, "runs": 1000,
        "durations": [1, 1, 1, 1, 1],
    });
    let run = json!({
        "run": 1000, "item": "a", "pod": "group-0000-a-0123456789", "started": time,
        "finished": time, "result": "Succeeded", "reason": "Completed", "exitCode": 0,
    });
    json!({
        "state": "Running", "message": "running a", "items": { "a": item, "b": item },
        "history": vec![run; 20],
    })
}
