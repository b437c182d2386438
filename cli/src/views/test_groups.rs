//! Groups for tests.

use oaat_api::{OaatGroup, Timestamp};
use serde_json::{Value, json};

/// The current time of the tests: 2026-03-02T12:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp(1_772_452_800_000);

pub(crate) fn time(text: &str) -> Timestamp {
    serde_json::from_value(json!(text)).expect("the time is valid")
}

/// Returns a group with this spec and status, in namespace `media`.
pub(crate) fn group(spec: &Value, status: &Value) -> OaatGroup {
    let object = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": "backup", "namespace": "media" },
        "spec": spec, "status": status,
    });
    serde_json::from_value(object).expect("the group is valid")
}

/// Returns the group [`backup`] with a shadow policy and this condition.
pub(crate) fn shadowed(status: &str, reason: &str, message: &str) -> OaatGroup {
    let mut group = backup();
    let policy = json!({ "builtIn": "default", "shadow": { "builtIn": "backoff" } });
    group.spec.policy = serde_json::from_value(policy).expect("the policy is valid");
    set_condition(&mut group, "ShadowAgrees", status, reason, message);
    group
}

/// Returns the group [`backup`] with a policy that rejects its settings.
pub(crate) fn rejecting(message: &str) -> OaatGroup {
    let mut group = backup();
    set_condition(
        &mut group,
        "PolicyReady",
        "False",
        "SettingsRejected",
        message,
    );
    group
}

fn set_condition(group: &mut OaatGroup, type_: &str, status: &str, reason: &str, message: &str) {
    let conditions = json!([{
        "type": type_, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-03-02T11:00:00Z",
    }]);
    let conditions = serde_json::from_value(conditions).expect("the condition is valid");
    group.status.get_or_insert_default().conditions = conditions;
}

/// Returns the group [`backup`], whose policy `backoff` decides with the settings that it accepted last.
pub(crate) fn with_accepted_settings() -> OaatGroup {
    let mut group = backup();
    let policy = json!({ "builtIn": "backoff", "settings": { "base": "soon" } });
    group.spec.policy = serde_json::from_value(policy).expect("the policy is valid");
    let status = group.status.get_or_insert_default();
    let in_use = json!({ "source": "backoff", "digest": "b", "contract": "1.0.0" });
    status.policy = serde_json::from_value(in_use).expect("the policy is valid");
    let accepted = json!({
        "source": "backoff", "digest": "b", "settings": r#"{"base":"10m"}"#,
        "items": { "mail": r#"{"base":"20m"}"# },
    });
    status.accepted_settings = serde_json::from_value(accepted).expect("the settings are valid");
    group
}

/// Returns a group in which `photos` runs, and whose other items are in various states.
pub(crate) fn backup() -> OaatGroup {
    group(
        &json!({
            "oaatType": "backup", "frequency": "1h", "failureCoolOff": "20m",
            "oaatItems": ["photos", "mail", "late", "broken", "off"],
            "itemOptions": { "off": { "suspend": true } },
        }),
        &json!({
            "state": "Running", "message": "running photos", "run": 7,
            "lastRun": "2026-03-02T11:55:00Z",
            "policy": { "source": "default", "digest": "d", "contract": "1.0.0" },
            "current": {
                "run": 7, "item": "photos", "podName": "backup-photos-x", "podUid": "u",
                "claimed": "2026-03-02T11:55:00Z",
            },
            "items": {
                "photos": {
                    "state": "Ready", "lastSuccess": "2026-03-02T10:00:00Z",
                    "lastStarted": "2026-03-02T11:55:00Z", "durations": [60, 90], "runs": 3,
                },
                "mail": {
                    "state": "Fresh", "lastSuccess": "2026-03-02T11:30:00Z",
                    "next": "2026-03-02T12:30:00Z",
                },
                "late": { "state": "Ready", "lastSuccess": "2026-03-02T10:45:00Z" },
                "broken": {
                    "state": "Cooling", "lastFailure": "2026-03-02T11:50:00Z", "failures": 3,
                    "next": "2026-03-02T12:10:00Z", "lastExitCode": 2,
                    "message": "failed 3 times since its last success (Error); cooling off \
                                until 2026-03-02T12:10:00Z",
                },
                "off": { "state": "Held", "message": "suspended by itemOptions" },
            },
            "history": [
                {
                    "run": 6, "item": "broken", "pod": "backup-broken-y",
                    "started": "2026-03-02T11:49:00Z", "finished": "2026-03-02T11:50:00Z",
                    "result": "Failed", "reason": "Error", "message": "no space\u{1b}[31m left",
                    "exitCode": 2,
                },
                {
                    "run": 5, "item": "mail", "pod": "backup-mail-z",
                    "started": "2026-03-02T11:29:00Z", "finished": "2026-03-02T11:30:00Z",
                    "result": "Succeeded", "reason": "Completed", "exitCode": 0,
                },
            ],
        }),
    )
}
