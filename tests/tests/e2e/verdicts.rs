//! One table of valid and invalid objects (verdicts.yaml), checked by the API server with the
//! shipped CRDs, and by `kubectl-oaat validate`. Both must agree.

use crate::bad_input::message;
use crate::fixture::{Fixture, condition};
use anyhow::{Context, Result, bail, ensure};
use kube::CustomResourceExt;
use oaat_api::{OaatGroup, OaatType};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tokio::sync::OnceCell;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    group: Option<Map<String, Value>>,
    #[serde(rename = "type")]
    type_: Option<Map<String, Value>>,
    object: Option<Value>,
    /// The rejected field.
    field: Option<String>,
    /// What the API server reports.
    #[serde(default)]
    server: Vec<String>,
    /// What the operator reports, if the API server accepts the object.
    #[serde(default)]
    operator: Vec<String>,
}

impl Row {
    fn object(&self, name: &str) -> Value {
        let over = |mut spec: Value, more: &Map<String, Value>| {
            for (key, value) in more {
                spec[key] = full(value.clone());
            }
            spec
        };
        let metadata = json!({ "name": name });
        if let Some(more) = &self.group {
            let spec = over(json!({ "oaatType": "work", "oaatItems": ["a"] }), more);
            return json!({ "apiVersion": "kawaja.net/v1", "kind": "OaatGroup", "metadata": metadata, "spec": spec });
        }
        if let Some(more) = &self.type_ {
            let pod = json!({ "container": { "name": "main", "image": "any" } });
            let spec = over(json!({ "type": "pod", "podspec": pod }), more);
            return json!({ "apiVersion": "kawaja.net/v1", "kind": "OaatType", "metadata": metadata, "spec": spec });
        }
        let mut object = self.object.clone().unwrap_or_default();
        object["apiVersion"] = json!("kawaja.net/v1");
        object["kind"] = json!("OaatGroup");
        object
    }
}

/// Completes an object that the table abbreviates.
fn full(value: Value) -> Value {
    match value {
        Value::String(text) => match text.split_once("@x") {
            Some((before, count)) if !before.contains('@') => {
                let count = count.parse().unwrap_or(0);
                Value::String(before.to_owned() + &"x".repeat(count))
            }
            _ => Value::String(text),
        },
        Value::Array(list) => {
            let times = list.first().and_then(Value::as_str);
            let times = times.and_then(|text| text.strip_prefix('@')?.parse::<usize>().ok());
            match times {
                Some(times) => {
                    let one = full(list[1].clone()).to_string();
                    let each = |n: usize| serde_json::from_str(&one.replace('#', &n.to_string()));
                    Value::Array((0..times).map(|n| each(n).unwrap_or_default()).collect())
                }
                None => Value::Array(list.into_iter().map(full).collect()),
            }
        }
        Value::Object(map) => Value::Object(map.into_iter().map(|(k, v)| (k, full(v))).collect()),
        other => other,
    }
}

fn table() -> Result<Vec<Row>> {
    Ok(serde_norway::from_str(include_str!("verdicts.yaml"))?)
}

/// Returns the API server's message about an object, or nothing if it is accepted.
async fn by_server(fixture: &Fixture, object: &Value) -> Result<Option<String>> {
    let plural = format!(
        "{}s",
        object["kind"].as_str().unwrap_or_default().to_lowercase()
    );
    let path = format!(
        "/apis/kawaja.net/v1/namespaces/{}/{plural}?dryRun=All&fieldValidation=Strict",
        fixture.namespace
    );
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(object)?)?;
    match fixture.client.request::<Value>(request).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) => Ok(Some(status.message)),
        Err(other) => Err(other.into()),
    }
}

/// Returns the binary of the command line, built once.
pub(crate) async fn command_line() -> Result<&'static PathBuf> {
    static BINARY: OnceCell<PathBuf> = OnceCell::const_new();
    let build = || async { oaat_tests::operator::command_line() };
    BINARY.get_or_try_init(build).await
}

/// Returns the exit status and the output of `kubectl-oaat validate -f -`.
async fn offline(text: &str) -> Result<(i32, String)> {
    let binary = command_line().await?;
    let mut child = Command::new(binary)
        .args(["validate", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("no stdin")?
        .write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output.status.code().unwrap_or(-1), words))
}

/// All rows of the table are checked, even if one fails.
#[tokio::test]
async fn api_server_and_validate_agree() -> Result<()> {
    let fixture = Fixture::without_operator("verdicts").await?;
    let mut wrong = Vec::new();
    for (index, row) in table()?.iter().enumerate() {
        let object = row.object(&format!("row-{index}"));
        let server = by_server(&fixture, &object).await?;
        let (status, said) = offline(&object.to_string()).await?;
        let is_so = match &row.field {
            Some(field) => {
                let words = row.server.iter().chain([field]);
                let server = server.as_deref().unwrap_or_default();
                words.into_iter().all(|word| server.contains(word.as_str()))
                    // `FILE: KIND NAME: FIELD: WORDS`
                    && status == 1
                    && said.lines().any(|line| {
                        let named = line.split(": ").nth(2);
                        named.is_some_and(|named| named.contains(field.as_str()))
                    })
            }
            None if row.operator.is_empty() => {
                server.is_none() && status == 0 && said.contains(": ok\n")
            }
            None => {
                server.is_none()
                    && status == 1
                    && row.operator.iter().all(|word| said.contains(word.as_str()))
            }
        };
        if !is_so {
            wrong.push(format!(
                "{:.300}\n  wanted {:?} {:?} {:?}\n  the API server: {:.600}\n  validate ({status}): {said:.600}",
                object.to_string(),
                row.field,
                row.server,
                row.operator,
                server.unwrap_or_default(),
            ));
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} rows:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

#[test]
fn verdict_table_has_every_field() -> Result<()> {
    let rows = table()?;
    let (bad, good): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.field.is_some());
    ensure!(
        bad.len() >= 60 && good.len() >= 30,
        "{} {}",
        bad.len(),
        good.len()
    );
    for (kind, crd) in [("group", OaatGroup::crd()), ("type", OaatType::crd())] {
        let crd = serde_json::to_value(crd)?;
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
        let fields = crd.pointer(spec).and_then(Value::as_object);
        let fields = fields.context("the CRD has no fields")?;
        for field in fields.keys() {
            let has = |row: &&Row| {
                let spec = if kind == "group" {
                    &row.group
                } else {
                    &row.type_
                };
                spec.as_ref().is_some_and(|spec| spec.contains_key(field))
            };
            ensure!(bad.iter().any(has), "no invalid row has {kind}.{field}");
            // Every valid OaatType has it, also the one that the rows replace fields of.
            ensure!(
                field == "type" || good.iter().any(has),
                "no valid row has {kind}.{field}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn errors_beyond_the_schema_are_reported_on_the_group() -> Result<()> {
    let fixture = Fixture::new("verdicts-operator").await?;
    fixture.work("true", json!({})).await?;
    let rows: Vec<Row> = table()?
        .into_iter()
        .filter(|row| !row.operator.is_empty())
        .collect();
    let admin = fixture.plane.admin_kubeconfig();
    for (index, row) in rows.iter().enumerate() {
        let object = row.object(&format!("row-{index}")).to_string();
        // Not `apply`, because its annotation has a separate size limit.
        let args = ["--namespace", &fixture.namespace, "create", "-f", "-"];
        fixture.plane.kubectl_as(admin, &args, &object).await?;
    }
    for (index, row) in rows.iter().enumerate() {
        let group = fixture
            .until_object(
                "OaatGroup",
                &format!("row-{index}"),
                "the problem is reported",
                |g| {
                    g["status"]["state"] == "Invalid"
                        && row
                            .operator
                            .iter()
                            .all(|word| message(g).contains(word.as_str()))
                },
            )
            .await?;
        ensure!(condition(&group, "Ready").1 == "SpecInvalid", "{group:#}");
    }
    ensure!(fixture.list_pods().await?.is_empty());
    // Once fixed, it runs.
    fixture
        .group(&["a"], json!({ "frequency": "100000y" }))
        .await?;
    fixture
        .until("it is invalid", |g| g["status"]["state"] == "Invalid")
        .await?;
    fixture.group(&["a"], json!({ "frequency": "1y" })).await?;
    fixture.until_recorded("a").await?;
    Ok(())
}

/// kubectl reads YAML 1.1.
#[tokio::test]
async fn yaml_is_read_as_kubectl_reads_it() -> Result<()> {
    let fixture = Fixture::without_operator("verdicts-yaml").await?;
    let head =
        "apiVersion: kawaja.net/v1\nkind: OaatGroup\nmetadata: {name: g}\nspec:\n  oaatType: t\n";
    let mut wrong = Vec::new();
    for (spec, right) in [
        ("suspend: yes", true),
        ("suspend: 'yes'", false),
        ("suspend: Off", true),
        ("suspend: y", true),
        ("oaatItems: [n]", false),
        ("oaatItems: [on]", false),
        ("oaatItems: ['on', on time]", true),
        ("oaatItems: [2026-01-02]", true),
        ("oaatItems: [1e3]", false),
        ("podHistoryLimit: 5.0", true),
        ("podHistoryLimit: 0x10", true),
        ("podHistoryLimit: 0777", true),
        ("podHistoryLimit: 1_000", true),
        ("podHistoryLimit: 5.5", false),
        ("podHistoryLimit: ~", true),
        ("frequency: 1:30", false),
        (
            "oaatItems: &a [x]\n  itemOptions: {x: &o {suspend: true}, y: {<<: *o, frequency: 5m}}",
            true,
        ),
    ] {
        let text = format!("{head}  {spec}\n");
        let args = [
            "--namespace",
            &fixture.namespace,
            "create",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            "-",
        ];
        let admin = fixture.plane.admin_kubeconfig();
        let server = fixture.plane.kubectl_as(admin, &args, &text).await;
        let (status, said) = offline(&text).await?;
        if server.is_ok() != right || (status == 0) != right {
            wrong.push(format!("{spec}\n  {server:?}\n  {status}: {said}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn exit_status_distinguishes_errors_from_unreadable_input() -> Result<()> {
    let binary = command_line().await?;
    let folder = tempfile::tempdir()?;
    let file = |name: &str, text: &str| -> Result<String> {
        let path = folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    };
    let head =
        "apiVersion: kawaja.net/v1\nkind: OaatGroup\nmetadata: {name: g, namespace: ns}\nspec: ";
    let good = file("good.yaml", &format!("{head}{{oaatType: t}}\n"))?;
    let bad = file(
        "bad.yaml",
        &format!("{head}{{oaatType: t, frequency: 5, podRetention: x}}\n"),
    )?;
    let broken = file("broken.yaml", "a: [")?;
    let other = file(
        "other.yaml",
        "{apiVersion: v1, kind: Secret, metadata: {name: s}}",
    )?;
    let binary_file = folder.path().join("binary");
    std::fs::write(&binary_file, [0xff, 0xfe])?;
    let binary_file = binary_file.to_string_lossy().into_owned();
    let missing = folder.path().join("none").to_string_lossy().into_owned();
    for (files, status, words) in [
        (
            vec![&good, &other],
            0,
            vec![
                "good.yaml: OaatGroup ns/g: ok\n",
                "Secret s: skipped",
                "not checked: whether the API server",
                "dry run",
            ],
        ),
        (
            vec![&good, &bad],
            1,
            vec![
                "bad.yaml: OaatGroup ns/g: spec.frequency: ",
                "bad.yaml: OaatGroup ns/g: spec.podRetention: ",
            ],
        ),
        (
            vec![&bad, &broken],
            2,
            vec!["broken.yaml: not valid YAML or JSON", "spec.frequency"],
        ),
        (
            vec![&good, &missing],
            2,
            vec!["none: No such file", "ns/g: ok"],
        ),
        (vec![&binary_file], 2, vec!["UTF-8"]),
        (vec![&other], 2, vec!["no OaatGroup or OaatType"]),
    ] {
        let mut command = Command::new(binary);
        command.arg("validate");
        for file in &files {
            command.args(["-f", file]);
        }
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        if output.status.code() != Some(status) || !words.iter().all(|word| said.contains(word)) {
            bail!("{files:?}: {:?}, {said}", output.status);
        }
        ensure!(said.ends_with("(condition PolicyReady)\n"), "{said}");
    }
    Ok(())
}
