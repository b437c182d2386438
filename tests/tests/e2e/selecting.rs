//! Which item runs next, and when: the built-in policy and the operator's retry floor, as the
//! objects show them. The algorithm itself has unit tests.

use crate::fixture::{Fixture, item, millis};
use anyhow::Result;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Returns a time before now, as in a status.
fn ago(minutes: i64) -> String {
    (Timestamp::now() - SignedDuration::from_mins(minutes)).to_string()
}

/// Creates a group whose items have a history: `items` is the status of each of them. The operator
/// starts after that.
async fn past(name: &str, script: &str, spec: Value, items: Value) -> Result<Fixture> {
    with_past(Fixture::without_operator(name).await?, script, spec, items).await
}

async fn with_past(
    mut fixture: Fixture,
    script: &str,
    spec: Value,
    items: Value,
) -> Result<Fixture> {
    let names: Vec<&str> = items.as_object().into_iter().flatten().map(key).collect();
    fixture.work(script, json!({})).await?;
    fixture.group(&names, spec).await?;
    let status = Patch::Merge(json!({ "status": { "items": items } }));
    fixture
        .api("OaatGroup")
        .patch_status("group", &PatchParams::default(), &status)
        .await?;
    fixture.start_operator().await?;
    Ok(fixture)
}

fn key<'a>((key, _): (&'a String, &Value)) -> &'a str {
    key
}

/// Returns the items of the recorded runs, first run first.
fn order(group: &Value) -> Vec<&str> {
    let history = group["status"]["history"].as_array();
    let runs = history.into_iter().flatten().rev();
    runs.filter_map(|run| run["item"].as_str()).collect()
}

/// Returns the time in the column Next.
fn shown(group: &Value) -> i64 {
    millis(&group["status"]["next"])
}

/// Rounds a time up to whole seconds, so that it is never too early.
fn whole_seconds(millis: i64) -> i64 {
    (millis + 999) / 1000 * 1000
}

fn runs(group: &Value, name: &str) -> i64 {
    item(group, name)["runs"].as_i64().unwrap_or(0)
}

/// Returns when an item was started, for `count` starts.
async fn starts(fixture: &Fixture, name: &str, count: usize) -> Result<Vec<i64>> {
    let seen = Mutex::new(BTreeSet::new());
    fixture
        .until(&format!("{name} is started {count} times"), |group| {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let started = &item(group, name)["lastStarted"];
            if started.is_string() {
                seen.insert(millis(started));
            }
            seen.len() >= count
        })
        .await?;
    let seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(seen.into_iter().collect())
}

#[tokio::test]
async fn item_that_never_ran_is_started_and_the_status_says_why() -> Result<()> {
    let fixture = Fixture::new("sel-never-ran").await?;
    fixture.work("true", json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    let group = fixture.until("it succeeds", |g| runs(g, "a") == 1).await?;
    let decision = &group["status"]["lastDecision"];
    assert_eq!(decision["item"], "a");
    assert_eq!(decision["why"], "the only item that is due");
    assert_eq!(group["status"]["policy"]["source"], "default");
    Ok(())
}

#[tokio::test]
async fn item_runs_again_once_its_frequency_has_passed_and_not_before() -> Result<()> {
    let fixture = Fixture::new("sel-frequency").await?;
    fixture.work("true", json!({})).await?;
    fixture.group(&["a"], json!({"frequency": "3s"})).await?;
    let first = fixture
        .until("a has run once", |g| runs(g, "a") == 1)
        .await?;
    let due = millis(&item(&first, "a")["lastSuccess"]) + 3000;

    let again = fixture
        .until("it is started again", |g| g["status"]["run"] == 2)
        .await?;
    assert!(
        millis(&item(&again, "a")["lastStarted"]) >= due,
        "{again:#}"
    );
    Ok(())
}

#[tokio::test]
async fn group_with_nothing_due_reports_until_when_and_then_continues() -> Result<()> {
    let fixture = Fixture::new("sel-idle").await?;
    fixture.work("true", json!({})).await?;
    fixture
        .group(&["a", "b"], json!({"frequency": "4s"}))
        .await?;
    let idle = fixture
        .until("both are done", |g| {
            runs(g, "a") >= 1 && runs(g, "b") >= 1 && g["status"]["state"] == "Idle"
        })
        .await?;
    let success = |name: &str| millis(&item(&idle, name)["lastSuccess"]);
    let due = success("a").min(success("b")) + 4000;
    assert_eq!(shown(&idle), whole_seconds(due), "{idle:#}");
    assert_eq!(item(&idle, "a")["state"], "Fresh");
    assert_eq!(
        idle["status"]["message"],
        "2 of 2 succeeded recently enough"
    );

    let again = fixture
        .until("the next run starts", |g| {
            g["status"]["run"].as_i64() > idle["status"]["run"].as_i64()
        })
        .await?;
    assert!(millis(&again["status"]["lastDecision"]["time"]) >= due);
    assert_eq!(
        again["metadata"]["generation"], 1,
        "the spec was not changed"
    );
    Ok(())
}

#[tokio::test]
async fn failed_item_without_a_cool_off_starts_again_after_the_retry_floor() -> Result<()> {
    let mut fixture = Fixture::without_operator("sel-floor").await?;
    fixture.options.retry_floor = "2s".into();
    fixture.start_operator().await?;
    fixture.work("exit 1", json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    let held = fixture
        .until("a is held", |g| item(g, "a")["state"] == "Held")
        .await?;
    let started = millis(&item(&held, "a")["lastStarted"]);
    assert_eq!(millis(&item(&held, "a")["next"]), started + 2000);
    assert_eq!(shown(&held), whole_seconds(started + 2000));
    let message = item(&held, "a")["message"].as_str().unwrap_or_default();
    assert!(message.contains("exited with code 1"), "{message}");
    assert!(
        message.contains("held by the retry floor until"),
        "{message}"
    );

    let starts = starts(&fixture, "a", 3).await?;
    assert!(starts.windows(2).all(|s| s[1] - s[0] >= 2000), "{starts:?}");
    Ok(())
}

#[tokio::test]
async fn failed_item_waits_for_its_cool_off_and_reports_why_and_until_when() -> Result<()> {
    let fixture = Fixture::new("sel-cool-off").await?;
    fixture.work("exit 3", json!({})).await?;
    fixture
        .group(&["a"], json!({"failureCoolOff": "5m", "frequency": "10m"}))
        .await?;
    let group = fixture
        .until("a rests", |g| item(g, "a")["state"] == "Cooling")
        .await?;
    let until = millis(&item(&group, "a")["lastFailure"]) + 5 * 60_000;
    assert_eq!(millis(&item(&group, "a")["next"]), until);
    assert_eq!(shown(&group), whole_seconds(until));
    assert_eq!(group["status"]["state"], "Waiting");
    assert_eq!(
        group["status"]["message"],
        "1 of 1 cooling off after a failure"
    );

    let described = fixture.kubectl(&["describe", "og", "group"]).await?;
    let next = item(&group, "a")["next"].as_str().unwrap_or_default();
    for words in [
        "failed once",
        "exited with code 3",
        &format!("cooling off until {next}"),
    ] {
        assert!(described.contains(words), "{words}: {described}");
    }
    Ok(())
}

#[tokio::test]
async fn item_that_failed_a_minute_ago_is_not_started_within_a_cool_off_of_five() -> Result<()> {
    let fixture = past(
        "sel-cooling",
        "true",
        json!({"failureCoolOff": "5m", "frequency": "10m"}),
        json!({"a": {"lastFailure": ago(1), "failures": 1}}),
    )
    .await?;
    let group = fixture
        .until("it rests", |g| item(g, "a")["state"] == "Cooling")
        .await?;
    assert!(group["status"]["run"].is_null(), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn item_whose_cool_off_has_passed_starts_although_its_frequency_is_longer() -> Result<()> {
    let fixture = past(
        "sel-cooled",
        "true",
        json!({"failureCoolOff": "1m", "frequency": "10m"}),
        json!({"a": {"lastFailure": ago(5), "failures": 1}}),
    )
    .await?;
    fixture.until("it succeeds", |g| runs(g, "a") == 1).await?;
    Ok(())
}

#[tokio::test]
async fn times_in_the_future_are_replaced_and_reported() -> Result<()> {
    let future = "2090-01-01T00:00:00Z";
    let fixture = past(
        "sel-future",
        "true",
        json!({"failureCoolOff": "1s", "frequency": "2s"}),
        json!({
            "a": {"lastSuccess": future, "lastStarted": future, "runs": 0},
            "b": {"lastFailure": future, "failures": 1, "runs": 0},
        }),
    )
    .await?;
    let note = fixture.until_event("group", "ClockSkew").await?;
    assert!(
        note.contains("2090") && note.contains("items a, b"),
        "{note}"
    );
    fixture
        .until("both items run", |g| runs(g, "a") > 0 && runs(g, "b") > 0)
        .await?;
    Ok(())
}

#[tokio::test]
async fn cool_off_applies_after_the_frequency_has_passed() -> Result<()> {
    let fixture = past(
        "sel-both",
        "true",
        json!({"failureCoolOff": "10m", "frequency": "1m"}),
        json!({"a": {"lastSuccess": ago(20), "lastFailure": ago(5), "failures": 1}}),
    )
    .await?;
    let group = fixture
        .until("it rests", |g| item(g, "a")["state"] == "Cooling")
        .await?;
    let until = millis(&item(&group, "a")["lastFailure"]) + 10 * 60_000;
    assert_eq!(millis(&item(&group, "a")["next"]), until);
    assert!(group["status"]["run"].is_null(), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn item_in_cool_off_after_a_success_has_a_full_sentence() -> Result<()> {
    let fixture = past(
        "sel-sentence",
        "true",
        json!({"failureCoolOff": "1h", "frequency": "1m"}),
        json!({"a": {"lastFailure": ago(20), "lastSuccess": ago(10), "failures": 0}}),
    )
    .await?;
    let group = fixture
        .until("it rests", |g| item(g, "a")["state"] == "Cooling")
        .await?;
    let message = item(&group, "a")["message"].as_str().unwrap_or_default();
    assert!(message.starts_with(char::is_alphabetic), "{message:?}");
    assert!(message.contains("cooling off until"), "{message:?}");
    Ok(())
}

#[tokio::test]
async fn due_items_run_in_the_order_of_their_last_success() -> Result<()> {
    let fixture = past(
        "sel-success",
        "true",
        json!({"frequency": "1h"}),
        json!({
            "a": {"lastSuccess": ago(180)},
            "b": {"lastSuccess": ago(300)},
            "c": {"lastSuccess": ago(240)},
        }),
    )
    .await?;
    let group = fixture
        .until("all have run", |g| g["status"]["state"] == "Idle")
        .await?;
    assert_eq!(order(&group), ["b", "c", "a"]);
    Ok(())
}

#[tokio::test]
async fn items_of_equal_success_run_in_the_order_of_their_last_failure() -> Result<()> {
    let success = ago(300);
    let fixture = past(
        "sel-failure",
        "true",
        json!({"frequency": "1h"}),
        json!({
            "a": {"lastSuccess": success, "lastFailure": ago(180)},
            "b": {"lastSuccess": success},
            "c": {"lastSuccess": success, "lastFailure": ago(240)},
        }),
    )
    .await?;
    let group = fixture
        .until("all have run", |g| g["status"]["state"] == "Idle")
        .await?;
    assert_eq!(order(&group), ["b", "c", "a"]);
    Ok(())
}

#[tokio::test]
async fn items_that_never_ran_go_before_the_second_run_of_a_failing_item() -> Result<()> {
    let mut fixture = Fixture::without_operator("sel-fails").await?;
    // Short enough that the cool-off does not hold the failed item.
    fixture.options.retry_floor = "1ms".into();
    fixture.start_operator().await?;
    fixture.work("[ $OAAT_ITEM != bad ]", json!({})).await?;
    fixture.group(&["bad", "x", "y", "z"], json!({})).await?;
    let group = fixture
        .until("bad has run twice", |g| runs(g, "bad") == 2)
        .await?;
    for good in ["x", "y", "z"] {
        assert_eq!(runs(&group, good), 1, "{good} in {:?}", order(&group));
    }
    Ok(())
}

#[tokio::test]
async fn item_that_never_succeeds_goes_before_due_ones_and_a_fix_is_suggested() -> Result<()> {
    let mut fixture = Fixture::without_operator("sel-overtakes").await?;
    fixture.options.retry_floor = "1ms".into();
    let fixture = with_past(
        fixture,
        "[ $OAAT_ITEM != bad ]",
        json!({"frequency": "1h"}),
        json!({
            "bad": {"lastFailure": ago(180), "failures": 3},
            "x": {"lastSuccess": ago(120)},
            "y": {"lastSuccess": ago(120)},
        }),
    )
    .await?;
    let hint = |text: &str| {
        text.contains("bad has never succeeded")
            && text.contains("currently 2")
            && text.contains("failureCoolOff")
    };
    let group = fixture
        .until(
            "bad has run three times, and the message suggests a fix",
            |g| runs(g, "bad") >= 3 && hint(g["status"]["message"].as_str().unwrap_or_default()),
        )
        .await?;
    assert_eq!((runs(&group, "x"), runs(&group, "y")), (0, 0), "{group:#}");
    let note = fixture.until_event("group", "ItemsStarved").await?;
    assert!(hint(&note), "{note}");

    // With the cool-off that the message suggests, the other items run.
    fixture
        .group(
            &["bad", "x", "y"],
            json!({"frequency": "1h", "failureCoolOff": "1h"}),
        )
        .await?;
    let group = fixture
        .until("the others run", |g| runs(g, "x") == 1 && runs(g, "y") == 1)
        .await?;
    assert_eq!(group["metadata"]["generation"], 2);
    Ok(())
}

#[tokio::test]
async fn retry_floor_applies_through_a_change_of_the_group_and_a_restart() -> Result<()> {
    let mut fixture = Fixture::without_operator("sel-held").await?;
    fixture.options.retry_floor = "1h".into();
    fixture.start_operator().await?;
    fixture.work("false", json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    fixture
        .until("a is held", |g| item(g, "a")["state"] == "Held")
        .await?;

    fixture.group(&["a"], json!({"frequency": "1s"})).await?;
    fixture
        .until("the change is processed", |g| {
            g["status"]["observedGeneration"] == 2
        })
        .await?;
    fixture.take_operator().kill().await;
    fixture.group(&["a"], json!({"frequency": "2s"})).await?;
    fixture.start_operator().await?;
    let group = fixture
        .until(
            "the restarted operator has processed the next change",
            |g| g["status"]["observedGeneration"] == 3 && item(g, "a")["state"] == "Held",
        )
        .await?;
    assert_eq!(group["status"]["run"], 1, "{group:#}");
    Ok(())
}

#[tokio::test]
async fn retry_floor_does_not_hold_an_item_that_succeeded_and_is_due_sooner() -> Result<()> {
    let mut fixture = Fixture::without_operator("sel-not-held").await?;
    fixture.options.retry_floor = "1h".into();
    fixture.start_operator().await?;
    fixture.work("true", json!({})).await?;
    fixture.group(&["a"], json!({"frequency": "1s"})).await?;
    fixture
        .until("the neighbor continues to run", |g| runs(g, "a") >= 3)
        .await?;
    Ok(())
}
