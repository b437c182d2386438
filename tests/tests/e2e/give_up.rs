//! `maxFailures`: items that give up, and what gives them new attempts.

use crate::fixture::{Fixture, condition, item};
use crate::helpers::{Barrier, history, state, text};
use anyhow::{Result, ensure};
use serde_json::{Value, json};

fn gave_up(group: &Value, name: &str, runs: i64) -> bool {
    item(group, name)["state"] == "GivenUp" && item(group, name)["runs"] == runs
}

#[tokio::test]
async fn item_gives_up_until_it_is_requested_or_its_options_or_type_change() -> Result<()> {
    let fixture = Fixture::new("give-up").await?;
    let barrier = Barrier::new()?;
    fixture.work("[ \"$OAAT_ITEM\" = good ]", json!({})).await?;
    fixture
        .group(&["bad", "good"], json!({ "maxFailures": 2 }))
        .await?;
    let group = fixture
        .until("the item gives up", |g| gave_up(g, "bad", 2))
        .await?;
    let message = text(&item(&group, "bad")["message"]);
    ensure!(message.contains("gave up"), "{message}");
    let note = fixture.until_event("group", "GivenUp").await?;
    ensure!(note.contains("bad after 2 failures"), "{note}");
    let group = fixture
        .until("the other item goes on", |g| state(g) == "Idle")
        .await?;
    ensure!(
        text(&group["status"]["message"]).contains("1 gave up"),
        "{group:#}"
    );
    ensure!(condition(&group, "Ready").0 == "True", "{group:#}");

    fixture.ask(r#"{"token": "1", "items": ["bad"]}"#).await?;
    fixture
        .until("a request is one more attempt", |g| gave_up(g, "bad", 3))
        .await?;
    let options = json!({ "bad": { "env": [{ "name": "LEVEL", "value": "1" }] } });
    fixture
        .change(json!({ "spec": { "itemOptions": options } }))
        .await?;
    fixture
        .until("new options give two more attempts", |g| {
            gave_up(g, "bad", 5)
        })
        .await?;
    fixture.work(&barrier.is_open(), json!({})).await?;
    fixture
        .until("another type gives two more attempts", |g| {
            gave_up(g, "bad", 7)
        })
        .await?;
    barrier.release()?;
    fixture.ask(r#"{"token": "2", "items": ["bad"]}"#).await?;
    let group = fixture
        .until("the item succeeds", |g| {
            item(g, "bad")["lastSuccess"].is_string()
        })
        .await?;
    ensure!(item(&group, "bad")["attempts"].is_null(), "{group:#}");
    ensure!(item(&group, "bad")["failures"].is_null(), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn each_once_group_fails_when_nothing_is_left_to_try() -> Result<()> {
    let fixture = Fixture::new("each-once-failed").await?;
    let barrier = Barrier::new()?;
    let script = format!("[ \"$OAAT_ITEM\" = good ] || {}", barrier.is_open());
    fixture.work(&script, json!({})).await?;
    let options = json!({ "bad": { "maxFailures": 1 } });
    fixture
        .group(
            &["bad", "good"],
            json!({ "eachOnce": true, "itemOptions": options }),
        )
        .await?;
    let wait = [
        "wait",
        "--for=condition=Failed",
        "--timeout=300s",
        "oaatgroup/group",
    ];
    fixture.kubectl(&wait).await?;
    let group = fixture.read("group").await?;
    ensure!(state(&group) == "Failed", "{group:#}");
    ensure!(history(&group).len() == 2, "{group:#}");
    for (type_, status) in [
        ("Complete", "False"),
        ("Ready", "False"),
        ("Stalled", "True"),
    ] {
        ensure!(condition(&group, type_).0 == status, "{type_}: {group:#}");
    }
    ensure!(condition(&group, "Failed").1 == "ItemsGivenUp", "{group:#}");

    barrier.release()?;
    fixture.ask(r#"{"token": "1", "items": ["bad"]}"#).await?;
    let group = fixture
        .until("the group is complete", |g| state(g) == "Complete")
        .await?;
    ensure!(condition(&group, "Failed").0 == "False", "{group:#}");
    ensure!(condition(&group, "Ready").1 == "Complete", "{group:#}");
    ensure!(condition(&group, "Stalled").0.is_empty(), "{group:#}");
    Ok(())
}
