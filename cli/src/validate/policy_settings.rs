//! Checks the settings of built-in policies, as the operator does before it uses them.

use super::schema::FieldReport;
use built_in_policies::component;
use oaat_api::{BuiltInPolicy, OaatGroupSpec, text};
use policy_host::{Host, ItemSettings, Limits, Policy};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// The built-in policies, compiled when the settings for one are first checked.
#[derive(Debug, Default)]
pub(crate) struct BuiltInPolicies(HashMap<BuiltInPolicy, Result<Policy, String>>);

impl BuiltInPolicies {
    /// Checks the settings of the policy of a group and of its shadow, if they are built in.
    pub fn check(&mut self, spec: &OaatGroupSpec) -> Vec<FieldReport> {
        let Some(policy) = &spec.policy else {
            return Vec::new();
        };
        let items = item_settings(spec);
        let shadow = policy.shadow.as_ref();
        let checks = [
            ("spec.policy", policy.built_in, &policy.settings),
            (
                "spec.policy.shadow",
                shadow.and_then(|shadow| shadow.built_in),
                shadow.map_or(&None, |shadow| &shadow.settings),
            ),
        ];
        let reports = checks
            .into_iter()
            .filter_map(|(field, built_in, settings)| {
                let error = self.settings_error(built_in?, settings.as_ref(), &items)?;
                Some(match error {
                    SettingsError::Group(message) => {
                        FieldReport::error(format!("{field}.settings"), message)
                    }
                    SettingsError::Items(message) => {
                        FieldReport::error("spec.itemOptions", format!("{field}: {message}"))
                    }
                })
            });
        reports.collect()
    }

    /// Returns why a policy rejects settings.
    fn settings_error(
        &mut self,
        name: BuiltInPolicy,
        settings: Option<&Map<String, Value>>,
        items: &[ItemSettings],
    ) -> Option<SettingsError> {
        let policy = self.0.entry(name).or_insert_with(|| load(name));
        let settings = settings.map_or_else(|| "{}".to_owned(), json);
        match policy {
            Err(problem) => Some(SettingsError::Group(problem.clone())),
            Ok(policy) => {
                let rejection = policy.validate(&settings, items).answer.err()?;
                let items_only =
                    !items.is_empty() && policy.validate(&settings, &[]).answer.is_ok();
                let error = if items_only {
                    SettingsError::Items
                } else {
                    SettingsError::Group
                };
                Some(error(rejection.settings_problem()))
            }
        }
    }
}

/// Returns a warning if items have settings, but no policy of the group reads them.
pub(crate) fn unread_item_settings(spec: &OaatGroupSpec) -> Option<FieldReport> {
    let ignores = |built_in| built_in == Some(BuiltInPolicy::Default);
    let is_unread = spec.policy.as_ref().is_none_or(|policy| {
        let shadow = policy.shadow.as_ref();
        ignores(policy.built_in) && shadow.is_none_or(|shadow| ignores(shadow.built_in))
    });
    let with_settings = item_settings(spec)
        .into_iter()
        .filter(|item| item.settings != "{}");
    let names: Vec<_> = with_settings.map(|item| item.name).collect();
    if !is_unread || names.is_empty() {
        return None;
    }
    let names = text::list(&names, ", ", text::NAME);
    let message = format!(
        "the built-in policy default ignores the settings of {names}; remove these settings, or set \
         spec.policy or spec.policy.shadow to a policy that reads them"
    );
    Some(FieldReport::warning("spec.itemOptions", message))
}

/// Why the settings for a policy are not valid.
enum SettingsError {
    /// The policy cannot be loaded, or it rejects the settings of the group.
    Group(String),
    /// The policy accepts the settings of the group, but rejects those of an item.
    Items(String),
}

fn load(name: BuiltInPolicy) -> Result<Policy, String> {
    let host = Host::new(Limits::default()).map_err(|error| error.to_string())?;
    let policy = host.load(component(name), None);
    policy.map_err(|error| format!("failed to load the built-in policy {name}: {error}"))
}

/// Returns the settings of items. If other sources list the items, returns those of all items with
/// options.
fn item_settings(spec: &OaatGroupSpec) -> Vec<ItemSettings> {
    let settings_of = |name: &String| {
        let settings = spec.item_options.get(name)?.settings.as_ref()?;
        Some(ItemSettings {
            name: name.clone(),
            settings: json(settings),
        })
    };
    if spec.items_from.is_empty() {
        spec.oaat_items.iter().filter_map(settings_of).collect()
    } else {
        spec.item_options.keys().filter_map(settings_of).collect()
    }
}

fn json(object: &Map<String, Value>) -> String {
    serde_json::to_string(object).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(spec: Value) -> Vec<String> {
        let spec: OaatGroupSpec = serde_json::from_value(spec).unwrap();
        let reports = BuiltInPolicies::default().check(&spec).into_iter();
        reports
            .map(|report| format!("{}: {}", report.field, report.message))
            .collect()
    }

    #[test]
    fn settings_of_built_in_policies_and_their_items_are_checked() {
        let bad = json!({"base": "soon"});
        let cases = [
            (json!({"builtIn": "backoff"}), vec![]),
            (
                json!({"builtIn": "backoff", "settings": {"base": "5m"}}),
                vec![],
            ),
            (
                json!({"builtIn": "backoff", "settings": bad}),
                vec!["spec.policy.settings: the policy rejects its settings: "],
            ),
            (
                json!({"builtIn": "default", "settings": bad}),
                vec![
                    "spec.policy.settings: the policy rejects its settings: the built-in policy default takes",
                ],
            ),
            // Only the cluster has the component.
            (
                json!({"configMap": {"name": "own"}, "settings": bad}),
                vec![],
            ),
            (
                json!({"configMap": {"name": "own"}, "shadow": {"builtIn": "backoff", "settings": bad}}),
                vec!["spec.policy.shadow.settings: the policy rejects its settings: "],
            ),
        ];
        for (policy, expected) in cases {
            let found = problems(json!({"oaatType": "t", "policy": policy}));
            assert_eq!(found.len(), expected.len(), "{policy}: {found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.starts_with(expected), "{found}");
            }
        }
    }

    #[test]
    fn only_settings_of_listed_items_are_checked() {
        let problems = |items: Value, items_from: Value| {
            problems(json!({
                "oaatType": "t", "oaatItems": items, "itemsFrom": items_from,
                "itemOptions": {"a": {"settings": {"base": "soon"}}},
                "policy": {"builtIn": "backoff"},
            }))
        };
        assert_eq!(problems(json!(["b"]), json!([])).len(), 0);
        let found = problems(json!(["a"]), json!([]));
        assert_eq!(found.len(), 1, "{found:?}");
        let from = json!([{"name": "more", "configMap": {"name": "more"}}]);
        assert_eq!(problems(json!(["b"]), from).len(), 1);
    }

    #[test]
    fn rejected_item_settings_are_reported_under_item_options() {
        let problems_of = |policy: Value| {
            problems(json!({
                "oaatType": "t", "oaatItems": ["a"],
                "itemOptions": {"a": {"settings": {"base": "soon"}}}, "policy": policy,
            }))
        };
        let rejected = "the policy rejects its settings: ";
        for (policy, expected) in [
            (
                json!({"builtIn": "backoff"}),
                format!("spec.itemOptions: spec.policy: {rejected}"),
            ),
            (
                json!({"configMap": {"name": "own"}, "shadow": {"builtIn": "backoff"}}),
                format!("spec.itemOptions: spec.policy.shadow: {rejected}"),
            ),
            (
                json!({"builtIn": "backoff", "settings": {"base": "soon"}}),
                format!("spec.policy.settings: {rejected}"),
            ),
        ] {
            let found = problems_of(policy);
            assert!(
                found.len() == 1 && found[0].starts_with(&expected),
                "{found:?}"
            );
        }
    }
}
