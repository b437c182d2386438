//! Objects that the operator cannot decode, as those of another release may be: each is
//! reported, and nothing else suffers from it.

use crate::bad_input::{message, oaat_type, object};
use crate::world::{PATIENCE, World, condition, item};
use anyhow::Result;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Request;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Takes the schema out of our CRDs, so that the API server accepts anything, as one
/// with CRDs of another release might.
async fn accept_anything(world: &World) -> Result<()> {
    for crd in ["oaattypes.kawaja.net", "oaatgroups.kawaja.net"] {
        let found = world
            .plane
            .kubectl(&["get", "crd", crd, "-o", "json"])
            .await?;
        let mut found: Value = serde_json::from_str(&found)?;
        found["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let args = ["replace", "-f", "-"];
        let admin = world.plane.admin_kubeconfig();
        world
            .plane
            .kubectl_as(admin, &args, &found.to_string())
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_object_that_cannot_be_decoded_is_reported_and_others_are_unaffected() -> Result<()> {
    let world = World::with_own_plane("undecodable").await?;
    accept_anything(&world).await?;
    world.work("true", json!({})).await?;
    world.group(&["a"], json!({"frequency": "2s"})).await?;
    // It takes the API server a moment to forget the schema.
    let bad = object(
        "OaatGroup",
        "bad",
        &json!({"oaatType": "work", "oaatItems": "a"}),
    );
    let start = Instant::now();
    while let Err(error) = world.apply(&bad).await {
        assert!(start.elapsed() < PATIENCE, "{error}");
        sleep(Duration::from_millis(200)).await;
    }
    let reported = world
        .until_object("OaatGroup", "bad", "it is reported", |g| {
            g["status"]["state"] == "Invalid"
        })
        .await?;
    let (status, reason, words) = condition(&reported, "Ready");
    assert_eq!((&*status, &*reason), ("False", "Undecodable"));
    assert!(words.contains("cannot read the object"), "{words}");
    assert!(words.contains("spec.oaatItems: invalid type"), "{words}");

    let runs = |g: &Value| item(g, "a")["runs"].as_i64().unwrap_or(0);
    let before = runs(&world.read("group").await?);
    world
        .until("the other runs on", |g| runs(g) > before + 1)
        .await?;

    let good = object(
        "OaatGroup",
        "bad",
        &json!({"oaatType": "work", "oaatItems": ["b"]}),
    );
    world.apply(&good).await?;
    world
        .until_object("OaatGroup", "bad", "once mended, it runs", |g| {
            item(g, "b")["lastSuccess"].is_string()
        })
        .await?;

    // The same with a status that somebody wrote by hand.
    let nonsense = Patch::Merge(json!({"status": {"items": {"b": {"lastSuccess": "soon"}}}}));
    let groups = world.api("OaatGroup");
    groups
        .patch_status("bad", &PatchParams::default(), &nonsense)
        .await?;
    let reported = world
        .until_object("OaatGroup", "bad", "it is reported", |g| {
            condition(g, "Ready").1 == "Undecodable"
        })
        .await?;
    assert!(
        message(&reported).contains("\"soon\" is not an RFC 3339 time"),
        "{}",
        message(&reported)
    );

    // And with a type, which its groups tell of.
    world
        .apply(&oaat_type(&json!({"type": "pod", "podspec": "none"})))
        .await?;
    let type_ = world
        .until_object("OaatType", "work", "it is reported", |t| {
            condition(t, "Valid").1 == "Undecodable"
        })
        .await?;
    assert!(
        condition(&type_, "Valid")
            .2
            .contains("cannot read the object")
    );
    world
        .until("the group says it as well", |g| {
            condition(g, "Ready").1 == "TypeInvalid" && message(g).contains("cannot read it")
        })
        .await?;

    // Which field it is has been said as well.
    assert!(words.contains("oaatItems"), "{words}");
    Ok(())
}

#[tokio::test]
async fn an_object_that_is_nested_too_deep_is_reported_and_others_are_unaffected() -> Result<()> {
    let mut world = World::new("nested").await?;
    world.work("true", json!({})).await?;
    world.group(&["a"], json!({"frequency": "2s"})).await?;
    let levels = 1000;
    let body = format!(
        r#"{{"apiVersion":"kawaja.net/v1","kind":"OaatGroup","metadata":{{"name":"deep"}},"spec":{{
        "oaatType":"work","oaatItems":["a"],"policy":{{"configMap":{{"name":"p"}},"settings":{}1{}}}}}}}"#,
        r#"{"a":"#.repeat(levels),
        "}".repeat(levels)
    );
    let uri = format!(
        "/apis/kawaja.net/v1/namespaces/{}/oaatgroups",
        world.namespace
    );
    let create = Request::new(uri).create(&PostParams::default(), body.into_bytes())?;
    // The answer is as deep, and not to be read here.
    world.client.request_text(create).await?;
    let start = Instant::now();
    let path = "-ojsonpath={.status.conditions[0].message}";
    loop {
        let message = world.kubectl(&["get", "oaatgroup", "deep", path]).await?;
        if message.contains("cannot read the object") {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "it is not reported: {message}");
        sleep(Duration::from_millis(200)).await;
    }
    let runs = |g: &Value| item(g, "a")["runs"].as_i64().unwrap_or(0);
    for words in ["the other runs on", "so it does after a restart"] {
        let before = runs(&world.read("group").await?);
        world.until(words, |g| runs(g) > before + 1).await?;
        world.take_operator().kill().await;
        world.start_operator().await?;
    }
    world.kubectl(&["delete", "oaatgroup", "deep"]).await?;
    Ok(())
}
