//! An evaluation of a shadow policy, and the comparison of its answer.

use super::report::Disagreement;
use crate::plan::AnsweredRequest;
use crate::policy_limiter::thread_cpu_time;
use crate::policy_metrics::ShadowOutcome;
use crate::policy_source::PolicySource;
use crate::snapshot::GroupSnapshot;
use oaat_api::{OaatGroup, ShadowPolicy, Timestamp, text};
use policy_host::{
    Decision, EvalError, ItemSettings, Policy, Request, WaitTimes, compare_answers, sha256,
};
use std::collections::HashMap;
use std::time::Duration;

/// The approximate size of an item in a request without its texts, in bytes.
const ITEM_SIZE: usize = 200;
/// The CPU time below which a missed deadline is attributed to other work on the machine.
const MIN_CPU_TIME: Duration = Duration::from_millis(250);
/// The maximum length of an error message of a policy in a description, in bytes.
const MAX_ERROR: usize = 200;

/// An evaluation of the shadow policy of a group.
#[derive(Clone, Debug)]
pub struct ShadowEvaluation {
    pub(super) source: PolicySource,
    /// The sha256 that the component must have.
    pub(super) pin: Option<String>,
    /// The digest of `spec.policy.shadow`.
    pub(super) id: String,
    settings: String,
    items: Vec<ItemSettings>,
    answered: Option<Answered>,
}

/// A request, and the answer of the policy of the group.
#[derive(Clone, Debug)]
struct Answered {
    /// The source of the policy.
    source: String,
    request: Request,
    request_sha256: String,
    /// The answer, without verdicts.
    answer: Result<Decision, EvalError>,
}

/// The result of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ShadowResult {
    /// Whether the policy accepts its settings, if that was checked.
    pub settings: Option<Result<(), EvalError>>,
    /// The comparison, if there was a decision to compare.
    pub comparison: Option<Comparison>,
    /// The CPU time used.
    pub used: Duration,
}

/// A decision of the group's policy, compared with that of the shadow policy.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Comparison {
    pub outcome: ShadowOutcome,
    /// Set unless the policies agree.
    pub disagreement: Option<Disagreement>,
}

/// Returns the shadow policy in a group's spec.
fn shadow_of(group: &OaatGroup) -> Option<&ShadowPolicy> {
    group.spec.policy.as_ref()?.shadow.as_ref()
}

/// Returns a digest of `spec.policy.shadow`.
pub(super) fn id_of(group: &OaatGroup) -> Option<String> {
    let shadow = shadow_of(group)?;
    Some(sha256(&serde_json::to_vec(shadow).unwrap_or_default()))
}

impl ShadowEvaluation {
    /// Returns the evaluation for a group with a shadow policy. Without an answer of the group's
    /// policy, only the settings are checked.
    pub fn new(snapshot: &GroupSnapshot, answered: Option<AnsweredRequest>) -> Option<Self> {
        let group = &snapshot.group;
        let shadow = shadow_of(group)?;
        let json =
            |object: &serde_json::Map<_, _>| serde_json::to_string(object).unwrap_or_default();
        let items = snapshot.items.iter().filter_map(|name| {
            let settings = group.spec.item_options.get(name)?.settings.as_ref()?;
            Some(ItemSettings {
                name: name.clone(),
                settings: json(settings),
            })
        });
        Some(Self {
            source: PolicySource::from_shadow(group)?,
            pin: shadow.sha256.clone(),
            id: id_of(group)?,
            settings: shadow.settings.as_ref().map_or_else(|| "{}".into(), json),
            items: items.collect(),
            answered: answered.map(Answered::from),
        })
    }

    /// Returns whether there is a decision to compare.
    pub(super) fn has_decision(&self) -> bool {
        self.answered.is_some()
    }

    /// Returns a digest of all settings.
    pub(super) fn settings_digest(&self) -> String {
        let items = self.items.iter().map(|item| (&item.name, &item.settings));
        let all = (&self.settings, items.collect::<Vec<_>>());
        sha256(&serde_json::to_vec(&all).unwrap_or_default())
    }

    /// Returns the approximate size, in bytes.
    pub(super) fn size(&self) -> usize {
        let settings = self.items.iter().map(|i| i.name.len() + i.settings.len());
        let request = self.answered.iter().map(|answered| {
            let Request {
                items,
                state,
                settings,
                ..
            } = &answered.request;
            let texts = items
                .iter()
                .map(|i| ITEM_SIZE + i.name.len() + i.settings.as_ref().map_or(0, String::len));
            texts.sum::<usize>() + state.len() + settings.len()
        });
        self.settings.len() + settings.sum::<usize>() + request.sum::<usize>()
    }

    /// Returns the request to the shadow policy.
    #[cfg(test)]
    pub(super) fn request_for_tests(mut self) -> Request {
        let answered = self.answered.take().unwrap();
        answered.for_shadow(&self).request
    }

    /// Evaluates a policy. Blocks.
    pub(super) fn run(mut self, policy: &Policy, check_settings: bool) -> ShadowResult {
        let started = thread_cpu_time();
        let used = || thread_cpu_time().saturating_sub(started);
        let settings = check_settings.then(|| policy.validate(&self.settings, &self.items).answer);
        let is_accepted = !matches!(settings, Some(Err(_)));
        let answered = self.answered.take().filter(|_| is_accepted);
        let comparison = answered.map(|answered| {
            let answered = answered.for_shadow(&self);
            let answer = policy.evaluate(&answered.request).answer;
            answered.compare(&answer, used())
        });
        ShadowResult {
            settings,
            comparison,
            used: used(),
        }
    }
}

impl From<AnsweredRequest> for Answered {
    fn from(answered: AnsweredRequest) -> Self {
        let answer = answered.evaluation.answer;
        Self {
            source: answered.policy.source,
            request: answered.request,
            request_sha256: answered.request_sha256,
            answer: answer.map(|decision| Decision {
                verdicts: Vec::new(),
                ..decision
            }),
        }
    }
}

impl Answered {
    /// Adapts the request to the shadow policy, which has its own settings. Clears the stored state
    /// unless both policies have the same source, because other policies cannot read it.
    fn for_shadow(mut self, evaluation: &ShadowEvaluation) -> Self {
        let request = &mut self.request;
        request.settings.clone_from(&evaluation.settings);
        let items = evaluation.items.iter();
        let mut items: HashMap<_, _> = items.map(|item| (&item.name, &item.settings)).collect();
        for item in &mut request.items {
            item.settings = items.remove(&item.name).cloned();
        }
        if self.source != evaluation.source.to_string() {
            request.state.clear();
        }
        self
    }

    /// Compares the answer of the shadow policy, which took this much CPU time.
    fn compare(&self, answer: &Result<Decision, EvalError>, used: Duration) -> Comparison {
        if matches!(answer, Err(EvalError::Deadline(_))) && used < MIN_CPU_TIME {
            return Comparison {
                outcome: ShadowOutcome::Skipped,
                disagreement: None,
            };
        }
        let difference = compare_answers(&self.request, &self.answer, answer, WaitTimes::Ignore);
        let difference = difference.and_then(|difference| difference.action);
        let error = answer.as_ref().err();
        let error = error.map(|error| text::clean(&error.to_string(), MAX_ERROR));
        let (outcome, description) = match (difference, error) {
            (None, None) => (ShadowOutcome::Agrees, None),
            (Some(difference), None) => (ShadowOutcome::Differs, Some(difference.to_string())),
            (Some(difference), Some(error)) => (
                ShadowOutcome::Failed,
                Some(format!("{difference}: {error}")),
            ),
            (None, Some(error)) => {
                let description = format!("would make no decision either: {error}");
                (ShadowOutcome::Failed, Some(description))
            }
        };
        Comparison {
            outcome,
            disagreement: description.map(|description| Disagreement {
                at: Timestamp(self.request.now),
                request_sha256: self.request_sha256.clone(),
                description,
            }),
        }
    }
}
