//! Which policy decides for a group: the condition `PolicyReady` and its events.

use super::conditions::set_group_condition;
use super::{PendingEvent, Plan};
use crate::policy_selection::PolicySelection;
use crate::policy_source::{PolicyProblem, PolicySource, matches_pin};
use crate::snapshot::GroupSnapshot;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use oaat_api::reasons::{events, policy_ready, ready, states};
use oaat_api::{
    AcceptedSettings, BuiltInPolicy, OaatGroup, OaatGroupStatus, OnError, PolicyInUse, condition,
};
use policy_host::EvalError;
use std::fmt::Display;
use std::time::Duration;

/// How long a policy may load before its group reports that, if the group has a condition already.
const LOADING_PATIENCE: Duration = Duration::from_secs(3);
/// The requeue delay of a group whose policy is loading.
const LOADING_REQUEUE: Duration = Duration::from_secs(4);
/// The delay before a policy that failed is tried again, even if the built-in policy decides in the
/// meantime.
const RETRY: Duration = Duration::from_secs(60);

/// Describes a policy with its source, contract, and digest.
pub(crate) fn describe(policy: &PolicyInUse) -> String {
    let PolicyInUse {
        source,
        digest,
        contract,
        ..
    } = policy;
    let name = if BuiltInPolicy::from_name(source).is_some() {
        format!("the built-in policy {source}")
    } else {
        format!("the policy from {source}")
    };
    format!("{name} (contract {contract}, sha256 {digest})")
}

/// Sets `PolicyReady` according to the selection, before the policy is asked.
pub fn record_selection(snapshot: &GroupSnapshot, plan: &mut Plan, selection: &PolicySelection) {
    let before = condition(&plan.status.conditions, policy_ready::TYPE).cloned();
    match &selection.problem {
        // The rejection is kept while the component cannot be read, because it may come back
        // unchanged. If another component was read, it no longer matters.
        Some(problem) if !problem.is_of_component() => {}
        None if selection.in_use.is_none() => {}
        problem => {
            let rejected = problem.as_ref().and_then(|p| p.rejected.as_deref());
            plan.status.rejected_policy = rejected.cloned();
        }
    }
    if selection
        .problem
        .as_ref()
        .is_some_and(|problem| problem.transient)
    {
        plan.requeue_at(snapshot.now.plus(RETRY));
    }
    if let Some(policy) = &selection.in_use
        && plan.status.failed_policy.as_ref() != Some(&policy.digest)
    {
        plan.status.failed_policy = None;
    }
    if selection.in_use.is_some() {
        let accepted = selection.accepted_settings.as_ref();
        let kept = accepted.filter(|accepted| accepted.size() <= AcceptedSettings::MAX_SIZE);
        plan.status.accepted_settings = kept.cloned();
    }
    record_last_good_built_in(snapshot, plan, selection);
    let (is_ready, reason, message) =
        match (&selection.in_use, &selection.problem, selection.loading) {
            (Some(policy), None, _) => {
                // The result of the last evaluation stays until the policy is evaluated again.
                if reports_failed_evaluation(&plan.status, policy) {
                    return;
                }
                let message = format!("{} is in use", describe(policy));
                (true, policy_ready::READY, message)
            }
            (Some(policy), Some(problem), _) => (
                false,
                problem.reason,
                describe_last_good(selection, policy, problem),
            ),
            (None, Some(problem), _) => (
                false,
                problem.reason,
                describe_problem(snapshot, selection, problem),
            ),
            (None, None, since) => {
                plan.requeue_at(snapshot.now.plus(LOADING_REQUEUE));
                let recent = since.is_none_or(|since| snapshot.now < since.plus(LOADING_PATIENCE));
                if before.is_some() && recent {
                    return;
                }
                let message = "the group's policy is being read and compiled";
                (false, policy_ready::LOADING, message.to_owned())
            }
        };
    let condition = (policy_ready::TYPE, is_ready, reason, message);
    set_group_condition(snapshot, &mut plan.status, condition);
}

/// Records the built-in policy in use, if any, in the status of a group with a policy. Keeps the last
/// one while no policy is in use, because it may be in use again later.
fn record_last_good_built_in(
    snapshot: &GroupSnapshot,
    plan: &mut Plan,
    selection: &PolicySelection,
) {
    let status = &mut plan.status;
    if PolicySource::from_group(&snapshot.group).is_none() {
        status.set_last_good_built_in(None);
    } else if let Some(policy) = &selection.in_use {
        let built_in = BuiltInPolicy::from_name(&policy.source);
        status.set_last_good_built_in(built_in.map(|policy| policy.to_string()));
    }
}

/// Describes a problem, and the policy and the settings that stay in use until it is fixed.
fn describe_last_good(
    selection: &PolicySelection,
    policy: &PolicyInUse,
    problem: &PolicyProblem,
) -> String {
    let mut message = format!(
        "{}; until it is fixed, {} stays in use",
        problem.message,
        describe(policy)
    );
    if problem.reason == policy_ready::SETTINGS_REJECTED {
        message.push_str(" with the settings that it accepted last");
    }
    if selection.restored {
        message.push_str(", from the copy that the operator keeps");
    }
    let accepted = selection.accepted_settings.as_ref();
    let size = accepted.map_or(0, AcceptedSettings::size);
    if size > AcceptedSettings::MAX_SIZE {
        let max = AcceptedSettings::MAX_SIZE;
        let lost = format!(
            "; a restart of the operator loses the settings in effect, because they take {size} \
             bytes (the maximum is {max})"
        );
        message.push_str(&lost);
    }
    message
}

/// Returns whether `PolicyReady` reports that the last evaluation of this policy failed.
fn reports_failed_evaluation(status: &OaatGroupStatus, policy: &PolicyInUse) -> bool {
    let reports = |condition: &Condition| {
        condition.status == "False" && policy_ready::EVALUATION.contains(&condition.reason.as_str())
    };
    status.failed_policy.as_ref() == Some(&policy.digest)
        && condition(&status.conditions, policy_ready::TYPE).is_some_and(reports)
}

/// Identifies a policy that made no decision in the message of `PolicyReady`.
fn digest_suffix(policy: &PolicyInUse) -> String {
    format!("(sha256 {})", policy.digest)
}

/// Describes a problem, the policy or the settings that are no longer available, and what happens
/// until it is fixed.
fn describe_problem(
    snapshot: &GroupSnapshot,
    selection: &PolicySelection,
    problem: &PolicyProblem,
) -> String {
    let lost = describe_lost(snapshot, selection, problem);
    let lost = lost.map(|lost| format!("; {lost}")).unwrap_or_default();
    let until = until_fixed(selection.on_error);
    format!("{}{lost}; {until}", problem.message)
}

/// Returns a description of the loss if the group's last policy, or only the settings that it accepted,
/// are lost.
fn describe_lost(
    snapshot: &GroupSnapshot,
    selection: &PolicySelection,
    problem: &PolicyProblem,
) -> Option<String> {
    let digest = lost(snapshot)?;
    let policy = match PolicySource::from_group(&snapshot.group)? {
        // It is always available, although an upgrade may have changed its digest.
        PolicySource::BuiltIn(policy) if problem.reason == policy_ready::SETTINGS_REJECTED => {
            format!("the built-in policy {policy}")
        }
        PolicySource::BuiltIn(_) => return None,
        PolicySource::ConfigMap(_) | PolicySource::Kept(_) => {
            let pin = snapshot.group.spec.policy.as_ref()?.sha256.as_deref();
            // A policy that the pin excludes is not lost.
            if pin.is_some_and(|pin| !matches_pin(digest, pin)) {
                return None;
            }
            if !selection.rejected_by.iter().any(|by| by == digest) {
                return Some(format!(
                    "the last policy in use, sha256 {digest}, is no longer available"
                ));
            }
            format!("the last policy in use, sha256 {digest},")
        }
    };
    Some(format!(
        "the operator has no record of the settings that {policy} accepted, for example because they \
         were replaced while no operator was running or before an upgrade"
    ))
}

/// Returns the digest of the group's own policy that decided last, even if the built-in policy has
/// decided since.
pub(super) fn lost(snapshot: &GroupSnapshot) -> Option<&str> {
    let last = snapshot.group.status.as_ref()?.policy.as_ref()?;
    match PolicySource::from_group(&snapshot.group)? {
        // The default policy is always available.
        PolicySource::BuiltIn(BuiltInPolicy::Default) => None,
        source if last.source == source.to_string() => Some(&last.digest),
        _ => last.instead_of.as_deref(),
    }
}

fn until_fixed(on_error: OnError) -> &'static str {
    match on_error {
        OnError::Hold => "no item starts until it is fixed (onError: Hold)",
        OnError::UseDefault => {
            "until the problem is fixed, the built-in policy default decides (onError: UseDefault)"
        }
    }
}

/// Sets `PolicyReady` after the policy made no decision, unless an earlier step already has a
/// problem.
pub fn record_policy_error(
    snapshot: &GroupSnapshot,
    plan: &mut Plan,
    selection: &PolicySelection,
    error: &EvalError,
) {
    plan.requeue_at(snapshot.now.plus(RETRY));
    if let (Some(policy), None) = (&selection.in_use, &selection.problem) {
        let message = format!(
            "{error:#} {}; {}",
            digest_suffix(policy),
            until_fixed(selection.on_error)
        );
        let condition = (policy_ready::TYPE, false, error.reason(), message);
        set_group_condition(snapshot, &mut plan.status, condition);
        plan.status.failed_policy = Some(policy.digest.clone());
    }
}

/// Sets `PolicyReady` after the policy made a decision, which ends an earlier problem with it.
pub(super) fn record_policy_decision(
    snapshot: &GroupSnapshot,
    plan: &mut Plan,
    selection: &PolicySelection,
    policy: &PolicyInUse,
) {
    if selection.in_use.as_ref() != Some(policy) {
        return;
    }
    plan.status.failed_policy = None;
    if selection.problem.is_none() {
        let message = format!("{} is in use", describe(policy));
        let condition = (policy_ready::TYPE, true, policy_ready::READY, message);
        set_group_condition(snapshot, &mut plan.status, condition);
    }
}

/// Describes why no item starts. Overviews cut messages off, so the reason comes first.
pub(super) fn describe_stop(reason: &str, problem: impl Display) -> String {
    format!("{reason}: {problem}; no item starts until it is fixed")
}

/// Shows that no item starts because no policy decides.
pub fn record_no_policy(snapshot: &GroupSnapshot, plan: &mut Plan, selection: &PolicySelection) {
    let status = &mut plan.status;
    let message = match &selection.problem {
        Some(problem) => describe_stop(problem.reason, &problem.message),
        // The policy is loading and nothing else has changed, which is not worth a write.
        None if snapshot.group.status.as_ref() == Some(&*status) => return,
        None => "no item starts until the group's policy is loaded".to_owned(),
    };
    let condition = (ready::TYPE, false, ready::POLICY_NOT_READY, message.clone());
    set_group_condition(snapshot, status, condition);
    status.state = Some(states::WAITING.into());
    status.next = None;
    status.message = Some(message);
}

/// Returns the event about a change of `PolicyReady` from the conditions `before` to the conditions
/// `after`, if there is one.
pub fn policy_event(
    group: &OaatGroup,
    before: &[Condition],
    after: &[Condition],
) -> Option<PendingEvent> {
    let before = condition(before, policy_ready::TYPE);
    let after = condition(after, policy_ready::TYPE)?;
    let unchanged = before.is_some_and(|before| {
        (&before.status, &before.reason, &before.message)
            == (&after.status, &after.reason, &after.message)
    });
    if after.reason == policy_ready::LOADING || unchanged {
        return None;
    }
    let event = |warning, reason, message| PendingEvent {
        warning,
        reason,
        action: Some(after.reason.clone()),
        message,
        pod: None,
    };
    if after.status != "True" {
        let message = format!("{}: {}", after.reason, after.message);
        return Some(event(true, events::POLICY_NOT_READY, message));
    }
    let message = after.message.clone();
    match before.filter(|before| before.reason != policy_ready::LOADING) {
        Some(_) => Some(event(false, events::POLICY_CHANGED, message)),
        // A new group that uses the built-in policy is not worth an event.
        None if group.spec.policy.is_none() => None,
        None => Some(event(false, events::POLICY_LOADED, message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::CurrentPod;
    use crate::snapshot::TypeRead;
    use oaat_api::Timestamp;
    use serde_json::json;

    const NOW: Timestamp = Timestamp(1_000_000);

    /// Returns a group that names a policy, with this status.
    fn snapshot(status: serde_json::Value) -> GroupSnapshot {
        let group: OaatGroup = serde_json::from_value(json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
            "metadata": { "name": "g", "namespace": "n", "uid": "us" },
            "spec": { "oaatType": "t", "policy": { "configMap": { "name": "mine" } } },
            "status": status,
        }))
        .unwrap();
        GroupSnapshot {
            now: NOW,
            items: group.spec.oaat_items.clone(),
            group,
            listing: crate::snapshot::SourceLists::default(),
            uid: "us".into(),
            pods: Vec::new(),
            current: CurrentPod::None,
            deleted_while_running: false,
            terminating: false,
            type_: TypeRead::Missing,
            item_types: std::collections::BTreeMap::new(),
            leads: false,
            retry_floor: Duration::ZERO,
        }
    }

    fn policy(digest: &str) -> PolicyInUse {
        PolicyInUse {
            source: "ConfigMap mine, key policy.wasm".into(),
            digest: digest.into(),
            contract: "1.0.0".into(),
            instead_of: None,
        }
    }

    fn problem() -> PolicyProblem {
        PolicyProblem {
            reason: "Malformed",
            message: "it is empty".into(),
            rejected: None,
            transient: false,
        }
    }

    /// The condition `PolicyReady` and the event after a selection.
    struct Recorded {
        status: String,
        reason: String,
        message: String,
        event: Option<PendingEvent>,
    }

    fn record(snapshot: &GroupSnapshot, selection: &PolicySelection) -> Recorded {
        let before = snapshot.group.status.clone().unwrap_or_default();
        let mut plan = Plan {
            status: before.clone(),
            ..Plan::default()
        };
        record_selection(snapshot, &mut plan, selection);
        let after = &plan.status.conditions;
        let event = policy_event(&snapshot.group, &before.conditions, after);
        let c = condition(after, policy_ready::TYPE).cloned();
        let (status, reason, message) = c
            .map(|c| (c.status, c.reason, c.message))
            .unwrap_or_default();
        Recorded {
            status,
            reason,
            message,
            event,
        }
    }

    fn condition_of(status: &str, reason: &str, message: &str) -> serde_json::Value {
        json!({ "conditions": [{
            "type": "PolicyReady", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }] })
    }

    #[test]
    fn the_deciding_policy_is_named_with_digest_and_contract() {
        let selection = PolicySelection::selected(policy("abc"), None, OnError::Hold);
        let first = record(&snapshot(json!({})), &selection);
        assert_eq!(
            (first.status.as_str(), first.reason.as_str()),
            ("True", "Ready")
        );
        for word in ["mine", "abc", "1.0.0"] {
            assert!(first.message.contains(word), "{}", first.message);
        }
        assert_eq!(
            first.event.map(|event| event.reason),
            Some(events::POLICY_LOADED)
        );
        let before = condition_of("True", "Ready", "the policy from x is in use");
        let changed = record(&snapshot(before), &selection);
        assert_eq!(
            changed.event.map(|event| event.reason),
            Some(events::POLICY_CHANGED)
        );
        let before = condition_of("True", "Ready", &first.message);
        assert_eq!(record(&snapshot(before), &selection).event, None);
    }

    #[test]
    fn restored_policy_is_named_with_its_origin() {
        let selected = PolicySelection::selected(policy("old"), Some(problem()), OnError::Hold);
        let restored = PolicySelection {
            restored: true,
            ..selected
        };
        let message = record(&snapshot(json!({})), &restored).message;
        let end = "sha256 old) stays in use, from the copy that the operator keeps";
        assert!(
            message.starts_with("it is empty; until it is fixed"),
            "{message}"
        );
        assert!(message.ends_with(end), "{message}");
    }

    #[test]
    fn accepted_settings_are_in_the_status_while_others_are_in_the_spec() {
        let accepted = |settings: String| AcceptedSettings {
            source: "fair".into(),
            digest: "old".into(),
            settings,
            ..AcceptedSettings::default()
        };
        let small = Some(accepted("{}".into()));
        let large = Some(accepted("x".repeat(AcceptedSettings::MAX_SIZE)));
        let selected = |accepted: &Option<AcceptedSettings>| PolicySelection {
            accepted_settings: accepted.clone(),
            ..PolicySelection::selected(policy("old"), Some(problem()), OnError::Hold)
        };
        let unavailable = PolicySelection::unavailable(problem(), OnError::UseDefault);
        let loading = PolicySelection::loading(NOW, OnError::Hold);
        let ready = PolicySelection::selected(policy("old"), None, OnError::Hold);
        for (before, selection, after, is_lost) in [
            (&None, &selected(&small), &small, false),
            (&small, &selected(&small), &small, false),
            (&small, &selected(&large), &None, true),
            (&small, &unavailable, &small, false),
            (&small, &loading, &small, false),
            (&small, &ready, &None, false),
            (&None, &ready, &None, false),
        ] {
            let snapshot = snapshot(json!({ "acceptedSettings": before }));
            let mut plan = Plan {
                status: snapshot.group.status.clone().unwrap(),
                ..Plan::default()
            };
            record_selection(&snapshot, &mut plan, selection);
            assert_eq!(&plan.status.accepted_settings, after, "{selection:?}");
            let condition = condition(&plan.status.conditions, policy_ready::TYPE);
            let says_lost = condition
                .unwrap()
                .message
                .contains("a restart of the operator loses");
            assert_eq!(says_lost, is_lost, "{selection:?}");
        }
    }

    #[test]
    fn last_good_built_in_policy_is_recorded_in_the_status() {
        let of = |source: &str| PolicyInUse {
            source: source.into(),
            ..policy("abc")
        };
        let selected = |policy, problem| PolicySelection::selected(policy, problem, OnError::Hold);
        let mine = || selected(policy("abc"), None);
        let (fair, default) = (|| Some("fair"), || Some("default"));
        for (spec, selection, before, after) in [
            ("fair", selected(of("fair"), None), None, fair()),
            ("default", selected(of("default"), None), None, default()),
            // The policy in the ConfigMap cannot be used.
            (
                "",
                selected(of("default"), Some(problem())),
                default(),
                default(),
            ),
            ("", selected(of("fair"), Some(problem())), default(), fair()),
            (
                "",
                PolicySelection::unavailable(problem(), OnError::UseDefault),
                None,
                None,
            ),
            (
                "",
                PolicySelection::unavailable(problem(), OnError::UseDefault),
                fair(),
                fair(),
            ),
            (
                "",
                PolicySelection::loading(NOW, OnError::Hold),
                fair(),
                fair(),
            ),
            ("", mine(), fair(), None),
            // The group no longer has a policy.
            ("none", selected(of("default"), None), default(), None),
        ] {
            let mut snapshot = snapshot(json!({}));
            if !spec.is_empty() {
                let spec = (spec != "none").then(|| json!({ "builtIn": spec }));
                snapshot.group.spec.policy = spec.map(|spec| serde_json::from_value(spec).unwrap());
            }
            let mut plan = Plan {
                status: snapshot.group.status.clone().unwrap(),
                ..Plan::default()
            };
            plan.status
                .set_last_good_built_in(before.map(ToOwned::to_owned));
            record_selection(&snapshot, &mut plan, &selection);
            let recorded = plan.status.last_good_built_in();
            assert_eq!(recorded, after, "{spec} {selection:?}");
        }
    }

    #[test]
    fn policy_that_the_pin_excludes_is_not_lost() {
        let digest = "ab".repeat(32);
        let other = "CD".repeat(32);
        for (pin, is_lost) in [
            (digest.clone(), true),
            (format!("sha256:{}", digest.to_uppercase()), true),
            (other, false),
        ] {
            let mut snapshot = snapshot(json!({ "policy": policy(&digest) }));
            snapshot.group.spec.policy.as_mut().unwrap().sha256 = Some(pin.clone());
            let selection = PolicySelection::unavailable(problem(), OnError::Hold);
            let message = record(&snapshot, &selection).message;
            assert_eq!(
                message.contains("no longer available"),
                is_lost,
                "{pin}: {message}"
            );
        }
    }

    #[test]
    fn settings_are_lost_if_the_last_policy_is_available_but_rejects_the_new_ones() {
        let snapshot = snapshot(json!({ "policy": policy("old") }));
        for (rejected_by, are_lost) in [("old", true), ("other", false)] {
            let selection = PolicySelection {
                rejected_by: vec![rejected_by.into()],
                ..PolicySelection::unavailable(problem(), OnError::Hold)
            };
            let message = record(&snapshot, &selection).message;
            let settings =
                "no record of the settings that the last policy in use, sha256 old, accepted";
            let is_known = !message.contains("is no longer available");
            assert_eq!(message.contains(settings), are_lost, "{message}");
            assert_eq!(is_known, are_lost, "{message}");
        }
    }

    #[test]
    fn only_the_settings_of_a_built_in_policy_can_be_lost() {
        let status = |source: &str, instead_of: Option<&str>| {
            let policy = PolicyInUse {
                source: source.into(),
                instead_of: instead_of.map(ToOwned::to_owned),
                ..policy("of the previous release")
            };
            json!({ "policy": policy })
        };
        let lost = "no record of the settings that the built-in policy fair accepted";
        for (status, reason, are_lost) in [
            (status("fair", None), policy_ready::SETTINGS_REJECTED, true),
            (
                status("default", Some("of the previous release")),
                policy_ready::SETTINGS_REJECTED,
                true,
            ),
            (
                status("fair", None),
                policy_ready::COMPILER_UNAVAILABLE,
                false,
            ),
            (
                status("backoff", None),
                policy_ready::SETTINGS_REJECTED,
                false,
            ),
        ] {
            let mut snapshot = snapshot(status.clone());
            let spec = json!({ "builtIn": "fair" });
            snapshot.group.spec.policy = Some(serde_json::from_value(spec).unwrap());
            let problem = PolicyProblem {
                reason,
                ..problem()
            };
            let selection = PolicySelection {
                rejected_by: vec!["of this release".into()],
                ..PolicySelection::unavailable(problem, OnError::Hold)
            };
            let message = record(&snapshot, &selection).message;
            assert_eq!(message.contains(lost), are_lost, "{status}: {message}");
            assert!(!message.contains("no longer available"), "{message}");
        }
    }

    #[test]
    fn built_in_policy_is_named_and_the_default_is_never_lost() {
        for name in ["default", "backoff"] {
            let policy = PolicyInUse {
                source: name.into(),
                ..policy("abc")
            };
            let mut snapshot = snapshot(json!({ "policy": policy }));
            let spec = json!({ "builtIn": name });
            snapshot.group.spec.policy = Some(serde_json::from_value(spec).unwrap());
            let selection = PolicySelection::selected(policy, None, OnError::Hold);
            let recorded = record(&snapshot, &selection);
            let expected = format!("the built-in policy {name} (contract 1.0.0, sha256 abc)");
            assert!(
                recorded.message.starts_with(&expected),
                "{}",
                recorded.message
            );
            // A new group that names its policy gets an event.
            assert_eq!(
                recorded.event.map(|event| event.reason),
                Some(events::POLICY_LOADED)
            );
            let is_lost = lost(&snapshot).is_some();
            assert_eq!(is_lost, name == "backoff");
        }
    }

    #[test]
    fn the_built_in_policy_of_a_new_group_causes_no_event() {
        let mut snapshot = snapshot(json!({}));
        snapshot.group.spec.policy = None;
        let selection = PolicySelection::selected(policy("abc"), None, OnError::Hold);
        assert_eq!(record(&snapshot, &selection).event, None);
    }

    #[test]
    fn a_problem_is_reported_with_its_consequences_and_the_lost_policy() {
        let unavailable = |on_error| PolicySelection::unavailable(problem(), on_error);
        let lost = json!({ "policy": policy("gone") });
        let other = json!({ "policy": { "source": "default", "digest": "gone", "contract": "1" } });
        let cases = [
            (
                PolicySelection::selected(policy("old"), Some(problem()), OnError::Hold),
                json!({}),
                vec!["it is empty", "old", "stays in use"],
                "",
            ),
            (
                unavailable(OnError::Hold),
                json!({}),
                vec!["no item starts"],
                "last policy in use",
            ),
            (
                unavailable(OnError::UseDefault),
                json!({}),
                vec!["the built-in policy default decides"],
                "last policy in use",
            ),
            (
                unavailable(OnError::Hold),
                lost,
                vec!["the last policy in use, sha256 gone,", "Hold"],
                "",
            ),
            (
                unavailable(OnError::UseDefault),
                json!({ "policy": {
                    "source": "default", "digest": "d", "contract": "1", "insteadOf": "gone",
                } }),
                vec![
                    "the last policy in use, sha256 gone,",
                    "the built-in policy default decides",
                ],
                "",
            ),
            (
                unavailable(OnError::Hold),
                other,
                vec!["no item starts"],
                "gone",
            ),
        ];
        for (selection, before, expected, unexpected) in cases {
            let recorded = record(&snapshot(before), &selection);
            let message = recorded.message;
            assert_eq!(
                (recorded.status.as_str(), recorded.reason.as_str()),
                ("False", "Malformed")
            );
            assert!(
                expected.iter().all(|word| message.contains(word)),
                "{message}"
            );
            assert!(
                unexpected.is_empty() || !message.contains(unexpected),
                "{message}"
            );
            assert_eq!(
                recorded.event.map(|event| (event.warning, event.reason)),
                Some((true, events::POLICY_NOT_READY))
            );
        }
    }

    #[test]
    fn message_of_a_stopped_group_starts_with_the_reason() {
        let snapshot = snapshot(json!({}));
        let mut plan = Plan::default();
        let selection = PolicySelection::unavailable(problem(), OnError::Hold);
        record_no_policy(&snapshot, &mut plan, &selection);
        let expected = "Malformed: it is empty; no item starts until it is fixed";
        assert_eq!(plan.status.message.as_deref(), Some(expected));
        let ready = condition(&plan.status.conditions, ready::TYPE);
        assert_eq!(ready.map(|c| c.message.as_str()), Some(expected));
    }

    #[test]
    fn loading_is_reported_only_if_it_is_slow_or_the_first() {
        let loading = |since| PolicySelection::loading(since, OnError::Hold);
        let before = || snapshot(condition_of("True", "Ready", "it is in use"));
        let long_ago = NOW.minus(Duration::from_secs(60));
        let reason = |snapshot: GroupSnapshot, since| record(&snapshot, &loading(since)).reason;
        assert_eq!(reason(snapshot(json!({})), NOW), "Loading");
        assert_eq!(reason(before(), NOW), "Ready");
        assert_eq!(reason(before(), long_ago), "Loading");
    }

    #[test]
    fn a_failed_evaluation_stays_reported_until_the_next_one() {
        let mut plan = Plan::default();
        let before = snapshot(json!({}));
        let same = PolicySelection::selected(policy("abc"), None, OnError::Hold);
        record_selection(&before, &mut plan, &same);
        record_policy_error(&before, &mut plan, &same, &EvalError::OutOfFuel(0));
        assert_eq!(plan.status.failed_policy.as_deref(), Some("abc"));
        let failed = snapshot(serde_json::to_value(&plan.status).unwrap());
        assert_eq!(record(&failed, &same).reason, "OutOfFuel");
        let other = PolicySelection::selected(policy("def"), None, OnError::Hold);
        assert_eq!(record(&failed, &other).reason, "Ready");
        // The decision of the built-in policy does not end the problem of the group's policy.
        let built_in = PolicyInUse {
            source: "default".into(),
            ..policy("default")
        };
        record_policy_decision(&failed, &mut plan, &same, &built_in);
        assert_eq!(plan.status.failed_policy.as_deref(), Some("abc"));
        record_policy_decision(&failed, &mut plan, &same, &policy("abc"));
        assert_eq!(plan.status.failed_policy, None);
        // Another policy that is in use ends it too.
        plan.status = failed.group.status.clone().unwrap();
        record_selection(&failed, &mut plan, &other);
        assert_eq!(plan.status.failed_policy, None);
    }

    #[test]
    fn evaluation_errors_have_the_documented_reasons() {
        let text = String::new;
        let errors = [
            EvalError::PolicyError(text()),
            EvalError::Trapped(text().into()),
            EvalError::OutOfFuel(0),
            EvalError::Deadline(Duration::ZERO),
            EvalError::OutOfMemory(0),
            EvalError::BadAnswer(text()),
        ];
        assert_eq!(errors.map(|error| error.reason()), policy_ready::EVALUATION);
    }
}
