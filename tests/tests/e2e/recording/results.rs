//! Runs that end by themselves: exit codes, times, and that each end counts once.

use crate::fixture::{Fixture, item, millis};
use crate::helpers::{Barrier, ended, history, latest, text};
use anyhow::{Context, Result};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;

/// Returns a spec without a retry during the test.
fn once() -> Value {
    json!({ "failureCoolOff": "1h" })
}

#[tokio::test]
async fn exit_0_is_a_success_at_the_time_the_container_ended() -> Result<()> {
    let fixture = Fixture::new("exit-0").await?;
    let barrier = Barrier::new()?;
    // Fails on the first run, before the barrier is released.
    let failed_before = format!(
        "if {}; then exit 0; fi; exit 3",
        barrier
            .wait()
            .replace("while [ !", "[")
            .replace("]; do sleep 0.1; done", "]")
    );
    fixture.work(&failed_before, json!({})).await?;
    fixture
        .group(&["a"], json!({"failureCoolOff": "1s"}))
        .await?;
    fixture
        .until("the first run fails", |g| item(g, "a")["failures"] == 1)
        .await?;
    barrier.release()?;
    let group = fixture
        .until("a later one succeeds", |g| {
            item(g, "a")["lastSuccess"].is_string()
        })
        .await?;
    let a = item(&group, "a");
    for field in ["failures", "lastExitCode", "lastFinished", "message"] {
        assert!(a[field].is_null(), "{field}: {group:#}");
    }
    assert!(a["lastFailure"].is_string(), "{group:#}");
    let pod = fixture.pods().get(&text(&latest(&group)?["pod"])).await?;
    assert_eq!(Some(millis(&a["lastSuccess"])), ended(&pod), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn nonzero_exit_code_is_a_failure_that_names_it() -> Result<()> {
    let fixture = Fixture::new("exit-5").await?;
    fixture.work("exit 5", json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    let group = fixture
        .until("it has failed twice", |g| item(g, "a")["failures"] == 2)
        .await?;
    let a = item(&group, "a");
    assert_eq!(a["lastExitCode"], 5, "{group:#}");
    assert!(a["lastFailure"].is_string(), "{group:#}");
    assert!(a["lastSuccess"].is_null(), "{group:#}");
    assert_eq!(latest(&group)?["result"], "Failed");
    assert!(text(&latest(&group)?["message"]).contains("code 5"));
    let note = fixture.until_event("group", "Failed").await?;
    assert!(
        note.contains("run 1 of a") && note.contains("code 5"),
        "{note}"
    );
    Ok(())
}

#[tokio::test]
async fn failed_run_shows_the_last_lines_of_its_log() -> Result<()> {
    let fixture = Fixture::new("last-lines").await?;
    let script = "seq 1000; echo 'Fatal: cannot open the repository'; exit 10";
    fixture.work(script, json!({})).await?;
    fixture.group(&["a"], once()).await?;
    let group = fixture.until_recorded("a").await?;
    let shown = "999 / 1000 / Fatal: cannot open the repository";
    let message = text(&latest(&group)?["message"]);
    assert!(message.contains("exited with code 10: "), "{message}");
    assert!(message.ends_with(shown) && message.len() < 600, "{message}");
    let of_item = text(&item(&group, "a")["message"]);
    assert!(of_item.contains(shown), "{of_item}");
    let note = fixture.until_event("group", "Failed").await?;
    assert!(note.contains(shown), "{note}");

    // The type may keep the log out of the status.
    let policy = json!({ "podspec": { "container": { "terminationMessagePolicy": "File" } } });
    fixture.work(script, policy).await?;
    fixture.ask(r#"{"token": "1", "items": "*"}"#).await?;
    let group = fixture
        .until("the next run fails", |g| item(g, "a")["failures"] == 2)
        .await?;
    let message = text(&latest(&group)?["message"]);
    assert!(message.ends_with("exited with code 10"), "{message}");
    Ok(())
}

#[tokio::test]
async fn run_that_exceeds_its_timeout_fails() -> Result<()> {
    let fixture = Fixture::new("run-timeout").await?;
    fixture.work("sleep 1000", json!({})).await?;
    let spec = json!({
        "runTimeout": "1s", "failureCoolOff": "1h",
        "itemOptions": { "long": { "runTimeout": "1500ms" } },
    });
    fixture.group(&["a", "long"], spec).await?;
    let group = fixture
        .until("both have failed", |g| history(g).len() == 2)
        .await?;
    for run in history(&group) {
        assert_eq!(run["result"], "Failed", "{run}");
        assert_eq!(run["reason"], "DeadlineExceeded", "{run}");
        let pod = fixture.pods().get(&text(&run["pod"])).await?;
        let deadline = pod.spec.and_then(|spec| spec.active_deadline_seconds);
        let expected = if run["item"] == "long" { 2 } else { 1 };
        assert_eq!(deadline, Some(expected), "{run}");
    }
    Ok(())
}

#[tokio::test]
async fn failed_container_of_several_is_named() -> Result<()> {
    let fixture = Fixture::new("one-of-three").await?;
    let container = |name: &str, script: &str| json!({ "name": name, "image": "any", "command": ["sh", "-c", script] });
    let several = json!({ "podspec": { "container": null, "containers": [
        container("first", "true"), container("second", "exit 7"), container("third", "true"),
    ] } });
    fixture.work("", several).await?;
    fixture.group(&["a"], once()).await?;
    let group = fixture.until_recorded("a").await?;
    assert_eq!(item(&group, "a")["failures"], 1, "{group:#}");
    assert_eq!(item(&group, "a")["lastExitCode"], 7, "{group:#}");
    let run = latest(&group)?;
    assert!(text(&run["message"]).contains("container second"), "{run}");
    assert!(text(&item(&group, "a")["message"]).contains("second"));
    Ok(())
}

#[tokio::test]
async fn failed_init_container_is_named() -> Result<()> {
    let fixture = Fixture::new("init-fails").await?;
    let init = json!({ "name": "prepare", "image": "any", "command": ["sh", "-c", "exit 9"] });
    fixture
        .work("true", json!({ "podspec": { "initContainers": [init] } }))
        .await?;
    fixture.group(&["a"], once()).await?;
    let group = fixture.until_recorded("a").await?;
    assert_eq!(item(&group, "a")["failures"], 1, "{group:#}");
    let run = latest(&group)?;
    assert_eq!(run["exitCode"], 9);
    assert!(text(&run["message"]).contains("container prepare"), "{run}");
    Ok(())
}

#[tokio::test]
async fn end_of_a_run_observed_ten_times_counts_once() -> Result<()> {
    let mut fixture = Fixture::new("seen-often").await?;
    fixture.work("exit 5", json!({})).await?;
    fixture.group(&["a"], once()).await?;
    let group = fixture.until_recorded("a").await?;
    let pod = text(&latest(&group)?["pod"]);
    for number in 0..10 {
        let patch = json!({ "metadata": { "annotations": { "touched": number.to_string() } } });
        fixture
            .pods()
            .patch(&pod, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        if number % 4 == 3 {
            fixture.take_operator().kill().await;
            fixture.start_operator().await?;
        }
        fixture.look().await?;
    }
    let group = fixture.look().await?;
    assert_eq!(item(&group, "a")["runs"], 1, "{group:#}");
    assert_eq!(item(&group, "a")["failures"], 1, "{group:#}");
    assert_eq!(group["status"]["history"].as_array().map(Vec::len), Some(1));
    Ok(())
}

#[tokio::test]
async fn run_that_ended_while_the_operator_was_down_is_recorded_with_its_end_time() -> Result<()> {
    let mut fixture = Fixture::new("ended-down").await?;
    let barrier = Barrier::new()?;
    fixture.work(&barrier.wait(), json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    let pod = fixture.until_running().await?.name_any();
    fixture.take_operator().kill().await;
    barrier.release()?;
    let pod = fixture
        .until_pod(&pod, "ends", |pod| ended(pod).is_some())
        .await?;
    // End times have whole seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    fixture.start_operator().await?;
    let group = fixture.until_recorded("a").await?;
    let a = item(&group, "a");
    assert_eq!(Some(millis(&a["lastSuccess"])), ended(&pod), "{group:#}");
    assert_eq!(a["runs"], 1, "{group:#}");
    assert_eq!(fixture.node.runs().len(), 1);
    Ok(())
}

/// Checks that a node whose clock is off by years makes items run neither too often nor never.
async fn clock_off_by(years: i64, namespace: &str) -> Result<()> {
    let fixture = Fixture::new(namespace).await?;
    fixture.node.set_clock_skew(years * 365 * 24 * 3600);
    fixture.work("true", json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    let group = fixture.until_recorded("a").await?;
    let pod = fixture.pods().get(&text(&latest(&group)?["pod"])).await?;
    let created = pod
        .creation_timestamp()
        .context("the pod has no creation time")?;
    let now = k8s_openapi::jiff::Timestamp::now().as_millisecond();
    let success = millis(&item(&group, "a")["lastSuccess"]);
    assert!(
        (created.0.as_millisecond()..=now).contains(&success),
        "{group:#}"
    );
    // Due in an hour, so it waits.
    let group = fixture.look().await?;
    assert_eq!(group["status"]["state"], "Idle", "{group:#}");
    assert_eq!(group["status"]["run"], 1, "{group:#}");
    Ok(())
}

#[tokio::test]
async fn end_time_by_a_clock_years_ahead_is_not_in_the_future() -> Result<()> {
    clock_off_by(10, "clock-ahead").await
}

#[tokio::test]
async fn end_time_by_a_clock_years_behind_is_not_before_the_start() -> Result<()> {
    clock_off_by(-10, "clock-behind").await
}

#[tokio::test]
async fn short_frequency_with_a_clock_years_behind_causes_no_tight_loop() -> Result<()> {
    let fixture = Fixture::new("clock-behind-fast").await?;
    fixture.node.set_clock_skew(-10 * 365 * 24 * 3600);
    fixture.work("true", json!({})).await?;
    fixture.group(&["a"], json!({"frequency": "1s"})).await?;
    let group = fixture
        .until("the item has run four times", |g| history(g).len() >= 4)
        .await?;
    for pair in history(&group).windows(2) {
        let apart = millis(&pair[0]["started"]) - millis(&pair[1]["started"]);
        // The retry floor of these tests is 300 ms.
        assert!(apart >= 300, "{group:#}");
    }
    Ok(())
}
