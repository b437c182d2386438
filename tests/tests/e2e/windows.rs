//! Blackout windows: nothing starts in one, one may end the current run, and at the end of one,
//! waiting items start.

use crate::bad_input::message;
use crate::fixture::{Fixture, condition, item, millis};
use crate::helpers::{Barrier, ensure_apart, history, state};
use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// Returns a window that opens in `minutes` minutes and lasts `seconds` seconds.
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

/// Returns the seconds of the current minute.
fn second() -> i64 {
    Timestamp::now().as_second().rem_euclid(60)
}

impl Fixture {
    async fn windows(&self, windows: Value) -> Result<()> {
        self.change(json!({ "spec": { "blackoutWindows": windows } }))
            .await
    }
}

#[tokio::test]
async fn blackout_starts_nothing_until_its_end() -> Result<()> {
    let fixture = Fixture::new("blackout").await?;
    fixture.work("true", json!({})).await?;
    // Open since the previous minute, and for some more seconds.
    let lasts = 60 + second() + 20;
    let open = window(-1, lasts, json!({}))?;
    fixture
        .group(&["a"], json!({ "blackoutWindows": [open] }))
        .await?;
    let group = fixture
        .until("the blackout is in effect", |g| state(g) == "Blackout")
        .await?;
    ensure!(message(&group).starts_with("blackout until "), "{group:#}");
    ensure!(message(&group).contains("window test"), "{group:#}");
    ensure!(condition(&group, "Ready").1 == "Blackout", "{group:#}");
    let until = millis(&group["status"]["next"]);
    ensure!(
        until > millis(&group["status"]["conditions"][0]["lastTransitionTime"]),
        "{group:#}"
    );
    ensure!(history(&group).is_empty() && fixture.list_pods().await?.is_empty());

    let group = fixture.until_recorded("a").await?;
    let started = millis(&history(&group)[0]["started"]);
    ensure!(started >= until, "{started} is before {until}: {group:#}");
    Ok(())
}

#[tokio::test]
async fn stopping_window_ends_the_run_as_neither_success_nor_failure() -> Result<()> {
    let fixture = Fixture::new("blackout-stop").await?;
    let barrier = Barrier::new()?;
    fixture.work(&barrier.wait(), json!({})).await?;
    fixture.group(&["a"], json!({ "frequency": "24h" })).await?;
    let pod = fixture.until_running().await?.name_any();
    let open = window(-1, 60 + second() + 25, json!({ "running": "Stop" }))?;
    fixture.windows(json!([open])).await?;
    let group = fixture
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
    fixture.until_event("group", "Stopped").await?;
    ensure!(state(&group) == "Blackout", "{group:#}");

    // It may start as soon as the window has closed.
    barrier.release()?;
    let group = fixture
        .until("the item runs again and succeeds", |g| {
            item(g, "a")["lastSuccess"].is_string()
        })
        .await?;
    ensure!(history(&group).len() == 2, "{group:#}");
    ensure_apart(&fixture.node.runs())
}

/// The operator may crash between a write and the action that it announces.
#[tokio::test]
async fn announced_stop_is_completed_after_a_crash() -> Result<()> {
    let mut fixture = Fixture::new("blackout-crash").await?;
    let barrier = Barrier::new()?;
    fixture.work(&barrier.wait(), json!({})).await?;
    fixture.group(&["a"], json!({ "frequency": "24h" })).await?;
    let pod = fixture.until_running().await?;
    fixture.take_operator().kill().await;
    let open = window(-1, 60 + 3600, json!({ "running": "Stop" }))?;
    fixture.windows(json!([open])).await?;
    let stopping = json!({ "status": { "current": { "stopping": {
        "reason": "Blackout", "message": "blackout", "since": Timestamp::now().to_string(),
    } } } });
    fixture
        .api("OaatGroup")
        .patch_status("group", &PatchParams::default(), &Patch::Merge(&stopping))
        .await?;
    fixture.start_operator().await?;
    let group = fixture
        .until("the run is stopped", |g| !history(g).is_empty())
        .await?;
    ensure!(history(&group)[0]["result"] == "Stopped", "{group:#}");
    ensure!(history(&group)[0]["pod"] == pod.name_any(), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn current_run_continues_in_a_window_by_default() -> Result<()> {
    let fixture = Fixture::new("blackout-continue").await?;
    let barrier = Barrier::new()?;
    fixture.work(&barrier.wait(), json!({})).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    let pod = fixture.until_running().await?;
    let open = window(-1, 60 + 3600, json!({}))?;
    fixture.windows(json!([open])).await?;
    fixture
        .until("the message shows what happens after the run", |g| {
            state(g) == "Running" && message(g).contains("next: blackout until")
        })
        .await?;
    fixture.ask(r#"{"token": "1", "items": "*"}"#).await?;
    barrier.release()?;
    let group = fixture
        .until("the run is recorded", |g| !history(g).is_empty())
        .await?;
    ensure!(history(&group)[0]["result"] == "Succeeded", "{group:#}");
    ensure!(state(&group) == "Blackout", "{group:#}");
    // A request to run items now does not start them either.
    fixture.look().await?;
    let pods = fixture.list_pods().await?;
    ensure!(pods.len() == 1, "beside {}", pod.name_any());
    fixture.windows(Value::Null).await?;
    fixture
        .until("the other item runs", |g| {
            item(g, "b")["lastSuccess"].is_string()
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn item_too_long_for_the_remaining_time_waits_for_the_end_of_the_window() -> Result<()> {
    let fixture = Fixture::new("blackout-fits").await?;
    fixture.work("true", json!({})).await?;
    fixture
        .group(&["slow", "quick"], json!({ "frequency": "1s" }))
        .await?;
    fixture
        .until("both have run", |g| {
            ["slow", "quick"]
                .iter()
                .all(|name| item(g, name)["runs"].as_i64() > Some(0))
        })
        .await?;
    // Far enough away that it does not open during the test.
    let next = window(10, 3600, json!({ "startIfFits": true }))?;
    // The last successful run of the slow item took a day.
    let patch = json!({ "status": { "items": { "slow": { "durations": [86_400] } } } });
    fixture
        .api("OaatGroup")
        .patch_status("group", &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    fixture.windows(json!([next])).await?;
    let group = fixture
        .until("the slow item is held", |g| {
            let slow = item(g, "slow");
            slow["message"]
                .as_str()
                .is_some_and(|m| m.contains("would not finish before a blackout"))
        })
        .await?;
    ensure!(item(&group, "slow")["state"] == "Held", "{group:#}");
    let before = item(&group, "quick")["runs"].as_i64().context("no runs")?;
    fixture
        .until("the quick item continues to run", |g| {
            item(g, "quick")["runs"].as_i64() > Some(before)
        })
        .await?;
    Ok(())
}
