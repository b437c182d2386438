//! Who decides for a group, and how that is told: the condition `PolicyReady` and its
//! events.

use super::{GroupSnapshot, PendingEvent, Plan};
use crate::policies::{Problem, Source};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use oaat_api::{OnError, PolicyInUse, Timestamp, condition, set_condition};
use policy_host::{EvalError, Policy};
use std::collections::HashMap;
use std::time::Duration;

/// How long a policy may be on its way before its group says so, where it had one before.
const PATIENCE: Duration = Duration::from_secs(3);
/// How soon a group whose policy is on its way is looked at again.
const SOON: Duration = Duration::from_secs(4);

/// Who decides for a group.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicySelection {
    /// The policy that decides; nobody does where there is none.
    pub in_use: Option<PolicyInUse>,
    /// The settings it is given, a JSON object.
    pub settings: String,
    /// Those of single items.
    pub items: HashMap<String, String>,
    /// Why another one than the group names decides, or nobody.
    pub problem: Option<Problem>,
    /// What to do where nobody decides.
    pub on_error: OnError,
    /// Since when the group's policy has been on its way, where nobody decides because of that.
    pub loading: Option<Timestamp>,
}

impl PolicySelection {
    /// This policy decides, if perhaps only because of a problem with another.
    pub fn by(in_use: PolicyInUse, problem: Option<Problem>, on_error: OnError) -> Self {
        Self {
            in_use: Some(in_use),
            problem,
            on_error,
            ..Self::none()
        }
    }

    /// The built-in policy decides.
    pub fn by_default(default: &Policy, problem: Option<Problem>) -> Self {
        let in_use = PolicyInUse {
            source: BUILT_IN.into(),
            digest: default.digest().into(),
            contract: default.contract().into(),
            instead_of: None,
        };
        Self::by(in_use, problem, OnError::Hold)
    }

    /// Nobody decides before the group's policy has been loaded.
    pub fn loading(since: Timestamp, on_error: OnError) -> Self {
        Self {
            loading: Some(since),
            on_error,
            ..Self::none()
        }
    }

    /// The group's policy cannot decide, and no earlier one is at hand.
    pub fn unavailable_selection(problem: Problem, on_error: OnError) -> Self {
        Self {
            problem: Some(problem),
            on_error,
            ..Self::none()
        }
    }

    fn none() -> Self {
        Self {
            in_use: None,
            settings: "{}".into(),
            items: HashMap::new(),
            problem: None,
            on_error: OnError::Hold,
            loading: None,
        }
    }

    /// Whether the built-in policy has to step in.
    pub fn needs_default(&self) -> bool {
        self.in_use.is_none() && self.problem.is_some() && self.on_error == OnError::UseDefault
    }
}

/// The built-in policy, as a source.
pub(super) const BUILT_IN: &str = "default";
/// How it is called.
const DEFAULT: &str = "the default policy";

/// A policy in words.
fn named(policy: &PolicyInUse) -> String {
    let PolicyInUse {
        source,
        digest,
        contract,
        ..
    } = policy;
    match source.as_str() {
        BUILT_IN => format!("{DEFAULT} (contract {contract}, sha256 {digest})"),
        _ => format!("the policy of {source} (contract {contract}, sha256 {digest})"),
    }
}

/// Says in `PolicyReady` who decides, as far as that is known without asking the policy.
pub fn record_selection(snapshot: &GroupSnapshot, plan: &mut Plan, selection: &PolicySelection) {
    let before = condition(&plan.status.conditions, "PolicyReady").cloned();
    match &selection.problem {
        // Kept while the component cannot be read: it may come back unchanged.
        Some(problem) if problem.rejected.is_none() => {}
        None if selection.in_use.is_none() => {}
        problem => {
            let rejected = problem.as_ref().and_then(|p| p.rejected.as_deref());
            plan.status.rejected_policy = rejected.cloned();
        }
    }
    if selection
        .problem
        .as_ref()
        .is_some_and(|problem| problem.passing)
    {
        plan.requeue_at(snapshot.now.plus(AFTER_AN_ERROR));
    }
    let (ready, reason, message) = match (&selection.in_use, &selection.problem, selection.loading)
    {
        (Some(policy), None, _) => {
            // How the last evaluation by the same policy went stands until the next.
            if before.is_some_and(|c| c.status == "False" && c.message.contains(&about(policy))) {
                return;
            }
            (true, "Ready", format!("{} decides", named(policy)))
        }
        (Some(policy), Some(problem), _) => (
            false,
            problem.reason,
            format!(
                "{}; until that is mended, {} decides as before",
                problem.message,
                named(policy)
            ),
        ),
        (None, Some(problem), _) => (
            false,
            problem.reason,
            without(snapshot, selection, &problem.message),
        ),
        (None, None, since) => {
            plan.requeue_at(snapshot.now.plus(SOON));
            let recent = since.is_none_or(|since| snapshot.now < since.plus(PATIENCE));
            if before.is_some() && recent {
                return;
            }
            let message =
                "the group's policy is being loaded; it is read from its ConfigMap and compiled";
            (false, "Loading", message.to_owned())
        }
    };
    let generation = snapshot.group.metadata.generation;
    let ready = ("PolicyReady", ready, reason, message);
    set_condition(&mut plan.status.conditions, snapshot.now, generation, ready);
}

/// How the condition names a policy that gave no decision.
fn about(policy: &PolicyInUse) -> String {
    format!("(sha256 {})", policy.digest)
}

/// A problem, what was lost by it, and what happens meanwhile.
fn without(snapshot: &GroupSnapshot, selection: &PolicySelection, problem: &str) -> String {
    let lost = lost(snapshot)
        .map(|digest| {
            format!("; the policy with sha256 {digest} that decided last is not at hand any more")
        })
        .unwrap_or_default();
    format!("{problem}{lost}; {}", meanwhile(selection.on_error))
}

/// The digest of the group's own policy that decided last, also where the built-in one has
/// decided since.
pub(super) fn lost(snapshot: &GroupSnapshot) -> Option<&str> {
    let last = snapshot.group.status.as_ref()?.policy.as_ref()?;
    let wanted = Source::of(&snapshot.group)?.to_string();
    if last.source == wanted {
        Some(&last.digest)
    } else {
        last.instead_of.as_deref()
    }
}

fn meanwhile(on_error: OnError) -> &'static str {
    match on_error {
        OnError::Hold => "nothing is started until that is mended (onError: Hold)",
        OnError::UseDefault => {
            "the default policy decides until that is mended (onError: UseDefault)"
        }
    }
}

/// How long to wait before a policy that gave no answer is asked again, whoever decides meanwhile.
const AFTER_AN_ERROR: Duration = Duration::from_secs(60);

/// The policy gave no decision: what `PolicyReady` says of it, unless there is something wrong
/// with an earlier step already.
pub fn record_policy_error(
    snapshot: &GroupSnapshot,
    plan: &mut Plan,
    selection: &PolicySelection,
    error: &EvalError,
) {
    plan.requeue_at(snapshot.now.plus(AFTER_AN_ERROR));
    if let (Some(policy), None) = (&selection.in_use, &selection.problem) {
        let message = format!(
            "{error} {}; {}",
            about(policy),
            meanwhile(selection.on_error)
        );
        let ready = ("PolicyReady", false, error.reason(), message);
        let generation = snapshot.group.metadata.generation;
        set_condition(&mut plan.status.conditions, snapshot.now, generation, ready);
    }
}

/// The policy gave a decision: whatever was wrong with it is so no longer.
pub(super) fn record_policy_decision(
    snapshot: &GroupSnapshot,
    plan: &mut Plan,
    selection: &PolicySelection,
    policy: &PolicyInUse,
) {
    if selection.in_use.as_ref() == Some(policy) && selection.problem.is_none() {
        let message = format!("{} decides", named(policy));
        let ready = ("PolicyReady", true, "Ready", message);
        let generation = snapshot.group.metadata.generation;
        set_condition(&mut plan.status.conditions, snapshot.now, generation, ready);
    }
}

/// Nobody decides: why nothing is started.
pub fn record_no_policy(snapshot: &GroupSnapshot, plan: &mut Plan, selection: &PolicySelection) {
    let status = &mut plan.status;
    let message = match &selection.problem {
        Some(problem) => format!(
            "nothing is started, because the group's policy cannot decide: {}",
            problem.message
        ),
        // It is only on its way, and nothing else has happened: not worth a write.
        None if snapshot.group.status.as_ref() == Some(&*status) => return,
        None => "nothing is started before the group's policy is loaded".to_owned(),
    };
    let ready = ("Ready", false, "PolicyNotReady", message.clone());
    let generation = snapshot.group.metadata.generation;
    set_condition(&mut status.conditions, snapshot.now, generation, ready);
    status.state = Some("Waiting".into());
    status.next = None;
    status.message = Some(message);
}

/// What is new about who decides, for an event.
pub fn news(before: &[Condition], after: &[Condition]) -> Option<PendingEvent> {
    let before = condition(before, "PolicyReady");
    let after = condition(after, "PolicyReady")?;
    let told = |c: &Condition| (c.status.clone(), c.reason.clone(), c.message.clone());
    if after.reason == "Loading" || before.map(told) == Some(told(after)) {
        return None;
    }
    let note = |warning, reason, message| PendingEvent {
        warning,
        reason,
        message,
        pod: None,
    };
    if after.status != "True" {
        let words = format!("{}: {}", after.reason, after.message);
        return Some(note(true, "PolicyNotReady", words));
    }
    match before.filter(|before| before.reason != "Loading") {
        Some(_) => Some(note(false, "PolicyChanged", after.message.clone())),
        // A group that is new and names no policy: nothing to write home about.
        None if after.message.starts_with(DEFAULT) => None,
        None => Some(note(false, "PolicyLoaded", after.message.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::TypeRead;
    use crate::plan::CurrentPod;
    use oaat_api::OaatGroup;
    use serde_json::json;

    const NOW: Timestamp = Timestamp(1_000_000);

    /// A group that names a policy, with what its status says.
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
            listing: crate::item_sources::SourceLists::default(),
            uid: "us".into(),
            pods: Vec::new(),
            current: CurrentPod::None,
            deleted_while_running: false,
            terminating: false,
            type_: TypeRead::Missing,
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

    fn problem() -> Problem {
        Problem {
            reason: "Malformed",
            message: "it is empty".into(),
            rejected: None,
            passing: false,
        }
    }

    /// Status, reason and message of the condition, and the event.
    fn told(
        snapshot: &GroupSnapshot,
        selection: &PolicySelection,
    ) -> (String, String, String, Option<PendingEvent>) {
        let before = snapshot.group.status.clone().unwrap_or_default();
        let mut plan = Plan {
            status: before.clone(),
            ..Plan::default()
        };
        record_selection(snapshot, &mut plan, selection);
        let news = news(&before.conditions, &plan.status.conditions);
        let c = condition(&plan.status.conditions, "PolicyReady").cloned();
        let (status, reason, message) = c
            .map(|c| (c.status, c.reason, c.message))
            .unwrap_or_default();
        (status, reason, message, news)
    }

    fn condition_of(status: &str, reason: &str, message: &str) -> serde_json::Value {
        json!({ "conditions": [{
            "type": "PolicyReady", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }] })
    }

    #[test]
    fn what_decides_is_named_with_digest_and_contract() {
        let selection = PolicySelection::by(policy("abc"), None, OnError::Hold);
        let (status, reason, message, news) = told(&snapshot(json!({})), &selection);
        assert_eq!((status.as_str(), reason.as_str()), ("True", "Ready"));
        for word in ["mine", "abc", "1.0.0"] {
            assert!(message.contains(word), "{message}");
        }
        assert_eq!(news.map(|note| note.reason), Some("PolicyLoaded"));
        let before = condition_of("True", "Ready", "the policy of x decides");
        let (.., news) = told(&snapshot(before), &selection);
        assert_eq!(news.map(|note| note.reason), Some("PolicyChanged"));
        let before = condition_of("True", "Ready", &message);
        let (.., news) = told(&snapshot(before), &selection);
        assert_eq!(news, None);
    }

    #[test]
    fn a_problem_says_what_happens_meanwhile_and_what_was_lost() {
        let nobody = |on_error| PolicySelection::unavailable_selection(problem(), on_error);
        let lost = json!({ "policy": policy("gone") });
        let other = json!({ "policy": { "source": "default", "digest": "gone", "contract": "1" } });
        let cases = [
            (
                PolicySelection::by(policy("old"), Some(problem()), OnError::Hold),
                json!({}),
                vec!["it is empty", "old", "as before"],
                "",
            ),
            (
                nobody(OnError::Hold),
                json!({}),
                vec!["nothing is started"],
                "decided last",
            ),
            (
                nobody(OnError::UseDefault),
                json!({}),
                vec!["default policy decides"],
                "decided last",
            ),
            (
                nobody(OnError::Hold),
                lost,
                vec!["sha256 gone that decided last", "Hold"],
                "",
            ),
            (
                nobody(OnError::UseDefault),
                json!({ "policy": {
                    "source": "default", "digest": "d", "contract": "1", "insteadOf": "gone",
                } }),
                vec!["sha256 gone that decided last", "default policy decides"],
                "",
            ),
            (
                nobody(OnError::Hold),
                other,
                vec!["nothing is started"],
                "gone",
            ),
        ];
        for (selection, before, words, not) in cases {
            let (status, reason, message, news) = told(&snapshot(before), &selection);
            assert_eq!((status.as_str(), reason.as_str()), ("False", "Malformed"));
            assert!(words.iter().all(|word| message.contains(word)), "{message}");
            assert!(not.is_empty() || !message.contains(not), "{message}");
            assert_eq!(
                news.map(|note| (note.warning, note.reason)),
                Some((true, "PolicyNotReady"))
            );
        }
    }

    #[test]
    fn a_policy_on_its_way_is_told_of_only_where_it_takes_long_or_is_the_first() {
        let loading = |since| PolicySelection::loading(since, OnError::Hold);
        let before = || snapshot(condition_of("True", "Ready", "it decides"));
        let long_ago = NOW.minus(Duration::from_secs(60));
        assert_eq!(told(&snapshot(json!({})), &loading(NOW)).1, "Loading");
        assert_eq!(told(&before(), &loading(NOW)).1, "Ready");
        assert_eq!(told(&before(), &loading(long_ago)).1, "Loading");
    }

    #[test]
    fn how_the_last_evaluation_went_stands_until_the_next() {
        let message = "the policy used up its fuel (sha256 abc); nothing is started";
        let before = snapshot(condition_of("False", "OutOfFuel", message));
        let same = PolicySelection::by(policy("abc"), None, OnError::Hold);
        assert_eq!(told(&before, &same).1, "OutOfFuel");
        let other = PolicySelection::by(policy("def"), None, OnError::Hold);
        assert_eq!(told(&before, &other).1, "Ready");
    }
}
