//! Shadow policies: a second policy of a group gets the same requests as the group's policy, and the
//! answers are compared.
//!
//! A reconcile hands over a [`ShadowEvaluation`] after everything else is done. A separate task
//! evaluates it at the lowest CPU priority. The task needs the permit of the compiler, and waits for
//! it behind all policies that decide. The result is the condition `ShadowAgrees`. The next status
//! write includes the condition. Only a new reason causes a separate write.

mod evaluation;
mod report;

pub use evaluation::ShadowEvaluation;

use crate::config_maps::ConfigMaps;
use crate::group_ref::GroupRef;
use crate::metrics::Metrics;
use crate::plan::{ShadowCondition, ShadowStatus, ShadowSummary};
use crate::policies::{Compiler, PolicySources};
use crate::policy_limiter::on_low_priority_thread;
use crate::policy_metrics::ShadowOutcome;
use crate::policy_source::{PolicyProblem, PolicyRead, PolicySource};
use crate::snapshot::GroupSnapshot;
use evaluation::{Comparison, ShadowResult};
use oaat_api::reasons::shadow_agrees;
use oaat_api::{BuiltInPolicy, OaatGroup, PolicyInUse, Timestamp, condition};
use policy_host::{EvalError, Policy};
use report::{Disagreement, ShadowReport, ShadowState};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::info;

/// The maximum total size of the evaluations that wait, in KiB. Further ones are skipped.
const MAX_WAITING_KIB: u32 = 4096;
/// The delay before a group is reconciled only because the reason of its condition has changed. A
/// status write in the meantime makes this reconcile unnecessary.
const REPORT_DELAY: Duration = Duration::from_secs(2);
/// The minimum time between two such reconciles of a group.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// The shadow policies of groups. Cheap to clone.
#[derive(Clone)]
pub struct Shadows(Arc<Shared>);

struct Shared {
    /// The policies that decide. They include the built-in ones.
    deciding: PolicySources,
    own: PolicySources,
    compiler: Compiler,
    groups: Mutex<HashMap<GroupRef, ShadowedGroup>>,
    room: Arc<Semaphore>,
    queue: UnboundedSender<GroupRef>,
    metrics: Arc<Metrics>,
    /// The number of the next [`ShadowedGroup`].
    next_number: AtomicU64,
}

/// A policy with settings, by their digests.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PolicyAndSettings {
    policy: String,
    settings: String,
}

struct ShadowedGroup {
    /// Identifies this entry. If a shadow is removed and added again, only the number differs.
    number: u64,
    uid: String,
    /// The digest of `spec.policy.shadow`.
    id: String,
    report: ShadowReport,
    /// The digest of the policy that the report is about.
    digest: Option<String>,
    /// The settings that the policy accepted last.
    accepted: Option<PolicyAndSettings>,
    /// The settings that the policy rejected last.
    rejected: Option<PolicyAndSettings>,
    /// Whether an evaluation is in progress.
    is_busy: bool,
    /// Whether the status has the result of an earlier process, which stays until there is a new one.
    inherits: bool,
    /// The condition in the group's status, or in the status that is being written.
    shown: Option<ShadowSummary>,
    /// Whether a reconcile is due because of a new reason.
    is_reporting: bool,
    reported: Option<Instant>,
}

impl ShadowedGroup {
    fn new(number: u64, uid: String, id: String, inherits: bool) -> Self {
        Self {
            number,
            uid,
            id,
            report: ShadowReport::new(Timestamp::now()),
            digest: None,
            accepted: None,
            rejected: None,
            is_busy: false,
            inherits,
            shown: None,
            is_reporting: false,
            reported: None,
        }
    }

    /// Returns the condition, or `None` if the current one stays.
    fn condition(&self) -> Option<ShadowStatus> {
        let has_result =
            self.report.has_compared() || matches!(self.report.state, ShadowState::NotUsable(_));
        (has_result || !self.inherits).then(|| self.report.condition())
    }

    /// Returns whether the condition must be written although nothing else has changed.
    fn needs_report(&self) -> bool {
        let condition = self.condition();
        condition
            .is_some_and(|condition| self.shown.as_ref() != Some(&ShadowSummary::from(&condition)))
    }

    fn set_not_usable(&mut self, problem: PolicyProblem) {
        self.report.state = ShadowState::NotUsable(problem);
    }

    /// Prepares an evaluation of this policy. `settings` is the digest of its settings. Returns the
    /// digests of both, and whether the settings must be checked. Returns `None` if there is nothing
    /// to evaluate.
    fn prepare(
        &mut self,
        evaluation: &ShadowEvaluation,
        policy: &Policy,
        settings: String,
    ) -> Option<(PolicyAndSettings, bool)> {
        if self.digest.as_deref() != Some(policy.digest()) {
            // The counts belong to the previous policy.
            if self.digest.is_some() {
                self.report = ShadowReport::new(Timestamp::now());
                self.inherits = false;
            }
            self.digest = Some(policy.digest().to_owned());
        }
        if let Some(Err(error)) = evaluation.pin.as_deref().map(|pin| policy.check_pin(pin)) {
            self.set_not_usable(PolicyProblem::from(&error));
            return None;
        }
        let evaluated = PolicyAndSettings {
            policy: policy.digest().to_owned(),
            settings,
        };
        if self.rejected.as_ref() == Some(&evaluated) {
            return None;
        }
        let is_accepted = self.accepted.as_ref() == Some(&evaluated);
        if is_accepted {
            self.set_usable(&evaluation.source, policy);
        }
        (evaluation.has_decision() || !is_accepted).then_some((evaluated, !is_accepted))
    }

    fn set_usable(&mut self, source: &PolicySource, policy: &Policy) {
        self.report.state = ShadowState::Usable(PolicyInUse {
            source: source.to_string(),
            digest: policy.digest().to_owned(),
            contract: policy.contract().to_owned(),
            instead_of: None,
        });
    }
}

impl Shadows {
    /// Creates an empty set. `deciding` contains the policies that decide. A group is sent to `queue`
    /// when its condition must be written.
    pub fn new(
        config_maps: ConfigMaps,
        deciding: PolicySources,
        compiler: Compiler,
        queue: UnboundedSender<GroupRef>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let own = PolicySources::for_shadows(config_maps, compiler.clone(), queue.clone());
        Self(Arc::new(Shared {
            deciding,
            own,
            compiler,
            groups: Mutex::default(),
            room: Arc::new(Semaphore::new(MAX_WAITING_KIB as usize)),
            queue,
            metrics,
            next_number: AtomicU64::default(),
        }))
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<GroupRef, ShadowedGroup>> {
        self.0.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the shadow policy of a group; `None` if the group is gone. Returns its source if it is a
    /// built-in policy, which all groups share.
    pub fn record(&self, key: &GroupRef, group: Option<&OaatGroup>) -> Option<PolicySource> {
        let source = group.and_then(PolicySource::from_shadow);
        let (own, built_in) = match source {
            Some(source @ PolicySource::ConfigMap(_)) => (Some(source), None),
            other => (None, other),
        };
        self.0.own.set_sources(key, own, None, None);
        let shadow = group.and_then(|group| Some((group, evaluation::id_of(group)?)));
        let mut groups = self.groups();
        let Some((group, id)) = shadow else {
            groups.remove(key);
            return built_in;
        };
        let uid = group.metadata.uid.clone().unwrap_or_default();
        let known = groups.get(key);
        if known.is_none_or(|known| known.uid != uid || known.id != id) {
            let status = group.status.as_ref();
            let inherited = status.and_then(|s| condition(&s.conditions, shadow_agrees::TYPE));
            let inherits = inherited.is_some_and(|condition| {
                shadow_agrees::COMPARED.contains(&condition.reason.as_str())
                    && condition.observed_generation == group.metadata.generation
            });
            let number = self.0.next_number.fetch_add(1, Ordering::Relaxed);
            groups.insert(key.clone(), ShadowedGroup::new(number, uid, id, inherits));
        }
        built_in
    }

    /// Removes groups that are not in `existing`.
    pub fn retain(&self, existing: &HashSet<GroupRef>) {
        self.0.own.retain(existing);
        self.groups().retain(|group, _| existing.contains(group));
    }

    /// Returns the condition for the next status of a group.
    pub fn condition(&self, key: &GroupRef, snapshot: &GroupSnapshot) -> ShadowCondition {
        if PolicySource::from_shadow(&snapshot.group).is_none() {
            return ShadowCondition::Absent;
        }
        let mut groups = self.groups();
        let Some(group) = groups.get_mut(key) else {
            return ShadowCondition::Unchanged;
        };
        group.is_reporting = false;
        match group.condition() {
            Some(status) => {
                group.shown = Some(ShadowSummary::from(&status));
                ShadowCondition::Is(status)
            }
            None => {
                let status = snapshot.group.status.as_ref();
                group.shown =
                    status.and_then(|status| ShadowSummary::from_conditions(&status.conditions));
                ShadowCondition::Unchanged
            }
        }
    }

    /// Evaluates the shadow policy of a group in a separate task. `default` is the built-in policy
    /// `default`.
    pub fn evaluate(&self, key: &GroupRef, default: &Policy, evaluation: ShadowEvaluation) {
        let (source, has_decision) = (evaluation.source.clone(), evaluation.has_decision());
        let read = self.read(&source, default);
        // Hashing large settings takes time, so it is done without the lock.
        let settings = evaluation.settings_digest();
        let mut groups = self.groups();
        let Some(group) = groups.get_mut(key).filter(|g| g.id == evaluation.id) else {
            return;
        };
        let is_started = match read {
            // It was evicted from memory, or is loaded for the first time.
            PolicyRead::Loading(_) => false,
            PolicyRead::Failed(problem) => {
                group.set_not_usable(problem);
                false
            }
            PolicyRead::Loaded(policy) => self.begin(key, group, evaluation, policy, settings),
        };
        if has_decision && !is_started {
            self.count(&source, group, ShadowOutcome::Skipped, None);
        }
        self.schedule_report(key, group);
    }

    fn read(&self, source: &PolicySource, default: &Policy) -> PolicyRead {
        match source {
            PolicySource::BuiltIn(BuiltInPolicy::Default) => PolicyRead::Loaded(default.clone()),
            PolicySource::BuiltIn(_) => self.0.deciding.read(source),
            PolicySource::ConfigMap(_) | PolicySource::Kept(_) => self.0.own.read(source),
        }
    }

    /// Starts the task of an evaluation. Returns whether it was started.
    fn begin(
        &self,
        key: &GroupRef,
        group: &mut ShadowedGroup,
        evaluation: ShadowEvaluation,
        policy: Policy,
        settings: String,
    ) -> bool {
        let Some((evaluated, check_settings)) = group.prepare(&evaluation, &policy, settings)
        else {
            return false;
        };
        let size = u32::try_from(evaluation.size() / 1024 + 1).unwrap_or(MAX_WAITING_KIB);
        let room = self
            .0
            .room
            .clone()
            .try_acquire_many_owned(size.min(MAX_WAITING_KIB));
        let (false, Ok(room)) = (group.is_busy, room) else {
            return false;
        };
        group.is_busy = true;
        let task = Task {
            shadows: self.clone(),
            key: key.clone(),
            number: group.number,
            source: evaluation.source.clone(),
            has_decision: evaluation.has_decision(),
            policy,
            evaluated,
            _room: room,
        };
        tokio::spawn(task.run(evaluation, check_settings));
        true
    }

    fn count(
        &self,
        source: &PolicySource,
        group: &mut ShadowedGroup,
        outcome: ShadowOutcome,
        disagreement: Option<Disagreement>,
    ) {
        self.0.metrics.shadow(source, outcome);
        group.report.record(outcome, disagreement);
    }

    /// Reconciles a group soon if its condition must be written although nothing else has changed.
    fn schedule_report(&self, key: &GroupRef, group: &mut ShadowedGroup) {
        if group.is_reporting || !group.needs_report() {
            return;
        }
        group.is_reporting = true;
        let now = Instant::now();
        let earliest = group.reported.map(|reported| reported + REPORT_INTERVAL);
        let delay = earliest.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let (shadows, key) = (self.clone(), key.clone());
        tokio::spawn(async move {
            tokio::time::sleep(delay.max(REPORT_DELAY)).await;
            let mut groups = shadows.groups();
            let Some(group) = groups.get_mut(&key) else {
                return;
            };
            group.is_reporting = false;
            if group.needs_report() {
                group.reported = Some(Instant::now());
                // The receiver is dropped only when the process ends.
                let _ = shadows.0.queue.send(key.clone());
            }
        });
    }
}

/// An evaluation in progress.
struct Task {
    shadows: Shadows,
    key: GroupRef,
    /// The number of the [`ShadowedGroup`].
    number: u64,
    source: PolicySource,
    has_decision: bool,
    policy: Policy,
    evaluated: PolicyAndSettings,
    /// The permit for the size of the evaluation.
    _room: OwnedSemaphorePermit,
}

impl Task {
    async fn run(self, evaluation: ShadowEvaluation, check_settings: bool) {
        let namespace = self.key.namespace.as_deref().unwrap_or_default();
        // With this permit, the evaluation and the compiler do not use memory at the same time.
        let mut permit = self.shadows.0.compiler.acquire(namespace).await;
        let policy = self.policy.clone();
        let result = on_low_priority_thread(move || evaluation.run(&policy, check_settings)).await;
        // A panic here would be a bug. It is reported as a crash of the policy.
        let result = result.unwrap_or_else(|error| ShadowResult {
            settings: Some(Err(EvalError::Trapped(error.into()))),
            comparison: None,
            used: Duration::ZERO,
        });
        permit.charge(result.used);
        drop(permit);
        self.finish(result);
    }

    fn finish(&self, result: ShadowResult) {
        let mut groups = self.shadows.groups();
        let Some(group) = groups.get_mut(&self.key) else {
            return;
        };
        if group.number != self.number {
            return;
        }
        group.is_busy = false;
        if group.digest.as_ref() != Some(&self.evaluated.policy) {
            return;
        }
        match result.settings {
            Some(Ok(())) => {
                group.accepted = Some(self.evaluated.clone());
                group.rejected = None;
                group.set_usable(&self.source, &self.policy);
            }
            Some(Err(error)) => {
                let problem = PolicyProblem::settings(&error);
                // If the machine was too busy, the settings are checked again.
                group.rejected = (!problem.transient).then(|| self.evaluated.clone());
                group.accepted = None;
                group.set_not_usable(problem);
            }
            None => {}
        }
        if let Some(comparison) = result.comparison {
            self.record(group, comparison);
        } else if self.has_decision {
            let skipped = ShadowOutcome::Skipped;
            self.shadows.count(&self.source, group, skipped, None);
        }
        self.shadows.schedule_report(&self.key, group);
    }

    fn record(&self, group: &mut ShadowedGroup, comparison: Comparison) {
        let Comparison {
            outcome,
            disagreement,
        } = comparison;
        if let Some(Disagreement {
            request_sha256,
            description,
            ..
        }) = &disagreement
        {
            let (namespace, name) = (self.key.namespace.as_deref(), self.key.name.as_str());
            info!(
                namespace,
                group = name,
                digest = self.evaluated.policy,
                request = request_sha256,
                difference = description,
                "the shadow policy disagrees"
            );
        }
        self.shadows
            .count(&self.source, group, outcome, disagreement);
    }
}

#[cfg(test)]
mod tests;
