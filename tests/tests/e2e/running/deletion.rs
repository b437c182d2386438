//! Groups and namespaces that are deleted while a pod runs.

use crate::by_hand::{Door, ensure_apart, history, text};
use crate::world::{PATIENCE, World, condition, item};
use anyhow::{Result, ensure};
use futures::StreamExt;
use kube::ResourceExt;
use kube::runtime::wait::await_condition;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// A type whose process ends when the door opens, and not before, whoever asks.
async fn stubborn(world: &World, door: &Door) -> Result<()> {
    let grace = json!({ "podspec": { "terminationGracePeriodSeconds": 600 } });
    world.work(&door.wait_deaf(), grace).await
}

async fn until_group_gone(world: &World) -> Result<()> {
    let gone = await_condition(
        world.api("OaatGroup"),
        "group",
        |g: Option<&kube::api::DynamicObject>| g.is_none(),
    );
    timeout(PATIENCE, gone).await??;
    Ok(())
}

async fn until_being_deleted(world: &World, pod: &str) -> Result<()> {
    world
        .until_pod(pod, "is being deleted", |pod| {
            pod.metadata.deletion_timestamp.is_some()
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn group_and_pods_go_when_the_group_is_deleted_while_the_operator_is_down() -> Result<()> {
    let mut world = World::new("deleted-down").await?;
    world.work("sleep 600", json!({})).await?;
    world.group(&["a"], json!({})).await?;
    let pod = world.until_running().await?;
    world.take_operator().kill().await;
    world
        .kubectl(&["delete", "oaatgroup", "group", "--wait=false"])
        .await?;
    until_group_gone(&world).await?;
    world.until_pod_gone(&pod.name_any()).await
}

#[tokio::test]
async fn a_replaced_group_waits_for_the_old_pod_and_does_not_count_it() -> Result<()> {
    let world = World::new("replaced").await?;
    let door = Door::new()?;
    stubborn(&world, &door).await?;
    world.group(&["a"], json!({})).await?;
    let old = world.until_running().await?;
    let group = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": "group" }, "spec": { "oaatType": "work", "oaatItems": ["a"] },
    });
    let args = [
        "--namespace",
        &world.namespace,
        "replace",
        "--force",
        "-f",
        "-",
    ];
    world
        .plane
        .kubectl_as(world.plane.admin_kubeconfig(), &args, &group.to_string())
        .await?;
    names_and_does_not_count(&world, &old, &door).await
}

#[tokio::test]
async fn an_orphaned_pod_blocks_the_next_group_of_the_name_and_does_not_count_for_it() -> Result<()>
{
    let world = World::new("orphaned").await?;
    let door = Door::new()?;
    stubborn(&world, &door).await?;
    world.group(&["a"], json!({})).await?;
    let old = world.until_running().await?;
    world
        .kubectl(&["delete", "oaatgroup", "group", "--cascade=orphan"])
        .await?;
    world.group(&["a"], json!({})).await?;
    names_and_does_not_count(&world, &old, &door).await?;
    // It was nobody's to delete.
    world.pods().get(&old.name_any()).await?;
    Ok(())
}

/// The new group is blocked by the old pod, names it, and goes on when it has ended.
async fn names_and_does_not_count(
    world: &World,
    old: &k8s_openapi::api::core::v1::Pod,
    door: &Door,
) -> Result<()> {
    let old = old.name_any();
    let group = world
        .until("the new group is blocked", |g| {
            g["status"]["state"] == "Blocked"
        })
        .await?;
    let message = text(&group["status"]["message"]);
    ensure!(message.contains(&old), "{message}");
    let (_, reason, words) = condition(&group, "Ready");
    ensure!(reason == "ForeignPod" && words.contains(&old), "{group:#}");
    world.look().await?;
    world.ensure_alone(&old).await?;

    door.open()?;
    let group = world.until_recorded("a").await?;
    let runs = history(&group);
    ensure!(runs.len() == 1 && runs[0]["pod"] != old, "{group:#}");
    ensure!(item(&group, "a")["runs"] == 1, "{group:#}");
    ensure!(item(&group, "a")["failures"] == 0, "{group:#}");
    ensure!(world.node.runs().len() == 2);
    ensure_apart(&world.node.runs())
}

#[tokio::test]
async fn nothing_new_starts_while_a_group_is_deleted_in_the_foreground() -> Result<()> {
    let world = World::new("foreground").await?;
    let door = Door::new()?;
    stubborn(&world, &door).await?;
    world.group(&["a", "b"], json!({})).await?;
    let pod = world.until_running().await?.name_any();
    let delete = ["delete", "oaatgroup", "group", "--wait=false"];
    world
        .kubectl(&[&delete[..], &["--cascade=foreground"]].concat())
        .await?;
    until_being_deleted(&world, &pod).await?;
    world.ensure_alone(&pod).await?;

    let end = async {
        door.open()?;
        until_group_gone(&world).await
    };
    let (seen, ended) = tokio::join!(watch_group(&world), end);
    ended?;
    seen?;
    // Nothing more is to come; it would within milliseconds.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.node.runs().len(), 1);
    assert_eq!(world.list_pods().await?, []);
    Ok(())
}

#[tokio::test]
async fn a_namespace_that_is_deleted_starts_nothing_and_fails_nothing() -> Result<()> {
    let world = World::new("namespace-deleted").await?;
    let door = Door::new()?;
    stubborn(&world, &door).await?;
    world.group(&["a", "b"], json!({})).await?;
    let pod = world.until_running().await?.name_any();
    let delete = async {
        world
            .plane
            .kubectl(&["delete", "namespace", &world.namespace, "--wait=false"])
            .await?;
        until_being_deleted(&world, &pod).await?;
        door.open()?;
        world.until_pod_gone(&pod).await
    };
    let (seen, deleted) = tokio::join!(watch_group(&world), delete);
    deleted?;
    seen?;
    let counted = world
        .operator()
        .metric("oaat_runs_total", &["Failed"])
        .await?;
    assert_eq!(counted, 0.0);
    assert_eq!(world.node.runs().len(), 1);
    Ok(())
}

/// Sees every version of the group until it is gone; in none of them may a failure be
/// recorded.
async fn watch_group(world: &World) -> Result<()> {
    let config = watcher::Config::default().fields("metadata.name=group");
    let mut events = Box::pin(watcher(world.api("OaatGroup"), config));
    let look = async {
        while let Some(event) = events.next().await {
            let (group, last) = match event? {
                Event::Apply(group) | Event::InitApply(group) => (group, false),
                Event::Delete(group) => (group, true),
                Event::InitDone => {
                    let there = world.api("OaatGroup").get_opt("group").await?;
                    if there.is_none() {
                        return Ok(());
                    }
                    continue;
                }
                Event::Init => continue,
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
