//! The policy and the settings that decide for a group now.

use oaat_api::reasons::policy_ready;
use oaat_api::text;
use oaat_api::{AcceptedSettings, BuiltInPolicy, OaatGroup, condition};
use serde_json::{Map, Value};

/// The policy that decides for a group now, as its status shows it.
pub(crate) struct PolicyInEffect<'a> {
    group: &'a OaatGroup,
    /// Its source, as in `status.policy`.
    pub source: String,
    /// The sha256 of its component, if the status has it.
    pub digest: Option<&'a str>,
    /// The settings that it accepted last, if those in the spec are not in effect.
    accepted: Option<&'a AcceptedSettings>,
}

impl<'a> PolicyInEffect<'a> {
    fn of(group: &'a OaatGroup) -> Self {
        if let Some(accepted) = accepted_settings(group) {
            return Self {
                group,
                source: accepted.source.clone(),
                digest: Some(&accepted.digest),
                accepted: Some(accepted),
            };
        }
        let named = Self::in_spec(group);
        let last = group.status.as_ref().and_then(|s| s.policy.as_ref());
        // A new policy may be in use before it has decided.
        let last = last.filter(|last| last.source == named.source || !is_named_in_use(group));
        match last {
            Some(last) => Self {
                source: last.source.clone(),
                digest: Some(&last.digest),
                ..named
            },
            None => named,
        }
    }

    /// Returns the policy that a forecast evaluates, and what the forecast assumes because of that. If
    /// the component of the policy in effect is neither built in nor named in the spec, it is the policy
    /// in the spec.
    pub fn for_forecast(group: &'a OaatGroup) -> (Self, Option<String>) {
        let in_effect = Self::of(group);
        let is_readable = in_effect.is_in_spec() || in_effect.built_in().is_some();
        if is_readable {
            let assumption = in_effect.difference();
            return (in_effect, assumption);
        }
        let named = Self::in_spec(group);
        let assumption = format!(
            "{} decides, because the component of {}, which is in effect, is not available",
            text::name(&named.source),
            text::name(&in_effect.source)
        );
        (named, Some(assumption))
    }

    /// Returns the built-in policy that it is, if it is one.
    pub fn built_in(&self) -> Option<BuiltInPolicy> {
        BuiltInPolicy::from_name(&self.source)
    }

    /// Returns the policy that the spec names, with the settings in the spec.
    fn in_spec(group: &'a OaatGroup) -> Self {
        Self {
            group,
            source: source_in_spec(group),
            digest: None,
            accepted: None,
        }
    }

    /// Returns whether the spec names it.
    fn is_in_spec(&self) -> bool {
        self.source == source_in_spec(self.group)
    }

    /// Returns the settings of the policy, a JSON object.
    pub fn settings(&self) -> String {
        if let Some(accepted) = self.accepted {
            return accepted.settings.clone();
        }
        let spec = self.group.spec.policy.as_ref();
        let settings = spec.and_then(|spec| spec.settings.as_ref());
        let settings = settings.filter(|_| self.receives_settings());
        settings.map_or_else(|| "{}".to_owned(), json)
    }

    /// Returns the settings of an item, a JSON object.
    pub fn item_settings(&self, item: &str) -> Option<String> {
        if let Some(accepted) = self.accepted {
            return accepted.items.get(item).cloned();
        }
        let options = self.group.spec.item_options.get(item)?;
        let settings = options.settings.as_ref();
        settings.filter(|_| self.receives_settings()).map(json)
    }

    /// Returns whether it receives the settings in the spec. The default policy does not if it decides
    /// instead of another one.
    fn receives_settings(&self) -> bool {
        let is_default = self.built_in() == Some(BuiltInPolicy::Default);
        self.group.spec.policy.is_some() && (self.is_in_spec() || !is_default)
    }

    /// Describes how it differs from the policy and the settings in the spec.
    fn difference(&self) -> Option<String> {
        let source = text::name(&self.source);
        if self.accepted.is_some() {
            return Some(format!(
                "{source} decides with the settings that it accepted last, not with those in the \
                 spec"
            ));
        }
        let named = text::name(&source_in_spec(self.group));
        (!self.is_in_spec()).then(|| format!("{source} decides, not {named}"))
    }
}

/// Returns the settings in effect, if those in the spec are not.
fn accepted_settings(group: &OaatGroup) -> Option<&AcceptedSettings> {
    group.spec.policy.as_ref()?;
    group.status.as_ref()?.accepted_settings.as_ref()
}

/// Returns the source of the policy that the spec names, as in `status.policy`.
fn source_in_spec(group: &OaatGroup) -> String {
    let spec = group.spec.policy.as_ref();
    match spec.and_then(|spec| spec.config_map.as_ref()) {
        Some(key) => key.to_string(),
        None => {
            let built_in = spec.and_then(|spec| spec.built_in);
            built_in.unwrap_or(BuiltInPolicy::Default).to_string()
        }
    }
}

/// Returns whether the policy that the spec names is in use.
fn is_named_in_use(group: &OaatGroup) -> bool {
    let status = group.status.as_ref();
    let ready = status.and_then(|status| condition(&status.conditions, policy_ready::TYPE));
    group.spec.policy.is_none() || ready.is_some_and(|ready| ready.status == "True")
}

fn json(settings: &Map<String, Value>) -> String {
    serde_json::to_string(settings).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::test_groups::{backup, with_accepted_settings};
    use serde_json::json;

    #[test]
    fn policy_in_effect_follows_the_status() {
        let mine = json!({ "configMap": { "name": "mine" }, "settings": { "a": 1 } });
        let backoff = json!({ "builtIn": "backoff", "settings": { "a": 1 } });
        let of_spec = r#"{"a":1}"#;
        for (spec, last, is_ready, source, settings, expected) in [
            (&Value::Null, "backoff", "False", "default", "{}", None),
            // It has decided.
            (&backoff, "backoff", "True", "backoff", of_spec, None),
            // It decides, but has not decided yet.
            (&backoff, "default", "True", "backoff", of_spec, None),
            // It cannot decide.
            (
                &mine,
                "default",
                "False",
                "default",
                "{}",
                Some("default decides, not ConfigMap mine, key policy.wasm"),
            ),
            (
                &mine,
                "backoff",
                "False",
                "backoff",
                of_spec,
                Some("backoff decides, not ConfigMap mine, key policy.wasm"),
            ),
            // The component of the last one is in a ConfigMap that the spec no longer names.
            (
                &backoff,
                "ConfigMap mine, key policy.wasm",
                "False",
                "backoff",
                of_spec,
                Some(
                    "backoff decides, because the component of ConfigMap mine, key policy.wasm, \
                     which is in effect, is not available",
                ),
            ),
        ] {
            let mut group = backup();
            group.spec.policy = serde_json::from_value(spec.clone()).unwrap();
            let status = group.status.as_mut().unwrap();
            let last = json!({ "source": last, "digest": "d", "contract": "1.0.0" });
            status.policy = serde_json::from_value(last).unwrap();
            let ready = json!([{
                "type": "PolicyReady", "status": is_ready, "reason": "R", "message": "m",
                "lastTransitionTime": "2026-03-02T11:00:00Z",
            }]);
            status.conditions = serde_json::from_value(ready).unwrap();
            let (policy, assumption) = PolicyInEffect::for_forecast(&group);
            let found = (&*policy.source, &*policy.settings(), assumption.as_deref());
            assert_eq!(found, (source, settings, expected));
        }
    }

    #[test]
    fn accepted_settings_are_in_effect_instead_of_those_in_the_spec() {
        let mut group = with_accepted_settings();
        let (policy, assumption) = PolicyInEffect::for_forecast(&group);
        assert_eq!((&*policy.source, policy.digest), ("backoff", Some("b")));
        assert_eq!(policy.settings(), r#"{"base":"10m"}"#);
        let of_mail = policy.item_settings("mail");
        assert_eq!(of_mail.as_deref(), Some(r#"{"base":"20m"}"#));
        assert_eq!(policy.item_settings("late"), None);
        let expected = "backoff decides with the settings that it accepted last, not with those in \
                        the spec";
        assert_eq!(assumption.as_deref(), Some(expected));
        // The status still has them when the policy is removed from the spec.
        group.spec.policy = None;
        let (policy, assumption) = PolicyInEffect::for_forecast(&group);
        assert_eq!((&*policy.source, &*policy.settings()), ("default", "{}"));
        assert_eq!(assumption, None);
    }
}
