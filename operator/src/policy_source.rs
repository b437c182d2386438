//! The source of a policy, and the problems that it can have.

use crate::pod::names;
use k8s_openapi::api::core::v1::ConfigMap;
use oaat_api::reasons::policy_ready;
use oaat_api::text;
use oaat_api::{
    AcceptedSettings, BuiltInPolicy, OaatGroup, OaatGroupStatus, PolicyKey, PolicySpec,
    RejectedPolicy, Timestamp,
};
use policy_host::{EvalError, LoadError, Policy};
use std::fmt;

/// Where the component of a policy is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PolicySource {
    /// The operator itself.
    BuiltIn(BuiltInPolicy),
    /// A ConfigMap in the namespace of the group.
    ConfigMap(PolicyConfigMap),
    /// A copy in the operator's own namespace.
    Kept(KeptPolicy),
}

/// A policy that decided for a group, and of which the operator keeps a copy. The copy belongs to the
/// namespace of the group, because a tenant may be able to forge the status of its own groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeptPolicy {
    /// The namespace of the group.
    pub namespace: String,
    /// The sha256 of the component, in lowercase hexadecimal.
    pub digest: String,
}

impl KeptPolicy {
    /// Returns the name of the ConfigMap with the copy. The admission policy of the chart allows only
    /// names with this prefix.
    pub fn config_map(&self) -> String {
        let Self { namespace, digest } = self;
        format!(
            "oaat-policy-{}",
            names::hash(&format!("{namespace}/{digest}"), 40)
        )
    }
}

/// A last good policy of a group, as the status records it: the last one that decided, the
/// built-in one last in use, or the one whose accepted settings are in effect.
#[derive(Clone, Debug, PartialEq)]
pub struct LastGoodPolicy {
    /// Its source, as in `status.policy.source`.
    pub name: String,
    /// Where to load it from: a copy, or a built-in policy.
    pub source: PolicySource,
    /// The settings that it accepted, if those in the group's spec are not in effect.
    pub settings: Option<AcceptedSettings>,
}

impl LastGoodPolicy {
    /// Returns the last good policies of a group with this status, in the order in which they are
    /// tried: the policy whose accepted settings are in effect, the built-in policy that was last in
    /// use, and the policy that decided last. Each source is listed only once.
    pub fn all(group: &OaatGroup, status: Option<&OaatGroupStatus>) -> Vec<Self> {
        let Some((named, status)) = PolicySource::from_group(group).zip(status) else {
            return Vec::new();
        };
        let namespace = group.metadata.namespace.as_deref().unwrap_or_default();
        let mut all: Vec<Self> = Vec::new();
        for last in [
            Self::accepted(namespace, status),
            Self::built_in(status),
            Self::decided(namespace, &named, status),
        ]
        .into_iter()
        .flatten()
        {
            if all.iter().all(|other| other.source != last.source) {
                all.push(last);
            }
        }
        all
    }

    /// Returns the policy whose accepted settings are in effect.
    fn accepted(namespace: &str, status: &OaatGroupStatus) -> Option<Self> {
        let accepted = status.accepted_settings.as_ref()?;
        Some(Self {
            source: last_good_source(namespace, &accepted.source, &accepted.digest)?,
            name: accepted.source.clone(),
            settings: Some(accepted.clone()),
        })
    }

    /// Returns the policy that was in use last, if it is built in.
    fn built_in(status: &OaatGroupStatus) -> Option<Self> {
        let name = status.last_good_built_in()?;
        Some(Self {
            source: PolicySource::BuiltIn(BuiltInPolicy::from_name(name)?),
            name: name.to_owned(),
            settings: None,
        })
    }

    /// Returns the last policy that decided. Returns `None` for the default policy, unless it decided
    /// instead of another one.
    fn decided(namespace: &str, named: &PolicySource, status: &OaatGroupStatus) -> Option<Self> {
        let last = status.policy.as_ref()?;
        let (name, digest) = match BuiltInPolicy::from_name(&last.source) {
            // The digest may be that of a built-in policy, of which the operator keeps no copy.
            Some(BuiltInPolicy::Default) => (named.to_string(), last.instead_of.as_ref()?),
            _ => (last.source.clone(), &last.digest),
        };
        Some(Self {
            source: last_good_source(namespace, &name, digest)?,
            name,
            settings: None,
        })
    }

    /// Returns whether this is the policy that was loaded from this source and has this digest.
    pub fn matches(&self, digest: &str, source: &PolicySource) -> bool {
        match &self.source {
            PolicySource::Kept(kept) => kept.digest == digest,
            other => other == source,
        }
    }
}

/// Returns where to load a last good policy from.
fn last_good_source(namespace: &str, name: &str, digest: &str) -> Option<PolicySource> {
    if let Some(policy) = BuiltInPolicy::from_name(name) {
        return Some(PolicySource::BuiltIn(policy));
    }
    let is_digest = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
    // Anyone who may write the status may have written the name.
    let is_name = name.len() <= AcceptedSettings::MAX_SOURCE;
    (is_name && is_digest).then(|| {
        PolicySource::Kept(KeptPolicy {
            namespace: namespace.to_owned(),
            digest: digest.to_owned(),
        })
    })
}

/// A key of a ConfigMap that contains a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyConfigMap {
    /// The namespace of the ConfigMap and of the group.
    pub namespace: String,
    /// The name of the ConfigMap.
    pub name: String,
    /// The key under `binaryData`.
    pub key: String,
}

impl PolicySource {
    /// Returns the source of the policy that decides for a group, if its spec names one.
    pub fn from_group(group: &OaatGroup) -> Option<Self> {
        let spec: &PolicySpec = group.spec.policy.as_ref()?;
        Self::new(group, spec.config_map.as_ref(), spec.built_in)
    }

    /// Returns the source of the shadow policy of a group, if its spec names one.
    pub fn from_shadow(group: &OaatGroup) -> Option<Self> {
        let shadow = group.spec.policy.as_ref()?.shadow.as_ref()?;
        Self::new(group, shadow.config_map.as_ref(), shadow.built_in)
    }

    fn new(
        group: &OaatGroup,
        config_map: Option<&PolicyKey>,
        built_in: Option<BuiltInPolicy>,
    ) -> Option<Self> {
        let Some(PolicyKey { name, key }) = config_map else {
            return built_in.map(Self::BuiltIn);
        };
        Some(Self::ConfigMap(PolicyConfigMap {
            namespace: group.metadata.namespace.clone().unwrap_or_default(),
            name: name.clone(),
            key: key.clone(),
        }))
    }

    /// Returns the ConfigMap, if the source is one that a group names.
    pub fn config_map(&self) -> Option<&PolicyConfigMap> {
        match self {
            Self::BuiltIn(_) | Self::Kept(_) => None,
            Self::ConfigMap(key) => Some(key),
        }
    }

    /// Returns the namespace whose share of the memory and of the compiler the policy uses. The
    /// built-in policies have their own share, with an empty name.
    pub fn namespace(&self) -> &str {
        match self {
            Self::BuiltIn(_) => "",
            Self::ConfigMap(key) => &key.namespace,
            Self::Kept(policy) => &policy.namespace,
        }
    }

    /// Describes the policy for messages, such as "the built-in policy fair".
    pub fn describe(&self) -> String {
        match self {
            Self::BuiltIn(policy) => format!("the built-in policy {policy}"),
            Self::ConfigMap(key) => format!("the policy in {key}"),
            Self::Kept(policy) => format!("the kept policy {}", policy.digest),
        }
    }
}

impl fmt::Display for PolicySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(policy) => policy.fmt(f),
            Self::ConfigMap(key) => key.fmt(f),
            Self::Kept(policy) => policy.digest.fmt(f),
        }
    }
}

impl fmt::Display for PolicyConfigMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, key, .. } = self.clone();
        PolicyKey { name, key }.fmt(f)
    }
}

/// Why the policy in a group's spec does not decide, or not with the current settings.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyProblem {
    /// The CamelCase reason of the condition.
    pub reason: &'static str,
    /// The problem and the fix, for the condition.
    pub message: String,
    /// The entry for the group's status, if the component was rejected.
    pub rejected: Option<Box<RejectedPolicy>>,
    /// Whether a busy machine, not the policy, is the cause. The check is repeated later.
    pub transient: bool,
}

/// The release in recorded rejections. Those of other releases are ignored, because their limits
/// may differ.
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl PolicyProblem {
    pub(crate) fn new(reason: &'static str, message: String) -> Self {
        Self {
            reason,
            message,
            rejected: None,
            transient: false,
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
    pub fn from_status(rejected: &RejectedPolicy) -> Option<Self> {
        let reason = LoadError::REASONS
            .into_iter()
            .find(|reason| *reason == rejected.reason && rejected.operator == VERSION)?;
        Some(Self {
            rejected: Some(Box::new(rejected.clone())),
            ..Self::new(reason, rejected.message.clone())
        })
    }

    /// Returns the problem of a ConfigMap that cannot be read.
    pub fn unreadable(source: &PolicyConfigMap, error: &str) -> Self {
        Self::new(
            policy_ready::SOURCE_UNREADABLE,
            format!("failed to read {source}: {error}"),
        )
    }

    /// Returns the problem of a copy that does not exist or is damaged.
    pub(crate) fn no_copy(policy: &KeptPolicy) -> Self {
        let message = format!(
            "the operator has no intact copy of the policy {}",
            policy.digest
        );
        Self::new(policy_ready::SOURCE_NOT_FOUND, message)
    }

    /// Returns the problem of a copy that cannot be read.
    pub(crate) fn unreadable_copy(policy: &KeptPolicy, error: &str) -> Self {
        let digest = &policy.digest;
        let message = format!("failed to read the copy of the policy {digest}: {error}");
        Self::new(policy_ready::SOURCE_UNREADABLE, message)
    }

    /// Returns the problem of a ConfigMap that does not exist.
    pub fn not_found(source: &PolicyConfigMap) -> Self {
        let PolicyConfigMap {
            namespace, name, ..
        } = source;
        Self::new(
            policy_ready::SOURCE_NOT_FOUND,
            format!(
                "ConfigMap {name:?} does not exist in namespace {namespace:?}; create it with: \
                 kubectl-oaat policy pack FILE --name {name} | \
                 kubectl apply -n {namespace} --server-side -f -"
            ),
        )
    }

    /// Returns the problem of a ConfigMap without the key.
    pub(crate) fn no_key(source: &PolicyConfigMap, map: &ConfigMap) -> Self {
        let binary = map.binary_data.iter().flat_map(|data| data.keys());
        let binary = text::list(binary, ", ", text::NAME);
        let key = &source.key;
        let as_text = map.data.as_ref().is_some_and(|data| data.contains_key(key));
        let fix = if as_text {
            "the key is under data, which is for text; create the ConfigMap with `kubectl-oaat policy \
             pack`, which uses binaryData"
                .to_owned()
        } else if binary.is_empty() {
            "binaryData is empty; create the ConfigMap with `kubectl-oaat policy pack`".to_owned()
        } else {
            format!("its keys are {binary}; set spec.policy.configMap.key to one of them")
        };
        Self::new(
            policy_ready::KEY_NOT_FOUND,
            format!(
                "ConfigMap {:?} has no binaryData key {key:?}: {fix}",
                source.name
            ),
        )
    }

    /// Returns whether the problem is that of a component, which was read.
    pub fn is_of_component(&self) -> bool {
        let of_component = [policy_ready::COMPILE_TIMEOUT, policy_ready::PROBE_FAILED];
        self.rejected.is_some() || of_component.contains(&self.reason)
    }

    /// Adds to the message when the operator retries.
    pub fn with_retry(mut self, delay: std::time::Duration) -> Self {
        let seconds = delay.as_secs_f64().round();
        let retry = format!("; the operator retries in {seconds} seconds");
        self.message.push_str(&retry);
        self
    }

    /// Adds to the message that the policy decides with the settings that it accepted before.
    pub fn with_old_settings(mut self) -> Self {
        self.message
            .push_str("; the current settings of the group are not in effect yet");
        self
    }

    /// Returns the problem of changed settings whose policy is still being loaded.
    pub fn loading_settings(source: &PolicySource) -> Self {
        let message = format!("{} is being loaded", source.describe());
        Self::new(policy_ready::LOADING, message).with_old_settings()
    }

    /// Returns the problem of a last good policy that does not match the current pin.
    pub fn pin_mismatch(source: &PolicySource) -> Self {
        let message = format!("the last policy from {source} does not match spec.policy.sha256");
        Self::new(policy_ready::DIGEST_MISMATCH, message)
    }

    /// Returns the problem of settings that were rejected, or could not be checked.
    pub fn settings(error: &EvalError) -> Self {
        Self {
            transient: matches!(error, EvalError::Deadline(_)),
            ..Self::new(policy_ready::SETTINGS_REJECTED, error.settings_problem())
        }
    }
}

impl From<&LoadError> for PolicyProblem {
    fn from(error: &LoadError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

impl From<&EvalError> for PolicyProblem {
    fn from(error: &EvalError) -> Self {
        Self::new(error.reason(), format!("{error:#}"))
    }
}

/// Returns whether a digest matches `sha256` in a spec.
pub(crate) fn matches_pin(digest: &str, pin: &str) -> bool {
    let wanted = pin.trim().trim_start_matches("sha256:");
    wanted.eq_ignore_ascii_case(digest)
}

/// Returns the bytes of a policy. `map` is `None` if the ConfigMap does not exist.
///
/// # Errors
/// Returns the problem `SourceNotFound` or `KeyNotFound`.
pub fn bytes<'a>(
    source: &PolicyConfigMap,
    map: Option<&'a ConfigMap>,
) -> Result<&'a [u8], PolicyProblem> {
    let map = map.ok_or_else(|| PolicyProblem::not_found(source))?;
    map.binary_data
        .as_ref()
        .and_then(|data| data.get(&source.key))
        .map(|bytes| bytes.0.as_slice())
        .ok_or_else(|| PolicyProblem::no_key(source, map))
}

/// The state of the policy from a source.
#[derive(Clone, Debug)]
pub enum PolicyRead {
    /// The policy is being read or compiled, since this time.
    Loading(Timestamp),
    /// The policy passed every check.
    Loaded(Policy),
    /// The policy is missing, or failed a check.
    Failed(PolicyProblem),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn source() -> PolicyConfigMap {
        PolicyConfigMap {
            namespace: "home".into(),
            name: "mine".into(),
            key: "policy.wasm".into(),
        }
    }

    fn map(more: serde_json::Value) -> ConfigMap {
        serde_json::from_value(more).unwrap()
    }

    /// Returns the names and the sources of the last good policies of a group with this policy in its
    /// spec, and whether the settings that they accepted are known.
    fn last_good(
        spec: serde_json::Value,
        status: serde_json::Value,
    ) -> Vec<(String, PolicySource, bool)> {
        let group: OaatGroup = serde_json::from_value(json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
            "metadata": { "name": "g", "namespace": "home" },
            "spec": { "oaatType": "t", "policy": spec }, "status": status,
        }))
        .unwrap();
        LastGoodPolicy::all(&group, group.status.as_ref())
            .into_iter()
            .map(|last| (last.name, last.source, last.settings.is_some()))
            .collect()
    }

    #[test]
    fn last_good_policies_are_copies_of_the_namespace_or_built_in() {
        let digest = "ab".repeat(32);
        let kept = PolicySource::Kept(KeptPolicy {
            namespace: "home".into(),
            digest: digest.clone(),
        });
        let mine = json!({ "configMap": { "name": "mine" } });
        let fair = json!({ "builtIn": "fair" });
        let status = |source: &str, instead_of: Option<&str>| json!({ "policy": { "source": source, "digest": digest, "contract": "1", "insteadOf": instead_of } });
        let with_settings = |status: serde_json::Value, source: &str, digest: &str| {
            let accepted = json!({ "source": source, "digest": digest, "settings": "{}" });
            json!({ "policy": status["policy"], "acceptedSettings": accepted })
        };
        let with_built_in = |mut status: serde_json::Value, name: &str| {
            let digest = &status["policy"]["digest"];
            status["lastGoodBuiltIn"] = json!({ "name": name, "policyDigest": digest });
            status
        };
        let name = "ConfigMap mine, key policy.wasm";
        let other = "ConfigMap other, key policy.wasm";
        let too_long = format!(
            "ConfigMap {}, key a",
            "x".repeat(AcceptedSettings::MAX_SOURCE)
        );
        let built_in = PolicySource::BuiltIn;
        for (spec, status, expected) in [
            (&mine, status(name, None), vec![(name, kept.clone(), false)]),
            // The group named another ConfigMap when the policy decided.
            (
                &mine,
                status(other, None),
                vec![(other, kept.clone(), false)],
            ),
            (&mine, status("default", None), vec![]),
            (
                &mine,
                status("default", Some(&digest)),
                vec![(name, kept.clone(), false)],
            ),
            (
                &mine,
                status("fair", None),
                vec![("fair", built_in(BuiltInPolicy::Fair), false)],
            ),
            (
                &fair,
                status("default", Some(&digest)),
                vec![("fair", built_in(BuiltInPolicy::Fair), false)],
            ),
            (
                &mine,
                json!({ "policy": { "source": name, "digest": "../x", "contract": "1" } }),
                vec![],
            ),
            (&json!(null), status(name, None), vec![]),
            // The policy that accepted the settings in effect may not have decided yet.
            (
                &mine,
                with_settings(status("fair", None), name, &digest),
                vec![
                    (name, kept.clone(), true),
                    ("fair", built_in(BuiltInPolicy::Fair), false),
                ],
            ),
            (
                &mine,
                with_settings(status(name, None), name, &digest),
                vec![(name, kept.clone(), true)],
            ),
            (
                &fair,
                with_settings(json!({}), "default", ""),
                vec![("default", built_in(BuiltInPolicy::Default), true)],
            ),
            // The default policy was the group's own policy.
            (
                &mine,
                with_built_in(status("default", None), "default"),
                vec![("default", built_in(BuiltInPolicy::Default), false)],
            ),
            // The policy fair was in use, but another one decided last.
            (
                &mine,
                with_built_in(status(name, None), "fair"),
                vec![
                    ("fair", built_in(BuiltInPolicy::Fair), false),
                    (name, kept.clone(), false),
                ],
            ),
            (
                &mine,
                with_built_in(status("default", Some(&digest)), "fair"),
                vec![
                    ("fair", built_in(BuiltInPolicy::Fair), false),
                    (name, kept.clone(), false),
                ],
            ),
            (
                &mine,
                with_built_in(with_settings(json!({}), name, &digest), "fair"),
                vec![
                    (name, kept.clone(), true),
                    ("fair", built_in(BuiltInPolicy::Fair), false),
                ],
            ),
            (
                &mine,
                with_built_in(with_settings(json!({}), "default", ""), "default"),
                vec![("default", built_in(BuiltInPolicy::Default), true)],
            ),
            // An earlier release ran in the meantime, and another policy decided.
            (
                &mine,
                json!({
                    "policy": status(name, None)["policy"],
                    "lastGoodBuiltIn": { "name": "fair", "policyDigest": "cd".repeat(32) },
                }),
                vec![(name, kept.clone(), false)],
            ),
            // Only a later release has this policy.
            (
                &mine,
                with_built_in(status(name, None), "newest"),
                vec![(name, kept.clone(), false)],
            ),
            (
                &json!(null),
                with_built_in(status("default", None), "default"),
                vec![],
            ),
            // A status that was edited is ignored.
            (
                &mine,
                with_settings(status("fair", None), name, "../x"),
                vec![("fair", built_in(BuiltInPolicy::Fair), false)],
            ),
            (&mine, status(&too_long, None), vec![]),
            (
                &mine,
                with_settings(status("fair", None), &too_long, &digest),
                vec![("fair", built_in(BuiltInPolicy::Fair), false)],
            ),
            (
                &json!(null),
                with_settings(json!({}), name, &digest),
                vec![],
            ),
        ] {
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(name, source, known)| (name.to_owned(), source, known))
                .collect();
            let found = last_good(spec.clone(), status.clone());
            assert_eq!(found, expected, "{spec} {status}");
        }
    }

    #[test]
    fn copies_of_namespaces_have_different_names() {
        let name = |namespace: &str, digest: &str| {
            let (namespace, digest) = (namespace.into(), digest.into());
            KeptPolicy { namespace, digest }.config_map()
        };
        assert_eq!(
            name("a", "0"),
            "oaat-policy-".to_owned() + &names::hash("a/0", 40)
        );
        assert!(name("a", "0") != name("b", "0") && name("a", "0") != name("a", "1"));
    }

    #[test]
    fn bytes_are_read_from_the_key() {
        let map = map(json!({ "binaryData": { "policy.wasm": "AAE=" } }));
        assert_eq!(bytes(&source(), Some(&map)), Ok(&[0, 1][..]));
    }

    #[test]
    fn missing_policy_is_reported_with_a_fix() {
        let cases = [
            (None, "SourceNotFound", "policy pack FILE --name mine"),
            (Some(json!({})), "KeyNotFound", "binaryData is empty"),
            (
                Some(json!({ "binaryData": { "a.wasm": "" } })),
                "KeyNotFound",
                "its keys are a.wasm; set",
            ),
            (
                Some(json!({ "data": { "policy.wasm": "x" } })),
                "KeyNotFound",
                "under data, which is for text",
            ),
        ];
        for (given, reason, expected) in cases {
            let map = given.map(map);
            let problem = bytes(&source(), map.as_ref()).unwrap_err();
            assert_eq!(problem.reason, reason);
            assert!(problem.message.contains(expected), "{}", problem.message);
        }
    }
}
