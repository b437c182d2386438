//! Decisions are replayed from their records.

use super::{digest, variant};
use crate::fixture::Fixture;
use anyhow::Result;
use serde_json::{Value, json};

#[tokio::test]
async fn decision_is_replayed_from_the_log_and_from_its_record() -> Result<()> {
    let mut fixture = Fixture::without_operator("policy-replay").await?;
    let folder = fixture.plane.folder().join("decisions");
    let recorded = folder.display().to_string();
    let more = ["--log-decisions", "full", "--record-decisions", &recorded];
    fixture.options.more = more.map(Into::into).to_vec();
    fixture.start_operator().await?;
    let wasm = variant("replay");
    let component = fixture.plane.folder().join("replay.wasm");
    std::fs::write(&component, &wasm)?;
    fixture.policy(&wasm).await?;
    fixture.work("exit 0", json!({})).await?;
    let policy = json!({ "configMap": { "name": "mine" } });
    let items: Vec<String> = (0..1000).map(|i| format!("item {i}")).collect();
    let items: Vec<&str> = items.iter().map(String::as_str).collect();
    fixture.group(&items, json!({ "policy": policy })).await?;
    let large = fixture.until_decided_by(&digest(&wasm)).await?;
    fixture
        .group(
            &["a", "b"],
            json!({ "frequency": "100ms", "policy": policy }),
        )
        .await?;
    let small = fixture
        .until("a run of the short list", |group| {
            let decided = &group["status"]["lastDecision"];
            decided["item"] == "a" || decided["item"] == "b"
        })
        .await?;

    let command_line = oaat_tests::operator::command_line()?;
    let replay =
        async |file: &std::path::Path, decided: &Value, known: bool| -> Result<(bool, String)> {
            let mut command = tokio::process::Command::new(&command_line);
            let request = decided["status"]["lastDecision"]["request"]
                .as_str()
                .unwrap_or_default();
            command
                .args(["policy", "replay", "--request", request])
                .arg(file);
            if known {
                command.arg("--policy").arg(&component);
            }
            let output = command.output().await?;
            let text = [output.stdout, output.stderr].concat();
            Ok((
                output.status.success(),
                String::from_utf8_lossy(&text).into_owned(),
            ))
        };
    let log = fixture.operator().log_file().to_owned();
    let (agrees, text) = replay(&log, &small, true).await?;
    assert!(agrees && text.contains("1 agree, 0 differ"), "{text}");
    let (agrees, text) = replay(&log, &small, false).await?;
    assert!(!agrees && text.contains("--policy"), "{text}");
    let (agrees, text) = replay(&log, &large, true).await?;
    assert!(agrees && text.contains("1 agree, 0 differ"), "{text}");
    let short = large["status"]["lastDecision"]["request"]
        .as_str()
        .unwrap_or_default();
    let files = std::fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let record = files
        .into_iter()
        .find(|file| file.to_string_lossy().contains(&short[..12]));
    let record = record.ok_or_else(|| anyhow::anyhow!("{short} was not recorded"))?;
    let (agrees, text) = replay(&record, &large, true).await?;
    assert!(agrees && text.contains("1 agree, 0 differ"), "{text}");
    // A record that was modified does not match.
    let other = std::fs::read_to_string(&record)?.replace("\"item 7\"", "\"item x\"");
    std::fs::write(&record, other)?;
    let (agrees, text) = replay(&record, &large, true).await?;
    assert!(!agrees && text.contains("was modified"), "{text}");
    Ok(())
}
