//! A migration from the original operator, by the commands of docs/migrating.md.

use crate::fixture::{Fixture, item};
use crate::helpers::{Barrier, ensure_apart, history};
use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use oaat_tests::operator::root;
use oaat_tests::readme::blocks;
use oaat_tests::{ControlPlane, Options, operator};
use serde_json::{Value, json};

const FINALIZER: &str = "oaatoperator.kawaja.net/kopf-finalizer";

/// Returns a CRD of the original operator: it accepts anything, and the status is part of the
/// object.
fn old_crd(kind: &str, plural: &str) -> Value {
    let open = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let schema = json!({ "type": "object", "properties": { "spec": open, "status": open } });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.kawaja.net") },
        "spec": {
            "scope": "Namespaced", "group": "kawaja.net",
            "names": { "kind": kind, "plural": plural, "singular": kind.to_lowercase() },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": schema },
            }],
        },
    })
}

/// Returns a time before now, in the format of the original operator.
fn ago(minutes: i64) -> Result<String> {
    let at = Timestamp::now().checked_sub(SignedDuration::from_mins(minutes))?;
    Ok(at.strftime("%Y-%m-%dT%H:%M:%S.%f+00:00").to_string())
}

#[tokio::test]
async fn migration_from_the_original_operator_keeps_history_and_current_run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut manifests = Vec::new();
    for (kind, plural) in [("OaatType", "oaattypes"), ("OaatGroup", "oaatgroups")] {
        let file = folder.path().join(format!("{plural}.json"));
        std::fs::write(&file, old_crd(kind, plural).to_string())?;
        manifests.push(file);
    }
    let options = Options {
        manifests,
        ..Options::default()
    };
    let plane = Box::leak(Box::new(ControlPlane::start(options).await?));
    let kubeconfig = operator::install(plane).await?;
    let mut fixture = Fixture::on_plane(plane, &kubeconfig, "moving").await?;

    // A group in use: one item succeeded recently, one long ago, one is in its cool-off, and one
    // runs.
    let barrier = Barrier::new()?;
    fixture.work(&barrier.is_open(), json!({})).await?;
    let group = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": "group", "finalizers": [FINALIZER] },
        "spec": {
            "oaatType": "work", "oaatItems": ["fresh", "due", "resting", "running"],
            "frequency": "1h", "failureCoolOff": "2h",
            "windows": [{ "noStartItem": { "start": { "time": "22:00" }, "end": { "time": "06:00" } } }],
        },
        "status": {
            "currently_running": "running", "oaat_timer": { "message": "item running started" },
            "items": {
                "fresh": { "last_success": ago(10)?, "failure_count": "0" },
                "due": { "last_success": ago(300)?, "failure_count": 0, "podphase": "Succeeded" },
                "resting": { "last_failure": ago(30)?, "failure_count": "3" },
            },
        },
    });
    fixture.apply(&group.to_string()).await?;
    let uid = fixture.read("group").await?["metadata"]["uid"].clone();
    let metadata = json!({
        "name": "group-running-abcde", "finalizers": [FINALIZER],
        "labels": { "parent-name": "group", "oaat-name": "running", "app": "oaat-operator" },
        "ownerReferences": [{
            "apiVersion": "kawaja.net/v1", "kind": "OaatGroup", "name": "group", "uid": uid,
            "controller": true, "blockOwnerDeletion": true,
        }],
    });
    fixture
        .pod_by_hand(metadata, &barrier.wait(), false)
        .await?;

    let guide = std::fs::read_to_string(root().join("docs/migrating.md"))?;
    let commands = blocks(&guide, "console");
    ensure!(commands.len() == 2, "{commands:#?}");
    for command in &commands {
        let command = command.strip_prefix("$ ").context("no command")?;
        fixture.type_in(command).await?;
    }
    let group = fixture.read("group").await?;
    ensure!(group["metadata"]["finalizers"].is_null(), "{group:#}");
    ensure!(item(&group, "resting")["failure_count"] == "3", "{group:#}");
    let pod = fixture.pods().get("group-running-abcde").await?;
    ensure!(pod.metadata.finalizers.is_none(), "{pod:?}");

    fixture.start_operator().await?;
    let group = fixture
        .until("the running pod is adopted", |g| {
            g["status"]["current"]["podName"] == "group-running-abcde"
        })
        .await?;
    let of = |name: &str, key: &str| item(&group, name)[key].clone();
    ensure!(of("resting", "failures") == 3, "{group:#}");
    ensure!(of("resting", "last_failure").is_null(), "{group:#}");
    ensure!(of("resting", "lastFailure").is_string(), "{group:#}");
    ensure!(of("fresh", "lastSuccess").is_string(), "{group:#}");
    fixture.until_event("group", "HistoryMigrated").await?;
    let note = fixture.until_event("group", "WindowsIgnored").await?;
    ensure!(
        note.contains("0 22 * * *") && note.contains("480m"),
        "{note}"
    );

    barrier.release()?;
    let group = fixture
        .until("the due item has run", |g| item(g, "due")["runs"] == 1)
        .await?;
    let ran: Vec<_> = history(&group)
        .iter()
        .map(|run| run["item"].clone())
        .collect();
    ensure!(ran == ["due", "running"], "{group:#}");
    ensure!(
        item(&group, "running")["lastSuccess"].is_string(),
        "{group:#}"
    );
    ensure_apart(&fixture.node.runs())
}
