//! Blackout windows: nothing starts in one, what runs may be ended by one, and the end of one is
//! the beginning of what waited.

use crate::bad_input::message;
use crate::by_hand::{Door, ensure_apart, history, state};
use crate::world::{World, condition, item, millis};
use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// A window that opens at the minute that is so many minutes from now, and for so many seconds.
fn window(minutes: i64, seconds: i64, more: Value) -> Result<Value> {
    let opens = Timestamp::now().checked_add(SignedDuration::from_mins(minutes))?;
    let schedule = opens.strftime("%M %H * * *").to_string();
    let mut window = json!({
        "name": "test", "schedule": schedule, "duration": format!("{seconds}s"),
    });
    if let (Some(window), Some(more)) = (window.as_object_mut(), more.as_object()) {
        window.extend(more.clone());
    }
    Ok(window)
}

/// Seconds into the present minute.
fn second() -> i64 {
    Timestamp::now().as_second().rem_euclid(60)
}

impl World {
    async fn windows(&self, windows: Value) -> Result<()> {
        self.change(json!({ "spec": { "blackoutWindows": windows } }))
            .await
    }
}

#[tokio::test]
async fn nothing_starts_in_a_window_and_all_goes_on_at_its_end() -> Result<()> {
    let world = World::new("blackout").await?;
    world.work("true", json!({})).await?;
    // Open since the minute before, and for some seconds from now.
    let lasts = 60 + second() + 8;
    let open = window(-1, lasts, json!({}))?;
    world
        .group(&["a"], json!({ "blackoutWindows": [open] }))
        .await?;
    let group = world
        .until("it is a blackout", |g| state(g) == "Blackout")
        .await?;
    ensure!(message(&group).starts_with("blackout until "), "{group:#}");
    ensure!(message(&group).contains("window test"), "{group:#}");
    ensure!(condition(&group, "Ready").1 == "Blackout", "{group:#}");
    let until = millis(&group["status"]["next"]);
    ensure!(
        until > millis(&group["status"]["conditions"][0]["lastTransitionTime"]),
        "{group:#}"
    );
    ensure!(history(&group).is_empty() && world.list_pods().await?.is_empty());

    let group = world.until_recorded("a").await?;
    let started = millis(&history(&group)[0]["started"]);
    ensure!(started >= until, "{started} is before {until}: {group:#}");
    Ok(())
}

#[tokio::test]
async fn a_window_that_stops_ends_what_runs_as_neither_success_nor_failure() -> Result<()> {
    let world = World::new("blackout-stop").await?;
    let door = Door::new()?;
    world.work(&door.wait(), json!({})).await?;
    world.group(&["a"], json!({ "frequency": "24h" })).await?;
    let pod = world.until_running().await?.name_any();
    let open = window(-1, 60 + second() + 12, json!({ "running": "Stop" }))?;
    world.windows(json!([open])).await?;
    let group = world
        .until("the run is stopped", |g| !history(g).is_empty())
        .await?;
    let run = history(&group)[0].clone();
    ensure!(
        run["result"] == "Stopped" && run["reason"] == "Blackout",
        "{run:#}"
    );
    ensure!(run["pod"] == pod.as_str(), "{run:#}");
    let a = item(&group, "a");
    ensure!(a["failures"].as_i64().unwrap_or(0) == 0, "{group:#}");
    ensure!(
        a["lastFailure"].is_null() && a["lastSuccess"].is_null(),
        "{group:#}"
    );
    world.until_event("group", "Stopped").await?;
    ensure!(state(&group) == "Blackout", "{group:#}");

    // It is eligible at once when the window has closed.
    door.open()?;
    let group = world
        .until("it runs again and succeeds", |g| {
            item(g, "a")["lastSuccess"].is_string()
        })
        .await?;
    ensure!(history(&group).len() == 2, "{group:#}");
    ensure_apart(&world.node.runs())
}

/// The operator may die between what it writes and what it does.
#[tokio::test]
async fn a_stop_that_was_written_and_not_done_is_done_later() -> Result<()> {
    let mut world = World::new("blackout-crash").await?;
    let door = Door::new()?;
    world.work(&door.wait(), json!({})).await?;
    world.group(&["a"], json!({ "frequency": "24h" })).await?;
    let pod = world.until_running().await?;
    world.take_operator().kill().await;
    let open = window(-1, 60 + 120, json!({ "running": "Stop" }))?;
    world.windows(json!([open])).await?;
    let stopping = json!({ "status": { "current": { "stopping": {
        "reason": "Blackout", "message": "blackout", "since": Timestamp::now().to_string(),
    } } } });
    world
        .api("OaatGroup")
        .patch_status("group", &PatchParams::default(), &Patch::Merge(&stopping))
        .await?;
    world.start_operator().await?;
    let group = world
        .until("the run is stopped", |g| !history(g).is_empty())
        .await?;
    ensure!(history(&group)[0]["result"] == "Stopped", "{group:#}");
    ensure!(history(&group)[0]["pod"] == pod.name_any(), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn what_runs_goes_on_where_a_window_says_nothing_else() -> Result<()> {
    let world = World::new("blackout-continue").await?;
    let door = Door::new()?;
    world.work(&door.wait(), json!({})).await?;
    world.group(&["a", "b"], json!({})).await?;
    let pod = world.until_running().await?;
    let open = window(-1, 60 + 3600, json!({}))?;
    world.windows(json!([open])).await?;
    world
        .until("it says what comes after the run", |g| {
            state(g) == "Running" && message(g).contains("after that: blackout until")
        })
        .await?;
    world.ask(r#"{"token": "1", "items": "*"}"#).await?;
    door.open()?;
    let group = world
        .until("the run is recorded", |g| !history(g).is_empty())
        .await?;
    ensure!(history(&group)[0]["result"] == "Succeeded", "{group:#}");
    ensure!(state(&group) == "Blackout", "{group:#}");
    // Nor does who asks for items get them now.
    world.look().await?;
    let pods = world.list_pods().await?;
    ensure!(pods.len() == 1, "beside {}", pod.name_any());
    world.windows(Value::Null).await?;
    world
        .until("the other one runs", |g| {
            item(g, "b")["lastSuccess"].is_string()
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn an_item_without_time_enough_waits_for_the_windows_end() -> Result<()> {
    let world = World::new("blackout-fits").await?;
    // The slow one takes two seconds.
    world
        .work("[ $OAAT_ITEM = quick ] || sleep 2", json!({}))
        .await?;
    world
        .group(&["slow", "quick"], json!({ "frequency": "1s" }))
        .await?;
    world
        .until("both have run", |g| {
            ["slow", "quick"]
                .iter()
                .all(|name| item(g, name)["runs"].as_i64() > Some(0))
        })
        .await?;
    // Nothing that takes more than a moment fits before a window that opens in this very minute or
    // the next.
    let opens = if second() > 55 { 2 } else { 1 };
    let next = window(opens, 3600, json!({ "startIfFits": true }))?;
    // As if the slow one had always taken long.
    let group = world.read("group").await?;
    let mut runs = history(&group);
    for run in runs.iter_mut().filter(|run| run["item"] == "slow") {
        run["started"] = json!("2020-01-01T00:00:00Z");
    }
    let patch = json!({ "status": { "history": runs } });
    let group = serde_json::to_value(
        world
            .api("OaatGroup")
            .patch_status("group", &PatchParams::default(), &Patch::Merge(&patch))
            .await?,
    )?;
    ensure!(group["metadata"]["name"] == "group");
    world.windows(json!([next])).await?;
    let group = world
        .until("the slow one is held", |g| {
            let slow = item(g, "slow");
            slow["message"]
                .as_str()
                .is_some_and(|m| m.contains("would not finish before a blackout"))
        })
        .await?;
    ensure!(item(&group, "slow")["state"] == "Held", "{group:#}");
    let before = item(&group, "quick")["runs"].as_i64().context("no runs")?;
    world
        .until("the quick one runs on", |g| {
            item(g, "quick")["runs"].as_i64() > Some(before)
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn the_example_with_windows_runs_between_them() -> Result<()> {
    let world = World::new("windows-example").await?;
    let example = include_str!("../../../manifests/examples/windows.yaml");
    world.apply(example).await?;
    let group = world
        .until_object("OaatGroup", "copies", "it is understood", |g| {
            ["Idle", "Blackout"].contains(&state(g))
        })
        .await?;
    ensure!(condition(&group, "Ready").1 != "SpecInvalid", "{group:#}");
    // Whatever the day: without its windows it runs to its end.
    let patch = json!({ "spec": { "blackoutWindows": null } });
    world
        .api("OaatGroup")
        .patch("copies", &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    world
        .until_object("OaatGroup", "copies", "all have run", |g| {
            state(g) == "Idle"
        })
        .await?;
    Ok(())
}
