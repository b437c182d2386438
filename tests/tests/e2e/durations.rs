//! Durations as people write them: what is accepted is understood, and the rest is
//! refused with an example of how it goes.

use crate::bad_input::{message, oaat_group, refused};
use crate::world::{World, condition, item};
use anyhow::Result;
use serde_json::json;

#[tokio::test]
async fn a_duration_that_is_none_is_refused_and_told_what_one_looks_like() -> Result<()> {
    let world = World::without_operator("bad-durations").await?;
    for (field, values) in [
        (
            "frequency",
            vec!["banana", "-5m", "0s", "5", "", "5 m x", "1.5h"],
        ),
        ("failureCoolOff", vec!["banana", "-5m", "5"]),
        ("startTimeout", vec!["never", "-1s"]),
        ("podRetention", vec!["forever", "-1s"]),
    ] {
        for value in values {
            let words = [
                &*format!("spec.{field}"),
                "must be a duration",
                "such as",
                "or",
            ];
            refused(&world, &oaat_group("group", &json!({field: value})), &words).await;
        }
        let number = oaat_group("group", &json!({field: 5}));
        refused(
            &world,
            &number,
            &[&*format!("spec.{field}"), "must be of type string"],
        )
        .await;
    }
    Ok(())
}

#[tokio::test]
async fn every_duration_that_is_accepted_is_understood() -> Result<()> {
    let world = World::new("good-durations").await?;
    let units = "ms msec msecs millis s sec secs second seconds m min mins minute minutes h hr \
                 hrs hour hours d day days w wk wks week weeks M month months y yr yrs year years";
    let times = units.split_whitespace().map(|unit| format!("2{unit}"));
    let others = ["1h 30m", "1h30m", "2 days", "1day 12h", "90s", "500ms"];
    let mut misunderstood = Vec::new();
    for time in times.chain(others.map(str::to_owned)) {
        let group = json!({"oaatItems": [], "frequency": time});
        if world.apply(&oaat_group("group", &group)).await.is_err() {
            continue;
        }
        let group = world
            .until("it is looked at", |g| {
                g["spec"]["frequency"] == *time
                    && g["status"]["observedGeneration"] == g["metadata"]["generation"]
            })
            .await?;
        if group["status"]["state"] == "Invalid" {
            misunderstood.push(message(&group).to_owned());
        }
    }
    assert!(misunderstood.is_empty(), "{misunderstood:#?}");
    Ok(())
}

#[tokio::test]
async fn a_duration_beyond_all_bounds_is_said_on_the_group() -> Result<()> {
    let world = World::new("bad-long").await?;
    world.work("true", json!({})).await?;
    let long = json!({"frequency": "99999999999999999999y"});
    world.group(&["a"], long).await?;
    let group = world
        .until("it is invalid", |g| g["status"]["state"] == "Invalid")
        .await?;
    assert_eq!(condition(&group, "Ready").1, "SpecInvalid");
    assert!(
        message(&group).contains("frequency is \"9999"),
        "{}",
        message(&group)
    );

    world.group(&["a"], json!({"frequency": "1y"})).await?;
    world
        .until("once mended, it runs", |g| {
            item(g, "a")["lastSuccess"].is_string()
        })
        .await?;
    Ok(())
}
