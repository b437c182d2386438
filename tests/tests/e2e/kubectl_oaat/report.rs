//! `kubectl oaat report`.

use super::oaat_as;
use crate::fixture::Fixture;
use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// Returns the files of a report, without its folder.
fn files(archive: &Path) -> Result<BTreeMap<String, String>> {
    let archive = GzDecoder::new(std::fs::File::open(archive)?);
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.display().to_string();
        let (folder, name) = path.split_once('/').context("not in a folder")?;
        ensure!(folder.starts_with("oaat-report-"), "{path}");
        let name = name.to_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text)?;
        files.insert(name, text);
    }
    Ok(files)
}

#[tokio::test]
async fn report_contains_the_state_but_no_secrets() -> Result<()> {
    let mut fixture = Fixture::without_operator("oaat-report").await?;
    fixture.elect().await?;
    fixture.start_operator().await?;
    let secret = json!([{ "name": "PASSWORD", "value": "s3cret" }]);
    let script = ": s3cret; echo s3cret; echo s3cret >/dev/stderr";
    let env = json!({ "podspec": { "container": { "env": secret } } });
    fixture.work(script, env).await?;
    let options = json!({ "a": { "env": secret, "frequency": "2d" } });
    fixture
        .group(&["a"], json!({ "itemOptions": options }))
        .await?;
    let note = ["annotate", "oaatgroup", "group", "note=s3cret"];
    fixture.kubectl(&note).await?;
    fixture.until_idle().await?;
    // The operator of the test is not a pod, so this pod writes its log.
    let log =
        r#"echo '{"level":"INFO","group":"g","message":"decided","choice":"s3cret"}'; sleep 600"#;
    let labels = json!({ "app.kubernetes.io/name": "oaat-operator" });
    let metadata = json!({ "name": "operator", "labels": labels });
    fixture.pod_by_hand(metadata, log, false).await?;
    let is_running = |pod: &k8s_openapi::api::core::v1::Pod| {
        let status = pod.status.as_ref();
        status.is_some_and(|status| status.phase.as_deref() == Some("Running"))
    };
    fixture.until_pod("operator", "it runs", is_running).await?;

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("report.tar.gz");
    let path = file.display().to_string();
    let args = [
        "report",
        "--output",
        &path,
        "--operator-namespace",
        "oaat-report",
    ];
    let printed = fixture.oaat(&args).await?.ok()?;
    ensure!(printed.starts_with("report written to "), "{printed}");
    let all = files(&file)?;
    let names: Vec<_> = all.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "README.txt",
            "doctor.json",
            "events.json",
            "groups.json",
            "missing.txt",
            "operator/leases.json",
            "operator/operator.log",
            "operator/pods.json",
            "operator/workloads.json",
            "pods.json",
            "policies.json",
            "types.json",
            "versions.json",
        ]
    );
    for (name, text) in &all {
        ensure!(!text.contains("s3cret"), "{name}: {text}");
    }
    assert_eq!(all["missing.txt"], "", "{printed}");
    for (name, words) in [
        ("groups.json", "\"2d\""),
        ("types.json", "\"work\""),
        ("pods.json", "\"Succeeded\""),
        ("events.json", "\"Started\""),
        ("doctor.json", "\"permissions\""),
        ("operator/leases.json", "\"renewTime\""),
        ("operator/operator.log", "\"decided\""),
        ("versions.json", "\"gitVersion\""),
    ] {
        ensure!(all[name].contains(words), "{name}: {}", all[name]);
    }

    let viewer = fixture.user("view").await?;
    let printed = oaat_as(&viewer, &args).await?.ok()?;
    let leases = "Leases of the operator: you do not have permission to list \
                  leases.coordination.k8s.io in namespace \"oaat-report\"";
    ensure!(
        printed.contains(&format!("not included: {leases}")),
        "{printed}"
    );
    let partial = files(&file)?;
    ensure!(partial["missing.txt"].contains(leases), "{partial:#?}");
    let groups: Value = serde_json::from_str(&partial["groups.json"])?;
    assert_eq!(groups[0]["spec"]["oaatItems"], json!(["a"]), "{groups:#}");
    Ok(())
}
