//! Which item runs next, and when: the default policy and the operator's retry floor,
//! as they show on the objects. The algorithm by itself is tested beside it.

use crate::world::{World, item, millis};
use anyhow::Result;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Some minutes before now, as a status has it.
fn ago(minutes: i64) -> String {
    (Timestamp::now() - SignedDuration::from_mins(minutes)).to_string()
}

/// A group whose items have a past: `items` is what the status says of each of them.
/// The operator starts after that.
async fn past(name: &str, script: &str, spec: Value, items: Value) -> Result<World> {
    with_past(World::without_operator(name).await?, script, spec, items).await
}

async fn with_past(mut world: World, script: &str, spec: Value, items: Value) -> Result<World> {
    let names: Vec<&str> = items.as_object().into_iter().flatten().map(key).collect();
    world.work(script, json!({})).await?;
    world.group(&names, spec).await?;
    let status = Patch::Merge(json!({ "status": { "items": items } }));
    world
        .api("OaatGroup")
        .patch_status("group", &PatchParams::default(), &status)
        .await?;
    world.start_operator().await?;
    Ok(world)
}

fn key<'a>((key, _): (&'a String, &Value)) -> &'a str {
    key
}

/// The items of the recorded runs, the first run first.
fn order(group: &Value) -> Vec<&str> {
    let history = group["status"]["history"].as_array();
    let runs = history.into_iter().flatten().rev();
    runs.filter_map(|run| run["item"].as_str()).collect()
}

/// The time in the column Next.
fn shown(group: &Value) -> i64 {
    millis(&group["status"]["next"])
}

/// A time as people read it, which is never too early.
fn whole_seconds(millis: i64) -> i64 {
    (millis + 999) / 1000 * 1000
}

fn runs(group: &Value, name: &str) -> i64 {
    item(group, name)["runs"].as_i64().unwrap_or(0)
}

/// When an item was started, each time until it was `count` times.
async fn starts(world: &World, name: &str, count: usize) -> Result<Vec<i64>> {
    let seen = Mutex::new(BTreeSet::new());
    world
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
async fn an_item_that_never_ran_is_started_and_the_status_says_why() -> Result<()> {
    let world = World::new("sel-never-ran").await?;
    world.work("true", json!({})).await?;
    world.group(&["a"], json!({})).await?;
    let group = world.until("it succeeds", |g| runs(g, "a") == 1).await?;
    let decision = &group["status"]["lastDecision"];
    assert_eq!(decision["item"], "a");
    assert_eq!(decision["why"], "the only item that is due");
    assert_eq!(group["status"]["policy"]["source"], "default");
    Ok(())
}

#[tokio::test]
async fn an_item_runs_again_once_its_frequency_has_passed_and_not_before() -> Result<()> {
    let world = World::new("sel-frequency").await?;
    world.work("true", json!({})).await?;
    world.group(&["a"], json!({"frequency": "3s"})).await?;
    let first = world.until("a has run once", |g| runs(g, "a") == 1).await?;
    let due = millis(&item(&first, "a")["lastSuccess"]) + 3000;

    let again = world
        .until("it is started again", |g| g["status"]["run"] == 2)
        .await?;
    assert!(
        millis(&item(&again, "a")["lastStarted"]) >= due,
        "{again:#}"
    );
    Ok(())
}

#[tokio::test]
async fn a_group_with_nothing_due_says_until_when_and_then_goes_on_by_itself() -> Result<()> {
    let world = World::new("sel-idle").await?;
    world.work("true", json!({})).await?;
    world.group(&["a", "b"], json!({"frequency": "4s"})).await?;
    let idle = world
        .until("both are done", |g| {
            runs(g, "a") == 1 && runs(g, "b") == 1 && g["status"]["state"] == "Idle"
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

    let again = world
        .until("the next one starts", |g| g["status"]["run"] == 3)
        .await?;
    assert!(millis(&again["status"]["lastDecision"]["time"]) >= due);
    assert_eq!(again["metadata"]["generation"], 1, "nobody touched it");
    Ok(())
}

#[tokio::test]
async fn without_a_cool_off_a_failed_item_is_started_again_after_the_retry_floor() -> Result<()> {
    let mut world = World::without_operator("sel-floor").await?;
    world.options.retry_floor = "2s".into();
    world.start_operator().await?;
    world.work("exit 1", json!({})).await?;
    world.group(&["a"], json!({})).await?;
    let held = world
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

    let starts = starts(&world, "a", 3).await?;
    assert!(starts.windows(2).all(|s| s[1] - s[0] >= 2000), "{starts:?}");
    Ok(())
}

#[tokio::test]
async fn a_failed_item_rests_for_its_cool_off_and_says_why_and_until_when() -> Result<()> {
    let world = World::new("sel-cool-off").await?;
    world.work("exit 3", json!({})).await?;
    world
        .group(&["a"], json!({"failureCoolOff": "5m", "frequency": "10m"}))
        .await?;
    let group = world
        .until("a rests", |g| item(g, "a")["state"] == "Cooling")
        .await?;
    let until = millis(&item(&group, "a")["lastFailure"]) + 5 * 60_000;
    assert_eq!(millis(&item(&group, "a")["next"]), until);
    assert_eq!(shown(&group), whole_seconds(until));
    assert_eq!(group["status"]["state"], "Waiting");
    assert_eq!(group["status"]["message"], "1 of 1 cooling off after a failure");

    let described = world.kubectl(&["describe", "og", "group"]).await?;
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
async fn an_item_that_failed_a_minute_ago_is_not_started_within_a_cool_off_of_five() -> Result<()> {
    let world = past(
        "sel-cooling",
        "true",
        json!({"failureCoolOff": "5m", "frequency": "10m"}),
        json!({"a": {"lastFailure": ago(1), "failures": 1}}),
    )
    .await?;
    let group = world
        .until("it rests", |g| item(g, "a")["state"] == "Cooling")
        .await?;
    assert!(group["status"]["run"].is_null(), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn an_item_whose_cool_off_has_passed_is_started_though_its_frequency_is_longer() -> Result<()>
{
    let world = past(
        "sel-cooled",
        "true",
        json!({"failureCoolOff": "1m", "frequency": "10m"}),
        json!({"a": {"lastFailure": ago(5), "failures": 1}}),
    )
    .await?;
    world.until("it succeeds", |g| runs(g, "a") == 1).await?;
    Ok(())
}

#[tokio::test]
async fn a_cool_off_holds_also_where_the_frequency_has_passed() -> Result<()> {
    let world = past(
        "sel-both",
        "true",
        json!({"failureCoolOff": "10m", "frequency": "1m"}),
        json!({"a": {"lastSuccess": ago(20), "lastFailure": ago(5), "failures": 1}}),
    )
    .await?;
    let group = world
        .until("it rests", |g| item(g, "a")["state"] == "Cooling")
        .await?;
    let until = millis(&item(&group, "a")["lastFailure"]) + 10 * 60_000;
    assert_eq!(millis(&item(&group, "a")["next"]), until);
    assert!(group["status"]["run"].is_null(), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn an_item_that_rests_although_it_succeeded_since_has_a_whole_sentence() -> Result<()> {
    let world = past(
        "sel-sentence",
        "true",
        json!({"failureCoolOff": "1h", "frequency": "1m"}),
        json!({"a": {"lastFailure": ago(20), "lastSuccess": ago(10), "failures": 0}}),
    )
    .await?;
    let group = world
        .until("it rests", |g| item(g, "a")["state"] == "Cooling")
        .await?;
    let message = item(&group, "a")["message"].as_str().unwrap_or_default();
    assert!(message.starts_with(char::is_alphabetic), "{message:?}");
    assert!(message.contains("cooling off until"), "{message:?}");
    Ok(())
}

#[tokio::test]
async fn due_items_run_in_the_order_of_their_last_success() -> Result<()> {
    let world = past(
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
    let group = world
        .until("all have run", |g| g["status"]["state"] == "Idle")
        .await?;
    assert_eq!(order(&group), ["b", "c", "a"]);
    Ok(())
}

#[tokio::test]
async fn items_of_equal_success_run_in_the_order_of_their_last_failure() -> Result<()> {
    let success = ago(300);
    let world = past(
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
    let group = world
        .until("all have run", |g| g["status"]["state"] == "Idle")
        .await?;
    assert_eq!(order(&group), ["b", "c", "a"]);
    Ok(())
}

#[tokio::test]
async fn every_item_that_never_ran_goes_before_the_second_run_of_one_that_fails() -> Result<()> {
    let mut world = World::without_operator("sel-fails").await?;
    // So short that it is not what keeps the failing one.
    world.options.retry_floor = "1ms".into();
    world.start_operator().await?;
    world.work("[ $OAAT_ITEM != bad ]", json!({})).await?;
    world.group(&["bad", "x", "y", "z"], json!({})).await?;
    let group = world
        .until("bad has run twice", |g| runs(g, "bad") == 2)
        .await?;
    for good in ["x", "y", "z"] {
        assert_eq!(runs(&group, good), 1, "{good} in {:?}", order(&group));
    }
    Ok(())
}

#[tokio::test]
async fn an_item_that_never_succeeds_goes_before_due_ones_and_the_way_out_is_told() -> Result<()> {
    let mut world = World::without_operator("sel-overtakes").await?;
    world.options.retry_floor = "1ms".into();
    let world = with_past(
        world,
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
            && text.contains("now 2")
            && text.contains("failureCoolOff")
    };
    let group = world
        .until("bad has run three times and its message tells", |g| {
            runs(g, "bad") >= 3 && hint(g["status"]["message"].as_str().unwrap_or_default())
        })
        .await?;
    assert_eq!((runs(&group, "x"), runs(&group, "y")), (0, 0), "{group:#}");
    let note = world.until_event("group", "OthersWait").await?;
    assert!(hint(&note), "{note}");

    // With the cool-off that the hint names the others run.
    world
        .group(
            &["bad", "x", "y"],
            json!({"frequency": "1h", "failureCoolOff": "1h"}),
        )
        .await?;
    let group = world
        .until("the others run", |g| runs(g, "x") == 1 && runs(g, "y") == 1)
        .await?;
    assert_eq!(group["metadata"]["generation"], 2);
    Ok(())
}

#[tokio::test]
async fn the_retry_floor_holds_through_a_change_of_the_group_and_a_restart() -> Result<()> {
    let mut world = World::without_operator("sel-held").await?;
    world.options.retry_floor = "1h".into();
    world.start_operator().await?;
    world.work("false", json!({})).await?;
    world.group(&["a"], json!({})).await?;
    world
        .until("a is held", |g| item(g, "a")["state"] == "Held")
        .await?;

    world.group(&["a"], json!({"frequency": "1s"})).await?;
    world
        .until("the change is seen", |g| {
            g["status"]["observedGeneration"] == 2
        })
        .await?;
    world.take_operator().kill().await;
    world.group(&["a"], json!({"frequency": "2s"})).await?;
    world.start_operator().await?;
    let group = world
        .until("the restarted one sees the next change", |g| {
            g["status"]["observedGeneration"] == 3 && item(g, "a")["state"] == "Held"
        })
        .await?;
    assert_eq!(group["status"]["run"], 1, "{group:#}");
    Ok(())
}

#[tokio::test]
async fn the_retry_floor_does_not_hold_an_item_that_succeeded_and_is_due_sooner() -> Result<()> {
    let mut world = World::without_operator("sel-not-held").await?;
    world.options.retry_floor = "1h".into();
    world.start_operator().await?;
    world.work("true", json!({})).await?;
    world.group(&["a"], json!({"frequency": "1s"})).await?;
    world.until("it runs on", |g| runs(g, "a") >= 3).await?;
    Ok(())
}
