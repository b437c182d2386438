//! Pods that the API server rejects: the item fails, and the group pauses.

use crate::fixture::{Fixture, PATIENCE, condition, item, millis};
use crate::helpers::{history, refuse_pods, text, until_refused};
use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use tokio::time::timeout;

/// Creates a quota that allows no pods in the namespace.
async fn no_pods(fixture: &Fixture) -> Result<Api<ResourceQuota>> {
    let quotas: Api<ResourceQuota> = Api::namespaced(fixture.client.clone(), &fixture.namespace);
    let quota = serde_json::from_value(json!({
        "metadata": { "name": "none" }, "spec": { "hard": { "pods": "0" } },
    }))?;
    quotas.create(&PostParams::default(), &quota).await?;
    // Until the quota is counted once, pods are rejected with another message.
    let counted = await_condition(quotas.clone(), "none", |quota: Option<&ResourceQuota>| {
        let status = quota.and_then(|quota| quota.status.as_ref());
        status.is_some_and(|status| status.used.is_some())
    });
    timeout(PATIENCE, counted).await??;
    until_refused(fixture, "any").await?;
    Ok(quotas)
}

#[tokio::test]
async fn exceeded_quota_pauses_the_group_and_fails_no_item() -> Result<()> {
    let fixture = Fixture::new("quota").await?;
    fixture.work("true", json!({})).await?;
    fixture.until_type_is_valid("work").await?;
    let quotas = no_pods(&fixture).await?;
    fixture
        .group(&["a", "b"], json!({"failureCoolOff": "1h"}))
        .await?;
    let group = fixture
        .until("the pause grows", |g| {
            g["status"]["rejected"]["count"].as_i64() >= Some(2)
        })
        .await?;
    assert_eq!(condition(&group, "Ready").1, "QuotaExceeded");
    assert_eq!(group["status"]["state"], "Waiting", "{group:#}");
    let message = text(&group["status"]["message"]);
    assert!(message.contains("exceeded quota: none"), "{message}");
    assert_eq!(history(&group), Vec::<Value>::new(), "{group:#}");
    assert!(group["status"]["run"].is_null(), "{group:#}");
    let note = fixture.until_event("group", "QuotaExceeded").await?;
    assert!(note.contains("exceeded quota: none"), "{note}");

    quotas.delete("none", &Default::default()).await?;
    let group = fixture
        .until("both items succeed", |g| {
            ["a", "b"]
                .iter()
                .all(|i| item(g, i)["lastSuccess"].is_string())
        })
        .await?;
    assert!(group["status"]["rejected"].is_null(), "{group:#}");
    assert!(
        history(&group)
            .iter()
            .all(|run| run["result"] == "Succeeded")
    );
    Ok(())
}

/// A quota of `count/pods` counts finished pods as well.
#[tokio::test]
async fn finished_pod_makes_room_in_a_quota_that_counts_it() -> Result<()> {
    let fixture = Fixture::new("quota-finished").await?;
    let quotas: Api<ResourceQuota> = Api::namespaced(fixture.client.clone(), &fixture.namespace);
    let quota = serde_json::from_value(json!({
        "metadata": { "name": "two" }, "spec": { "hard": { "count/pods": "2" } },
    }))?;
    quotas.create(&PostParams::default(), &quota).await?;
    fixture.work("true", json!({})).await?;
    fixture.group(&["a", "b", "c", "d"], json!({})).await?;
    let group = fixture
        .until("all items succeed", |g| g["status"]["state"] == "Idle")
        .await?;
    assert_eq!(history(&group).len(), 4, "{group:#}");
    assert!(
        history(&group)
            .iter()
            .all(|run| run["result"] == "Succeeded")
    );
    Ok(())
}

/// Makes the API server reject pods of the item `bad` in this namespace.
async fn refuse_bad(fixture: &Fixture) -> Result<()> {
    let validation = json!({
        "expression": "object.metadata.?annotations['oaat.kawaja.net/item'].orValue('') != 'bad'",
        "message": "bad items are not allowed here",
    });
    refuse_pods(fixture, validation, "bad").await
}

#[tokio::test]
async fn rejected_pods_pause_the_group_longer_each_time() -> Result<()> {
    let fixture = Fixture::new("refused-pauses").await?;
    refuse_bad(&fixture).await?;
    fixture.work("true", json!({})).await?;
    fixture.group(&["bad"], json!({})).await?;
    let group = fixture
        .until("four pods are rejected", |g| history(g).len() == 4)
        .await?;
    let mut times: Vec<_> = history(&group)
        .iter()
        .map(|run| millis(&run["started"]))
        .collect();
    times.reverse();
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // The retry floor of these tests is 300 ms.
    for (pause, least) in pauses.iter().zip([300, 600, 1200]) {
        assert!(*pause >= least, "{pauses:?}");
    }
    assert_eq!(fixture.list_pods().await?, []);
    Ok(())
}

#[tokio::test]
async fn denied_pod_fails_its_item_and_the_next_item_runs_after_the_floor() -> Result<()> {
    let mut fixture = Fixture::without_operator("denied").await?;
    refuse_bad(&fixture).await?;
    fixture.work("true", json!({})).await?;
    fixture
        .group(&["bad", "good"], json!({"failureCoolOff": "1h"}))
        .await?;
    // The other item, which never succeeded, goes first.
    let long_ago = json!({ "item": "good", "lastSuccess": "2020-01-01T00:00:00Z" });
    fixture
        .write_status(json!({ "items": { "good": long_ago } }))
        .await?;
    fixture.start_operator().await?;
    let group = fixture
        .until("the good item runs", |g| item(g, "good")["runs"] == 1)
        .await?;
    let bad = item(&group, "bad");
    assert_eq!(bad["failures"], 1, "{group:#}");
    assert!(text(&bad["message"]).contains("bad items are not allowed here"));
    assert_eq!(bad["state"], "Cooling", "{group:#}");
    let note = fixture.until_event("group", "CreateRejected").await?;
    assert!(note.contains("bad items are not allowed here"), "{note}");

    let [good, refused] = &history(&group)[..] else {
        bail!("expected two runs: {group:#}");
    };
    assert_eq!(
        (&refused["item"], &refused["pod"]),
        (&json!("bad"), &Value::Null)
    );
    assert_eq!(good["item"], "good", "{group:#}");
    let started = millis(&item(&group, "good")["lastStarted"]);
    let pause = started - millis(&refused["finished"]);
    assert!(pause >= 300, "{pause} ms");
    Ok(())
}
