//! Objects that the operator cannot decode, such as those of another release: each is reported, and
//! others are unaffected.

use crate::bad_input::{message, oaat_type, object};
use crate::fixture::{Fixture, PATIENCE, condition, item};
use anyhow::Result;
use kube::api::{Patch, PatchParams};
use oaat_tests::undecodable::create_deeply_nested;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Removes the schema from the CRDs, so that the API server accepts anything, as with the CRDs of
/// another release.
async fn accept_anything(fixture: &Fixture) -> Result<()> {
    for crd in ["oaattypes.kawaja.net", "oaatgroups.kawaja.net"] {
        let found = fixture
            .plane
            .kubectl(&["get", "crd", crd, "-o", "json"])
            .await?;
        let mut found: Value = serde_json::from_str(&found)?;
        found["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let args = ["replace", "-f", "-"];
        let admin = fixture.plane.admin_kubeconfig();
        fixture
            .plane
            .kubectl_as(admin, &args, &found.to_string())
            .await?;
    }
    Ok(())
}

/// The schema of `status.items` accepts any value.
#[tokio::test]
async fn undecodable_status_of_an_item_is_reported_until_it_is_removed() -> Result<()> {
    let fixture = Fixture::new("undecodable-item").await?;
    fixture.work("true", json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    fixture
        .until("it has run", |g| g["status"]["state"] == "Idle")
        .await?;
    let write = async |failures: Value| {
        let status = json!({ "items": { "a": { "failures": failures } } });
        fixture.write_status(status).await
    };
    write(json!("three")).await?;
    let reported = fixture
        .until("it is reported", |g| g["status"]["state"] == "Invalid")
        .await?;
    let (_, reason, words) = condition(&reported, "Ready");
    assert_eq!(reason, "Undecodable");
    assert!(
        words.contains("status.items.a.failures: invalid type"),
        "{words}"
    );
    write(Value::Null).await?;
    let group = fixture
        .until("it is idle again", |g| g["status"]["state"] == "Idle")
        .await?;
    assert_eq!(item(&group, "a")["runs"], 1, "{group:#}");
    Ok(())
}

#[tokio::test]
async fn undecodable_object_is_reported_and_others_are_unaffected() -> Result<()> {
    let fixture = Fixture::with_own_plane("undecodable").await?;
    accept_anything(&fixture).await?;
    fixture.work("true", json!({})).await?;
    fixture.group(&["a"], json!({"frequency": "2s"})).await?;
    // The API server stops using the schema after a moment.
    let bad = object(
        "OaatGroup",
        "bad",
        &json!({"oaatType": "work", "oaatItems": "a"}),
    );
    let start = Instant::now();
    while let Err(error) = fixture.apply(&bad).await {
        assert!(start.elapsed() < PATIENCE, "{error}");
        sleep(Duration::from_millis(200)).await;
    }
    let reported = fixture
        .until_object("OaatGroup", "bad", "it is reported", |g| {
            g["status"]["state"] == "Invalid"
        })
        .await?;
    let (status, reason, words) = condition(&reported, "Ready");
    assert_eq!((&*status, &*reason), ("False", "Undecodable"));
    assert!(words.contains("cannot decode the object"), "{words}");
    assert!(words.contains("spec.oaatItems: invalid type"), "{words}");

    let runs = |g: &Value| item(g, "a")["runs"].as_i64().unwrap_or(0);
    let before = runs(&fixture.read("group").await?);
    fixture
        .until("the other group continues to run", |g| runs(g) > before + 1)
        .await?;

    let good = object(
        "OaatGroup",
        "bad",
        &json!({"oaatType": "work", "oaatItems": ["b"]}),
    );
    fixture.apply(&good).await?;
    fixture
        .until_object("OaatGroup", "bad", "once mended, it runs", |g| {
            item(g, "b")["lastSuccess"].is_string()
        })
        .await?;

    // The same with a status that was written by hand.
    let nonsense = Patch::Merge(json!({"status": {"items": {"b": {"lastSuccess": "soon"}}}}));
    let groups = fixture.api("OaatGroup");
    groups
        .patch_status("bad", &PatchParams::default(), &nonsense)
        .await?;
    let reported = fixture
        .until_object("OaatGroup", "bad", "it is reported", |g| {
            condition(g, "Ready").1 == "Undecodable"
        })
        .await?;
    assert!(
        message(&reported).contains("\"soon\" is not an RFC 3339 time"),
        "{}",
        message(&reported)
    );

    // The same with a type, which its groups report.
    fixture
        .apply(&oaat_type(&json!({"type": "pod", "podspec": "none"})))
        .await?;
    let type_ = fixture
        .until_object("OaatType", "work", "it is reported", |t| {
            condition(t, "Valid").1 == "Undecodable"
        })
        .await?;
    assert!(
        condition(&type_, "Valid")
            .2
            .contains("cannot decode the object")
    );
    fixture
        .until("the group reports it as well", |g| {
            condition(g, "Ready").1 == "TypeInvalid" && message(g).contains("cannot decode it")
        })
        .await?;

    // The message names the field.
    assert!(words.contains("oaatItems"), "{words}");
    Ok(())
}

#[tokio::test]
async fn deeply_nested_object_is_reported_and_others_are_unaffected() -> Result<()> {
    let mut fixture = Fixture::new("nested").await?;
    fixture.work("true", json!({})).await?;
    fixture.group(&["a"], json!({"frequency": "2s"})).await?;
    create_deeply_nested(&fixture.client, &fixture.namespace, 1000).await?;
    let start = Instant::now();
    let path = "-ojsonpath={.status.conditions[0].message}";
    loop {
        let message = fixture.kubectl(&["get", "oaatgroup", "deep", path]).await?;
        if message.contains("cannot decode the object") {
            break;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "the object is not reported: {message}"
        );
        sleep(Duration::from_millis(200)).await;
    }
    let status = fixture.oaat(&["status"]).await?.ok()?;
    for name in ["group ", "deep "] {
        assert!(
            status.lines().any(|line| line.starts_with(name)),
            "{status}"
        );
    }
    let mut watch = fixture.watch_status().await?;
    for name in ["deep ", "group ", "deep "] {
        watch.until(name).await?;
    }
    let runs = |g: &Value| item(g, "a")["runs"].as_i64().unwrap_or(0);
    for words in [
        "the other group continues to run",
        "the other group continues to run after a restart",
    ] {
        let before = runs(&fixture.read("group").await?);
        fixture.until(words, |g| runs(g) > before + 1).await?;
        fixture.take_operator().kill().await;
        fixture.start_operator().await?;
    }
    fixture.kubectl(&["delete", "oaatgroup", "deep"]).await?;
    Ok(())
}
