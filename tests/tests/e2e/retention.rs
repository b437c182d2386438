//! The retention of finished pods, that no result is lost, and the number of requests to the API
//! server.

use crate::fixture::{Fixture, PATIENCE, item};
use anyhow::{Result, anyhow, ensure};
use oaat_tests::Operator;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::sleep;

fn runs(group: &Value, name: &str) -> i64 {
    item(group, name)["runs"].as_i64().unwrap_or(0)
}

/// Returns the items of the pods, once there are `count` of them.
async fn items_of_pods(fixture: &Fixture, count: usize) -> Result<Vec<String>> {
    let start = Instant::now();
    loop {
        let pods = fixture.list_pods().await?;
        if pods.len() == count {
            let items = pods.into_iter().filter_map(|pod| {
                let annotations = pod.metadata.annotations?;
                annotations.get("oaat.kawaja.net/item").cloned()
            });
            return Ok(items.collect());
        }
        if start.elapsed() > PATIENCE {
            return Err(anyhow!("there are {} pods, not {count}", pods.len()));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn finished_pods_are_kept_up_to_the_history_limit() -> Result<()> {
    let fixture = Fixture::new("keep-limit").await?;
    fixture.work("true", json!({})).await?;
    fixture
        .group(&["a", "b", "c", "d", "e"], json!({"podHistoryLimit": 2}))
        .await?;
    let group = fixture
        .until("all have run", |g| g["status"]["state"] == "Idle")
        .await?;
    let kept = items_of_pods(&fixture, 2).await?;
    for run in [0, 1] {
        let item = group["status"]["history"][run]["item"].as_str();
        let item = item.unwrap_or_default().to_owned();
        assert!(kept.contains(&item), "{item} in {kept:?}");
    }
    Ok(())
}

#[tokio::test]
async fn finished_pod_is_deleted_after_its_retention_and_its_result_stays() -> Result<()> {
    let fixture = Fixture::new("keep-time").await?;
    fixture.work("exit 7", json!({})).await?;
    fixture
        .group(
            &["a"],
            json!({"podRetention": "3s", "failureCoolOff": "1h"}),
        )
        .await?;
    fixture
        .until("a has run", |g| item(g, "a")["state"] == "Cooling")
        .await?;
    items_of_pods(&fixture, 0).await?;
    let group = fixture.read("group").await?;
    assert_eq!(item(&group, "a")["lastExitCode"], 7);
    assert_eq!(item(&group, "a")["failures"], 1);
    assert_eq!(runs(&group, "a"), 1);
    Ok(())
}

#[tokio::test]
async fn retention_0_and_limit_0_keep_no_pod_and_lose_no_result() -> Result<()> {
    let fixture = Fixture::new("keep-none").await?;
    fixture.work("[ $OAAT_ITEM != bad ]", json!({})).await?;
    fixture
        .group(
            &["a", "b", "bad"],
            json!({"podRetention": "0s", "podHistoryLimit": 0, "failureCoolOff": "1h"}),
        )
        .await?;
    let group = fixture
        .until("all have run", |g| {
            ["a", "b", "bad"].iter().all(|name| runs(g, name) == 1)
                && g["status"]["state"] == "Waiting"
        })
        .await?;
    items_of_pods(&fixture, 0).await?;
    assert_eq!(item(&group, "a")["state"], "Fresh");
    assert_eq!(item(&group, "bad")["lastExitCode"], 1);
    // Deleted pods cause no change of the status.
    assert_eq!(fixture.read("group").await?["status"], group["status"]);
    Ok(())
}

/// Returns the number of requests so far, except those for events and leases.
async fn requests(operator: &Operator) -> Result<f64> {
    let count = async |labels: &[&str]| operator.metric("oaat_api_requests_total", labels).await;
    let aside = count(&["\"events\""]).await? + count(&["\"leases\""]).await?;
    Ok(count(&[]).await? - aside)
}

#[tokio::test]
async fn group_is_not_read_between_two_runs() -> Result<()> {
    let fixture = Fixture::new("unread").await?;
    // The watch shows each claim before the run ends.
    fixture.work("sleep 0.5", json!({})).await?;
    fixture
        .group(&["a", "b"], json!({ "frequency": "1ms" }))
        .await?;
    let recorded = |g: &Value| g["status"]["run"].as_i64().unwrap_or(0);
    fixture
        .until("some runs are over", |g| recorded(g) > 3)
        .await?;
    let reads = async || {
        let labels = ["verb=\"get\"", "resource=\"oaatgroups\""];
        let operator = fixture.operator();
        operator.metric("oaat_api_requests_total", &labels).await
    };
    let (before, first) = (reads().await?, recorded(&fixture.read("group").await?));
    let group = fixture
        .until("more runs are over", |g| recorded(g) > first + 10)
        .await?;
    let (reads, runs) = (reads().await? - before, recorded(&group) - first);
    // On a busy machine, the watch may deliver the end of a run before the claim.
    ensure!(reads <= runs as f64 / 2.0, "{reads} reads in {runs} runs");
    Ok(())
}

#[tokio::test]
async fn waiting_groups_send_no_requests() -> Result<()> {
    let fixture = Fixture::new("quiet").await?;
    fixture.work("[ $OAAT_ITEM = good ]", json!({})).await?;
    fixture
        .group(&["good", "bad"], json!({"failureCoolOff": "1h"}))
        .await?;
    for (name, spec) in [
        ("typeless", json!({"oaatType": "none", "oaatItems": ["a"]})),
        ("itemless", json!({"oaatType": "work"})),
    ] {
        let group = json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
            "metadata": { "name": name }, "spec": spec,
        });
        fixture.apply(&group.to_string()).await?;
        fixture
            .until_object("OaatGroup", name, "it waits", |g| {
                g["status"]["state"] == "Waiting"
            })
            .await?;
    }
    fixture
        .until("both have run", |g| {
            item(g, "good")["state"] == "Fresh" && item(g, "bad")["state"] == "Cooling"
        })
        .await?;

    // The responses to the last writes are still in transit.
    let start = Instant::now();
    let mut before = requests(fixture.operator()).await?;
    loop {
        sleep(Duration::from_secs(2)).await;
        let now = requests(fixture.operator()).await?;
        if now == before {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{}", fixture.operator().log());
        before = now;
    }
    sleep(Duration::from_secs(8)).await;
    assert_eq!(requests(fixture.operator()).await?, before);
    Ok(())
}

/// Creates a group of one item with other fields in `spec`, and waits for its state.
async fn create(fixture: &Fixture, name: &str, state: &str, spec: Value) -> Result<()> {
    let mut group = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup", "metadata": { "name": name },
        "spec": { "oaatType": "work", "oaatItems": ["good"], "frequency": "1h" },
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        group["spec"][field] = value.clone();
    }
    fixture.apply(&group.to_string()).await?;
    fixture
        .until_object("OaatGroup", name, state, |g| g["status"]["state"] == state)
        .await?;
    Ok(())
}

#[tokio::test]
async fn groups_are_planned_from_the_lists_after_a_start_and_changes_are_found() -> Result<()> {
    let mut fixture = Fixture::new("restart").await?;
    fixture.work("[ $OAAT_ITEM != bad ]", json!({})).await?;
    fixture
        .group(&["good", "bad"], json!({"failureCoolOff": "1h"}))
        .await?;
    create(
        &fixture,
        "suspended",
        "Suspended",
        json!({ "suspend": true }),
    )
    .await?;
    create(
        &fixture,
        "typeless",
        "Waiting",
        json!({ "oaatType": "none" }),
    )
    .await?;
    create(&fixture, "changed", "Idle", json!({})).await?;
    create(&fixture, "requested", "Idle", json!({})).await?;
    fixture
        .until("both have run", |g| {
            item(g, "good")["state"] == "Fresh" && item(g, "bad")["state"] == "Cooling"
        })
        .await?;
    fixture.take_operator().stop().await;
    fixture.start_operator().await?;
    let operator = fixture.operator();
    let start = Instant::now();
    while operator.metric("oaat_reconciles_total", &["ok"]).await? < 5.0 {
        ensure!(start.elapsed() < PATIENCE, "{}", operator.log());
        sleep(Duration::from_millis(100)).await;
    }
    let reads = operator
        .metric("oaat_api_requests_total", &["\"get\"", "\"oaatgroups\""])
        .await?;
    ensure!(reads == 0.0, "{reads} reads: {}", operator.log());
    // Changes while no operator runs are found, and a group becomes due although nothing triggers it.
    create(&fixture, "due-soon", "Idle", json!({ "frequency": "20s" })).await?;
    fixture.take_operator().stop().await;
    let more_items = r#"{"spec":{"oaatItems":["good","new"]}}"#;
    let args = ["patch", "og", "changed", "--type=merge", "-p", more_items];
    fixture.kubectl(&args).await?;
    let request = r#"oaat.kawaja.net/run-now={"items":["good"],"token":"1"}"#;
    fixture
        .kubectl(&["annotate", "og", "requested", request])
        .await?;
    fixture.start_operator().await?;
    for (name, item_name, runs) in [
        ("changed", "new", 1),
        ("requested", "good", 2),
        ("due-soon", "good", 2),
    ] {
        fixture
            .until_object("OaatGroup", name, "its item has run", |g| {
                item(g, item_name)["runs"].as_i64() >= Some(runs)
            })
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn run_needs_four_writes() -> Result<()> {
    let fixture = Fixture::new("four-writes").await?;
    fixture.work("true", json!({})).await?;
    fixture.until_type_is_valid("work").await?;
    let operator = fixture.operator();
    let count = async |verb: &str, resource: &str| {
        let labels = [&*format!("\"{verb}\""), &*format!("\"{resource}\"")];
        operator.metric("oaat_api_requests_total", &labels).await
    };
    let dry_runs = count("create", "pods").await?;
    let lists = count("list", "pods").await?;
    let names: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    fixture.group(&names, json!({"podHistoryLimit": 0})).await?;
    let group = fixture
        .until("all have run", |g| g["status"]["state"] == "Idle")
        .await?;
    items_of_pods(&fixture, 0).await?;

    assert_eq!(
        count("create", "pods").await? - dry_runs,
        20.0,
        "candidates"
    );
    assert_eq!(count("patch", "pods").await?, 20.0, "openings");
    assert_eq!(count("delete", "pods").await?, 20.0, "retention");
    // Each claim also records the previous run. The last run is recorded separately, and the group
    // may have been read a moment before its type.
    let claims = count("patch", "oaatgroups").await?;
    assert!(
        (21.0..=22.0).contains(&claims),
        "claims and records: {claims}"
    );
    // One list before each claim, and one when the group is new and when the last run has ended.
    let lists = count("list", "pods").await? - lists;
    assert!((20.0..=24.0).contains(&lists), "{lists} lists of pods");

    // The API server needs more time to write a larger status.
    let size = |value: &Value| value.to_string().len();
    for (name, item) in group["status"]["items"].as_object().into_iter().flatten() {
        assert!(size(item) <= 190, "{name} takes {} bytes", size(item));
    }
    for run in group["status"]["history"].as_array().into_iter().flatten() {
        assert!(size(run) <= 215, "a run takes {} bytes: {run}", size(run));
    }
    Ok(())
}

#[tokio::test]
async fn new_group_needs_one_read_one_list_and_one_write() -> Result<()> {
    let fixture = Fixture::new("new-groups").await?;
    fixture.work("true", json!({})).await?;
    fixture.until_type_is_valid("work").await?;
    let operator = fixture.operator();
    let requests = [
        ["\"get\"", "\"oaatgroups\""],
        ["\"list\"", "\"pods\""],
        ["\"patch\"", "\"oaatgroups\""],
    ];
    let count = async |labels: &[&str]| operator.metric("oaat_api_requests_total", labels).await;
    let lists = count(&requests[1]).await?;
    for name in ["one", "two", "three", "four"] {
        create(&fixture, name, "Suspended", json!({ "suspend": true })).await?;
    }
    for (labels, before) in requests.iter().zip([0.0, lists, 0.0]) {
        // The first group is reconciled again if the watch delivers its type later.
        let made = count(labels).await? - before;
        assert!((4.0..=5.0).contains(&made), "{labels:?}: {made}");
    }
    Ok(())
}
