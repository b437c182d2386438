//! Text from tenants is shown without characters that deceive a terminal or a reader.

use crate::by_hand::{history, latest, text};
use crate::world::{World, item};
use anyhow::{Result, ensure};
use serde_json::{Value, json};

/// Escape sequences, bidirectional controls, and zero-width characters.
const HOSTILE: &str = "\u{1b}[2J\u{202e}\u{2066}\u{200b}\u{200d}\u{ad}\u{feff}\u{9b}\u{e0041}";

/// A name with what the API allows of these.
const NAME: &str = "ba\u{202e}ckup \u{200b}x\u{feff}";
/// The same as people read it.
const SHOWN: &str = "backup x";

/// The API server refuses pods of items whose name begins with `no`, and quotes it.
async fn refuse(world: &World) -> Result<()> {
    let name = &world.namespace;
    let item = "object.metadata.?annotations['oaat.kawaja.net/item'].orValue('')";
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": name },
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": { "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                "resources": ["pods"],
            }] },
            "validations": [{
                "expression": format!("!{item}.startsWith('no')"),
                "message": "this house takes no such item",
                "messageExpression": format!("'this house does not take ' + {item}"),
            }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": name },
        "spec": {
            "policyName": name, "validationActions": ["Deny"],
            "matchResources": { "namespaceSelector": { "matchLabels": {
                "kubernetes.io/metadata.name": name,
            } } },
        },
    });
    for object in [policy, binding] {
        world.plane.apply(&object.to_string()).await?;
    }
    crate::by_hand::until_refused(world, "no").await
}

fn hostile(text: &str) -> bool {
    text.contains(|c| c != '\n' && (HOSTILE.contains(c) && !"[2J".contains(c)))
}

/// Checks that no message of an object contains these characters or is too long. Names of items are
/// data and stay unchanged.
fn ensure_clean(value: &Value, path: &str) -> Result<()> {
    match value {
        Value::String(text) => {
            let name = [".item", ".currentlyRunning"]
                .iter()
                .any(|end| path.ends_with(end));
            ensure!(
                name || (!hostile(text) && text.len() <= 2048),
                "{path}: {text:?}"
            );
        }
        Value::Array(list) => {
            for each in list {
                ensure_clean(each, path)?;
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                ensure_clean(value, &format!("{path}.{key}"))?;
            }
        }
        _ => {}
    }
    Ok(())
}

#[tokio::test]
async fn hostile_text_is_cleaned_in_status_events_and_log() -> Result<()> {
    let world = World::new("clean-text").await?;
    refuse(&world).await?;
    world.work("sleep 600", json!({})).await?;
    world
        .group(&[NAME], json!({ "failureCoolOff": "1h" }))
        .await?;
    let pod = world
        .until_running()
        .await?
        .metadata
        .name
        .unwrap_or_default();
    let group = world.read("group").await?;
    assert_eq!(group["status"]["currentlyRunning"], NAME);
    let message = group["status"]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with(&format!("runs {SHOWN} (")), "{message}");
    ensure_clean(&group["status"], "")?;

    let words: String = HOSTILE.chars().cycle().take(1000).collect();
    let status = json!({ "phase": "Failed", "containerStatuses": [{
        "name": "main", "image": "any", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "running": null, "terminated": {
            "exitCode": 3, "reason": "Error", "message": format!("disk{words} is full{words}"),
            "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z",
        } },
    }] });
    world.write_pod_status(&pod, status).await?;
    let group = world.until_recorded(NAME).await?;
    assert_eq!(latest(&group)?["item"], NAME);
    let message = text(&latest(&group)?["message"]);
    ensure!(message.contains("code 3: disk [2J"), "{message}");
    ensure_clean(&group["status"], "")?;

    // Refused in words of the server that quote the item.
    let refused = format!("no{NAME}");
    let names: Vec<String> = (0..30).map(|n| format!("{refused} {n}")).collect();
    let spec = json!({ "spec": { "oaatItems": names } });
    world.change(spec).await?;
    let group = world
        .until("the refusal is recorded", |g| {
            history(g)
                .iter()
                .any(|run| run["reason"] == "CreateRejected")
        })
        .await?;
    let message = text(&latest(&group)?["message"]);
    ensure!(
        message.contains(&format!("does not take no{SHOWN}")),
        "{message}"
    );
    let one = names
        .iter()
        .find(|name| item(&group, name)["failures"] == 1);
    ensure!(one.is_some(), "{group:#}");
    ensure_clean(&group["status"], "")?;

    let unknown: Vec<String> = (0..500).map(|n| format!("{HOSTILE}{n}")).collect();
    let request = json!({ "token": "1", "items": unknown }).to_string();
    world
        .change(json!({ "metadata": { "annotations": { crate::by_hand::RUN_NOW: request } } }))
        .await?;
    let group = world
        .until("the request is answered", |g| {
            g["status"]["runNow"]["problem"].is_string()
        })
        .await?;
    let problem = text(&group["status"]["runNow"]["problem"]);
    ensure!(problem.ends_with("and 490 more"), "{problem}");
    ensure_clean(&group["status"], "")?;

    for reason in ["Started", "Failed", "CreateRejected", "RunNowInvalid"] {
        world.until_event("group", reason).await?;
    }
    for (reason, note) in world.events("group").await? {
        ensure!(!hostile(&note) && note.len() <= 1024, "{reason}: {note:?}");
    }
    let log = world.operator().log();
    ensure!(log.contains("does not take"), "{log}");
    for line in log.lines() {
        ensure!(!hostile(line), "{line:?}");
    }
    Ok(())
}
