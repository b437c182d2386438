//! `kubectl oaat report`.

use super::oaat_as;
use crate::fixture::{Fixture, condition};
use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::PostParams;
use oaat_tests::undecodable::create_deeply_nested;
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
    // What it writes is in the conditions, the events, and the status of its source.
    let command = ["sh", "-c", "echo s3cret >&2; exit 3"];
    let list = json!({ "name": "list", "image": "any", "command": command });
    let source = json!({ "name": "broken", "container": { "podspec": { "container": list } } });
    let more = json!({ "itemOptions": options, "itemsFrom": [source] });
    fixture.group(&["a"], more).await?;
    let note = ["annotate", "oaatgroup", "group", "note=s3cret"];
    fixture.kubectl(&note).await?;
    let quotes = |group: &Value| {
        let (_, reason, message) = condition(group, "ItemsReady");
        reason == "SourceFailed" && message.contains("s3cret")
    };
    fixture.until("the source has failed", quotes).await?;
    fixture.until_event("group", "ItemsNotReady").await?;
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
    let args = |path| {
        let namespace = ["--operator-namespace", "oaat-report"];
        [&["report", "--output", path][..], &namespace].concat()
    };
    let printed = fixture.oaat(&args(&path)).await?.ok()?;
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
        ("events.json", "\"ItemsNotReady\""),
        ("doctor.json", "\"permissions\""),
        ("operator/leases.json", "\"renewTime\""),
        ("operator/operator.log", "\"decided\""),
        ("versions.json", "\"gitVersion\""),
    ] {
        ensure!(all[name].contains(words), "{name}: {}", all[name]);
    }

    let viewer = fixture.user("view").await?;
    let error = oaat_as(&viewer, &args(&path)).await?.error()?;
    ensure!(error.contains("the file already exists"), "{error}");
    let file = folder.path().join("partial.tar.gz");
    let path = file.display().to_string();
    let printed = oaat_as(&viewer, &args(&path)).await?.ok()?;
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

/// Creates events on an object.
async fn create_events(fixture: &Fixture, kind: &str, name: &str, count: usize) -> Result<()> {
    let api: Api<Event> = Api::namespaced(fixture.client.clone(), &fixture.namespace);
    let event = |index: usize| -> Result<Event> {
        let namespace = &fixture.namespace;
        Ok(serde_json::from_value(json!({
            "metadata": { "name": format!("{name}.{index}"), "namespace": namespace },
            "involvedObject": { "kind": kind, "namespace": namespace, "name": name },
            "type": "Normal", "reason": "Pulled", "message": "m",
        }))?)
    };
    let api = &api;
    let create = |index| async move {
        api.create(&PostParams::default(), &event(index)?).await?;
        Ok::<_, anyhow::Error>(())
    };
    let created = futures::stream::iter(0..count).map(create);
    created.buffer_unordered(32).try_collect().await
}

#[tokio::test]
async fn report_omits_only_objects_that_cannot_be_decoded_and_other_events() -> Result<()> {
    let fixture = Fixture::without_operator("oaat-report-deep").await?;
    fixture.group(&["a"], json!({})).await?;
    let namespace = &fixture.namespace;
    create_deeply_nested(&fixture.client, namespace, 200).await?;
    let labels = json!({ "oaat.kawaja.net/group": "group" });
    let metadata = json!({ "name": "run", "labels": labels });
    fixture.pod_by_hand(metadata, "true", false).await?;
    // More than a report contains, and before the others in a list.
    create_events(&fixture, "Pod", "another-pod", 2100).await?;
    create_events(&fixture, "OaatGroup", "group", 1).await?;
    create_events(&fixture, "Pod", "run", 1).await?;

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("report.tar.gz");
    let path = file.display().to_string();
    let args = ["report", "--output", &path];
    let printed = fixture.oaat(&args).await?.ok()?;
    let all = files(&file)?;
    let missing = format!("not included: groups: {namespace}/deep cannot be decoded: ");
    ensure!(printed.contains(&missing), "{printed}");
    ensure!(!printed.contains("only the first"), "{printed}");
    let groups: Value = serde_json::from_str(&all["groups.json"])?;
    let names = groups.as_array().into_iter().flatten();
    let names: Vec<_> = names.map(|group| &group["metadata"]["name"]).collect();
    assert_eq!(names, ["group"], "{groups:#}");
    let events = &all["events.json"];
    for (name, expected) in [("group", true), ("run", true), ("another-pod", false)] {
        let contains = events.contains(&format!("\"name\": \"{name}\""));
        assert_eq!(contains, expected, "{name}: {events}");
    }
    Ok(())
}
