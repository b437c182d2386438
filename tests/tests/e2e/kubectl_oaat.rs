//! The commands of `kubectl oaat` against a real API server, with the permissions of the user.

mod mark;
mod report;

use crate::fixture::{Fixture, PATIENCE, item};
use crate::helpers::{Barrier, state, text};
use crate::verdicts::command_line;
use anyhow::{Context, Result, ensure};
use oaat_tests::{ControlPlane, Options};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::sleep;

/// What a command printed, and its exit status.
#[derive(Debug)]
pub struct Output {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Output {
    /// Returns what a successful command printed.
    pub fn ok(self) -> Result<String> {
        ensure!(self.status == 0, "{self:?}");
        Ok(self.stdout)
    }

    /// Returns the error of a command that failed: one line.
    fn error(self) -> Result<String> {
        ensure!(self.status == 1, "{self:?}");
        let line = self.stderr.trim_end();
        ensure!(!line.contains('\n'), "several lines: {line}");
        Ok(line.strip_prefix("error: ").context("no error")?.to_owned())
    }
}

async fn oaat_as(kubeconfig: &Path, args: &[&str]) -> Result<Output> {
    let command = Command::new(command_line().await?)
        .args(args)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        // Has no effect. Nothing listens there.
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, command).await??;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Output {
        status: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    })
}

impl Fixture {
    /// Runs `kubectl-oaat` in the namespace of the fixture as admin.
    pub async fn oaat(&self, args: &[&str]) -> Result<Output> {
        let namespaced = [args, &["--namespace", &self.namespace]].concat();
        oaat_as(self.plane.admin_kubeconfig(), &namespaced).await
    }

    /// Returns the kubeconfig of a new user with one of the roles of users in the namespace.
    async fn user(&self, role: &str) -> Result<PathBuf> {
        let name = format!("user-{role}");
        self.kubectl(&["create", "serviceaccount", &name]).await?;
        let (role, account) = (
            format!("--clusterrole={role}"),
            format!("--serviceaccount={}:{name}", self.namespace),
        );
        self.kubectl(&["create", "rolebinding", &name, &role, &account])
            .await?;
        let (plane, namespace) = (self.plane, &self.namespace);
        let kubeconfig = plane
            .kubeconfig_for_service_account(namespace, &name)
            .await?;
        // The authorizer receives a new binding after a short delay.
        let can_i = [
            "auth",
            "can-i",
            "get",
            "oaatgroups",
            "--namespace",
            namespace,
        ];
        let start = Instant::now();
        while plane.kubectl_as(&kubeconfig, &can_i, "").await.is_err() {
            ensure!(
                start.elapsed() < PATIENCE,
                "RoleBinding {name} has not taken effect"
            );
            sleep(Duration::from_millis(100)).await;
        }
        Ok(kubeconfig)
    }

    /// Waits until no item is due, and returns the group.
    async fn until_idle(&self) -> Result<Value> {
        self.until("nothing is due", |g| state(g) == "Idle").await
    }
}

/// A running `status --watch`.
pub struct Watch {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    /// Waits for a line with these words.
    pub async fn until(&mut self, words: &str) -> Result<String> {
        let until = async {
            loop {
                let line = self.lines.next_line().await?;
                let line = line.context("the command ended")?;
                if line.contains(words) {
                    return Ok(line);
                }
            }
        };
        tokio::time::timeout(PATIENCE, until).await?
    }
}

impl Fixture {
    /// Starts `status --watch` in the namespace of the fixture.
    pub async fn watch_status(&self) -> Result<Watch> {
        let mut child = Command::new(command_line().await?)
            .args(["status", "--watch", "--namespace", &self.namespace])
            .arg("--kubeconfig")
            .arg(self.plane.admin_kubeconfig())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("no stdout")?;
        let lines = BufReader::new(stdout).lines();
        Ok(Watch { child, lines })
    }
}

/// A script that writes a line and exits with 3 for the item `bad`.
const SCRIPT: &str = r#"echo "work on $OAAT_ITEM"; [ "$OAAT_ITEM" != bad ] || exit 3"#;

#[tokio::test]
async fn status_why_and_history_describe_a_group() -> Result<()> {
    let fixture = Fixture::new("oaat-status").await?;
    let none = fixture.oaat(&["status"]).await?.ok()?;
    assert_eq!(none, "No groups found in namespace oaat-status.\n");
    fixture.work(SCRIPT, json!({})).await?;
    let more = json!({ "frequency": "1d", "failureCoolOff": "1h" });
    fixture.group(&["good", "bad"], more).await?;
    let is_done =
        |g: &Value| item(g, "good")["state"] == "Fresh" && item(g, "bad")["state"] == "Cooling";
    fixture.until("both items have run", is_done).await?;

    let table = fixture.oaat(&["status"]).await?.ok()?;
    let header: Vec<_> = table
        .lines()
        .next()
        .unwrap_or_default()
        .split("  ")
        .collect();
    let header: Vec<_> = header
        .iter()
        .map(|s| s.trim())
        .filter(|s| !s.is_empty())
        .collect();
    let columns = [
        "NAME", "STATE", "RUNNING", "ITEMS", "DUE", "LATE", "NEXT", "MESSAGE",
    ];
    assert_eq!(header, columns, "{table}");
    ensure!(table.contains("group   Waiting"), "{table}");
    let all = fixture.oaat(&["status", "-A", "-o", "wide"]).await?.ok()?;
    let has_group = |line: &str| {
        let cells: Vec<_> = line.split_whitespace().take(2).collect();
        cells == ["oaat-status", "group"]
    };
    ensure!(all.lines().any(has_group), "{all}");
    let detail = fixture.oaat(&["status", "group"]).await?.ok()?;
    for words in [
        "group in oaat-status: Waiting",
        "good   Fresh",
        "bad    Cooling",
    ] {
        ensure!(detail.contains(words), "{words}: {detail}");
    }
    let text = fixture.oaat(&["status", "-o", "json"]).await?.ok()?;
    let document: Value = serde_json::from_str(&text)?;
    assert_eq!(document["groups"][0]["items"][0]["name"], "bad", "{text}");
    let text = fixture
        .oaat(&["status", "group", "-o", "yaml"])
        .await?
        .ok()?;
    let document: Value = serde_norway::from_str(&text)?;
    assert_eq!(document["groups"][0]["policy"], "default", "{text}");

    let why = fixture.oaat(&["why", "good"]).await?.ok()?;
    for words in [
        "good in group group of namespace oaat-status does not run",
        "rule:    frequency",
        "next:    in 23h",
        "its frequency is 1day",
    ] {
        ensure!(why.contains(words), "{words}: {why}");
    }
    let why = fixture.oaat(&["why", "bad", "-o", "json"]).await?.ok()?;
    let why: Value = serde_json::from_str(&why)?;
    assert_eq!(why["rule"], "failureCoolOff", "{why:#}");

    let history = fixture.oaat(&["history"]).await?.ok()?;
    assert_eq!(history.lines().count(), 3, "{history}");
    let history = fixture
        .oaat(&["history", "group", "--item", "bad", "-o", "json"])
        .await?;
    let history: Value = serde_json::from_str(&history.ok()?)?;
    assert_eq!(history[0]["exitCode"], 3, "{history:#}");
    assert_eq!(history.as_array().map(Vec::len), Some(1));
    Ok(())
}

#[tokio::test]
async fn errors_are_one_sentence_with_the_nearest_names() -> Result<()> {
    let fixture = Fixture::without_operator("oaat-errors").await?;
    fixture.group(&["photos", "mail"], json!({})).await?;
    let missing = fixture.oaat(&["status", "grup"]).await?.error()?;
    let expected =
        "the group grup does not exist in namespace \"oaat-errors\"; did you mean group?";
    assert_eq!(missing, expected);
    let missing = fixture.oaat(&["why", "photo"]).await?.error()?;
    let expected = "no group in namespace \"oaat-errors\" has the item photo; did you mean photos?";
    assert_eq!(missing, expected);
    let why = fixture.oaat(&["why", "photos"]).await?.ok()?;
    ensure!(why.contains("rule:    not reconciled yet"), "{why}");
    let absent = fixture
        .oaat(&["status", "--context", "absent"])
        .await?
        .error()?;
    ensure!(absent.contains("no cluster is configured"), "{absent}");
    let logs = fixture.oaat(&["logs", "mail"]).await?.error()?;
    ensure!(logs.contains("no pod of a run of mail exists"), "{logs}");

    let file = tempfile::NamedTempFile::new()?;
    let config = std::fs::read_to_string(fixture.plane.admin_kubeconfig())?;
    let closed = config.replace(&fixture.plane.api_server_url(), "https://127.0.0.1:1");
    assert_ne!(closed, config);
    std::fs::write(file.path(), closed)?;
    let closed = oaat_as(file.path(), &["status"]).await?.error()?;
    ensure!(
        closed.starts_with("failed to reach the API server https://127.0.0.1:1/"),
        "{closed}"
    );
    Ok(())
}

#[tokio::test]
async fn cluster_without_the_kinds_is_reported() -> Result<()> {
    let options = Options {
        controllers: false,
        ..Options::default()
    };
    let plane = ControlPlane::start(options).await?;
    for args in [
        &["status"][..],
        &["status", "group"],
        &["why", "a"],
        &["run", "a"],
    ] {
        let error = oaat_as(plane.admin_kubeconfig(), args).await?.error()?;
        let expected = "the cluster does not have the kind OaatGroup of kawaja.net/v1; install the chart, or \
                        apply manifests/01-oaat-operator-crd.yaml";
        assert_eq!(error, expected, "{args:?}");
    }
    Ok(())
}

#[tokio::test]
async fn run_with_wait_shows_the_log_and_exits_with_the_exit_code_of_the_run() -> Result<()> {
    let fixture = Fixture::new("oaat-run").await?;
    fixture.work(SCRIPT, json!({})).await?;
    let more = json!({ "frequency": "1d", "failureCoolOff": "1d" });
    fixture.group(&["good", "bad", "other"], more).await?;
    fixture
        .until("all items have run", |g| {
            let runs = ["good", "bad", "other"].map(|name| item(g, name)["runs"].as_i64());
            runs == [Some(1); 3] && g["status"]["current"].is_null()
        })
        .await?;

    let run = fixture.oaat(&["run", "good", "--wait"]).await?;
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (
            0,
            "oaatgroup.kawaja.net/group requested to run now: good\nwork on good\n"
        ),
        "{run:?}"
    );
    ensure!(
        run.stderr.contains("run 4 of good: Succeeded (Completed)"),
        "{run:?}"
    );
    let run = fixture.oaat(&["run", "bad", "other", "--wait"]).await?;
    assert_eq!(run.status, 3, "{run:?}");
    ensure!(
        run.stdout.ends_with("work on bad\nwork on other\n"),
        "{run:?}"
    );
    let group = fixture.read("group").await?;
    assert_eq!(item(&group, "good")["runs"], 2, "{group:#}");

    let log = fixture.oaat(&["logs", "bad"]).await?.ok()?;
    assert_eq!(log, "work on bad\n");
    let log = fixture.oaat(&["logs", "bad", "--previous"]).await?.ok()?;
    assert_eq!(log, "work on bad\n");
    for pod in fixture.list_pods().await? {
        if pod.metadata.annotations.unwrap_or_default()["oaat.kawaja.net/item"] == "other" {
            fixture
                .delete_pod(&pod.metadata.name.unwrap_or_default())
                .await?;
        }
    }
    let previous = fixture
        .oaat(&["logs", "other", "--previous"])
        .await?
        .error()?;
    ensure!(
        previous.contains("no pod of an earlier run of other exists"),
        "{previous}"
    );
    Ok(())
}

#[tokio::test]
async fn run_ends_with_its_own_status_if_it_is_blocked_or_takes_too_long() -> Result<()> {
    let fixture = Fixture::new("oaat-blocked").await?;
    let barrier = Barrier::new()?;
    fixture.work(&barrier.wait(), json!({})).await?;
    fixture
        .group(&["a", "b"], json!({ "suspend": true }))
        .await?;
    fixture
        .until("the group is suspended", |g| state(g) == "Suspended")
        .await?;
    let run = fixture.oaat(&["run", "a", "--wait"]).await?;
    assert_eq!(run.status, 75, "{run:?}");
    ensure!(
        run.stderr
            .contains("the run of a is blocked: spec.suspend is true"),
        "{run:?}"
    );
    let resumed = fixture.oaat(&["resume", "group"]).await?.ok()?;
    assert_eq!(resumed, "oaatgroup.kawaja.net/group resumed\n");
    fixture.until_running().await?;
    let run = fixture
        .oaat(&["run", "b", "--wait", "--timeout", "1s"])
        .await?;
    assert_eq!(run.status, 124, "{run:?}");
    ensure!(run.stderr.contains("oaat.kawaja.net/run-now-"), "{run:?}");
    Ok(())
}

#[tokio::test]
async fn run_ends_if_its_request_is_removed() -> Result<()> {
    let fixture = Fixture::new("oaat-cancelled").await?;
    let barrier = Barrier::new()?;
    fixture.work(&barrier.wait(), json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    fixture.until_running().await?;
    // The item runs already, so the request waits.
    let remove = async {
        let is_pending = |g: &Value| g["status"]["runNow"]["token"].is_string();
        fixture.until("the request is pending", is_pending).await?;
        let remove = ["annotate", "oaatgroup", "group", "oaat.kawaja.net/run-now-"];
        fixture.kubectl(&remove).await
    };
    let run = fixture.oaat(&["run", "a", "--wait"]);
    let (run, removed) = tokio::join!(run, remove);
    removed?;
    let run = run?;
    assert_eq!(run.status, 75, "{run:?}");
    ensure!(
        run.stderr.contains("the request was removed or replaced"),
        "{run:?}"
    );
    Ok(())
}

#[tokio::test]
async fn request_of_another_user_is_kept() -> Result<()> {
    let fixture = Fixture::new("oaat-concurrent").await?;
    let barrier = Barrier::new()?;
    // The first run of each item succeeds at once, so that nothing is due.
    fixture.work("true", json!({})).await?;
    let more = json!({ "frequency": "1d" });
    fixture.group(&["a", "b", "c", "d", "e"], more).await?;
    fixture.until_idle().await?;
    fixture.work(&barrier.wait(), json!({})).await?;
    fixture
        .ask(r#"{"token": "another user", "items": ["c", "a"]}"#)
        .await?;
    fixture.until_running().await?;
    // Both commands write at the same time.
    let (one, other) = tokio::join!(
        fixture.oaat(&["run", "b"]),
        fixture.oaat(&["run", "d", "e"])
    );
    one?.ok()?;
    other?.ok()?;
    barrier.release()?;
    let group = fixture
        .until("all requested items have run", |g| {
            let runs = ["a", "b", "c", "d", "e"].map(|name| item(g, name)["runs"].as_i64());
            runs.iter().all(|runs| *runs == Some(2)) && state(g) == "Idle"
        })
        .await?;
    assert_eq!(group["status"]["runNow"]["done"], true, "{group:#}");
    Ok(())
}

#[tokio::test]
async fn suspension_has_a_reason_and_an_author() -> Result<()> {
    let fixture = Fixture::new("oaat-suspend").await?;
    fixture.work("true", json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    fixture.until_idle().await?;
    let editor = fixture.user("edit").await?;
    let suspend = ["suspend", "group", "--reason", "the disk\nis full"];
    let suspended = oaat_as(&editor, &suspend).await?.ok()?;
    assert_eq!(suspended, "oaatgroup.kawaja.net/group suspended\n");
    let group = fixture
        .until("the operator has suspended it", |g| state(g) == "Suspended")
        .await?;
    assert_eq!(group["spec"]["suspend"], true);
    let again = oaat_as(&editor, &suspend).await?.ok()?;
    let earlier = "oaatgroup.kawaja.net/group suspended (it was already suspended by \
                   system:serviceaccount:oaat-suspend:user-edit: the disk is full)\n";
    assert_eq!(again, earlier);
    let managers = group["metadata"]["managedFields"].as_array().cloned();
    let suspends = |manager: &&Value| manager["fieldsV1"]["f:spec"]["f:suspend"].is_object();
    let managers = managers.unwrap_or_default();
    let manager = managers.iter().find(suspends).context("no manager")?;
    assert_eq!(manager["manager"], "oaat-cli");
    let by = "suspended by system:serviceaccount:oaat-suspend:user-edit: the disk is full";
    for args in [
        &["status", "-o", "wide"][..],
        &["status", "group"],
        &["why", "a"],
    ] {
        let text = oaat_as(&editor, args).await?.ok()?;
        ensure!(text.contains(by), "{args:?}: {text}");
    }
    let resumed = oaat_as(&editor, &["resume", "group"]).await?.ok()?;
    assert_eq!(resumed, "oaatgroup.kawaja.net/group resumed\n");
    let group = fixture.until_idle().await?;
    ensure!(group["spec"]["suspend"] != true, "{group:#}");
    let annotations = group["metadata"]["annotations"].to_string();
    for name in ["suspension-reason", "suspended-by"] {
        ensure!(!annotations.contains(name), "{annotations}");
    }
    let resumed = oaat_as(&editor, &["resume", "group"]).await?.ok()?;
    assert_eq!(resumed, "oaatgroup.kawaja.net/group was not suspended\n");
    // The annotation of the original operator also suspends a group.
    fixture
        .kubectl(&["annotate", "oaatgroup", "group", "pause_new_jobs=yes"])
        .await?;
    fixture
        .until("it is suspended again", |g| state(g) == "Suspended")
        .await?;
    oaat_as(&editor, &["resume", "group"]).await?.ok()?;
    fixture.until_idle().await?;
    let run = oaat_as(&editor, &["run", "a", "--wait"]).await?;
    assert_eq!(run.status, 0, "{run:?}");
    Ok(())
}

#[tokio::test]
async fn missing_permission_is_reported_in_one_sentence() -> Result<()> {
    let fixture = Fixture::new("oaat-permissions").await?;
    fixture.work("echo done", json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    fixture.until_idle().await?;
    let viewer = fixture.user("view").await?;
    for args in [
        &["status"][..],
        &["status", "group"],
        &["why", "a"],
        &["history"],
        &["logs", "a"],
    ] {
        let shown = oaat_as(&viewer, args).await?.ok()?;
        ensure!(!shown.is_empty(), "{args:?}");
    }
    let forbidden = |permission: &str| {
        format!("you do not have permission to {permission}; ask a cluster administrator for it")
    };
    let patch = forbidden("patch oaatgroups.kawaja.net in namespace \"oaat-permissions\"");
    for args in [
        &["run", "a"][..],
        &["suspend", "group", "--reason", "r"],
        &["resume", "group"],
    ] {
        let error = oaat_as(&viewer, args).await?.error()?;
        assert_eq!(error, patch, "{args:?}");
    }
    let everywhere = oaat_as(&viewer, &["status", "-A"]).await?.error()?;
    assert_eq!(
        everywhere,
        forbidden("list oaatgroups.kawaja.net in all namespaces")
    );
    // Without any role.
    fixture
        .kubectl(&["delete", "rolebinding", "user-view"])
        .await?;
    let list = forbidden("list oaatgroups.kawaja.net in namespace \"oaat-permissions\"");
    let start = Instant::now();
    loop {
        let status = oaat_as(&viewer, &["status"]).await?;
        if status.status == 1 {
            assert_eq!(status.error()?, list);
            return Ok(());
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "the permission is still granted"
        );
    }
}

#[tokio::test]
async fn watch_shows_each_change() -> Result<()> {
    let fixture = Fixture::without_operator("oaat-watch").await?;
    fixture.group(&["a"], json!({})).await?;
    let mut watch = fixture.watch_status().await?;
    watch.until("group").await?;
    fixture
        .write_status(json!({ "state": "Idle", "message": "text\u{1b}[31m" }))
        .await?;
    let line = watch.until("Idle").await?;
    ensure!(line.ends_with("text [31m"), "{line:?}");
    // The command ends when it writes a change that nothing reads.
    let Watch { mut child, lines } = watch;
    drop(lines);
    fixture.write_status(json!({ "state": "Waiting" })).await?;
    let status = tokio::time::timeout(PATIENCE, child.wait()).await??;
    ensure!(status.success());
    Ok(())
}

#[tokio::test]
async fn forecast_evaluates_the_policy_of_the_group() -> Result<()> {
    let fixture = Fixture::new("oaat-forecast").await?;
    fixture.work("true", json!({})).await?;
    fixture
        .group(&["a", "b"], json!({ "frequency": "1h" }))
        .await?;
    let group = fixture.until_idle().await?;
    let due = ["a", "b"].map(|name| text(&item(&group, name)["next"]));
    let first = format!(" ({}) ", due.iter().min().context("no items")?);
    let next = fixture.oaat(&["next", "group"]).await?.ok()?;
    ensure!(
        next.contains(" starts in ") && next.contains(&first),
        "{next}"
    );
    let folder = tempfile::tempdir()?;
    let svg = folder.path().join("forecast.svg").display().to_string();
    let args = ["forecast", "group", "--for", "3h", "--svg", &svg];
    let text = fixture.oaat(&args).await?.ok()?;
    ensure!(text.contains("assumes that all runs succeed"), "{text}");
    ensure!(std::fs::read_to_string(&svg)?.contains("Forecast of group in oaat-forecast"));
    let json = fixture
        .oaat(&["forecast", "group", "--for", "150m", "-o", "json"])
        .await?;
    let built_in: Value = serde_json::from_str(&json.ok()?)?;
    // Both items succeeded just before the forecast, so each runs after one hour and after two.
    let starts = built_in["starts"].as_array().map(Vec::len);
    assert_eq!(starts, Some(4), "{built_in:#}");

    // The same policy in a ConfigMap.
    let packed = Command::new(command_line().await?)
        .args(["policy", "pack", "default", "--name", "own"])
        .output()
        .await?;
    fixture.apply(&String::from_utf8(packed.stdout)?).await?;
    let policy = json!({ "configMap": { "name": "own" } });
    fixture
        .change(json!({ "spec": { "policy": policy } }))
        .await?;
    let viewer = fixture.user("view").await?;
    let json = oaat_as(&viewer, &["next", "group", "-o", "json"]).await?;
    let own: Value = serde_json::from_str(&json.ok()?)?;
    assert_eq!(own["policy"], built_in["policy"], "{own:#}");
    assert_eq!(own["starts"].as_array().map(Vec::len), Some(1), "{own:#}");
    fixture
        .until("the group's own policy decides", |g| {
            g["status"]["policy"]["source"] != "default"
        })
        .await?;
    fixture.kubectl(&["delete", "configmap", "own"]).await?;
    let missing = fixture.oaat(&["next", "group"]).await?.error()?;
    ensure!(
        missing.contains("the ConfigMap own does not exist; the operator may decide with its copy"),
        "{missing}"
    );
    Ok(())
}

#[tokio::test]
async fn doctor_checks_the_installation_with_cause_and_fix() -> Result<()> {
    let mut fixture = Fixture::without_operator("oaat-doctor").await?;
    fixture
        .group(&["a"], json!({ "oaatType": "absent" }))
        .await?;
    let args = [
        "doctor",
        "--operator-namespace",
        "oaat-doctor",
        "-o",
        "json",
    ];
    let finding = |checks: &Value, name: &str| {
        let checks = checks.as_array().cloned().unwrap_or_default();
        let check = checks.into_iter().find(|check| check["name"] == name);
        check.unwrap_or_default()
    };
    let doctor = fixture.oaat(&args).await?;
    assert_eq!(doctor.status, 1, "{doctor:?}");
    let checks: Value = serde_json::from_str(&doctor.stdout)?;
    for name in [
        "CustomResourceDefinitions",
        "permissions",
        "clocks",
        "policies",
    ] {
        assert_eq!(finding(&checks, name)["finding"], "ok", "{checks:#}");
    }
    let leader = finding(&checks, "leader");
    assert_eq!(
        leader["cause"],
        "no operator has a Lease in namespace oaat-doctor"
    );

    fixture.elect().await?;
    fixture.start_operator().await?;
    fixture
        .until("the type is missing", |g| {
            g["status"]["conditions"]
                .to_string()
                .contains("TypeNotFound")
        })
        .await?;
    let doctor = fixture.oaat(&args).await?;
    assert_eq!(doctor.status, 1, "{doctor:?}");
    let checks: Value = serde_json::from_str(&doctor.stdout)?;
    assert_eq!(finding(&checks, "leader")["finding"], "ok", "{checks:#}");
    let groups = finding(&checks, "groups");
    ensure!(
        groups["cause"]
            .to_string()
            .contains("oaat-doctor/group: TypeNotFound"),
        "{groups:#}"
    );
    ensure!(groups["fix"].is_string(), "{groups:#}");

    fixture.work("true", json!({})).await?;
    fixture
        .change(json!({ "spec": { "oaatType": "work" } }))
        .await?;
    fixture.until_idle().await?;
    let viewer = fixture.user("view").await?;
    let doctor = oaat_as(&viewer, &args).await?;
    assert_eq!(doctor.status, 0, "{doctor:?}");
    let checks: Value = serde_json::from_str(&doctor.stdout)?;
    assert_eq!(finding(&checks, "groups")["finding"], "ok", "{checks:#}");
    let permissions = finding(&checks, "permissions");
    let cause = "you do not have permission to patch oaatgroups (run, suspend, and resume)";
    assert_eq!(
        (&permissions["finding"], &permissions["cause"]),
        (&json!("warning"), &json!(cause))
    );
    let guard = finding(&checks, "guard");
    assert_eq!(guard["finding"], "warning", "{guard:#}");
    ensure!(
        guard["cause"]
            .to_string()
            .contains("you do not have permission to list"),
        "{guard:#}"
    );
    Ok(())
}
