//! Groups and namespaces that are deleted while a pod runs.

use crate::fixture::{Fixture, PATIENCE, condition, item};
use crate::helpers::{Barrier, ensure_apart, history, text};
use anyhow::{Result, ensure};
use futures::StreamExt;
use kube::ResourceExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::wait::await_condition;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// Creates a type whose process ignores SIGTERM until the barrier is released.
async fn stubborn(fixture: &Fixture, barrier: &Barrier) -> Result<()> {
    let grace = json!({ "podspec": { "terminationGracePeriodSeconds": 600 } });
    fixture.work(&barrier.wait_deaf(), grace).await
}

async fn until_group_gone(fixture: &Fixture) -> Result<()> {
    let gone = await_condition(
        fixture.api("OaatGroup"),
        "group",
        |g: Option<&kube::api::DynamicObject>| g.is_none(),
    );
    timeout(PATIENCE, gone).await??;
    Ok(())
}

async fn until_being_deleted(fixture: &Fixture, pod: &str) -> Result<()> {
    fixture
        .until_pod(pod, "is being deleted", |pod| {
            pod.metadata.deletion_timestamp.is_some()
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn group_deleted_while_the_operator_is_down_is_removed_with_its_pods() -> Result<()> {
    let mut fixture = Fixture::new("deleted-down").await?;
    fixture.work("sleep 600", json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    let pod = fixture.until_running().await?;
    fixture.take_operator().kill().await;
    fixture
        .kubectl(&["delete", "oaatgroup", "group", "--wait=false"])
        .await?;
    until_group_gone(&fixture).await?;
    fixture.until_pod_gone(&pod.name_any()).await
}

#[tokio::test]
async fn replaced_group_waits_for_the_old_pod_and_does_not_count_it() -> Result<()> {
    let fixture = Fixture::new("replaced").await?;
    let barrier = Barrier::new()?;
    stubborn(&fixture, &barrier).await?;
    fixture.group(&["a"], json!({})).await?;
    let old = fixture.until_running().await?;
    let group = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": "group" }, "spec": { "oaatType": "work", "oaatItems": ["a"] },
    });
    let args = [
        "--namespace",
        &fixture.namespace,
        "replace",
        "--force",
        "-f",
        "-",
    ];
    fixture
        .plane
        .kubectl_as(fixture.plane.admin_kubeconfig(), &args, &group.to_string())
        .await?;
    ensure_blocking_pod_is_named_and_not_counted(&fixture, &old, &barrier).await
}

#[tokio::test]
async fn orphaned_pod_blocks_the_next_group_of_the_name_and_is_not_counted() -> Result<()> {
    let fixture = Fixture::new("orphaned").await?;
    let barrier = Barrier::new()?;
    stubborn(&fixture, &barrier).await?;
    fixture.group(&["a"], json!({})).await?;
    let old = fixture.until_running().await?;
    fixture
        .kubectl(&["delete", "oaatgroup", "group", "--cascade=orphan"])
        .await?;
    fixture.group(&["a"], json!({})).await?;
    ensure_blocking_pod_is_named_and_not_counted(&fixture, &old, &barrier).await?;
    // The new group must not delete it.
    fixture.pods().get(&old.name_any()).await?;
    Ok(())
}

/// Checks that the old pod blocks the new group, which names it, and that the group continues when
/// that pod has ended.
async fn ensure_blocking_pod_is_named_and_not_counted(
    fixture: &Fixture,
    old: &k8s_openapi::api::core::v1::Pod,
    barrier: &Barrier,
) -> Result<()> {
    let old = old.name_any();
    let group = fixture
        .until("the new group is blocked", |g| {
            g["status"]["state"] == "Blocked"
        })
        .await?;
    let message = text(&group["status"]["message"]);
    ensure!(message.contains(&old), "{message}");
    let (_, reason, words) = condition(&group, "Ready");
    ensure!(reason == "ForeignPod" && words.contains(&old), "{group:#}");
    fixture.look().await?;
    fixture.ensure_alone(&old).await?;

    barrier.release()?;
    let group = fixture.until_recorded("a").await?;
    let runs = history(&group);
    ensure!(runs.len() == 1 && runs[0]["pod"] != old, "{group:#}");
    ensure!(item(&group, "a")["runs"] == 1, "{group:#}");
    ensure!(item(&group, "a")["failures"].is_null(), "{group:#}");
    ensure!(fixture.node.runs().len() == 2);
    ensure_apart(&fixture.node.runs())
}

#[tokio::test]
async fn group_in_foreground_deletion_starts_nothing() -> Result<()> {
    let fixture = Fixture::new("foreground").await?;
    let barrier = Barrier::new()?;
    stubborn(&fixture, &barrier).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    let pod = fixture.until_running().await?.name_any();
    let delete = ["delete", "oaatgroup", "group", "--wait=false"];
    fixture
        .kubectl(&[&delete[..], &["--cascade=foreground"]].concat())
        .await?;
    until_being_deleted(&fixture, &pod).await?;
    fixture.ensure_alone(&pod).await?;

    let end = async {
        barrier.release()?;
        until_group_gone(&fixture).await
    };
    let (seen, ended) = tokio::join!(watch_group(&fixture), end);
    ended?;
    seen?;
    // Anything else would happen within milliseconds.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(fixture.node.runs().len(), 1);
    assert_eq!(fixture.list_pods().await?, []);
    Ok(())
}

#[tokio::test]
async fn namespace_in_deletion_starts_nothing_and_counts_no_failure() -> Result<()> {
    let fixture = Fixture::new("namespace-deleted").await?;
    let barrier = Barrier::new()?;
    stubborn(&fixture, &barrier).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    let pod = fixture.until_running().await?.name_any();
    let delete = async {
        fixture
            .plane
            .kubectl(&["delete", "namespace", &fixture.namespace, "--wait=false"])
            .await?;
        until_being_deleted(&fixture, &pod).await?;
        barrier.release()?;
        fixture.until_pod_gone(&pod).await
    };
    let (seen, deleted) = tokio::join!(watch_group(&fixture), delete);
    deleted?;
    seen?;
    let counted = fixture
        .operator()
        .metric("oaat_runs_total", &["Failed"])
        .await?;
    assert_eq!(counted, 0.0);
    assert_eq!(fixture.node.runs().len(), 1);
    Ok(())
}

/// Watches every version of the group until it is gone, and checks that none contains a failure.
async fn watch_group(fixture: &Fixture) -> Result<()> {
    let config = watcher::Config::default().fields("metadata.name=group");
    let events = watcher(fixture.api("OaatGroup"), config).default_backoff();
    let mut events = Box::pin(events);
    let look = async {
        while let Some(event) = events.next().await {
            let (group, last) = match event {
                Ok(Event::Apply(group) | Event::InitApply(group)) => (group, false),
                Ok(Event::Delete(group)) => (group, true),
                Ok(Event::InitDone) => {
                    let there = fixture.api("OaatGroup").get_opt("group").await?;
                    if there.is_none() {
                        return Ok(());
                    }
                    continue;
                }
                // The watcher retries after an error.
                Ok(Event::Init) | Err(_) => continue,
            };
            let group: Value = serde_json::to_value(group)?;
            ensure!(history(&group).is_empty(), "a run is recorded: {group:#}");
            ensure!(group["status"]["run"].as_i64() <= Some(1), "{group:#}");
            if last {
                return Ok(());
            }
        }
        Ok(())
    };
    timeout(PATIENCE, look).await?
}
