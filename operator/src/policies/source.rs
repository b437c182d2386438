//! Where a policy comes from, and what can be wrong with it.

use k8s_openapi::api::core::v1::ConfigMap;
use oaat_api::text;
use oaat_api::{OaatGroup, PolicySpec, RejectedPolicy};
use policy_host::{EvalError, LoadError};
use std::fmt;

/// A key of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    /// Namespace of the ConfigMap, which is its group's.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The key.
    pub key: String,
}

impl Source {
    /// What a group names, if it names one.
    pub fn of(group: &OaatGroup) -> Option<Self> {
        let spec: &PolicySpec = group.spec.policy.as_ref()?;
        Some(Self {
            namespace: group.metadata.namespace.clone().unwrap_or_default(),
            name: spec.config_map.name.clone(),
            key: spec.config_map.key.clone(),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigMap {}, key {}", self.name, self.key)
    }
}

/// Why a policy does not decide as it should.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// A CamelCase token.
    pub reason: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
    /// The entry for the group's status, if the component was rejected.
    pub rejected: Option<Box<RejectedPolicy>>,
    /// Whether a busy machine, not the policy, is the cause. The policy is asked again later.
    pub passing: bool,
}

/// Verdicts of other releases are ignored, because their limits may differ.
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Problem {
    fn new(reason: &'static str, message: String) -> Self {
        Self {
            reason,
            message,
            rejected: None,
            passing: false,
        }
    }

    /// Returns the problem of a rejected component. `sha256` is that of the ConfigMap's value.
    pub fn rejected(error: &LoadError, sha256: String) -> Self {
        let problem = Self::from(error);
        let rejected = RejectedPolicy {
            sha256,
            reason: problem.reason.to_owned(),
            message: problem.message.clone(),
            operator: VERSION.to_owned(),
        };
        Self {
            rejected: Some(Box::new(rejected)),
            ..problem
        }
    }

    /// Returns the problem that is stored in a group's status, unless another release wrote it.
    pub fn remembered(rejected: &RejectedPolicy) -> Option<Self> {
        let reason = LoadError::REASONS
            .into_iter()
            .find(|reason| *reason == rejected.reason && rejected.operator == VERSION)?;
        Some(Self {
            rejected: Some(Box::new(rejected.clone())),
            ..Self::new(reason, rejected.message.clone())
        })
    }

    /// The ConfigMap could not be read.
    pub fn unavailable(source: &Source, error: &str) -> Self {
        Self::new(
            "SourceUnreadable",
            format!("{source} could not be read: {error}"),
        )
    }

    /// There is no such ConfigMap.
    pub fn not_found(source: &Source) -> Self {
        let Source {
            namespace, name, ..
        } = source;
        Self::new(
            "SourceNotFound",
            format!(
                "there is no ConfigMap {name:?} in namespace {namespace:?}; create it with: \
                 kubectl-oaat policy pack FILE --name {name} | \
                 kubectl apply -n {namespace} --server-side -f -"
            ),
        )
    }

    /// The ConfigMap is there, the key is not.
    fn no_key(source: &Source, map: &ConfigMap) -> Self {
        let binary = map.binary_data.iter().flat_map(|data| data.keys());
        let binary = text::list(binary, ", ", text::NAME);
        let key = &source.key;
        let as_text = map.data.as_ref().is_some_and(|data| data.contains_key(key));
        let more = if as_text {
            "it has one under data, which is for text; a component belongs under binaryData, where \
             `kubectl-oaat policy pack` puts it"
                .to_owned()
        } else if binary.is_empty() {
            "it has no binaryData at all; `kubectl-oaat policy pack` writes one that has".to_owned()
        } else {
            format!("it has {binary}; name one of them in spec.policy.configMap.key")
        };
        Self::new(
            "KeyNotFound",
            format!(
                "ConfigMap {:?} has no binaryData key {key:?}: {more}",
                source.name
            ),
        )
    }

    /// It was not the component's fault, and may go better next time.
    pub fn tried_again(mut self, wait: std::time::Duration) -> Self {
        let words = format!(
            "; it is tried again in {} seconds",
            wait.as_secs_f64().round()
        );
        self.message.push_str(&words);
        self
    }

    /// The policy is the one that is asked for, but the settings that it decides with are not.
    pub fn with_old_settings(mut self) -> Self {
        self.message
            .push_str("; the settings that the group has now are not in force yet");
        self
    }

    /// The policy that the group names now is on its way, and its settings with it.
    pub fn settings_wait(source: &Source) -> Self {
        let message = format!("the policy in {source} is being loaded");
        Self::new("Loading", message).with_old_settings()
    }

    /// The policy that the group used does not match its current pin.
    pub fn pinned(source: &Source) -> Self {
        let message = format!("the last policy from {source} does not match spec.policy.sha256");
        Self::new("DigestMismatch", message)
    }

    /// The policy did not accept the settings.
    pub fn settings(error: &EvalError) -> Self {
        let message = match error {
            EvalError::PolicyError(words) => format!("the policy refuses its settings: {words}"),
            other => format!("the settings could not be checked: {other}"),
        };
        Self {
            passing: matches!(error, EvalError::Deadline(_)),
            ..Self::new("SettingsRejected", message)
        }
    }
}

impl From<&LoadError> for Problem {
    fn from(error: &LoadError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

impl From<&EvalError> for Problem {
    fn from(error: &EvalError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

/// The bytes of a policy in a ConfigMap that may not be there.
///
/// # Errors
/// SourceNotFound or KeyNotFound.
pub fn bytes<'a>(source: &Source, map: Option<&'a ConfigMap>) -> Result<&'a [u8], Problem> {
    let map = map.ok_or_else(|| Problem::not_found(source))?;
    map.binary_data
        .as_ref()
        .and_then(|data| data.get(&source.key))
        .map(|bytes| bytes.0.as_slice())
        .ok_or_else(|| Problem::no_key(source, map))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn source() -> Source {
        Source {
            namespace: "home".into(),
            name: "mine".into(),
            key: "policy.wasm".into(),
        }
    }

    fn map(more: serde_json::Value) -> ConfigMap {
        serde_json::from_value(more).unwrap()
    }

    #[test]
    fn the_bytes_are_those_of_the_key() {
        let map = map(json!({ "binaryData": { "policy.wasm": "AAE=" } }));
        assert_eq!(bytes(&source(), Some(&map)), Ok(&[0, 1][..]));
    }

    #[test]
    fn each_way_of_not_being_there_says_what_to_do() {
        let cases = [
            (None, "SourceNotFound", "policy pack FILE --name mine"),
            (Some(json!({})), "KeyNotFound", "no binaryData at all"),
            (
                Some(json!({ "binaryData": { "a.wasm": "" } })),
                "KeyNotFound",
                "it has a.wasm; name",
            ),
            (
                Some(json!({ "data": { "policy.wasm": "x" } })),
                "KeyNotFound",
                "under data, which is for text",
            ),
        ];
        for (given, reason, words) in cases {
            let map = given.map(map);
            let problem = bytes(&source(), map.as_ref()).unwrap_err();
            assert_eq!(problem.reason, reason);
            assert!(problem.message.contains(words), "{}", problem.message);
        }
    }
}
