//! The time from the end of a pod to the removal of the next pod's gate, on a real API server: for
//! the operator, and for two naive loops without its guarantee.

use crate::report::Report;
use crate::samples::{Samples, ms};
use anyhow::{Context, Result, bail};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use oaat_tests::{ControlPlane, Mode, Node, NodeOptions, Operator, OperatorOptions, operator};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// The time that a pod runs, in seconds. It is not 0, because the events of a run would then be
/// written during the next handover. After a write of another kind than pods, the API server serves
/// a consistent list of pods only once its watch cache knows the progress of etcd, which it
/// requests every 100 ms.
const POD_SECONDS: &str = "0.15";
/// The number of items in the measured group.
const ITEMS: usize = 20;
/// The number of items in the larger group.
const MANY_ITEMS: usize = 200;
/// The number of handovers before the first measured one.
const WARM_UP: usize = 20;
/// The timeout for the next event.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub async fn measure(
    plane: &ControlPlane,
    kubeconfig: &Path,
    runs: usize,
    report: &mut Report,
) -> Result<()> {
    println!(
        "end of a pod → removal of the next pod's gate, {runs} runs, {ITEMS} items, pods that run {POD_SECONDS} s:"
    );
    let bare = naive(plane, "naive", runs, false).await?;
    line("naive loop, no gate", &bare, None);
    let gated = naive(plane, "gated", runs, true).await?;
    line("naive loop, gated", &gated, Some(&bare));
    let operator = measure_operator(plane, kubeconfig, runs, ITEMS).await?;
    line("oaat-operator", &operator, Some(&gated));
    let many = measure_operator(plane, kubeconfig, runs, MANY_ITEMS).await?;
    line(&format!("{MANY_ITEMS} items"), &many, Some(&operator));
    let ratio = |samples: &Samples, other: &Samples, share| {
        samples.quantile(share).as_secs_f64() / other.quantile(share).as_secs_f64()
    };
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let name = format!("handover against the gated loop, {name}");
        report.at_most(&name, ratio(&operator, &gated, share), "×", 1.1);
    }
    let name = format!("handover with {MANY_ITEMS} items against {ITEMS}, p50");
    report.at_most(&name, ratio(&many, &operator, 0.5), "×", 1.6);
    Ok(())
}

fn line(name: &str, samples: &Samples, against: Option<&Samples>) {
    let (p50, p99) = (samples.quantile(0.5), samples.quantile(0.99));
    let ratio = against.map_or(String::new(), |other| {
        let ratio = |duration: Duration, share| {
            duration.as_secs_f64() / other.quantile(share).as_secs_f64()
        };
        format!(
            "   × {:.2} and {:.2} of the line above",
            ratio(p50, 0.5),
            ratio(p99, 0.99)
        )
    });
    println!(
        "  {name:<20} p50 {:>8}   p99 {:>8}{ratio}",
        ms(p50),
        ms(p99)
    );
}

/// Returns the options of an operator without leader election and without a retry floor.
pub fn operator_options(
    plane: &ControlPlane,
    kubeconfig: &Path,
    namespaces: Vec<String>,
) -> Result<OperatorOptions> {
    Ok(OperatorOptions {
        binary: operator::binary(true)?,
        kubeconfig: kubeconfig.to_owned(),
        namespaces,
        leader_elect: false,
        retry_floor: "0s".into(),
        log_dir: plane.folder().to_owned(),
        more: Vec::new(),
    })
}

/// Creates a namespace and starts its node, which runs the processes of pods.
pub async fn node(plane: &ControlPlane, namespace: &str) -> Result<Node> {
    node_with_mode(plane, namespace, Mode::Processes).await
}

/// Creates a namespace and starts its node.
pub async fn node_with_mode(plane: &ControlPlane, namespace: &str, mode: Mode) -> Result<Node> {
    plane.namespace(namespace).await?;
    let options = NodeOptions {
        name: format!("node-{namespace}"),
        mode,
        namespace: Some(namespace.to_owned()),
        ..NodeOptions::default()
    };
    Node::start(plane.admin(), options).await
}

/// Returns the API for the groups of a namespace.
pub fn groups(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("kawaja.net", "v1", "OaatGroup"));
    Api::namespaced_with(client.clone(), namespace, &kind)
}

/// A change of a pod, as a watch reports it.
pub enum Step {
    /// The gate of a pod was removed.
    Open,
    /// A pod has ended.
    Ended,
}

/// Returns each step of each pod once, with the time of its observation. If `group` is not empty,
/// returns only the pods of that group.
pub fn steps(
    client: &Client,
    namespace: &str,
    group: &str,
) -> impl Stream<Item = (Instant, Step)> + Send + use<> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut open = HashSet::new();
    let mut ended = HashSet::new();
    let mut config = watcher::Config::default();
    if !group.is_empty() {
        config = config.labels(&format!("oaat.kawaja.net/group={group}"));
    }
    watcher(pods, config)
        .default_backoff()
        .flat_map(move |event| {
            let now = Instant::now();
            let mut steps = Vec::new();
            if let Ok(Event::Apply(pod) | Event::InitApply(pod)) = event {
                let uid = pod.uid().unwrap_or_default();
                let gates = pod.spec.as_ref().and_then(|s| s.scheduling_gates.as_ref());
                if gates.is_none_or(Vec::is_empty) && open.insert(uid.clone()) {
                    steps.push((now, Step::Open));
                }
                let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
                if matches!(phase, Some("Succeeded" | "Failed")) && ended.insert(uid) {
                    steps.push((now, Step::Ended));
                }
            }
            futures::stream::iter(steps)
        })
}

/// Measures this number of handovers.
pub async fn collect(steps: impl Stream<Item = (Instant, Step)>, runs: usize) -> Result<Samples> {
    let mut samples = Samples::default();
    let mut ended = None;
    futures::pin_mut!(steps);
    while samples.0.len() < runs + WARM_UP {
        let next = tokio::time::timeout(PATIENCE, steps.next()).await;
        match next
            .context("no pod changed before the timeout")?
            .context("the watch ended")?
        {
            (at, Step::Ended) => ended = Some(at),
            (at, Step::Open) => samples.0.extend(ended.take().map(|ended| at - ended)),
        }
    }
    samples.0.drain(..WARM_UP);
    Ok(samples)
}

/// Measures handovers of the operator with the shipped RBAC, in a new namespace. Also returns the
/// operator and its node.
pub async fn operator_samples(
    plane: &ControlPlane,
    kubeconfig: &Path,
    namespace: &str,
    runs: usize,
    item_count: usize,
) -> Result<(Samples, Operator, Node)> {
    let node = node(plane, namespace).await?;
    let items: Vec<_> = (0..item_count).map(|i| format!("item-{i}")).collect();
    let type_ = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatType",
        "metadata": { "name": "work", "namespace": namespace },
        "spec": { "type": "pod", "podspec": { "container": { "name": "main", "image": "any", "command": ["sleep", POD_SECONDS] } } },
    });
    let group = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": "group", "namespace": namespace },
        "spec": { "oaatType": "work", "oaatItems": items, "frequency": "1ms", "podHistoryLimit": 10 },
    });
    plane.apply(&type_.to_string()).await?;
    plane.apply(&group.to_string()).await?;
    let options = operator_options(plane, kubeconfig, vec![namespace.to_owned()])?;
    let operator = Operator::start(&options).await?;
    let samples = collect(steps(&plane.admin(), namespace, ""), runs).await?;
    Ok((samples, operator, node))
}

/// Measures the operator with the shipped RBAC, and its requests and memory.
async fn measure_operator(
    plane: &ControlPlane,
    kubeconfig: &Path,
    runs: usize,
    item_count: usize,
) -> Result<Samples> {
    let namespace = &format!("operator-{item_count}");
    let client = plane.admin();
    let (samples, operator, _node) =
        operator_samples(plane, kubeconfig, namespace, runs, item_count).await?;

    // No item is due from now on. The last run ends, and then the group is idle.
    let quiet = json!({ "spec": { "frequency": "30days" } });
    groups(&client, namespace)
        .patch("group", &PatchParams::default(), &Patch::Merge(&quiet))
        .await?;
    let start = Instant::now();
    loop {
        let group = serde_json::to_value(groups(&client, namespace).get("group").await?)?;
        if group["status"]["state"] == "Idle" {
            break;
        }
        if start.elapsed() > PATIENCE {
            bail!("the group does not become idle: {:#}", group["status"]);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let requests = async || operator.metric("oaat_api_requests_total", &[]).await;
    let runs = operator.metric("oaat_runs_total", &["Started"]).await?;
    let count = async |verb: &str, resource: &str| {
        let labels = [
            format!("verb=\"{verb}\""),
            format!("resource=\"{resource}\""),
        ];
        operator
            .metric("oaat_api_requests_total", &[&labels[0], &labels[1]])
            .await
    };
    println!("  API requests per run, over {runs} runs:");
    for (verb, resource) in [
        ("create", "pods"),
        ("patch", "oaatgroups"),
        ("patch", "pods"),
        ("delete", "pods"),
        ("get", "oaatgroups"),
        ("get", "pods"),
        ("list", "pods"),
        ("create", "events"),
        ("patch", "events"),
    ] {
        println!(
            "    {verb:<7} {resource:<11} {:.2}",
            count(verb, resource).await? / runs
        );
    }
    for name in ["reconcile", "decision"] {
        let sum = operator
            .metric(&format!("oaat_{name}_seconds_sum"), &[])
            .await?;
        let count = operator
            .metric(&format!("oaat_{name}_seconds_count"), &[])
            .await?;
        anyhow::ensure!(
            count > 0.0,
            "the operator has no metric oaat_{name}_seconds"
        );
        println!(
            "  one {name} took {:.2} ms on average, over {count}",
            1e3 * sum / count
        );
    }
    profile(&client).await?;
    let before = requests().await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    println!(
        "  requests of the idle group in 10 s: {} (goal 0)",
        requests().await? - before
    );
    println!(
        "  RSS of the operator with one group: {:.1} MB (goal 40 MB)",
        rss(operator.process().pid())?
    );
    Ok(samples)
}

/// Prints the time that the API server spent on the requests of a handover. Its metrics include the
/// requests of the naive loops.
async fn profile(client: &Client) -> Result<()> {
    let text = client
        .request_text(http::Request::get("/metrics").body(Vec::new())?)
        .await?;
    println!("  average time in the API server, including the naive loops:");
    for (verb, resource, subresource) in [
        ("GET", "oaatgroups", ""),
        ("LIST", "pods", ""),
        ("POST", "pods", ""),
        ("PATCH", "oaatgroups", "status"),
        ("PATCH", "pods", ""),
        ("DELETE", "pods", ""),
        ("POST", "events", ""),
    ] {
        let value = |kind: &str| -> f64 {
            let name = format!("apiserver_request_duration_seconds_{kind}{{");
            let labels = [
                format!("resource=\"{resource}\""),
                format!("subresource=\"{subresource}\""),
                format!("verb=\"{verb}\""),
            ];
            text.lines()
                .filter(|l| l.starts_with(&name) && labels.iter().all(|label| l.contains(label)))
                .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
                .sum()
        };
        let count = value("count");
        println!(
            "    {verb:<7} {resource}/{subresource:<7} {:>6.1} ms ({count})",
            1e3 * value("sum") / count
        );
    }
    Ok(())
}

/// Returns the resident memory of a process in megabytes.
pub fn rss(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .context("the status has no VmRSS")?;
    let kilobytes: f64 = line
        .split_whitespace()
        .nth(1)
        .context("VmRSS has no value")?
        .parse()?;
    Ok(kilobytes / 1024.0)
}

/// Measures a naive loop: at the end of a pod, it reads the group, lists the pods, creates the next
/// pod, and writes the status. With `gated`, the pod has a gate that is removed last. The loop
/// guarantees nothing.
async fn naive(plane: &ControlPlane, namespace: &str, runs: usize, gated: bool) -> Result<Samples> {
    let client = plane.admin();
    let _node = node(plane, namespace).await?;
    let group = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": "group", "namespace": namespace },
        "spec": { "oaatType": "none", "oaatItems": ["a"] },
    });
    plane.apply(&group.to_string()).await?;
    let looping = tokio::spawn(naive_loop(client.clone(), namespace.to_owned(), gated));
    let samples = collect(steps(&client, namespace, ""), runs).await;
    looping.abort();
    samples
}

async fn naive_loop(client: Client, namespace: String, gated: bool) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let groups = groups(&client, &namespace);
    let events = steps(&client, &namespace, "");
    futures::pin_mut!(events);
    let mut run = 0;
    loop {
        groups.get("group").await?;
        let list = pods.list(&ListParams::default().labels("run")).await?;
        run += 1;
        let name = format!("pod-{run}");
        pods.create(&PostParams::default(), &pod(&name, run, gated)?)
            .await?;
        let status = json!({ "status": { "run": run, "message": "running" } });
        groups
            .patch_status("group", &PatchParams::default(), &Patch::Merge(&status))
            .await?;
        if gated {
            let open = json!({ "spec": { "schedulingGates": [{ "name": "example.net/gate", "$patch": "delete" }] } });
            pods.patch(&name, &PatchParams::default(), &Patch::Strategic(&open))
                .await?;
        }
        for old in list.items.iter().filter(|pod| finished(pod)).rev().skip(10) {
            pods.delete(&old.name_any(), &Default::default()).await?;
        }
        while let Some((_, step)) = events.next().await {
            if let Step::Ended = step {
                break;
            }
        }
    }
}

fn finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn pod(name: &str, run: i64, gated: bool) -> Result<Pod> {
    let mut pod: Value = json!({
        "metadata": { "name": name, "labels": { "run": run.to_string() } },
        "spec": {
            "restartPolicy": "Never",
            "containers": [{ "name": "main", "image": "any", "command": ["sleep", POD_SECONDS] }],
        },
    });
    if gated {
        pod["spec"]["schedulingGates"] = json!([{ "name": "example.net/gate" }]);
    }
    Ok(serde_json::from_value(pod)?)
}
