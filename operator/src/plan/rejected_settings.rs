//! Shows in the message of a group that the settings in its spec are rejected.

use oaat_api::reasons::policy_ready;
use oaat_api::{OaatGroupStatus, condition};

/// Adds to the message of a group that newer settings are rejected, if its policy decides with those
/// that it accepted last.
pub(super) fn mention_rejected_settings(status: &OaatGroupStatus, message: String) -> String {
    let policy = condition(&status.conditions, policy_ready::TYPE);
    let is_rejected = policy.is_some_and(|c| c.reason == policy_ready::SETTINGS_REJECTED);
    if is_rejected && status.accepted_settings.is_some() {
        format!("{message}; newer settings are rejected")
    } else {
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rejected_settings_are_mentioned_while_earlier_ones_are_in_effect() {
        let accepted = json!({
            "source": "backoff", "digest": "b", "settings": "{}", "items": {},
        });
        let rejected = "running a; newer settings are rejected";
        for (reason, accepted, expected) in [
            ("SettingsRejected", &accepted, rejected),
            // No settings have been accepted before.
            ("SettingsRejected", &json!(null), "running a"),
            ("SourceNotFound", &accepted, "running a"),
        ] {
            let status = serde_json::from_value(json!({
                "acceptedSettings": accepted,
                "conditions": [{
                    "type": "PolicyReady", "status": "False", "reason": reason, "message": "why",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }],
            }))
            .unwrap();
            let message = mention_rejected_settings(&status, "running a".into());
            assert_eq!(message, expected, "{reason} {accepted}");
        }
    }
}
