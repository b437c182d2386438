//! Operating the operator: restarts, shutdown, replicas, changes during a run, health, and metrics.

use crate::fixture::{Fixture, PATIENCE, condition, item};
use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use oaat_tests::{Operator, Options, operator};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// A latch at which scripts wait until the test opens it.
struct Latch(PathBuf);

impl Latch {
    fn new(fixture: &Fixture) -> Self {
        Self(
            fixture
                .plane
                .folder()
                .join(format!("latch-{}", fixture.namespace)),
        )
    }

    fn script(&self) -> String {
        format!("until [ -e {} ]; do sleep 0.05; done", self.0.display())
    }

    fn open(&self) -> Result<()> {
        Ok(fs::write(&self.0, "")?)
    }
}

fn runs(group: &Value, name: &str) -> i64 {
    item(group, name)["runs"].as_i64().unwrap_or(0)
}

/// Waits until a metric of an operator has the expected value.
async fn until_metric(
    operator: &Operator,
    name: &str,
    labels: &[&str],
    wanted: impl Fn(f64) -> bool,
) -> Result<()> {
    let start = Instant::now();
    loop {
        let now = operator.metric(name, labels).await?;
        if wanted(now) {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(anyhow!("{name} {labels:?} is {now}\n{}", operator.log()));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the node runs a pod.
async fn until_it_runs(fixture: &Fixture) -> Result<Value> {
    let group = fixture
        .until("a pod is claimed", |g| g["status"]["pod"].is_string())
        .await?;
    let pod = group["status"]["pod"].as_str().unwrap_or_default();
    let phase = |pod: &k8s_openapi::api::core::v1::Pod| pod.status.as_ref()?.phase.clone();
    fixture
        .until_pod(pod, "runs", |pod| phase(pod).as_deref() == Some("Running"))
        .await?;
    Ok(group)
}

/// Sends SIGTERM. The operator must exit within the grace period of a kubelet.
async fn stop(operator: Operator) -> Result<()> {
    let ended = timeout(Duration::from_secs(30), operator.stop())
        .await
        .context("the operator did not exit within the grace period of a pod")?;
    assert_eq!(ended.code(), Some(0), "{ended}");
    Ok(())
}

#[tokio::test]
async fn restart_changes_nothing_in_an_idle_group() -> Result<()> {
    let mut fixture = Fixture::new("ops-restart").await?;
    fixture.work("[ $OAAT_ITEM != bad ]", json!({})).await?;
    fixture
        .group(&["good", "bad"], json!({"failureCoolOff": "1h"}))
        .await?;
    let before = fixture
        .until("both have run", |g| {
            item(g, "good")["state"] == "Fresh" && item(g, "bad")["state"] == "Cooling"
        })
        .await?;
    fixture.take_operator().kill().await;

    fixture.start_operator().await?;
    until_metric(fixture.operator(), "oaat_reconciles_total", &["ok"], |n| {
        n >= 1.0
    })
    .await?;
    let after = fixture.read("group").await?;
    assert_eq!(after["status"], before["status"]);
    assert_eq!(
        after["metadata"]["resourceVersion"],
        before["metadata"]["resourceVersion"]
    );
    Ok(())
}

#[tokio::test]
async fn changes_made_while_the_operator_was_down_apply_at_startup() -> Result<()> {
    let mut fixture = Fixture::new("ops-down").await?;
    fixture.work("true", json!({})).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    fixture
        .until("both have run", |g| {
            g["status"]["run"] == 2 && g["status"]["state"] == "Idle"
        })
        .await?;
    fixture.take_operator().kill().await;
    fixture.group(&["b", "c"], json!({})).await?;
    fixture.start_operator().await?;
    let group = fixture
        .until("the new item has run", |g| {
            runs(g, "c") == 1 && g["status"]["state"] == "Idle"
        })
        .await?;
    assert!(item(&group, "a").is_null(), "{group:#}");
    assert_eq!(runs(&group, "b"), 1);
    assert_eq!(group["status"]["observedGeneration"], 2);
    Ok(())
}

#[tokio::test]
async fn current_run_is_shown_after_a_restart_and_recorded_once() -> Result<()> {
    let mut fixture = Fixture::new("ops-running").await?;
    let latch = Latch::new(&fixture);
    fixture.work(&latch.script(), json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    let before = until_it_runs(&fixture).await?;
    fixture.take_operator().kill().await;
    fixture.start_operator().await?;
    until_metric(fixture.operator(), "oaat_reconciles_total", &["ok"], |n| {
        n >= 1.0
    })
    .await?;
    let after = fixture.read("group").await?;
    assert_eq!(after["status"]["current"], before["status"]["current"]);
    assert_eq!(after["status"]["currentlyRunning"], "a");

    latch.open()?;
    let group = fixture.until("it succeeds", |g| runs(g, "a") == 1).await?;
    assert_eq!(group["status"]["run"], 1);
    assert_eq!(fixture.node.runs().len(), 1);
    Ok(())
}

#[tokio::test]
async fn operator_exits_with_0_at_sigterm_and_pods_continue() -> Result<()> {
    let mut fixture = Fixture::new("ops-sigterm").await?;
    let latch = Latch::new(&fixture);
    fixture.work(&latch.script(), json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    let group = until_it_runs(&fixture).await?;
    stop(fixture.take_operator()).await?;
    assert_eq!(fixture.read("group").await?["status"], group["status"]);
    let runs_on = fixture.node.runs();
    assert!(runs_on.iter().all(|run| run.ended.is_none()), "{runs_on:?}");

    latch.open()?;
    fixture.start_operator().await?;
    let group = fixture
        .until("the next operator records the run", |g| runs(g, "a") == 1)
        .await?;
    assert!(item(&group, "a")["failures"].is_null());
    Ok(())
}

/// The only test that uses a Lease in the namespace of the shipped manifest.
#[tokio::test]
async fn leader_acts_alone_and_another_replica_takes_over_when_it_exits() -> Result<()> {
    let mut fixture = Fixture::without_operator("ops-lease").await?;
    fixture.options.leader_elect = true;
    let leases: Api<Lease> = Api::namespaced(fixture.client.clone(), "oaat-operator");
    let holder = async || -> Result<Option<String>> {
        let lease = leases.list(&Default::default()).await?.items.pop();
        Ok(lease.and_then(|lease| lease.spec?.holder_identity))
    };
    fixture.start_operator().await?;
    until_metric(fixture.operator(), "oaat_leading", &[], |n| n == 1.0).await?;
    let first = fixture.take_operator();
    let first_identity = holder().await?;
    assert!(first_identity.is_some());

    fixture.start_operator().await?;
    let second = fixture.operator();
    let start = Instant::now();
    while second.page("/readyz").await?.0 != 200 {
        assert!(start.elapsed() < PATIENCE, "{}", second.log());
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(second.metric("oaat_leading", &[]).await?, 0.0);
    fixture.work("true", json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    fixture.until("a runs", |g| runs(g, "a") == 1).await?;
    assert_eq!(second.metric("oaat_reconciles_total", &[]).await?, 0.0);

    stop(first).await?;
    // The lease did not just expire, which takes many seconds.
    assert_ne!(holder().await?, first_identity, "the lease was released");
    until_metric(second, "oaat_leading", &[], |n| n == 1.0).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    fixture.until("b runs", |g| runs(g, "b") == 1).await?;
    Ok(())
}

#[tokio::test]
async fn changed_type_applies_to_the_next_pod_only() -> Result<()> {
    let fixture = Fixture::new("ops-type").await?;
    let latch = Latch::new(&fixture);
    fixture.work(&latch.script(), json!({})).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    let group = until_it_runs(&fixture).await?;
    let (first, pod) = (
        &group["status"]["currentlyRunning"],
        &group["status"]["pod"],
    );
    fixture.work("echo the new one", json!({})).await?;
    fixture
        .until_object("OaatType", "work", "the new spec is checked", |t| {
            t["status"]["observedGeneration"] == 2 && condition(t, "Valid").0 == "True"
        })
        .await?;
    assert_eq!(fixture.read("group").await?["status"]["pod"], *pod);

    latch.open()?;
    let group = fixture
        .until("both have succeeded", |g| {
            runs(g, "a") == 1 && runs(g, "b") == 1
        })
        .await?;
    let first = item(&group, first.as_str().unwrap_or_default());
    assert!(first["failures"].is_null(), "{group:#}");
    let scripts: Vec<_> = fixture
        .list_pods()
        .await?
        .into_iter()
        .filter_map(|pod| {
            Some((
                pod.metadata.name?,
                pod.spec?.containers.pop()?.command?.pop()?,
            ))
        })
        .map(|(name, script)| (name.as_str() == pod, script))
        .collect();
    assert!(scripts.contains(&(true, latch.script())), "{scripts:?}");
    assert!(
        scripts.contains(&(false, "echo the new one".into())),
        "{scripts:?}"
    );
    Ok(())
}

#[tokio::test]
async fn item_removed_while_it_runs_is_finished_and_reported() -> Result<()> {
    let fixture = Fixture::new("ops-removed").await?;
    let latch = Latch::new(&fixture);
    fixture.work(&latch.script(), json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    until_it_runs(&fixture).await?;
    fixture.group(&["b"], json!({})).await?;
    let group = fixture
        .until("a has left the status", |g| {
            g["status"]["observedGeneration"] == 2
        })
        .await?;
    assert!(item(&group, "a").is_null(), "{group:#}");
    assert_eq!(group["status"]["currentlyRunning"], "a");

    latch.open()?;
    let group = fixture.until("b has run", |g| runs(g, "b") == 1).await?;
    assert_eq!(group["status"]["history"][1]["item"], "a");
    assert_eq!(group["status"]["history"][1]["result"], "Succeeded");
    assert!(item(&group, "a").is_null(), "{group:#}");
    let note = fixture.until_event("group", "Succeeded").await?;
    assert!(
        note.contains("run 1 of a (it is no longer in the list"),
        "{note}"
    );
    Ok(())
}

#[tokio::test]
async fn operators_without_leader_election_never_run_two_items_at_once() -> Result<()> {
    let mut fixture = Fixture::new("ops-two").await?;
    fixture.start_operator().await?;
    fixture.work("sleep 0.05", json!({})).await?;
    let items: Vec<String> = (0..12).map(|n| format!("item-{n}")).collect();
    let names: Vec<&str> = items.iter().map(String::as_str).collect();
    fixture.group(&names, json!({})).await?;
    let group = fixture
        .until("all have run", |g| {
            names
                .iter()
                .all(|name| item(g, name)["lastSuccess"].is_string())
                && g["status"]["state"] == "Idle"
        })
        .await?;
    let ran = fixture.node.runs();
    for pair in ran.windows(2) {
        let first_ended = pair[0].ended.is_some_and(|end| end <= pair[1].started);
        assert!(first_ended, "{pair:?}");
    }
    // Neither operator ended a run of the other.
    for name in names {
        let item = item(&group, name);
        assert!(item["runs"] == 1 && item["failures"].is_null(), "{group:#}");
    }
    assert_eq!(ran.len(), items.len());
    Ok(())
}

#[tokio::test]
async fn metrics_of_groups_and_items_disappear_with_them() -> Result<()> {
    let fixture = Fixture::new("ops-items").await?;
    fixture.work("[ $OAAT_ITEM != bad ]", json!({})).await?;
    let cool = json!({"failureCoolOff": "1h", "frequency": "1h"});
    fixture.group(&["good", "bad"], cool).await?;
    fixture
        .until("both have run", |g| {
            item(g, "good")["state"] == "Fresh" && item(g, "bad")["state"] == "Cooling"
        })
        .await?;
    let labels = ["namespace=\"ops-items\"", "group=\"group\""];
    let series = async |name: &str, expected: f64| {
        until_metric(fixture.operator(), name, &labels, |n| n == expected).await
    };
    series("oaat_group_state{", 1.0).await?;
    series("oaat_group_ready_items", 0.0).await?;
    series("oaat_item_consecutive_failures", 1.0).await?;
    let success = "oaat_item_last_success_timestamp_seconds";
    until_metric(fixture.operator(), success, &labels, |n| n > 0.0).await?;
    let (_, text) = fixture.operator().page("/metrics").await?;
    for (name, item, present) in [
        ("oaat_item_last_success_timestamp_seconds", "good", true),
        ("oaat_item_last_success_timestamp_seconds", "bad", false),
        ("oaat_item_last_start_timestamp_seconds", "bad", true),
        ("oaat_item_due_timestamp_seconds", "bad", true),
        ("oaat_item_last_run_duration_seconds", "good", true),
        ("oaat_group_next_start_timestamp_seconds", "", true),
    ] {
        let item = format!("item=\"{item}");
        let mut lines = text.lines().filter(|line| line.starts_with(name));
        let found = lines.any(|line| item.len() == 6 || line.contains(&item));
        assert_eq!(found, present, "{name} of {item}: {text}");
    }
    let fewer = r#"{"spec":{"oaatItems":["good"]}}"#;
    let args = ["patch", "og", "group", "--type=merge", "-p", fewer];
    fixture.kubectl(&args).await?;
    series("oaat_item_consecutive_failures", 0.0).await?;
    fixture.kubectl(&["delete", "og", "group"]).await?;
    series("oaat_group_state{", 0.0).await?;
    series("oaat_item_", 0.0).await?;
    Ok(())
}

#[tokio::test]
async fn operator_is_ready_once_the_api_server_responds_and_serves_metrics() -> Result<()> {
    let fixture = Fixture::new("ops-health").await?;
    fixture.work("true", json!({})).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    fixture.until("a has run", |g| runs(g, "a") == 1).await?;
    fixture.until("b has run", |g| runs(g, "b") == 1).await?;
    let operator = fixture.operator();
    until_metric(operator, "oaat_handover_seconds_count", &[], |n| n == 1.0).await?;
    // The operator updates its metrics after the write of the status, so they may lag.
    until_metric(operator, "oaat_runs_total", &["Succeeded"], |n| n == 2.0).await?;
    until_metric(operator, "oaat_queue_depth", &[], |n| n == 0.0).await?;
    assert_eq!(operator.page("/healthz").await?.0, 200);
    assert_eq!(operator.page("/readyz").await?.0, 200);
    let (code, text) = operator.page("/metrics").await?;
    assert_eq!(code, 200);
    for figure in [
        "oaat_runs_total{result=\"Started\"} 2",
        "oaat_runs_total{result=\"Succeeded\"} 2",
        "oaat_leading 1",
        "oaat_decision_seconds_count",
        "oaat_policy_decisions_total{namespace=\"\",policy=\"builtin:default\",outcome=\"run\",reason=\"\"} ",
        "oaat_group_condition{namespace=\"ops-health\",group=\"group\",type=\"Ready\",status=\"True\",",
        "oaat_build_info{version=\"",
        "oaat_queue_depth 0",
        "# EOF",
    ] {
        assert!(text.contains(figure), "{figure}: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn operator_without_an_api_server_is_healthy_but_not_ready_and_stops_at_sigterm() -> Result<()>
{
    let mut fixture = Fixture::without_operator("ops-alone").await?;
    let kubeconfig = fs::read_to_string(&fixture.options.kubeconfig)?;
    let nowhere = kubeconfig.replace(&fixture.plane.api_server_url(), "https://127.0.0.1:1");
    assert_ne!(kubeconfig, nowhere);
    fixture.options.kubeconfig = fixture.plane.folder().join("nowhere.kubeconfig");
    fs::write(&fixture.options.kubeconfig, nowhere)?;
    fixture.start_operator().await?;
    let operator = fixture.take_operator();
    assert_eq!(operator.page("/healthz").await?.0, 200);
    let (code, words) = operator.page("/readyz").await?;
    assert_eq!(
        (code, words.trim()),
        (503, "the API server has not responded yet")
    );
    stop(operator).await
}

#[tokio::test]
async fn api_server_without_streaming_lists_is_read_in_pages() -> Result<()> {
    let options = Options {
        api_server_flags: vec!["--feature-gates=WatchList=false".into()],
        ..Options::default()
    };
    let (plane, kubeconfig) = operator::installed(options).await?;
    // It is killed with the test binary.
    let plane = Box::leak(Box::new(plane));
    let mut fixture = Fixture::on_plane(plane, &kubeconfig, "ops-pages").await?;
    fixture.work("true", json!({})).await?;
    // More than two pages.
    let names: Vec<String> = (0..25).map(|number| format!("group-{number}")).collect();
    for name in &names {
        let group = json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
            "metadata": { "name": name }, "spec": { "oaatType": "work", "oaatItems": ["a"] },
        });
        fixture.apply(&group.to_string()).await?;
    }
    fixture.start_operator().await?;
    for name in &names {
        fixture
            .until_object("OaatGroup", name, "it has run", |group| {
                runs(group, "a") == 1
            })
            .await?;
    }
    // Later changes arrive as events.
    fixture.group(&["b"], json!({})).await?;
    fixture
        .until("it has run", |group| runs(group, "b") == 1)
        .await?;
    Ok(())
}
