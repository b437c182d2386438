//! Limits on the size of a group's status.

use crate::run_now::MAX_TOKEN_LENGTH;
use crate::text::{MESSAGE, NAME, POLICY_STATE, PROBLEM, clean};
use crate::validate::MAX_ITEM;
use crate::{AcceptedSettings, OaatGroupStatus};

/// The maximum length of an item's message in bytes, in a group with few items. It has room for a
/// termination message.
const ITEM: usize = 768;
/// The maximum length of the messages of all items of a group together, in bytes.
///
/// The names of 2,000 items take up to 120,000 bytes. The API server stores each of them five times:
/// in the spec, in managed fields, twice in the status, and possibly in kubectl's annotation. The
/// times and counters of an item take up to 400 bytes. With these messages and the rest of a status
/// (70,000 bytes), the total is below the 1.5 MiB that etcd accepts. Settings in the status (up to
/// [`crate::AcceptedSettings::MAX_SIZE`]) reduce the space for messages.
const ITEMS: usize = 100_000;
/// The maximum length of the name of an item in bytes.
const ITEM_NAME: usize = 4 * MAX_ITEM;
/// The maximum length of the name of an object in bytes, set by Kubernetes.
const OBJECT_NAME: usize = 253;
/// The maximum length of a run-now token in bytes.
const TOKEN: usize = 4 * MAX_TOKEN_LENGTH;
/// The length of a hexadecimal SHA-256 digest.
const SHA256: usize = 64;

/// Cleans all messages of a status, and limits its data.
pub fn clean_status(status: &mut OaatGroupStatus) {
    limit_data(status);
    let clean_in_place = |text: &mut String, max| *text = clean(text, max);
    let settings = status.accepted_settings.as_ref();
    let messages = ITEMS.saturating_sub(settings.map_or(0, AcceptedSettings::size));
    let per_item = ITEM.min(messages / status.items.len().max(1));
    let items = status.items.values_mut();
    for message in items.filter_map(|item| item.message.as_mut()) {
        clean_in_place(message, per_item);
    }
    let items = status.items.values_mut();
    for mark in items.filter_map(|item| item.marked.as_mut()) {
        clean_in_place(&mut mark.by, NAME);
    }
    for run in &mut status.history {
        clean_in_place(&mut run.reason, NAME);
        run.message
            .iter_mut()
            .for_each(|text| clean_in_place(text, MESSAGE));
    }
    for source in &mut status.item_sources {
        clean_in_place(&mut source.source, PROBLEM);
        source
            .problem
            .iter_mut()
            .for_each(|text| clean_in_place(text, PROBLEM));
    }
    let stopping = status.current.as_mut().and_then(|c| c.stopping.as_mut());
    stopping
        .into_iter()
        .for_each(|stopping| clean_in_place(&mut stopping.reason, NAME));
    let texts = [
        status.message.as_mut(),
        status
            .current
            .as_mut()
            .and_then(|c| Some(&mut c.stopping.as_mut()?.message)),
        status.last_decision.as_mut().and_then(|d| d.why.as_mut()),
        status.run_now.as_mut().and_then(|r| r.problem.as_mut()),
        status.rejected.as_mut().map(|r| &mut r.message),
        status.rejected_policy.as_mut().map(|r| &mut r.message),
    ];
    for text in texts.into_iter().flatten() {
        clean_in_place(text, MESSAGE);
    }
}

/// Truncates data that is longer than valid data can be, and removes settings and states that are too
/// long.
///
/// Anyone with permission to write the status may have written it. These limits are not in the schema:
/// the API server would then reject the operator's writes to a status that exceeds them, and block the
/// group. `current` stays unchanged because it is the lock of the group. Conditions stay unchanged
/// because they may belong to other controllers.
fn limit_data(status: &mut OaatGroupStatus) {
    let cut = |text: &mut String, max| text.truncate(text.floor_char_boundary(max));
    let cut_option =
        |text: &mut Option<String>, max| text.iter_mut().for_each(|text| cut(text, max));
    // A truncated state or truncated settings would be useless, so they are removed.
    status
        .policy_state
        .take_if(|state| state.len() > POLICY_STATE);
    let too_large = |settings: &mut AcceptedSettings| settings.size() > AcceptedSettings::MAX_SIZE;
    status.accepted_settings.take_if(too_large);
    for item in status.items.values_mut() {
        cut(&mut item.item, ITEM_NAME);
        let attempts = item.attempts.iter_mut();
        attempts.for_each(|attempts| cut(&mut attempts.definition, NAME));
    }
    for run in &mut status.history {
        cut(&mut run.item, ITEM_NAME);
        cut_option(&mut run.pod, OBJECT_NAME);
    }
    for source in &mut status.item_sources {
        cut(&mut source.name, NAME);
        cut(&mut source.definition, NAME);
        cut_option(&mut source.pod, OBJECT_NAME);
        cut_option(&mut source.pod_uid, NAME);
        source
            .items
            .iter_mut()
            .for_each(|item| cut(item, ITEM_NAME));
    }
    if let Some(policy) = &mut status.policy {
        cut(&mut policy.source, AcceptedSettings::MAX_SOURCE);
        cut(&mut policy.digest, SHA256);
        cut(&mut policy.contract, NAME);
        cut_option(&mut policy.instead_of, SHA256);
    }
    if let Some(last) = &mut status.last_good_built_in {
        cut(&mut last.name, NAME);
        cut_option(&mut last.policy_digest, SHA256);
    }
    if let Some(decision) = &mut status.last_decision {
        cut(&mut decision.item, ITEM_NAME);
        cut(&mut decision.seed, NAME);
        cut_option(&mut decision.digest, SHA256);
        cut_option(&mut decision.request, SHA256);
    }
    if let Some(rejected) = &mut status.rejected_policy {
        cut(&mut rejected.sha256, SHA256);
        cut(&mut rejected.reason, NAME);
        cut(&mut rejected.operator, NAME);
    }
    if let Some(run_now) = &mut status.run_now {
        cut_option(&mut run_now.token, TOKEN);
    }
    if let Some(rejected) = &mut status.rejected {
        rejected
            .items
            .iter_mut()
            .for_each(|item| cut(item, ITEM_NAME));
    }
    for (text, max) in [
        (&mut status.state, NAME),
        (&mut status.next, NAME),
        (&mut status.currently_running, ITEM_NAME),
        (&mut status.pod, OBJECT_NAME),
        (&mut status.failed_policy, SHA256),
        (&mut status.policy_state_of, AcceptedSettings::MAX_SOURCE),
    ] {
        cut_option(text, max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{CONDITION, is_unprintable};
    use crate::{Attempts, ItemState, ItemStatus, Mark, OaatGroup, Timestamp, set_condition};
    use kube::CustomResourceExt;
    use serde_json::{Map, Value, json};
    use std::collections::BTreeSet;

    /// Returns a value that the schema allows, with hostile text in every string.
    fn hostile(schema: &Value) -> Value {
        let text = format!("\x1b[2Ja\u{202e}b\u{200b}\n{}", "ü".repeat(3000));
        match schema["type"].as_str().unwrap_or_default() {
            "string" => match (&schema["enum"][0], schema["format"].as_str()) {
                (_, Some("date-time")) => json!("2026-01-01T00:00:00Z"),
                (Value::Null, _) => json!(text),
                (first, _) => first.clone(),
            },
            "integer" => json!(1),
            "boolean" => json!(true),
            "array" => json!([hostile(&schema["items"])]),
            _ => {
                let none = Map::new();
                let fields = schema["properties"].as_object().unwrap_or(&none);
                let mut map: Map<_, _> = fields
                    .iter()
                    .map(|(name, field)| (name.clone(), hostile(field)))
                    .collect();
                if schema["additionalProperties"].is_object() {
                    map.insert(text, hostile(&schema["additionalProperties"]));
                }
                Value::Object(map)
            }
        }
    }

    /// Finds the fields with texts like these.
    fn find(value: &Value, path: &str, matches: fn(&str) -> bool, found: &mut BTreeSet<String>) {
        match value {
            Value::String(text) if matches(text) => {
                found.insert(path.to_owned());
            }
            Value::Array(list) => list
                .iter()
                .for_each(|value| find(value, path, matches, found)),
            Value::Object(map) => {
                for (key, value) in map {
                    let key = if key.contains(is_unprintable) {
                        "*"
                    } else {
                        key
                    };
                    find(value, &format!("{path}.{key}"), matches, found);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn status_messages_are_cleaned_and_data_is_limited() {
        let crd = serde_json::to_value(OaatGroup::crd()).unwrap();
        let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/status");
        let mut status: OaatGroupStatus = serde_json::from_value(hostile(schema.unwrap())).unwrap();
        // The schema of items is open. Every field is named, so that a new one is not forgotten.
        let text = || {
            hostile(&json!({ "type": "string" }))
                .as_str()
                .unwrap()
                .to_owned()
        };
        let item = ItemStatus {
            item: text(),
            state: ItemState::Ready,
            message: Some(text()),
            last_success: None,
            last_failure: None,
            failures: None,
            last_exit_code: None,
            last_started: None,
            last_finished: None,
            durations: Vec::new(),
            attempts: Some(Attempts {
                definition: text(),
                ignored_failures: 0,
            }),
            runs: None,
            next: None,
            marked: Some(Mark {
                time: Timestamp(0),
                by: text(),
            }),
            missing_since: None,
            old_last_success: None,
            old_last_failure: None,
            old_failure_count: None,
        };
        status.items.insert(text(), item);
        let before = serde_json::to_value(&status).unwrap();
        clean_status(&mut status);
        let after = serde_json::to_value(&status).unwrap();
        let found = |matches: fn(&str) -> bool| {
            let mut found = BTreeSet::new();
            find(&after, "", matches, &mut found);
            found.into_iter().collect::<Vec<_>>()
        };
        // Names of items, the state of the policy, and values that the API server or the operator
        // created. `set_condition` cleans conditions.
        let data = [
            ".acceptedSettings.digest",
            ".acceptedSettings.items.*",
            ".acceptedSettings.settings",
            ".acceptedSettings.source",
            ".conditions.message",
            ".conditions.reason",
            ".conditions.status",
            ".conditions.type",
            ".current.item",
            ".current.podName",
            ".current.podUid",
            ".currentlyRunning",
            ".failedPolicy",
            ".history.item",
            ".history.pod",
            ".itemSources.definition",
            ".itemSources.items",
            ".itemSources.name",
            ".itemSources.pod",
            ".itemSources.podUid",
            ".items.*.attempts.definition",
            ".items.*.item",
            ".lastDecision.digest",
            ".lastDecision.item",
            ".lastDecision.request",
            ".lastDecision.seed",
            ".lastGoodBuiltIn.name",
            ".lastGoodBuiltIn.policyDigest",
            ".next",
            ".pod",
            ".policy.contract",
            ".policy.digest",
            ".policy.insteadOf",
            ".policy.source",
            ".policyStateOf",
            ".rejected.items",
            ".rejectedPolicy.operator",
            ".rejectedPolicy.reason",
            ".rejectedPolicy.sha256",
            ".runNow.token",
            ".state",
        ];
        assert_eq!(found(|text| text.contains(is_unprintable)), data);
        // The schema and the maximum size limit the accepted settings.
        let unlimited = [
            ".acceptedSettings.digest",
            ".acceptedSettings.items.*",
            ".acceptedSettings.settings",
            ".acceptedSettings.source",
            ".conditions.message",
            ".conditions.reason",
            ".conditions.status",
            ".conditions.type",
            ".current.item",
            ".current.podName",
            ".current.podUid",
        ];
        assert_eq!(found(|text| text.len() > CONDITION), unlimited);
        let (before, after) = (&before["currentlyRunning"], &after["currentlyRunning"]);
        let (before, after) = (before.as_str().unwrap(), after.as_str().unwrap());
        assert!(before.starts_with(after) && ITEM_NAME - after.len() < "ü".len());
        let mut again = status.clone();
        clean_status(&mut again);
        assert_eq!(again, status);
    }

    #[test]
    fn longest_valid_data_is_kept() {
        let item = "\u{10348}".repeat(MAX_ITEM);
        let source = "x".repeat(AcceptedSettings::MAX_SOURCE);
        let digest = "a".repeat(SHA256);
        let token = "\u{10348}".repeat(MAX_TOKEN_LENGTH);
        let mut status: OaatGroupStatus = serde_json::from_value(json!({
            "currentlyRunning": item,
            "policy": { "source": source, "digest": digest, "contract": "1.0.0" },
            "policyState": "s".repeat(POLICY_STATE), "policyStateOf": source,
            "failedPolicy": digest, "runNow": { "token": token },
        }))
        .unwrap();
        let before = status.clone();
        clean_status(&mut status);
        assert_eq!(status, before);
        status.policy_state = Some("s".repeat(POLICY_STATE + 1));
        clean_status(&mut status);
        assert_eq!(status.policy_state, None);
    }

    #[test]
    fn conditions_are_cleaned_when_they_are_set() {
        let mut conditions = Vec::new();
        let message = format!("a\u{202e}b\n{}", "x".repeat(9000));
        set_condition(
            &mut conditions,
            Timestamp(0),
            None,
            ("Ready", false, "R", message),
        );
        assert!(conditions[0].message.starts_with("ab x"));
        assert_eq!(conditions[0].message.len(), CONDITION);
    }

    #[test]
    fn item_messages_fit_into_one_object() {
        let mut status = OaatGroupStatus::default();
        for count in [1, 300, 2000] {
            for n in 0..count {
                let item = status.items.entry(n.to_string()).or_default();
                item.message = Some("x".repeat(9000));
            }
            let bytes = |status: &mut OaatGroupStatus| -> usize {
                clean_status(status);
                let items = status.items.values();
                items
                    .map(|item| item.message.as_ref().map_or(0, String::len))
                    .sum()
            };
            let without_settings = bytes(&mut status);
            assert!(
                (1..=ITEMS).contains(&without_settings),
                "{without_settings}"
            );
            assert!(without_settings >= count * 50);
            // Settings use the space of messages.
            let settings = AcceptedSettings {
                settings: "x".repeat(AcceptedSettings::MAX_SIZE - 100),
                ..AcceptedSettings::default()
            };
            let size = settings.size();
            status.accepted_settings = Some(settings);
            let with_settings = bytes(&mut status);
            assert!(
                (1..=ITEMS - size).contains(&with_settings),
                "{with_settings}"
            );
            assert!(with_settings >= count * 30);
            status.accepted_settings = None;
        }
    }
}
