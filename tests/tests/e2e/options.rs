//! Schedules, types of individual items, options for unknown items, and how long an item takes.

use crate::bad_input::message;
use crate::fixture::{Fixture, condition, item, millis};
use crate::helpers::{Barrier, history, state, text};
use anyhow::{Result, ensure};
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

#[tokio::test]
async fn scheduled_item_is_due_at_each_time_of_its_schedule() -> Result<()> {
    let fixture = Fixture::new("schedule").await?;
    fixture.work("true", json!({})).await?;
    // The other schedule does not match for at least three months.
    let month = Timestamp::now().to_zoned(TimeZone::UTC).month();
    let (cron, later) = if (4..10).contains(&month) {
        ("0 0 1 1 *", "-12-31T23:00:00Z")
    } else {
        ("0 0 1 7 *", "-06-30T22:00:00Z")
    };
    let yearly = json!({ "cron": cron, "timeZone": "Europe/Berlin" });
    let options = json!({ "b": { "schedule": yearly } });
    fixture
        .group(
            &["a", "b"],
            json!({ "schedule": { "cron": "* * * * *" }, "itemOptions": options }),
        )
        .await?;
    // Both are due at once, because they have never succeeded.
    let runs = |group: &Value, name: &str| item(group, name)["runs"].as_i64().unwrap_or(0);
    let group = fixture
        .until("both have run", |g| {
            state(g) == "Idle" && runs(g, "a") > 0 && runs(g, "b") > 0
        })
        .await?;
    let before = runs(&group, "a");
    let last = millis(&item(&group, "a")["lastSuccess"]);
    let next = millis(&item(&group, "a")["next"]);
    ensure!(next % 60_000 == 0 && next > last, "{group:#}");
    ensure!(next - last <= 60_000, "{group:#}");
    ensure!(millis(&group["status"]["next"]) == next, "{group:#}");
    let group = fixture
        .until("a runs at the next minute", |g| runs(g, "a") > before)
        .await?;
    let started = millis(&item(&group, "a")["lastStarted"]);
    ensure!(started >= next, "{group:#}");
    ensure!(runs(&group, "b") == 1, "{group:#}");
    let next = text(&item(&group, "b")["next"]);
    ensure!(next.ends_with(later), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn invalid_schedules_are_rejected_at_admission_or_in_the_status() -> Result<()> {
    let fixture = Fixture::new("schedule-bad").await?;
    fixture.work("true", json!({})).await?;
    let both = json!({ "frequency": "1h", "schedule": { "cron": "0 2 * * *" } });
    for (spec, words) in [
        (both, "frequency and schedule are mutually exclusive"),
        (
            json!({ "schedule": { "cron": "daily" } }),
            "five fields of cron",
        ),
        (
            json!({ "schedule": { "cron": "0 2 * * *", "timeZone": "Mars Time" } }),
            "IANA name",
        ),
        (json!({ "maxFailures": 0 }), "maxFailures"),
    ] {
        let error = fixture.group(&["a"], spec).await;
        let error = error.err().map(|e| format!("{e:#}")).unwrap_or_default();
        ensure!(error.contains(words), "{words}: {error}");
    }
    fixture
        .group(&["a"], json!({ "schedule": { "cron": "0 25 * * *" } }))
        .await?;
    let group = fixture
        .until("the problem is shown", |g| state(g) == "Invalid")
        .await?;
    ensure!(
        message(&group).contains("spec.schedule.cron: \"0 25 * * *\""),
        "{group:#}"
    );
    ensure!(condition(&group, "Stalled").1 == "SpecInvalid", "{group:#}");
    Ok(())
}

#[tokio::test]
async fn item_uses_its_own_type_and_a_missing_type_holds_only_its_items() -> Result<()> {
    let fixture = Fixture::new("item-types").await?;
    fixture.work("true", json!({})).await?;
    let options = json!({ "b": { "oaatType": "other" } });
    fixture
        .group(&["a", "b"], json!({ "itemOptions": options }))
        .await?;
    let group = fixture
        .until("a has run", |g| {
            item(g, "a")["lastSuccess"].is_string() && state(g) == "Waiting"
        })
        .await?;
    ensure!(item(&group, "b")["state"] == "Held", "{group:#}");
    let why = text(&item(&group, "b")["message"]);
    ensure!(why.contains("OaatType \"other\" does not exist"), "{why}");
    ensure!(
        message(&group).contains("1 held because of their OaatType"),
        "{group:#}"
    );

    let other = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatType", "metadata": { "name": "other" },
        "spec": { "type": "pod", "podspec": { "container": {
            "name": "main", "image": "any", "command": ["sh", "-c", "echo other >&2; exit 9"],
        } } },
    });
    fixture.apply(&other.to_string()).await?;
    let group = fixture.until_recorded("b").await?;
    let run = history(&group)[0].clone();
    ensure!(run["item"] == "b" && run["exitCode"] == 9, "{run:#}");
    Ok(())
}

#[tokio::test]
async fn options_for_unknown_items_are_reported() -> Result<()> {
    let fixture = Fixture::new("unknown-options").await?;
    fixture.work("true", json!({})).await?;
    // YAML turns an unquoted `y` into true.
    let options = json!({ "a": { "suspend": true }, "true": { "suspend": true } });
    fixture
        .group(&["a", "y"], json!({ "itemOptions": options }))
        .await?;
    let group = fixture.until_recorded("y").await?;
    let (status, reason, words) = condition(&group, "UnknownItemOptions");
    ensure!(status == "True" && reason == "NoSuchItem", "{group:#}");
    ensure!(words.contains("not items: true;"), "{words}");
    let note = fixture.until_event("group", "UnknownItemOptions").await?;
    ensure!(note.contains("not items: true;"), "{note}");
    fixture
        .change(json!({ "spec": { "itemOptions": { "true": null } } }))
        .await?;
    fixture
        .until("the condition is gone", |g| {
            condition(g, "UnknownItemOptions").0.is_empty()
        })
        .await?;
    Ok(())
}

/// Whether a run fits before a window depends on the last runs of its item, however many items the
/// group has.
#[tokio::test]
async fn long_item_among_many_is_held_before_a_blackout() -> Result<()> {
    let mut fixture = Fixture::without_operator("fits-many").await?;
    fixture.work("true", json!({})).await?;
    let names: Vec<_> = (0..40).map(|n| format!("i{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let opens = Timestamp::now().checked_add(SignedDuration::from_mins(40))?;
    let schedule = opens.strftime("%M %H * * *").to_string();
    let window = json!({ "schedule": schedule, "duration": "1h", "startIfFits": true });
    fixture
        .group(&names, json!({ "blackoutWindows": [window] }))
        .await?;
    let hour = json!({ "item": "i7", "durations": [1, 3600] });
    fixture
        .write_status(json!({ "items": { "i7": hour } }))
        .await?;
    fixture.start_operator().await?;
    let group = fixture
        .until("all other items have run", |g| {
            state(g) == "Waiting" && message(g).contains("39 of 40 succeeded")
        })
        .await?;
    let held = item(&group, "i7");
    ensure!(held["state"] == "Held", "{held:#}");
    ensure!(
        text(&held["message"]).contains("would not finish"),
        "{held:#}"
    );
    Ok(())
}

/// The log of a failure stays readable although many other runs have ended since.
#[tokio::test]
async fn latest_failed_pod_of_an_item_outlives_the_history_limit() -> Result<()> {
    let fixture = Fixture::new("keep-failed").await?;
    let barrier = Barrier::new()?;
    let script = format!("[ \"$OAAT_ITEM\" != a ] || {}", barrier.is_open());
    fixture.work(&script, json!({})).await?;
    let options = json!({ "a": { "failureCoolOff": "1h" } });
    fixture
        .group(
            &["a", "b", "c", "d"],
            json!({ "podHistoryLimit": 1, "itemOptions": options }),
        )
        .await?;
    let group = fixture
        .until("all have run", |g| {
            ["b", "c", "d"]
                .iter()
                .all(|i| item(g, i)["lastSuccess"].is_string())
                && item(g, "a")["failures"] == 1
                && g["status"]["current"].is_null()
        })
        .await?;
    let runs = history(&group);
    let failed = runs.iter().find(|run| run["item"] == "a");
    let failed = failed.map(|run| text(&run["pod"])).unwrap_or_default();
    fixture.look().await?;
    fixture.pods().get(&failed).await?;
    barrier.release()?;
    fixture
        .change(json!({ "spec": { "podHistoryLimit": 1 } }))
        .await?;
    fixture.ask(r#"{"token": "1", "items": ["a"]}"#).await?;
    fixture.until_pod_gone(&failed).await
}

#[tokio::test]
async fn example_with_schedules_and_limits_runs_to_its_end() -> Result<()> {
    let fixture = Fixture::new("nightly-example").await?;
    let example = include_str!("../../../manifests/examples/nightly.yaml");
    fixture.apply(example).await?;
    let group = fixture
        .until_object(
            "OaatGroup",
            "nightly",
            "only the broken item is left",
            |g| state(g) == "Idle" && item(g, "broken")["state"] == "GivenUp",
        )
        .await?;
    for name in ["accounts", "weekly-archive"] {
        ensure!(item(&group, name)["state"] == "Fresh", "{name}: {group:#}");
    }
    ensure!(item(&group, "broken")["runs"] == 2, "{group:#}");
    // Half past two and five o'clock in Berlin, in summer or winter.
    let next = |name: &str| text(&item(&group, name)["next"]);
    let at = |name: &str, hours: [&str; 2]| {
        hours
            .iter()
            .any(|hour| next(name).contains(&format!("T{hour}:")))
    };
    ensure!(at("accounts", ["00", "01"]), "{group:#}");
    ensure!(at("weekly-archive", ["03", "04"]), "{group:#}");
    for pod in fixture.list_pods().await? {
        let spec = pod.spec.unwrap_or_default();
        let is_archive = spec.containers.iter().any(|c| c.name == "archive");
        let limit = if is_archive { 14_400 } else { 3_600 };
        let limit_is_set = spec.active_deadline_seconds.is_some_and(|s| s >= limit);
        ensure!(limit_is_set, "{:?}", spec.active_deadline_seconds);
    }
    Ok(())
}
