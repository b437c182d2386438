//! `kubectl oaat mark`.

use super::oaat_as;
use crate::fixture::{Fixture, PATIENCE, item, millis};
use crate::helpers::{Barrier, state};
use anyhow::{Result, ensure};
use serde_json::{Value, json};

#[tokio::test]
async fn marked_item_is_fresh_and_its_failures_are_reset() -> Result<()> {
    let fixture = Fixture::new("oaat-mark").await?;
    fixture.work("exit 1", json!({})).await?;
    let more = json!({ "frequency": "1d", "maxFailures": 1 });
    fixture.group(&["bad"], more).await?;
    let gave_up = |g: &Value| item(g, "bad")["state"] == "GivenUp";
    let before = fixture.until("the item gives up", gave_up).await?;

    let marked = fixture.oaat(&["mark", "bad", "succeeded", "--at", "2h"]);
    let marked = marked.await?.ok()?;
    ensure!(
        marked.starts_with("bad of oaatgroup.kawaja.net/group marked as succeeded at "),
        "{marked}"
    );
    let is_fresh = |g: &Value| item(g, "bad")["state"] == "Fresh" && state(g) == "Idle";
    let group = fixture.until("the item is fresh", is_fresh).await?;
    let status = item(&group, "bad");
    ensure!(status["failures"].is_null(), "{status:#}");
    assert_eq!(status["runs"], item(&before, "bad")["runs"]);
    assert_eq!(group["status"]["history"], before["status"]["history"]);
    // Due again one day after the marked time.
    let wait = millis(&status["next"]) - millis(&status["lastSuccess"]);
    assert_eq!(wait / 1000, 24 * 3600, "{status:#}");

    let why = fixture.oaat(&["why", "bad"]).await?.ok()?;
    for words in ["rule:    frequency", "its last success was marked", " by "] {
        ensure!(why.contains(words), "{words}: {why}");
    }
    let earlier = ["mark", "bad", "succeeded", "--at", "3h"];
    let error = fixture.oaat(&earlier).await?.error()?;
    ensure!(error.contains("use --force"), "{error}");
    let forced = [&earlier[..], &["--force"]].concat();
    fixture.oaat(&forced).await?.ok()?;
    let future = ["mark", "bad", "succeeded", "--at", "2999-01-01T00:00:00Z"];
    let error = fixture.oaat(&future).await?.error()?;
    ensure!(error.contains("is in the future"), "{error}");

    // The mark ends with the next success of a run.
    fixture.work("true", json!({})).await?;
    fixture.oaat(&["run", "bad", "--wait"]).await?.ok()?;
    let group = fixture.read("group").await?;
    ensure!(item(&group, "bad")["marked"].is_null(), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn mark_ends_the_cool_off() -> Result<()> {
    let fixture = Fixture::new("oaat-mark-cool").await?;
    fixture.work("exit 1", json!({})).await?;
    let more = json!({ "frequency": "1h", "failureCoolOff": "1d" });
    fixture.group(&["bad"], more).await?;
    let cools = |g: &Value| item(g, "bad")["state"] == "Cooling";
    fixture.until("the item cools off", cools).await?;
    let other = ["mark", "bda", "succeeded", "--group", "group"];
    let error = fixture.oaat(&other).await?.error()?;
    assert_eq!(error, "group group has no item bda; did you mean bad?");

    fixture.oaat(&["mark", "bad", "succeeded"]).await?.ok()?;
    let is_fresh = |g: &Value| item(g, "bad")["state"] == "Fresh";
    let group = fixture.until("the item is fresh", is_fresh).await?;
    let status = item(&group, "bad");
    let wait = millis(&status["next"]) - millis(&status["lastSuccess"]);
    assert_eq!(wait / 1000, 3600, "{status:#}");
    assert_eq!(status["runs"], 1, "{status:#}");

    // It is due one hour after a success two hours ago, although it failed less than a day ago.
    fixture.work("true", json!({})).await?;
    fixture.until_type_is_valid("work").await?;
    let earlier = ["mark", "bad", "succeeded", "--at", "2h", "--force"];
    fixture.oaat(&earlier).await?.ok()?;
    let has_run = |g: &Value| item(g, "bad")["runs"] == 2 && is_fresh(g);
    fixture.until("the item has run", has_run).await?;
    Ok(())
}

#[tokio::test]
async fn concurrent_marks_are_all_kept_and_a_running_item_is_refused() -> Result<()> {
    let fixture = Fixture::new("oaat-marks").await?;
    let barrier = Barrier::new()?;
    fixture.work(&barrier.wait(), json!({})).await?;
    let names = ["a", "b", "c", "d", "e"];
    let more = json!({ "frequency": "1d" });
    fixture.group(&names, more).await?;
    fixture.until_running().await?;
    let group = fixture.read("group").await?;
    let running = group["status"]["currentlyRunning"].clone();
    let fixture = &fixture;
    let mark = |name| async move { (name, fixture.oaat(&["mark", name, "succeeded"]).await) };
    // They conflict with each other.
    for (name, output) in futures::future::join_all(names.map(mark)).await {
        if running == name {
            let error = output?.error()?;
            ensure!(
                error.starts_with(&format!("{name} is running; ")),
                "{error}"
            );
        } else {
            output?.ok()?;
        }
    }
    barrier.release()?;
    let group = fixture.until("nothing is due", |g| state(g) == "Idle");
    let group = group.await?;
    for name in names {
        let marked = item(&group, name)["marked"].is_object();
        assert_eq!(marked, running != name, "{name}: {group:#}");
    }
    let runs = group["status"]["history"].as_array().map(Vec::len);
    assert_eq!(runs, Some(1), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn mark_needs_permission_to_patch_the_status() -> Result<()> {
    let fixture = Fixture::new("oaat-mark-rights").await?;
    fixture.work("true", json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    fixture.until_idle().await?;
    let editor = fixture.user("edit").await?;
    let mark = ["mark", "a", "succeeded"];
    let error = oaat_as(&editor, &mark).await?.error()?;
    assert_eq!(
        error,
        "you do not have permission to patch oaatgroups.kawaja.net/status in namespace \
         \"oaat-mark-rights\"; ask a cluster administrator for it"
    );
    let role = ["create", "role", "mark", "--verb=patch"];
    let resource = "--resource=oaatgroups.kawaja.net/status";
    fixture.kubectl(&[&role[..], &[resource]].concat()).await?;
    let account = "--serviceaccount=oaat-mark-rights:user-edit";
    let bind = ["create", "rolebinding", "mark", "--role=mark", account];
    fixture.kubectl(&bind).await?;
    let start = std::time::Instant::now();
    while oaat_as(&editor, &mark).await?.ok().is_err() {
        ensure!(start.elapsed() < PATIENCE, "the permission is not granted");
    }
    let group = fixture.read("group").await?;
    let by = item(&group, "a")["marked"]["by"].to_string();
    ensure!(by.contains("user-edit"), "{group:#}");
    Ok(())
}
