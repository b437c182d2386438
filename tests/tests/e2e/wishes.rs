//! What people wish beyond items and frequency: suspended groups and items, each item once, items
//! run now, items with options of their own.

use crate::bad_input::message;
use crate::by_hand::{Door, RUN_NOW, ensure_apart, history, state};
use crate::world::{World, condition, item};
use anyhow::{Result, ensure};
use kube::ResourceExt;
use serde_json::{Value, json};

fn runs(group: &Value, name: &str) -> i64 {
    item(group, name)["runs"].as_i64().unwrap_or(0)
}

#[tokio::test]
async fn a_suspended_group_starts_nothing_and_what_runs_is_left_to_run() -> Result<()> {
    let world = World::new("suspend").await?;
    let door = Door::new()?;
    world.work(&door.wait(), json!({})).await?;
    world.group(&["a", "b"], json!({ "suspend": true })).await?;
    let group = world
        .until("it is suspended", |g| state(g) == "Suspended")
        .await?;
    ensure!(message(&group).contains("spec.suspend"), "{group:#}");
    ensure!(condition(&group, "Ready").1 == "Suspended", "{group:#}");

    world
        .change(json!({ "spec": { "suspend": false } }))
        .await?;
    let pod = world.until_running().await?.name_any();
    world.change(json!({ "spec": { "suspend": true } })).await?;
    world
        .until("it says what comes after the run", |g| {
            state(g) == "Running" && message(g).contains("after that: spec.suspend")
        })
        .await?;
    door.open()?;
    let group = world
        .until("the run is recorded", |g| !history(g).is_empty())
        .await?;
    ensure!(history(&group)[0]["result"] == "Succeeded", "{group:#}");
    ensure!(state(&group) == "Suspended", "{group:#}");
    world.look().await?;
    ensure!(world.list_pods().await?.len() == 1, "beside {pod}");

    world.change(json!({ "spec": { "suspend": null } })).await?;
    world.until("both have run", |g| state(g) == "Idle").await?;
    Ok(())
}

/// As groups of the first implementation of these kinds were paused.
#[tokio::test]
async fn the_annotation_pause_new_jobs_suspends_a_group_as_well() -> Result<()> {
    let world = World::without_operator("paused").await?;
    world.work("true", json!({})).await?;
    world.group(&["a"], json!({})).await?;
    let pause =
        |value: Value| json!({ "metadata": { "annotations": { "pause_new_jobs": value } } });
    world.change(pause(json!("yes"))).await?;
    let mut world = world;
    world.start_operator().await?;
    let group = world
        .until("it is suspended", |g| state(g) == "Suspended")
        .await?;
    ensure!(message(&group).contains("pause_new_jobs"), "{group:#}");
    world.change(pause(Value::Null)).await?;
    world.until_recorded("a").await?;
    Ok(())
}

#[tokio::test]
async fn a_group_of_items_once_each_completes_and_goes_on_with_new_ones() -> Result<()> {
    let world = World::new("each-once").await?;
    let door = Door::new()?;
    // One fails until the door is open.
    let script = format!("[ $OAAT_ITEM != stubborn ] || {}", door.is_open());
    world.work(&script, json!({})).await?;
    let items = ["a", "stubborn", "b"];
    world.group(&items, json!({ "eachOnce": true })).await?;
    let group = world
        .until("all but one have succeeded", |g| {
            runs(g, "stubborn") > 1 && runs(g, "a") == 1 && runs(g, "b") == 1
        })
        .await?;
    let (status, _, words) = condition(&group, "Complete");
    ensure!(
        status == "False" && words == "2 of 3 items have succeeded",
        "{group:#}"
    );
    door.open()?;
    world
        .kubectl(&[
            "wait",
            "--for=condition=Complete",
            "oaatgroup/group",
            "--timeout=120s",
        ])
        .await?;
    let group = world
        .until("it is complete", |g| state(g) == "Complete")
        .await?;
    ensure!(message(&group) == "all 3 items have succeeded", "{group:#}");
    ensure!(
        (runs(&group, "a"), runs(&group, "b")) == (1, 1),
        "{group:#}"
    );
    ensure!(world.until_event("group", "Complete").await? == message(&group));

    // A new one is run, and one that was taken out and put back begins afresh.
    let list = |items: &[&str]| json!({ "spec": { "oaatItems": items } });
    world.change(list(&["b", "stubborn", "c"])).await?;
    let group = world
        .until("the new one has run", |g| {
            state(g) == "Complete" && runs(g, "c") == 1
        })
        .await?;
    ensure!(
        item(&group, "a").is_null() && runs(&group, "b") == 1,
        "{group:#}"
    );
    world.change(list(&["a", "b", "c"])).await?;
    world
        .until("the old one has run again", |g| {
            state(g) == "Complete" && runs(g, "a") == 1
        })
        .await?;
    ensure_apart(&world.node.runs())
}

#[tokio::test]
async fn the_example_of_items_once_each_runs_to_its_end() -> Result<()> {
    let world = World::new("each-once-example").await?;
    let example = include_str!("../../../manifests/examples/each-once.yaml");
    world.apply(example).await?;
    world
        .until_object("OaatGroup", "migrate", "it is complete", |g| {
            state(g) == "Complete"
        })
        .await?;
    let mut said = Vec::new();
    for name in world.list_pods().await?.iter().map(ResourceExt::name_any) {
        let pod = world.pods().get(&name).await?;
        let env = serde_json::to_value(&pod)?["spec"]["containers"][0]["env"].clone();
        let level = env.as_array().into_iter().flatten();
        let level = level
            .filter(|v| v["name"] == "LEVEL")
            .map(|v| v["value"].clone());
        let item = pod.annotations().get("oaat.kawaja.net/item").cloned();
        said.push((item.unwrap_or_default(), level.collect::<Vec<_>>()));
    }
    said.sort_by(|one, other| one.0.cmp(&other.0));
    let expected = [("archive", "6"), ("customers", "7"), ("orders", "7")]
        .map(|(item, level)| (item.to_owned(), vec![json!(level)]));
    ensure!(said == expected, "{said:?}");
    Ok(())
}

#[tokio::test]
async fn who_asks_for_items_gets_them_now_and_once() -> Result<()> {
    let world = World::new("run-now").await?;
    world.work("true", json!({})).await?;
    let items = ["a", "b, with a comma", "c"];
    world.group(&items, json!({ "frequency": "24h" })).await?;
    world.until("all are done", |g| state(g) == "Idle").await?;

    world
        .ask(r#"{"token": "1", "items": ["b, with a comma", "nobody"]}"#)
        .await?;
    let group = world
        .until("it has run again", |g| {
            runs(g, items[1]) == 2 && state(g) == "Idle"
        })
        .await?;
    ensure!(
        (runs(&group, "a"), runs(&group, "c")) == (1, 1),
        "{group:#}"
    );
    let noted = &group["status"]["runNow"];
    ensure!(noted["token"] == "1", "{group:#}");
    ensure!(
        noted["problem"]
            .as_str()
            .is_some_and(|p| p.ends_with(": nobody")),
        "{group:#}"
    );
    let why = group["status"]["lastDecision"]["why"].as_str();
    ensure!(why == Some("requested with token 1"), "{group:#}");
    world.until_event("group", "RunNowInvalid").await?;

    world.ask(r#"{"token": "2", "items": "*"}"#).await?;
    let all = |g: &Value| runs(g, "a") == 2 && runs(g, items[1]) == 3 && runs(g, "c") == 2;
    let group = world
        .until("all have run again", |g| all(g) && state(g) == "Idle")
        .await?;
    ensure!(
        world
            .until_event("group", "RunNow")
            .await?
            .contains("all items")
    );
    // The annotation is the user's, and what it asks for has been done.
    ensure!(
        group["metadata"]["annotations"][RUN_NOW].is_string(),
        "{group:#}"
    );
    let group = world.look().await?;
    ensure!(all(&group), "{group:#}");

    world.ask("now").await?;
    let group = world
        .until("the mistake is told", |g| {
            g["status"]["runNow"]["problem"]
                .as_str()
                .is_some_and(|p| p.contains("\"token\""))
        })
        .await?;
    ensure!(all(&group), "{group:#}");
    ensure_apart(&world.node.runs())
}

#[tokio::test]
async fn who_asks_waits_for_what_runs_and_for_a_suspended_group() -> Result<()> {
    let world = World::new("run-now-waits").await?;
    let door = Door::new()?;
    world
        .work(
            &format!("[ $OAAT_ITEM != slow ] || {}", door.wait()),
            json!({}),
        )
        .await?;
    let more = json!({ "frequency": "24h" });
    world.group(&["slow"], more).await?;
    world.until_running().await?;
    world
        .change(json!({ "spec": { "oaatItems": ["slow", "quick"], "suspend": true } }))
        .await?;
    world.ask(r#"{"token": "1", "items": ["quick"]}"#).await?;
    door.open()?;
    let group = world
        .until("it waits", |g| {
            state(g) == "Suspended" && message(g).contains("requested to run now: quick")
        })
        .await?;
    ensure!(runs(&group, "quick") == 0, "{group:#}");
    world
        .change(json!({ "spec": { "suspend": false } }))
        .await?;
    let group = world.until_recorded("quick").await?;
    let why = group["status"]["lastDecision"]["why"].as_str();
    ensure!(why == Some("requested with token 1"), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn items_have_options_of_their_own() -> Result<()> {
    let world = World::new("item-options").await?;
    let more =
        json!({ "podspec": { "container": { "env": [{ "name": "LEVEL", "value": "1" }] } } });
    world
        .work(
            "[ $OAAT_ITEM$LEVEL = often2 ] || [ $OAAT_ITEM$LEVEL = daily1 ]",
            more,
        )
        .await?;
    let options = json!({ "frequency": "24h", "itemOptions": {
        "often": { "frequency": "1s", "env": [{ "name": "LEVEL", "value": "2" }] },
        "never": { "suspend": true },
        "not an item": { "frequency": "1s" },
    } });
    world.group(&["daily", "often", "never"], options).await?;
    let group = world
        .until("the frequent one has run several times", |g| {
            runs(g, "often") >= 3
        })
        .await?;
    ensure!(
        (runs(&group, "daily"), runs(&group, "never")) == (1, 0),
        "{group:#}"
    );
    for name in ["often", "daily"] {
        ensure!(item(&group, name)["failures"] == 0, "{group:#}");
    }
    let never = item(&group, "never");
    ensure!(never["state"] == "Held", "{group:#}");
    ensure!(never["message"] == "suspended by itemOptions", "{group:#}");
    world
        .change(json!({ "spec": { "itemOptions": { "never": null } } }))
        .await?;
    world.until_recorded("never").await?;
    Ok(())
}
