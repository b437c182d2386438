//! The operator's memory has a ceiling. A test binary and a control plane for this alone: what
//! it fills would slow other tests down.

// The peak comes from /proc.
#![cfg(target_os = "linux")]

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{GroupVersionKind, ObjectList};
use kube::{Api, Client};
use oaat_tests::{ControlPlane, Operator, OperatorOptions, Options, operator};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::time::sleep;

const GROUPS: usize = 200;
const ITEMS: usize = 2000;
const NAMESPACE: &str = "crowded";
/// Some 20 seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(600);
/// The shipped limit is 256 MiB. A child that compiles a policy has the rest.
const CEILING: usize = 192 << 20;

fn groups(client: Client) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("kawaja.net", "v1", "OaatGroup"));
    Api::namespaced_with(client, NAMESPACE, &kind)
}

fn item(number: usize) -> String {
    format!("server-{number:04}.example.com/var/lib/data")
}

/// A status as it is after some days: every field of every item is there.
fn status() -> Value {
    let items = (0..ITEMS).map(|number| {
        let status = json!({
            "item": item(number), "state": "Cooling",
            "message": "failed 3 times in a row, last with exit code 17; it rests until then",
            "lastSuccess": "2026-01-01T00:00:00Z", "lastFailure": "2026-01-02T00:00:00Z",
            "failures": 3, "lastExitCode": 17, "lastStarted": "2026-01-01T23:59:00Z",
            "lastFinished": "2026-01-02T00:00:00Z", "runs": 1234, "next": "2099-01-01T00:00:00Z",
        });
        (item(number), status)
    });
    let history = (0..20).map(|number| {
        json!({
            "run": number, "item": item(number), "pod": format!("pod-{number}"),
            "started": "2026-01-01T00:00:00Z", "finished": "2026-01-01T00:01:00Z",
            "result": "Failed", "reason": "Error", "message": "x".repeat(1000), "exitCode": 17,
        })
    });
    json!({ "status": {
        "run": 2_000_000, "items": items.collect::<serde_json::Map<_, _>>(),
        "history": history.collect::<Vec<_>>(), "conditions": [],
    } })
}

async fn create(groups: &Api<DynamicObject>, number: usize, status: &Value) -> Result<()> {
    let name = format!("group-{number}");
    let items: Vec<String> = (0..ITEMS).map(item).collect();
    let group = serde_json::from_value(json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup", "metadata": { "name": name },
        "spec": { "oaatType": "work", "oaatItems": items, "suspend": true },
    }))?;
    groups.create(&PostParams::default(), &group).await?;
    let patch = Patch::Merge(status);
    groups
        .patch_status(&name, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

/// As much of a group as shows that the operator has dealt with it.
#[derive(Clone, Debug, Deserialize)]
struct Seen {
    status: SeenStatus,
}

#[derive(Clone, Debug, Deserialize)]
struct SeenStatus {
    state: Option<String>,
    items: std::collections::HashMap<String, serde::de::IgnoredAny>,
}

/// All groups are suspended by their status, with all of their items in it.
async fn all_seen(client: &Client) -> Result<()> {
    let mut params = ListParams::default().limit(20);
    let mut count = 0;
    loop {
        let url = format!("/apis/kawaja.net/v1/namespaces/{NAMESPACE}/oaatgroups");
        let request = kube::core::Request::new(url).list(&params)?;
        let page: ObjectList<Seen> = client.request(request).await?;
        for group in &page.items {
            ensure!(group.status.state.as_deref() == Some("Suspended"));
            ensure!(group.status.items.len() == ITEMS);
        }
        count += page.items.len();
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            ensure!(count == GROUPS, "{count} groups");
            return Ok(());
        }
    }
}

/// The most memory that a process has had resident.
fn peak(operator: &Operator) -> Result<usize> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", operator.process().pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: usize = kib.context("no VmHWM")?.trim().parse()?;
    Ok(kib << 10)
}

/// Starts an operator, waits until it has looked at every group, and gives its peak.
async fn run(plane: &ControlPlane, binary: &Path, kubeconfig: &Path) -> Result<usize> {
    let operator = Operator::start(&OperatorOptions {
        binary: binary.to_owned(),
        kubeconfig: kubeconfig.to_owned(),
        namespaces: Vec::new(),
        leader_elect: false,
        retry_floor: "10s".into(),
        log_dir: plane.folder().to_owned(),
        more: Vec::new(),
    })
    .await?;
    let begun = Instant::now();
    #[allow(clippy::cast_precision_loss)]
    while operator.metric("oaat_cycles_total", &["ok"]).await? < GROUPS as f64 {
        ensure!(
            operator.process().is_running() && begun.elapsed() < PATIENCE,
            "the groups have not been seen:\n{}",
            operator.last_log(20)
        );
        sleep(Duration::from_millis(200)).await;
    }
    let peak = peak(&operator)?;
    println!(
        "{GROUPS} groups of {ITEMS} items: {} MiB after {:?}",
        peak >> 20,
        begun.elapsed()
    );
    operator.stop().await;
    Ok(peak)
}

#[tokio::test]
async fn two_hundred_groups_of_two_thousand_items_fit() -> Result<()> {
    let binary: PathBuf =
        tokio::task::spawn_blocking(|| operator::binary(!cfg!(debug_assertions))).await??;
    let (plane, kubeconfig) = operator::installed(Options::default()).await?;
    plane.namespace(NAMESPACE).await?;
    let api = groups(plane.admin());
    let status = status();
    let begun = Instant::now();
    let () = stream::iter(0..GROUPS)
        .map(|number| create(&api, number, &status))
        .buffer_unordered(8)
        .try_collect()
        .await?;
    println!("created after {:?}", begun.elapsed());
    // The first writes every status; the second, after a restart, finds them all.
    for _ in 0..2 {
        let peak = run(&plane, &binary, &kubeconfig).await?;
        ensure!(peak < CEILING, "{} MiB", peak >> 20);
    }
    all_seen(&plane.admin()).await
}
