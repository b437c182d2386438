//! Runs that end by themselves: exit codes, times, and that each end counts once.

use crate::by_hand::{Door, ended, latest, text};
use crate::world::{World, item, millis};
use anyhow::{Context, Result};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use oaat_tests::node::Run;
use serde_json::{Value, json};
use std::time::Duration;

/// No second try within the test.
fn once() -> Value {
    json!({ "failureCoolOff": "1h" })
}

#[tokio::test]
async fn exit_0_is_a_success_at_the_time_the_container_ended() -> Result<()> {
    let world = World::new("exit-0").await?;
    let door = Door::new()?;
    // The first time the door is shut.
    let failed_before = format!(
        "if {}; then exit 0; fi; exit 3",
        door.wait()
            .replace("while [ !", "[")
            .replace("]; do sleep 0.1; done", "]")
    );
    world.work(&failed_before, json!({})).await?;
    world.group(&["a"], json!({"failureCoolOff": "1s"})).await?;
    world
        .until("the first run fails", |g| item(g, "a")["failures"] == 1)
        .await?;
    door.open()?;
    let group = world
        .until("a later one succeeds", |g| {
            item(g, "a")["lastSuccess"].is_string()
        })
        .await?;
    let a = item(&group, "a");
    assert_eq!(a["failures"], 0, "{group:#}");
    assert_eq!(a["lastExitCode"], 0, "{group:#}");
    assert!(a["lastFailure"].is_string(), "{group:#}");
    let pod = world.pods().get(&text(&latest(&group)?["pod"])).await?;
    assert_eq!(Some(millis(&a["lastSuccess"])), ended(&pod), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn another_exit_code_is_a_failure_that_shows_it() -> Result<()> {
    let world = World::new("exit-5").await?;
    world.work("exit 5", json!({})).await?;
    world.group(&["a"], json!({})).await?;
    let group = world
        .until("it has failed twice", |g| item(g, "a")["failures"] == 2)
        .await?;
    let a = item(&group, "a");
    assert_eq!(a["lastExitCode"], 5, "{group:#}");
    assert!(a["lastFailure"].is_string(), "{group:#}");
    assert!(a["lastSuccess"].is_null(), "{group:#}");
    assert_eq!(latest(&group)?["result"], "Failed");
    assert!(text(&latest(&group)?["message"]).contains("code 5"));
    let note = world.until_event("group", "Failed").await?;
    assert!(
        note.contains("run 1 of a") && note.contains("code 5"),
        "{note}"
    );
    Ok(())
}

#[tokio::test]
async fn of_several_containers_the_one_that_failed_is_named() -> Result<()> {
    let world = World::new("one-of-three").await?;
    let container = |name: &str, script: &str| json!({ "name": name, "image": "any", "command": ["sh", "-c", script] });
    let several = json!({ "podspec": { "container": null, "containers": [
        container("first", "true"), container("second", "exit 7"), container("third", "true"),
    ] } });
    world.work("", several).await?;
    world.group(&["a"], once()).await?;
    let group = world.until_recorded("a").await?;
    assert_eq!(item(&group, "a")["failures"], 1, "{group:#}");
    assert_eq!(item(&group, "a")["lastExitCode"], 7, "{group:#}");
    let run = latest(&group)?;
    assert!(text(&run["message"]).contains("container second"), "{run}");
    assert!(text(&item(&group, "a")["message"]).contains("second"));
    Ok(())
}

#[tokio::test]
async fn a_failed_init_container_is_named() -> Result<()> {
    let world = World::new("init-fails").await?;
    let init = json!({ "name": "prepare", "image": "any", "command": ["sh", "-c", "exit 9"] });
    world
        .work("true", json!({ "podspec": { "initContainers": [init] } }))
        .await?;
    world.group(&["a"], once()).await?;
    let group = world.until_recorded("a").await?;
    assert_eq!(item(&group, "a")["failures"], 1, "{group:#}");
    let run = latest(&group)?;
    assert_eq!(run["exitCode"], 9);
    assert!(text(&run["message"]).contains("container prepare"), "{run}");
    Ok(())
}

#[tokio::test]
async fn an_end_that_is_seen_ten_times_counts_once() -> Result<()> {
    let mut world = World::new("seen-often").await?;
    world.work("exit 5", json!({})).await?;
    world.group(&["a"], once()).await?;
    let group = world.until_recorded("a").await?;
    let pod = text(&latest(&group)?["pod"]);
    for number in 0..10 {
        let patch = json!({ "metadata": { "annotations": { "touched": number.to_string() } } });
        world
            .pods()
            .patch(&pod, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        if number % 4 == 3 {
            world.take_operator().kill().await;
            world.start_operator().await?;
        }
        world.look().await?;
    }
    let group = world.look().await?;
    assert_eq!(item(&group, "a")["runs"], 1, "{group:#}");
    assert_eq!(item(&group, "a")["failures"], 1, "{group:#}");
    assert_eq!(group["status"]["history"].as_array().map(Vec::len), Some(1));
    Ok(())
}

#[tokio::test]
async fn a_run_that_ended_while_the_operator_was_down_is_recorded_with_its_true_end() -> Result<()>
{
    let mut world = World::new("ended-down").await?;
    let door = Door::new()?;
    world.work(&door.wait(), json!({})).await?;
    world.group(&["a"], json!({})).await?;
    let pod = world.until_running().await?.name_any();
    world.take_operator().kill().await;
    door.open()?;
    let pod = world
        .until_pod(&pod, "ends", |pod| ended(pod).is_some())
        .await?;
    // Ends are told to the second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    world.start_operator().await?;
    let group = world.until_recorded("a").await?;
    let a = item(&group, "a");
    assert_eq!(Some(millis(&a["lastSuccess"])), ended(&pod), "{group:#}");
    assert_eq!(a["runs"], 1, "{group:#}");
    assert_eq!(world.node.runs().len(), 1);
    Ok(())
}

/// A node whose clock is off by years does not make items run too often or not at all.
async fn clock_off_by(years: i64, namespace: &str) -> Result<()> {
    let world = World::new(namespace).await?;
    world.node.set_clock_skew(years * 365 * 24 * 3600);
    world.work("true", json!({})).await?;
    world.group(&["a"], json!({})).await?;
    let group = world.until_recorded("a").await?;
    let pod = world.pods().get(&text(&latest(&group)?["pod"])).await?;
    let created = pod.creation_timestamp().context("no creation time")?;
    let now = k8s_openapi::jiff::Timestamp::now().as_millisecond();
    let success = millis(&item(&group, "a")["lastSuccess"]);
    assert!(
        (created.0.as_millisecond()..=now).contains(&success),
        "{group:#}"
    );
    // Due in an hour, so it rests.
    let group = world.look().await?;
    assert_eq!(group["status"]["state"], "Idle", "{group:#}");
    assert_eq!(group["status"]["run"], 1, "{group:#}");
    Ok(())
}

#[tokio::test]
async fn the_end_by_a_clock_that_is_years_ahead_is_not_in_the_future() -> Result<()> {
    clock_off_by(10, "clock-ahead").await
}

#[tokio::test]
async fn the_end_by_a_clock_that_is_years_behind_is_not_before_the_start() -> Result<()> {
    clock_off_by(-10, "clock-behind").await
}

#[tokio::test]
async fn a_short_frequency_and_a_clock_that_is_years_behind_make_no_tight_loop() -> Result<()> {
    let world = World::new("clock-behind-fast").await?;
    world.node.set_clock_skew(-10 * 365 * 24 * 3600);
    world.work("true", json!({})).await?;
    world.group(&["a"], json!({"frequency": "1s"})).await?;
    world
        .until("it runs four times", |g| item(g, "a")["runs"] == 4)
        .await?;
    let starts: Vec<_> = world
        .node
        .runs()
        .iter()
        .map(|run: &Run| run.started)
        .collect();
    for pair in starts.windows(2) {
        let apart = pair[1].duration_since(pair[0])?;
        // The retry floor of these tests, less what the pods took to start.
        assert!(apart > Duration::from_millis(100), "{apart:?}");
    }
    Ok(())
}
