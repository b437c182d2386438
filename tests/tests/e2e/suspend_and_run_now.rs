//! Suspended groups and items, `eachOnce`, items run now, and per-item options.

use crate::bad_input::message;
use crate::fixture::{Fixture, condition, item};
use crate::helpers::{Barrier, RUN_NOW, ensure_apart, history, state};
use anyhow::{Result, ensure};
use kube::ResourceExt;
use oaat_tests::proxy::{Fate, Proxy};
use serde_json::{Value, json};
use std::time::Duration;

fn runs(group: &Value, name: &str) -> i64 {
    item(group, name)["runs"].as_i64().unwrap_or(0)
}

#[tokio::test]
async fn suspended_group_starts_nothing_and_the_current_run_continues() -> Result<()> {
    let fixture = Fixture::new("suspend").await?;
    let barrier = Barrier::new()?;
    fixture.work(&barrier.wait(), json!({})).await?;
    fixture
        .group(&["a", "b"], json!({ "suspend": true }))
        .await?;
    let group = fixture
        .until("the group is suspended", |g| state(g) == "Suspended")
        .await?;
    ensure!(message(&group).contains("spec.suspend"), "{group:#}");
    let (status, reason, _) = condition(&group, "Ready");
    ensure!(
        (status.as_str(), reason.as_str()) == ("True", "Suspended"),
        "{group:#}"
    );

    fixture
        .change(json!({ "spec": { "suspend": false } }))
        .await?;
    let pod = fixture.until_running().await?.name_any();
    fixture
        .change(json!({ "spec": { "suspend": true } }))
        .await?;
    fixture
        .until("the message shows what happens after the run", |g| {
            state(g) == "Running" && message(g).contains("next: spec.suspend")
        })
        .await?;
    barrier.release()?;
    let group = fixture
        .until("the run is recorded", |g| !history(g).is_empty())
        .await?;
    ensure!(history(&group)[0]["result"] == "Succeeded", "{group:#}");
    ensure!(state(&group) == "Suspended", "{group:#}");
    fixture.look().await?;
    ensure!(fixture.list_pods().await?.len() == 1, "beside {pod}");

    fixture
        .change(json!({ "spec": { "suspend": null } }))
        .await?;
    fixture
        .until("both have run", |g| state(g) == "Idle")
        .await?;
    Ok(())
}

/// Groups of the original operator were paused with this annotation.
#[tokio::test]
async fn annotation_pause_new_jobs_suspends_a_group() -> Result<()> {
    let fixture = Fixture::without_operator("paused").await?;
    fixture.work("true", json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    let pause =
        |value: Value| json!({ "metadata": { "annotations": { "pause_new_jobs": value } } });
    fixture.change(pause(json!("yes"))).await?;
    let mut fixture = fixture;
    fixture.start_operator().await?;
    let group = fixture
        .until("the group is suspended", |g| state(g) == "Suspended")
        .await?;
    ensure!(message(&group).contains("pause_new_jobs"), "{group:#}");
    fixture.change(pause(Value::Null)).await?;
    fixture.until_recorded("a").await?;
    Ok(())
}

#[tokio::test]
async fn each_once_group_completes_and_continues_with_new_items() -> Result<()> {
    let fixture = Fixture::new("each-once").await?;
    let barrier = Barrier::new()?;
    // One item fails until the barrier is released.
    let script = format!("[ $OAAT_ITEM != stubborn ] || {}", barrier.is_open());
    fixture.work(&script, json!({})).await?;
    let items = ["a", "stubborn", "b"];
    fixture.group(&items, json!({ "eachOnce": true })).await?;
    let group = fixture
        .until("all but one have succeeded", |g| {
            runs(g, "stubborn") > 1 && runs(g, "a") == 1 && runs(g, "b") == 1
        })
        .await?;
    let (status, _, words) = condition(&group, "Complete");
    ensure!(
        status == "False" && words == "2 of 3 items have succeeded",
        "{group:#}"
    );
    barrier.release()?;
    fixture
        .kubectl(&[
            "wait",
            "--for=condition=Complete",
            "oaatgroup/group",
            "--timeout=300s",
        ])
        .await?;
    let group = fixture
        .until("the group is complete", |g| state(g) == "Complete")
        .await?;
    ensure!(message(&group) == "all 3 items have succeeded", "{group:#}");
    ensure!(
        (runs(&group, "a"), runs(&group, "b")) == (1, 1),
        "{group:#}"
    );
    ensure!(fixture.until_event("group", "Complete").await? == message(&group));

    // A new item runs, and an item that was removed and added again has no history.
    let list = |items: &[&str]| json!({ "spec": { "oaatItems": items } });
    fixture.change(list(&["b", "stubborn", "c"])).await?;
    let group = fixture
        .until("the new item has run", |g| {
            state(g) == "Complete" && runs(g, "c") == 1
        })
        .await?;
    ensure!(
        item(&group, "a").is_null() && runs(&group, "b") == 1,
        "{group:#}"
    );
    fixture.change(list(&["a", "b", "c"])).await?;
    fixture
        .until("the old item has run again", |g| {
            state(g) == "Complete" && runs(g, "a") == 1
        })
        .await?;
    ensure_apart(&fixture.node.runs())
}

#[tokio::test]
async fn example_of_each_once_completes() -> Result<()> {
    let fixture = Fixture::new("each-once-example").await?;
    let example = include_str!("../../../manifests/examples/each-once.yaml");
    fixture.apply(example).await?;
    fixture
        .until_object("OaatGroup", "migrate", "the group is complete", |g| {
            state(g) == "Complete"
        })
        .await?;
    let mut said = Vec::new();
    for name in fixture.list_pods().await?.iter().map(ResourceExt::name_any) {
        let pod = fixture.pods().get(&name).await?;
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
async fn run_now_starts_the_requested_items_once() -> Result<()> {
    let fixture = Fixture::new("run-now").await?;
    fixture.work("true", json!({})).await?;
    let items = ["a", "b, with a comma", "c"];
    fixture.group(&items, json!({ "frequency": "24h" })).await?;
    fixture
        .until("all are done", |g| state(g) == "Idle")
        .await?;

    fixture
        .ask(r#"{"token": "1", "items": ["b, with a comma", "nobody"]}"#)
        .await?;
    let group = fixture
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
    fixture.until_event("group", "RunNowInvalid").await?;

    fixture.ask(r#"{"token": "2", "items": "*"}"#).await?;
    let all = |g: &Value| runs(g, "a") == 2 && runs(g, items[1]) == 3 && runs(g, "c") == 2;
    let group = fixture
        .until("all have run again", |g| all(g) && state(g) == "Idle")
        .await?;
    ensure!(
        fixture
            .until_event("group", "RunNow")
            .await?
            .contains("all items")
    );
    // The annotation belongs to the user and stays; its request is fulfilled.
    ensure!(
        group["metadata"]["annotations"][RUN_NOW].is_string(),
        "{group:#}"
    );
    let group = fixture.look().await?;
    ensure!(all(&group), "{group:#}");

    fixture.ask("now").await?;
    let group = fixture
        .until("the invalid request is reported", |g| {
            g["status"]["runNow"]["problem"]
                .as_str()
                .is_some_and(|p| p.contains("\"token\""))
        })
        .await?;
    ensure!(all(&group), "{group:#}");
    ensure_apart(&fixture.node.runs())
}

#[tokio::test]
async fn run_now_waits_for_the_current_run_and_for_a_suspended_group() -> Result<()> {
    let fixture = Fixture::new("run-now-waits").await?;
    let barrier = Barrier::new()?;
    fixture
        .work(
            &format!("[ $OAAT_ITEM != slow ] || {}", barrier.wait()),
            json!({}),
        )
        .await?;
    let more = json!({ "frequency": "24h" });
    fixture.group(&["slow"], more).await?;
    fixture.until_running().await?;
    fixture
        .change(json!({ "spec": { "oaatItems": ["slow", "quick"], "suspend": true } }))
        .await?;
    fixture.ask(r#"{"token": "1", "items": ["quick"]}"#).await?;
    barrier.release()?;
    let group = fixture
        .until("it waits", |g| {
            state(g) == "Suspended" && message(g).contains("requested to run now: quick")
        })
        .await?;
    ensure!(runs(&group, "quick") == 0, "{group:#}");
    fixture
        .change(json!({ "spec": { "suspend": false } }))
        .await?;
    let group = fixture.until_recorded("quick").await?;
    let why = group["status"]["lastDecision"]["why"].as_str();
    ensure!(why == Some("requested with token 1"), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn run_now_uses_a_type_that_was_changed_right_before() -> Result<()> {
    const LAG: Duration = Duration::from_secs(2);
    let mut fixture = Fixture::without_operator("run-now-type").await?;
    let proxy = Proxy::start(&fixture.options.kubeconfig, |seen| {
        let query = seen.uri.query().unwrap_or_default();
        let watches = query.contains("watch=true");
        if watches && seen.uri.path().ends_with("/oaattypes") {
            Fate::Lags(LAG)
        } else {
            Fate::Passes
        }
    })
    .await?;
    fixture.options.kubeconfig = proxy.kubeconfig().to_owned();
    fixture.start_operator().await?;
    fixture.work("echo old; false", json!({})).await?;
    let rare = json!({ "frequency": "24h", "failureCoolOff": "24h" });
    fixture.group(&["a"], rare).await?;
    fixture.until_recorded("a").await?;
    fixture.work("echo new; false", json!({})).await?;
    let request = json!({ "token": "1", "items": ["a"] }).to_string();
    fixture
        .change(json!({ "metadata": { "annotations": { RUN_NOW: request } } }))
        .await?;
    let group = fixture
        .until("it has run again", |g| history(g)[0]["run"] == 2)
        .await?;
    let latest = &history(&group)[0];
    ensure!(
        latest["message"]
            .as_str()
            .is_some_and(|message| message.ends_with(": new")),
        "{group:#}"
    );
    Ok(())
}

#[tokio::test]
async fn item_options_apply_per_item() -> Result<()> {
    let fixture = Fixture::new("item-options").await?;
    let more =
        json!({ "podspec": { "container": { "env": [{ "name": "LEVEL", "value": "1" }] } } });
    fixture
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
    fixture.group(&["daily", "often", "never"], options).await?;
    let group = fixture
        .until("the frequent item has run several times", |g| {
            runs(g, "often") >= 3
        })
        .await?;
    ensure!(
        (runs(&group, "daily"), runs(&group, "never")) == (1, 0),
        "{group:#}"
    );
    for name in ["often", "daily"] {
        ensure!(item(&group, name)["failures"].is_null(), "{group:#}");
    }
    let never = item(&group, "never");
    ensure!(never["state"] == "Held", "{group:#}");
    ensure!(never["message"] == "suspended by itemOptions", "{group:#}");
    fixture
        .change(json!({ "spec": { "itemOptions": { "never": null } } }))
        .await?;
    fixture.until_recorded("never").await?;
    Ok(())
}
