//! Length limits for the text that the operator writes, and where that text is cleaned.
//!
//! [`crate::set_condition`] cleans conditions. [`clean_status`] cleans the other messages of a
//! status before it is written. The operator cleans events when it sends them, cleans the API
//! server's messages when it receives them, and escapes its log. Data, such as the names of items, is
//! kept unchanged.

use crate::{AcceptedSettings, OaatGroupStatus};
pub use plain_text::{clean, escape, is_unprintable, last_lines, list};

/// The maximum length of a condition's message in bytes. The API allows 32 KiB.
pub const CONDITION: usize = 2048;
/// The maximum length of an event's note in bytes, set by the events API.
pub const EVENT: usize = 1024;
/// The maximum length of other messages in a status, in bytes: of the group, of a run, or of an API
/// server error.
pub const MESSAGE: usize = 1024;
/// The maximum length of one problem of a source of items or of a spec, in bytes.
pub const PROBLEM: usize = 400;
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
/// The maximum length of the name of an item or another object in a message, in bytes.
pub const NAME: usize = 128;
/// The maximum length of a container's termination message in bytes.
pub const TERMINATION_MESSAGE: usize = 512;

/// Cleans the name of an item or another object for a message.
pub fn name(name: &str) -> String {
    clean(name, NAME)
}

/// Cleans all messages of a status.
pub fn clean_status(status: &mut OaatGroupStatus) {
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

#[cfg(test)]
mod tests {
    use super::*;
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

    /// Finds the fields with unprintable characters or with more bytes than a message may have.
    fn unclean(value: &Value, path: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::String(text) if text.contains(is_unprintable) || text.len() > CONDITION => {
                found.insert(path.to_owned());
            }
            Value::Array(list) => list.iter().for_each(|value| unclean(value, path, found)),
            Value::Object(map) => {
                for (key, value) in map {
                    let key = if key.contains(is_unprintable) {
                        "*"
                    } else {
                        key
                    };
                    unclean(value, &format!("{path}.{key}"), found);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn status_messages_are_cleaned_and_data_is_kept() {
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
        let mut found = BTreeSet::new();
        unclean(&after, "", &mut found);
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
            ".lastGoodBuiltIn",
            ".next",
            ".pod",
            ".policy.contract",
            ".policy.digest",
            ".policy.insteadOf",
            ".policy.source",
            ".policyState",
            ".policyStateOf",
            ".rejected.items",
            ".rejectedPolicy.operator",
            ".rejectedPolicy.reason",
            ".rejectedPolicy.sha256",
            ".runNow.token",
            ".state",
        ];
        assert_eq!(found.into_iter().collect::<Vec<_>>(), data);
        assert_eq!(before["currentlyRunning"], after["currentlyRunning"]);
        let mut again = status.clone();
        clean_status(&mut again);
        assert_eq!(again, status);
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
