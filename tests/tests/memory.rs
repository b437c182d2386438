//! The operator's memory is limited. This test has its own binary and control plane, because its
//! objects would slow down other tests.

// The peak comes from /proc.
#![cfg(target_os = "linux")]

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{GroupVersionKind, ObjectList};
use kube::{Api, Client};
use oaat_tests::{ControlPlane, Operator, OperatorOptions, Options, operator};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

const GROUPS: usize = 200;
const ITEMS: usize = 2000;
/// The number of groups whose status the operator writes.
const WRITTEN: usize = 12;
/// The number of groups that each have their own policy.
const POLICIES: u8 = 50;
const NAMESPACE: &str = "crowded";
/// Takes about 20 seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(600);
/// The shipped limit is 256 MiB. A child process that compiles a policy uses the rest.
const CEILING: usize = 192 << 20;

fn groups(client: Client) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("kawaja.net", "v1", "OaatGroup"));
    Api::namespaced_with(client, NAMESPACE, &kind)
}

fn item(number: usize) -> String {
    format!("server-{number:04}.example.com/var/lib/data")
}

/// Returns a status as after some days of use: every field of every item is set.
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

/// Sends a request to etcd.
async fn etcd(port: u16, method: &str, body: &Value) -> Result<Value> {
    let body = body.to_string();
    let head = format!(
        "POST /v3/kv/{method} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the response is not HTTP")?;
    ensure!(head.contains(" 200 "), "{method}: {head}");
    Ok(serde_json::from_str(body)?)
}

/// Copies a group in etcd. Through the API server, each copy would take seconds.
async fn copy(plane: &ControlPlane, from: &str, names: impl Iterator<Item = String>) -> Result<()> {
    let port = plane.etcd_port();
    let key = |name: &str| {
        BASE64.encode(format!(
            "/registry/kawaja.net/oaatgroups/{NAMESPACE}/{name}"
        ))
    };
    let found = etcd(port, "range", &json!({ "key": key(from) })).await?;
    let value = found["kvs"][0]["value"]
        .as_str()
        .context("the key is not in etcd")?;
    let mut group: Value = serde_json::from_slice(&BASE64.decode(value)?)?;
    for name in names {
        group["metadata"]["uid"] = format!("uid-of-{name}").into();
        group["metadata"]["name"] = name.as_str().into();
        let value = BASE64.encode(group.to_string());
        etcd(port, "put", &json!({ "key": key(&name), "value": value })).await?;
    }
    Ok(())
}

/// The part of a group that shows whether the operator has reconciled it.
#[derive(Clone, Debug, Deserialize)]
struct Seen {
    status: SeenStatus,
}

#[derive(Clone, Debug, Deserialize)]
struct SeenStatus {
    state: Option<String>,
    items: std::collections::HashMap<String, serde::de::IgnoredAny>,
}

/// Waits until the status of every group shows that it is suspended, with all of its items.
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

/// Returns the peak resident memory of a process.
fn peak(operator: &Operator) -> Result<usize> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", operator.process().pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: usize = kib.context("no VmHWM")?.trim().parse()?;
    Ok(kib << 10)
}

struct Setup {
    binary: PathBuf,
    plane: ControlPlane,
    kubeconfig: PathBuf,
}

async fn setup() -> Result<Setup> {
    let binary =
        tokio::task::spawn_blocking(|| operator::binary(!cfg!(debug_assertions))).await??;
    let (plane, kubeconfig) = operator::installed(Options::default()).await?;
    plane.namespace(NAMESPACE).await?;
    Ok(Setup {
        binary,
        plane,
        kubeconfig,
    })
}

async fn start(plane: &ControlPlane, binary: &Path, kubeconfig: &Path) -> Result<Operator> {
    Operator::start(&OperatorOptions {
        binary: binary.to_owned(),
        kubeconfig: kubeconfig.to_owned(),
        namespaces: Vec::new(),
        leader_elect: false,
        retry_floor: "10s".into(),
        log_dir: plane.folder().to_owned(),
        more: Vec::new(),
    })
    .await
}

/// Starts an operator, waits until it has reconciled this number of groups, and checks its peak
/// memory.
async fn run(plane: &ControlPlane, binary: &Path, kubeconfig: &Path, groups: usize) -> Result<()> {
    let operator = start(plane, binary, kubeconfig).await?;
    let begun = Instant::now();
    #[allow(clippy::cast_precision_loss)]
    while operator.metric("oaat_reconciles_total", &["ok"]).await? < groups as f64 {
        ensure!(
            operator.process().is_running() && begun.elapsed() < PATIENCE,
            "the groups have not been seen:\n{}",
            operator.last_log(20)
        );
        sleep(Duration::from_millis(200)).await;
    }
    check_peak(
        operator,
        &format!("{groups} groups of {ITEMS} items"),
        begun,
    )
    .await
}

/// Stops an operator, and checks its peak memory.
async fn check_peak(operator: Operator, what: &str, begun: Instant) -> Result<()> {
    let peak = peak(&operator)?;
    println!("{what}: {} MiB after {:?}", peak >> 20, begun.elapsed());
    operator.stop().await;
    ensure!(peak < CEILING, "{what}: {} MiB", peak >> 20);
    Ok(())
}

/// Creates a group with its own policy: a component of typical size with unique content.
async fn with_policy(client: &Client, wasm: &[u8], number: u8) -> Result<()> {
    let name = format!("policy-{number}");
    let wasm = [wasm, &[0, 2, 1, number]].concat();
    let map = serde_json::from_value(json!({
        "metadata": { "name": name }, "binaryData": { "policy.wasm": BASE64.encode(&wasm) },
    }))?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    maps.create(&PostParams::default(), &map).await?;
    let group = serde_json::from_value(json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup", "metadata": { "name": name },
        "spec": { "oaatType": "work", "oaatItems": ["a"], "policy": { "configMap": { "name": name } } },
    }))?;
    groups(client.clone())
        .create(&PostParams::default(), &group)
        .await?;
    Ok(())
}

#[tokio::test]
async fn fifty_policies_fit() -> Result<()> {
    let Setup {
        binary,
        plane,
        kubeconfig,
    } = setup().await?;
    let client = plane.admin();
    let wasm = operator::root().join("crates/policy-host/tests/frozen/1.0.0/policy-default.wasm");
    let wasm = std::fs::read(wasm)?;
    for number in 0..POLICIES {
        with_policy(&client, &wasm, number).await?;
    }
    let operator = start(&plane, &binary, &kubeconfig).await?;
    let begun = Instant::now();
    loop {
        let all = groups(client.clone()).list(&ListParams::default()).await?;
        let ready = |group: &&DynamicObject| {
            let conditions = group.data["status"]["conditions"].as_array();
            conditions.into_iter().flatten().any(|condition| {
                condition["type"] == "PolicyReady" && condition["status"] == "True"
            })
        };
        let ready = all.items.iter().filter(ready).count();
        if ready == usize::from(POLICIES) {
            break;
        }
        ensure!(
            operator.process().is_running() && begun.elapsed() < PATIENCE,
            "only {ready} policies became ready:\n{}",
            operator.last_log(20)
        );
        sleep(Duration::from_millis(200)).await;
    }
    let what = format!("{POLICIES} policies of {} KiB", wasm.len() >> 10);
    check_peak(operator, &what, begun).await
}

#[tokio::test]
async fn two_hundred_groups_of_two_thousand_items_fit() -> Result<()> {
    let Setup {
        binary,
        plane,
        kubeconfig,
    } = setup().await?;
    let api = groups(plane.admin());
    let status = status();
    // The operator writes the status of the first groups, which takes the API server seconds each.
    // The copies of one of them only need to be read.
    create(&api, 0, &status).await?;
    copy(
        &plane,
        "group-0",
        (1..WRITTEN).map(|n| format!("group-{n}")),
    )
    .await?;
    run(&plane, &binary, &kubeconfig, WRITTEN).await?;
    copy(
        &plane,
        "group-0",
        (WRITTEN..GROUPS).map(|n| format!("group-{n}")),
    )
    .await?;
    run(&plane, &binary, &kubeconfig, GROUPS).await?;
    all_seen(&plane.admin()).await
}
