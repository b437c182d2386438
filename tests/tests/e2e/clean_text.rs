//! Text from tenants is shown without characters that deceive a terminal or a reader.

use crate::fixture::{Fixture, item};
use crate::helpers::{history, latest, refuse_pods, text};
use anyhow::{Result, ensure};
use serde_json::{Value, json};

/// Escape sequences, bidirectional controls, and zero-width characters.
const HOSTILE: &str = "\u{1b}[2J\u{202e}\u{2066}\u{200b}\u{200d}\u{ad}\u{feff}\u{9b}\u{e0041}";

/// A name with those characters that the API allows.
const NAME: &str = "ba\u{202e}ckup \u{200b}x\u{feff}";
/// The name as it is shown.
const SHOWN: &str = "backup x";

/// Makes the API server reject pods of items whose name begins with `no`, in a message that quotes
/// the item.
async fn refuse(fixture: &Fixture) -> Result<()> {
    let message = "'not allowed here: ' + object.metadata.annotations['oaat.kawaja.net/item']";
    let validation = json!({
        "expression": "!object.metadata.?annotations['oaat.kawaja.net/item'].orValue('').startsWith('no')",
        "message": "this item is not allowed here",
        "messageExpression": message,
    });
    refuse_pods(fixture, validation, "no").await
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
    let fixture = Fixture::new("clean-text").await?;
    refuse(&fixture).await?;
    fixture.work("sleep 600", json!({})).await?;
    fixture
        .group(&[NAME], json!({ "failureCoolOff": "1h" }))
        .await?;
    let pod = fixture
        .until_running()
        .await?
        .metadata
        .name
        .unwrap_or_default();
    let group = fixture.read("group").await?;
    assert_eq!(group["status"]["currentlyRunning"], NAME);
    let message = group["status"]["message"].as_str().unwrap_or_default();
    assert!(
        message.starts_with(&format!("running {SHOWN} (")),
        "{message}"
    );
    ensure_clean(&group["status"], "")?;

    let words: String = HOSTILE.chars().cycle().take(1000).collect();
    let status = json!({ "phase": "Failed", "containerStatuses": [{
        "name": "main", "image": "any", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "running": null, "terminated": {
            "exitCode": 3, "reason": "Error", "message": format!("disk{words} is full{words}"),
            "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z",
        } },
    }] });
    fixture.write_pod_status(&pod, status).await?;
    let group = fixture.until_recorded(NAME).await?;
    assert_eq!(latest(&group)?["item"], NAME);
    let message = text(&latest(&group)?["message"]);
    ensure!(message.contains("code 3: disk [2J"), "{message}");
    ensure_clean(&group["status"], "")?;

    // The API server's message quotes the item.
    let refused = format!("no{NAME}");
    let names: Vec<String> = (0..30).map(|n| format!("{refused} {n}")).collect();
    let spec = json!({ "spec": { "oaatItems": names } });
    fixture.change(spec).await?;
    let group = fixture
        .until("the rejection is recorded", |g| {
            history(g)
                .iter()
                .any(|run| run["reason"] == "CreateRejected")
        })
        .await?;
    let message = text(&latest(&group)?["message"]);
    ensure!(
        message.contains(&format!("not allowed here: no{SHOWN}")),
        "{message}"
    );
    let one = names
        .iter()
        .find(|name| item(&group, name)["failures"] == 1);
    ensure!(one.is_some(), "{group:#}");
    ensure_clean(&group["status"], "")?;

    let unknown: Vec<String> = (0..500).map(|n| format!("{HOSTILE}{n}")).collect();
    let request = json!({ "token": "1", "items": unknown }).to_string();
    fixture
        .change(json!({ "metadata": { "annotations": { crate::helpers::RUN_NOW: request } } }))
        .await?;
    let group = fixture
        .until("the request is processed", |g| {
            g["status"]["runNow"]["problem"].is_string()
        })
        .await?;
    let problem = text(&group["status"]["runNow"]["problem"]);
    ensure!(problem.ends_with("and 490 more"), "{problem}");
    ensure_clean(&group["status"], "")?;

    for reason in ["Started", "Failed", "CreateRejected", "RunNowInvalid"] {
        fixture.until_event("group", reason).await?;
    }
    for (reason, note) in fixture.events("group").await? {
        ensure!(!hostile(&note) && note.len() <= 1024, "{reason}: {note:?}");
    }
    let log = fixture.operator().log();
    ensure!(log.contains("not allowed here: "), "{log}");
    for line in log.lines() {
        ensure!(!hostile(line), "{line:?}");
    }
    Ok(())
}
