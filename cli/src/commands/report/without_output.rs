//! Removes from objects the messages that may contain what containers wrote, or what they run. Pure.

use super::redact::redact_flag_values;
use oaat_api::reasons::{events, items_ready, ready, running};
use serde_json::Value;

/// The reasons of events on groups, and of lines of the log, whose messages describe a run, a pod that
/// does not start, or a list that a container wrote.
const EVENTS_ON_GROUPS: [&str; 4] = [
    events::FAILED,
    events::STOPPED,
    events::START_TIMEOUT,
    events::ITEMS_NOT_READY,
];
/// The reasons of events on pods whose messages are kept. Others, such as those of hooks and probes,
/// quote commands and their output.
const EVENTS_ON_PODS: [&str; 9] = [
    "BackOff",
    "Created",
    "Evicted",
    "FailedScheduling",
    "Killing",
    "Pulled",
    "Pulling",
    "Scheduled",
    "Started",
];
/// The name of the operator's container.
const OPERATOR: &str = "operator";

/// Returns a group without the messages about its sources of items and about a pod that does not start.
pub(super) fn group(mut group: Value) -> Value {
    let Some(status) = group.get_mut("status") else {
        return group;
    };
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    let mut is_quoted = false;
    for condition in conditions.into_iter().flatten() {
        let (is_source, is_empty) = (
            condition["type"] == items_ready::TYPE,
            condition["reason"] == ready::NO_ITEMS,
        );
        if is_source || is_empty {
            remove_message(condition);
        }
        // The message of the group repeats these.
        is_quoted |= is_empty || condition["reason"] == running::NOT_STARTED;
    }
    if is_quoted {
        remove_message(status);
    }
    group
}

/// Returns an event without its message if that may contain what a container wrote.
pub(super) fn event(mut event: Value) -> Value {
    let reason = event["reason"].as_str().unwrap_or_default();
    let is_kept = match event["involvedObject"]["kind"].as_str() {
        Some("Pod") => EVENTS_ON_PODS.contains(&reason),
        _ => !EVENTS_ON_GROUPS.contains(&reason),
    };
    if !is_kept {
        remove_message(&mut event);
    }
    event
}

/// Returns a line of the operator's log without its message if that may contain what a container wrote.
pub(super) fn log_line(mut line: Value) -> Value {
    let reason = line["reason"].as_str().unwrap_or_default();
    if EVENTS_ON_GROUPS.contains(&reason) {
        remove_message(&mut line);
    }
    line
}

/// Returns a workload of the operator without the arguments of other containers, and without the
/// credentials in its own.
pub(super) fn workload(mut workload: Value) -> Value {
    let containers = workload.pointer_mut("/spec/template/spec/containers");
    let containers = containers.and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        let is_operator = container["name"] == OPERATOR;
        let Some(args) = container.get_mut("args") else {
            continue;
        };
        match args.as_array_mut() {
            Some(args) if is_operator => redact_flag_values(args),
            _ => *args = Value::Null,
        }
    }
    workload
}

fn remove_message(value: &mut Value) {
    if let Some(fields) = value.as_object_mut() {
        fields.remove("message");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn group_loses_the_messages_of_sources_and_of_pods_that_do_not_start() {
        let status = |conditions: Value| json!({ "message": "s", "conditions": conditions });
        for (conditions, expected) in [
            (
                json!([
                    { "type": "ItemsReady", "reason": "SourceFailed", "message": "s" },
                    { "type": "Ready", "reason": "NothingDue", "message": "r" },
                ]),
                json!({ "message": "s", "conditions": [
                    { "type": "ItemsReady", "reason": "SourceFailed" },
                    { "type": "Ready", "reason": "NothingDue", "message": "r" },
                ] }),
            ),
            (
                json!([{ "type": "Ready", "reason": "NoItems", "message": "s" }]),
                json!({ "conditions": [{ "type": "Ready", "reason": "NoItems" }] }),
            ),
            (
                json!([{ "type": "Running", "reason": "NotStarted", "message": "pod" }]),
                json!({ "conditions": [
                    { "type": "Running", "reason": "NotStarted", "message": "pod" },
                ] }),
            ),
        ] {
            let kept = group(json!({ "status": status(conditions) }));
            assert_eq!(kept["status"], expected);
        }
        assert_eq!(group(json!({ "spec": {} })), json!({ "spec": {} }));
    }

    #[test]
    fn event_keeps_its_message_only_if_no_container_wrote_it() {
        for (kind, reason, expected) in [
            ("OaatGroup", "Started", true),
            ("OaatGroup", "Failed", false),
            ("OaatGroup", "StartTimeout", false),
            ("OaatGroup", "ItemsNotReady", false),
            ("OaatType", "SpecInvalid", true),
            ("Pod", "Pulled", true),
            ("Pod", "FailedScheduling", true),
            ("Pod", "Unhealthy", false),
            ("Pod", "FailedPostStartHook", false),
            ("Pod", "Failed", false),
        ] {
            let kept = event(json!({
                "involvedObject": { "kind": kind }, "reason": reason, "message": "m",
            }));
            assert_eq!(kept.get("message").is_some(), expected, "{kind} {reason}");
        }
    }

    #[test]
    fn workload_has_only_the_arguments_of_the_operator_without_credentials() {
        let containers = json!([
            { "name": "operator", "args": [
                "--metrics-address", ":8080", "--client-secret", "s3cret", "--token=s3cret",
            ] },
            { "name": "proxy", "args": ["s3cret"] },
            { "name": "other" },
        ]);
        let workload = workload(json!({ "spec": { "template": { "spec": {
            "containers": containers,
        } } } }));
        let kept = super::super::redact::redact(&workload, super::super::kinds::WORKLOAD);
        assert_eq!(
            kept.unwrap()["spec"]["template"]["spec"]["containers"],
            json!([
                { "name": "operator", "args": [
                    "--metrics-address", ":8080", "--client-secret", "(left out)",
                    "--token=(left out)",
                ] },
                { "name": "proxy" },
                { "name": "other" },
            ])
        );
    }
}
