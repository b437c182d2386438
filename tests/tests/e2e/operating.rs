//! Running the operator: restarts, its end, replicas, changes under a running pod, and
//! what it serves.

use crate::world::{PATIENCE, World, condition, item};
use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use oaat_tests::{Operator, Options, operator};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Runs wait for it in their script, until the test opens it.
struct Latch(PathBuf);

impl Latch {
    fn new(world: &World) -> Self {
        Self(
            world
                .plane
                .folder()
                .join(format!("latch-{}", world.namespace)),
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

/// Waits until a figure of an operator is as wanted.
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

/// Waits until the node runs something.
async fn until_it_runs(world: &World) -> Result<Value> {
    let group = world
        .until("a pod is claimed", |g| g["status"]["pod"].is_string())
        .await?;
    let pod = group["status"]["pod"].as_str().unwrap_or_default();
    let phase = |pod: &k8s_openapi::api::core::v1::Pod| pod.status.as_ref()?.phase.clone();
    world
        .until_pod(pod, "runs", |pod| phase(pod).as_deref() == Some("Running"))
        .await?;
    Ok(group)
}

/// SIGTERM; it must end before a kubelet would lose patience.
async fn stop(operator: Operator) -> Result<()> {
    let ended = timeout(Duration::from_secs(30), operator.stop())
        .await
        .context("it did not end within the grace period of a pod")?;
    assert_eq!(ended.code(), Some(0), "{ended}");
    Ok(())
}

#[tokio::test]
async fn a_restart_changes_nothing_on_a_group_that_has_nothing_to_do() -> Result<()> {
    let mut world = World::new("ops-restart").await?;
    world.work("[ $OAAT_ITEM != bad ]", json!({})).await?;
    world
        .group(&["good", "bad"], json!({"failureCoolOff": "1h"}))
        .await?;
    let before = world
        .until("both have run", |g| {
            item(g, "good")["state"] == "Fresh" && item(g, "bad")["state"] == "Cooling"
        })
        .await?;
    world.take_operator().kill().await;

    world.start_operator().await?;
    until_metric(world.operator(), "oaat_reconciles_total", &["ok"], |n| n >= 1.0).await?;
    let after = world.read("group").await?;
    assert_eq!(after["status"], before["status"]);
    assert_eq!(
        after["metadata"]["resourceVersion"],
        before["metadata"]["resourceVersion"]
    );
    Ok(())
}

#[tokio::test]
async fn what_changed_while_the_operator_was_down_is_seen_at_its_start() -> Result<()> {
    let mut world = World::new("ops-down").await?;
    world.work("true", json!({})).await?;
    world.group(&["a", "b"], json!({})).await?;
    world
        .until("both have run", |g| {
            g["status"]["run"] == 2 && g["status"]["state"] == "Idle"
        })
        .await?;
    world.take_operator().kill().await;
    world.group(&["b", "c"], json!({})).await?;
    world.start_operator().await?;
    let group = world
        .until("the new one has run", |g| {
            runs(g, "c") == 1 && g["status"]["state"] == "Idle"
        })
        .await?;
    assert!(item(&group, "a").is_null(), "{group:#}");
    assert_eq!(runs(&group, "b"), 1);
    assert_eq!(group["status"]["observedGeneration"], 2);
    Ok(())
}

#[tokio::test]
async fn the_run_in_progress_is_still_shown_after_a_restart_and_ends_as_one_run() -> Result<()> {
    let mut world = World::new("ops-running").await?;
    let latch = Latch::new(&world);
    world.work(&latch.script(), json!({})).await?;
    world.group(&["a"], json!({})).await?;
    let before = until_it_runs(&world).await?;
    world.take_operator().kill().await;
    world.start_operator().await?;
    until_metric(world.operator(), "oaat_reconciles_total", &["ok"], |n| n >= 1.0).await?;
    let after = world.read("group").await?;
    assert_eq!(after["status"]["current"], before["status"]["current"]);
    assert_eq!(after["status"]["currentlyRunning"], "a");

    latch.open()?;
    let group = world.until("it succeeds", |g| runs(g, "a") == 1).await?;
    assert_eq!(group["status"]["run"], 1);
    assert_eq!(world.node.runs().len(), 1);
    Ok(())
}

#[tokio::test]
async fn at_sigterm_it_ends_with_0_and_its_pods_run_on() -> Result<()> {
    let mut world = World::new("ops-sigterm").await?;
    let latch = Latch::new(&world);
    world.work(&latch.script(), json!({})).await?;
    world.group(&["a"], json!({})).await?;
    let group = until_it_runs(&world).await?;
    stop(world.take_operator()).await?;
    assert_eq!(world.read("group").await?["status"], group["status"]);
    let runs_on = world.node.runs();
    assert!(runs_on.iter().all(|run| run.ended.is_none()), "{runs_on:?}");

    latch.open()?;
    world.start_operator().await?;
    let group = world
        .until("the next one records the run", |g| runs(g, "a") == 1)
        .await?;
    assert_eq!(item(&group, "a")["failures"], 0);
    Ok(())
}

/// The only test that takes part in the election by the shipped Lease, which is one for all.
#[tokio::test]
async fn one_of_two_replicas_acts_and_at_its_end_the_other_takes_over() -> Result<()> {
    let mut world = World::without_operator("ops-lease").await?;
    world.options.leader_elect = true;
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), "oaat-operator");
    let holder = async || -> Result<Option<String>> {
        let lease = leases.get("oaat-operator").await?;
        Ok(lease.spec.and_then(|spec| spec.holder_identity))
    };
    world.start_operator().await?;
    until_metric(world.operator(), "oaat_leading", &[], |n| n == 1.0).await?;
    let first = world.take_operator();
    let first_identity = holder().await?;
    assert!(first_identity.is_some());

    world.start_operator().await?;
    let second = world.operator();
    let start = Instant::now();
    while second.page("/readyz").await?.0 != 200 {
        assert!(start.elapsed() < PATIENCE, "{}", second.log());
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(second.metric("oaat_leading", &[]).await?, 0.0);
    world.work("true", json!({})).await?;
    world.group(&["a"], json!({})).await?;
    world.until("a runs", |g| runs(g, "a") == 1).await?;
    assert_eq!(second.metric("oaat_reconciles_total", &[]).await?, 0.0);

    stop(first).await?;
    // It did not just run out: that takes many seconds.
    assert_ne!(holder().await?, first_identity, "the lease was released");
    until_metric(second, "oaat_leading", &[], |n| n == 1.0).await?;
    world.group(&["a", "b"], json!({})).await?;
    world.until("b runs", |g| runs(g, "b") == 1).await?;
    Ok(())
}

#[tokio::test]
async fn a_changed_type_leaves_the_running_pod_alone_and_holds_for_the_next() -> Result<()> {
    let world = World::new("ops-type").await?;
    let latch = Latch::new(&world);
    world.work(&latch.script(), json!({})).await?;
    world.group(&["a", "b"], json!({})).await?;
    let group = until_it_runs(&world).await?;
    let (first, pod) = (
        &group["status"]["currentlyRunning"],
        &group["status"]["pod"],
    );
    world.work("echo the new one", json!({})).await?;
    world
        .until_object("OaatType", "work", "the new spec is checked", |t| {
            t["status"]["observedGeneration"] == 2 && condition(t, "Valid").0 == "True"
        })
        .await?;
    assert_eq!(world.read("group").await?["status"]["pod"], *pod);

    latch.open()?;
    let group = world
        .until("both have succeeded", |g| {
            runs(g, "a") == 1 && runs(g, "b") == 1
        })
        .await?;
    assert_eq!(
        item(&group, first.as_str().unwrap_or_default())["failures"],
        0
    );
    let scripts: Vec<_> = world
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
async fn an_item_that_leaves_the_list_while_it_runs_is_finished_and_told_of() -> Result<()> {
    let world = World::new("ops-removed").await?;
    let latch = Latch::new(&world);
    world.work(&latch.script(), json!({})).await?;
    world.group(&["a"], json!({})).await?;
    until_it_runs(&world).await?;
    world.group(&["b"], json!({})).await?;
    let group = world
        .until("a has left the status", |g| {
            g["status"]["observedGeneration"] == 2
        })
        .await?;
    assert!(item(&group, "a").is_null(), "{group:#}");
    assert_eq!(group["status"]["currentlyRunning"], "a");

    latch.open()?;
    let group = world.until("b has run", |g| runs(g, "b") == 1).await?;
    assert_eq!(group["status"]["history"][1]["item"], "a");
    assert_eq!(group["status"]["history"][1]["result"], "Succeeded");
    assert!(item(&group, "a").is_null(), "{group:#}");
    let note = world.until_event("group", "Succeeded").await?;
    assert!(
        note.contains("run 1 of a (it is no longer in the list"),
        "{note}"
    );
    Ok(())
}

#[tokio::test]
async fn two_operators_without_an_election_never_run_two_items_at_once() -> Result<()> {
    let mut world = World::new("ops-two").await?;
    world.start_operator().await?;
    world.work("sleep 0.05", json!({})).await?;
    let items: Vec<String> = (0..12).map(|n| format!("item-{n}")).collect();
    let names: Vec<&str> = items.iter().map(String::as_str).collect();
    world.group(&names, json!({})).await?;
    let group = world
        .until("all have run", |g| {
            names
                .iter()
                .all(|name| item(g, name)["lastSuccess"].is_string())
                && g["status"]["state"] == "Idle"
        })
        .await?;
    let ran = world.node.runs();
    for pair in ran.windows(2) {
        let first_ended = pair[0].ended.is_some_and(|end| end <= pair[1].started);
        assert!(first_ended, "{pair:?}");
    }
    // And neither has ended a run that the other had started.
    for name in names {
        let item = item(&group, name);
        assert_eq!(
            (&item["runs"], &item["failures"]),
            (&json!(1), &json!(0)),
            "{group:#}"
        );
    }
    assert_eq!(ran.len(), items.len());
    Ok(())
}

#[tokio::test]
async fn it_is_ready_once_the_api_server_answers_and_serves_its_figures() -> Result<()> {
    let world = World::new("ops-health").await?;
    world.work("true", json!({})).await?;
    world.group(&["a"], json!({})).await?;
    world.until("a has run", |g| runs(g, "a") == 1).await?;
    let operator = world.operator();
    assert_eq!(operator.page("/healthz").await?.0, 200);
    assert_eq!(operator.page("/readyz").await?.0, 200);
    let (code, text) = operator.page("/metrics").await?;
    assert_eq!(code, 200);
    for figure in [
        "oaat_runs_total{result=\"Started\"} 1",
        "oaat_runs_total{result=\"Succeeded\"} 1",
        "oaat_leading 1",
        "oaat_decision_seconds_count",
        "# EOF",
    ] {
        assert!(text.contains(figure), "{figure}: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn without_an_api_server_it_is_healthy_and_not_ready_and_ends_when_told_to() -> Result<()> {
    let mut world = World::without_operator("ops-alone").await?;
    let kubeconfig = fs::read_to_string(&world.options.kubeconfig)?;
    let nowhere = kubeconfig.replace(&world.plane.api_server_url(), "https://127.0.0.1:1");
    assert_ne!(kubeconfig, nowhere);
    world.options.kubeconfig = world.plane.folder().join("nowhere.kubeconfig");
    fs::write(&world.options.kubeconfig, nowhere)?;
    world.start_operator().await?;
    let operator = world.take_operator();
    assert_eq!(operator.page("/healthz").await?.0, 200);
    let (code, words) = operator.page("/readyz").await?;
    assert_eq!(
        (code, words.trim()),
        (503, "the API server has not responded yet")
    );
    stop(operator).await
}

#[tokio::test]
async fn an_api_server_that_streams_no_lists_is_asked_for_pages() -> Result<()> {
    let options = Options {
        api_server_flags: vec!["--feature-gates=WatchList=false".into()],
        ..Options::default()
    };
    let (plane, kubeconfig) = operator::installed(options).await?;
    // It is killed with the test binary.
    let plane = Box::leak(Box::new(plane));
    let mut world = World::on_plane(plane, &kubeconfig, "ops-pages").await?;
    world.work("true", json!({})).await?;
    // More than two pages.
    let names: Vec<String> = (0..25).map(|number| format!("group-{number}")).collect();
    for name in &names {
        let group = json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
            "metadata": { "name": name }, "spec": { "oaatType": "work", "oaatItems": ["a"] },
        });
        world.apply(&group.to_string()).await?;
    }
    world.start_operator().await?;
    for name in &names {
        world
            .until_object("OaatGroup", name, "it has run", |group| {
                runs(group, "a") == 1
            })
            .await?;
    }
    // Later changes come as events.
    world.group(&["b"], json!({})).await?;
    world
        .until("it has run", |group| runs(group, "b") == 1)
        .await?;
    Ok(())
}
