//! Annotations, and whole objects: decoded, validated, and planned as in a reconcile.

use crate::runner::fuzz;
use hostile_policies::{mutated, mutated_text, soup};
use oaat_api::validate::{PAUSED, suspended, validate};
use oaat_api::{OaatGroup, OaatType, Timestamp};
use oaat_operator::plan::plan_group;
use oaat_operator::run_now;
use oaat_operator::snapshot::SourceLists;
use oaat_operator::snapshot::TypeRead;
use oaat_operator::snapshot::{CurrentPod, GroupSnapshot};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
/// The maximum length of a message, in bytes.
const WORDS: usize = 8 << 10;

/// Returns a group with a status from long use.
fn used() -> Value {
    json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": "g", "namespace": "n", "uid": "u", "generation": 3, "annotations": {
            run_now::ANNOTATION: "{\"token\": \"t\", \"items\": [\"a\"]}", PAUSED: "no",
        } },
        "spec": {
            "oaatType": "work", "oaatItems": ["a", "b", "c"], "frequency": "1h", "failureCoolOff": "5m",
            "itemOptions": { "b": { "suspend": true, "frequency": "2h" } },
            "blackoutWindows": [{ "schedule": "0 22 * * 1-5", "duration": "8h", "timeZone": "Europe/Berlin" }],
            "itemsFrom": [{ "name": "s", "configMap": { "name": "m" } }],
            "policy": { "configMap": { "name": "p" }, "settings": { "a": [1, 2.5, "x"] } },
        },
        "status": {
            "observedGeneration": 2, "state": "Running", "message": "running a", "run": 7,
            "items": {
                "a": { "item": "a", "state": "Running", "lastStarted": "2027-01-15T07:59:00Z", "runs": 3, "failures": 1 },
                "b": { "item": "b", "lastSuccess": "2027-01-15T06:00:00Z", "runs": 2, "failures": 0 },
            },
            "current": { "run": 7, "item": "a", "podName": "g-7", "podUid": "p7", "claimed": "2027-01-15T07:59:00Z" },
            "history": [{ "run": 6, "item": "b", "result": "Succeeded", "pod": "g-6", "started": "2027-01-15T06:00:00Z", "finished": "2027-01-15T06:00:09Z", "reason": "Completed" }],
            "runNow": { "token": "s", "time": "2027-01-15T05:00:00Z" },
            "itemSources": [{ "name": "s", "items": ["c"] }],
            "conditions": [{ "type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2027-01-15T05:00:00Z" }],
        },
    })
}

fn observed(group: OaatGroup) -> GroupSnapshot {
    GroupSnapshot {
        now: NOW,
        items: group.spec.oaat_items.clone(),
        group,
        listing: SourceLists::default(),
        uid: "u".into(),
        pods: Vec::new(),
        current: CurrentPod::None,
        deleted_while_running: false,
        terminating: false,
        type_: TypeRead::Missing,
        item_types: std::collections::BTreeMap::new(),
        leads: false,
        retry_floor: Duration::from_secs(10),
    }
}

/// Plans a group as a reconcile does.
fn settled(group: OaatGroup) -> Result<(), TestCaseError> {
    let valid = validate(&group.spec);
    if let Err(problems) = &valid {
        prop_assert!(problems.iter().all(|error| error.to_string().len() < WORDS));
    }
    let plan = plan_group(&observed(group), &valid);
    for condition in &plan.status.conditions {
        prop_assert!(!condition.reason.is_empty());
        // The maximum length of a message in the API server.
        prop_assert!(
            condition.message.len() <= 32_768,
            "{}",
            condition.message.len()
        );
    }
    Ok(())
}

/// Processes the JSON of an object as the operator does.
fn survives(json: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(group) = serde_json::from_slice::<OaatGroup>(json) {
        settled(group)?;
    }
    let _ = serde_json::from_slice::<OaatType>(json);
    Ok(())
}

#[test]
fn handwritten_objects() {
    with_large_stack(each_object);
}

fn each_object() {
    for object in hostile_policies::objects() {
        survives(object.value().to_string().as_bytes()).unwrap();
    }
    let used: OaatGroup = serde_json::from_value(used()).unwrap();
    settled(used).unwrap();
}

/// Runs a test with a large stack: it holds and drops objects that are nested thousands of levels
/// deep.
fn with_large_stack(test: fn()) {
    let thread = std::thread::Builder::new()
        .stack_size(256 << 20)
        .spawn(test);
    if let Err(panic) = thread.unwrap().join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn objects() {
    with_large_stack(mutated_objects);
}

fn mutated_objects() {
    let small = hostile_policies::objects()
        .into_iter()
        .map(|object| object.value().to_string());
    let small = small
        .map(String::into_bytes)
        .filter(|json| json.len() < 4_096);
    let used = mutated(vec![used().to_string().into_bytes()]);
    let strategy = prop_oneof![3 => used, 1 => mutated(small.collect())];
    fuzz("objects", 5_000, &strategy, |json| survives(&json));
}

#[test]
fn handwritten_annotations() {
    for text in hostile_policies::run_now() {
        let problem = noted(&text.text).unwrap();
        if let Some(refused) = text.refused {
            assert_eq!(problem, refused, "{}", text.name);
        }
    }
}

#[test]
fn annotations() {
    const PIECES: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        "\"token\": ",
        "\"items\": ",
        "\"t\"",
        "\"*\"",
        "\"a\"",
        ",",
        ":",
        "\"",
        "\\",
        "\\u0041",
        "\\ud800",
        "1",
        "-",
        "e9",
        "null",
        "true",
        " ",
        "\u{1b}",
        "\u{202e}",
        "x",
    ];
    let short = hostile_policies::run_now()
        .into_iter()
        .map(|text| text.text);
    let short = short.filter(|text| text.len() < 10_000).collect();
    let strategy = prop_oneof![mutated_text(short), soup(PIECES, 30), ".*"];
    fuzz("annotations", 5_000, &strategy, |text| {
        noted(&text).map(drop)
    });
}

/// Returns whether a request to run items now is invalid. It must be reported once, and in a short
/// message.
fn noted(text: &str) -> Result<bool, TestCaseError> {
    let mut group: OaatGroup = serde_json::from_value(used()).unwrap();
    let annotations = [run_now::ANNOTATION, PAUSED].map(|name| (name.to_owned(), text.to_owned()));
    group.metadata.annotations = Some(annotations.into());
    let _ = suspended(&group);
    let mut status = group.status.clone().unwrap_or_default();
    run_now::process(&group, &group.spec.oaat_items, &mut status, NOW);
    let problem = status
        .run_now
        .as_ref()
        .and_then(|noted| noted.problem.clone());
    prop_assert!(
        problem.as_ref().is_none_or(|words| words.len() < 2_048),
        "{problem:?}"
    );
    let once = status.clone();
    prop_assert_eq!(
        run_now::process(&group, &group.spec.oaat_items, &mut status, NOW),
        None
    );
    prop_assert_eq!(&once, &status);
    prop_assert!(
        run_now::waiting(&group, &group.spec.oaat_items, &status)
            .is_none_or(|words| words.len() < 2_048)
    );
    Ok(problem.is_some())
}
