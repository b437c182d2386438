//! Shadow policies: a second policy of a group is asked what the policy of the group was asked, and
//! their answers are compared.
//!
//! A reconcile only passes a [`ShadowQuestion`] on, after everything else is done. The shadow policy
//! then decides in a separate task, at the lowest CPU priority, and with the permit of the compiler,
//! for which it waits behind every policy that decides. The result is the condition `ShadowAgrees`. A
//! status write that happens anyway includes it; only a new reason leads to a write of its own.

mod question;
mod report;

pub use question::ShadowQuestion;

use crate::config_maps::ConfigMaps;
use crate::group_ref::GroupRef;
use crate::metrics::Metrics;
use crate::plan::{ShadowCondition, ShadowNews, ShadowStatus};
use crate::policies::{Compiler, PolicySources};
use crate::policy_limiter::on_low_priority_thread;
use crate::policy_metrics::ShadowOutcome;
use crate::policy_source::{PolicyProblem, PolicyRead, PolicySource};
use crate::snapshot::GroupSnapshot;
use oaat_api::reasons::shadow_agrees;
use oaat_api::{BuiltInPolicy, OaatGroup, PolicyInUse, Timestamp, condition};
use policy_host::{EvalError, Policy};
use question::{Comparison, Reply};
use report::{Disagreement, ShadowReport, ShadowState};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::info;

/// The maximum size of the questions that wait, in KiB. Further ones are skipped.
const WAITING: u32 = 4096;
/// The delay before a group is reconciled only because the reason of its condition has changed. A
/// status write in the meantime makes that unnecessary.
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
}

/// A policy with settings, by their digests.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PolicyAndSettings {
    policy: String,
    settings: String,
}

struct ShadowedGroup {
    uid: String,
    /// Identifies what the spec requests.
    id: String,
    report: ShadowReport,
    /// The digest of the policy that the report is about.
    digest: Option<String>,
    /// What the policy accepted, and what it rejected last.
    accepted: Option<PolicyAndSettings>,
    rejected: Option<PolicyAndSettings>,
    /// Whether a question is being answered.
    is_busy: bool,
    /// Whether the status has the result of an earlier process, which is kept until there is a new one.
    inherits: bool,
    /// What the group's status shows, or the status that is being written.
    shown: Option<ShadowNews>,
    /// Whether a reconcile is due because of a new reason.
    is_reporting: bool,
    reported: Option<Instant>,
}

impl ShadowedGroup {
    fn new(uid: String, id: String, inherits: bool) -> Self {
        Self {
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

    /// Returns the condition; `None` if the group keeps the one that it has.
    fn condition(&self) -> Option<ShadowStatus> {
        let has_result =
            self.report.has_compared() || matches!(self.report.state, ShadowState::NotUsable(_));
        (has_result || !self.inherits).then(|| self.report.condition())
    }

    /// Returns whether the condition must be written although nothing else has changed.
    fn has_news(&self) -> bool {
        let condition = self.condition();
        condition
            .is_some_and(|condition| self.shown.as_ref() != Some(&ShadowNews::from(&condition)))
    }

    fn set_not_usable(&mut self, problem: PolicyProblem) {
        self.report.state = ShadowState::NotUsable(problem);
    }

    /// Prepares a question to this policy. `settings` is their digest. Returns the policy and settings, and whether the settings
    /// must be checked; `None` if there is nothing to ask.
    fn prepare(
        &mut self,
        question: &ShadowQuestion,
        policy: &Policy,
        settings: String,
    ) -> Option<(PolicyAndSettings, bool)> {
        if self.digest.as_deref() != Some(policy.digest()) {
            // The counts are about the policy that was there before.
            if self.digest.is_some() {
                self.report = ShadowReport::new(Timestamp::now());
                self.inherits = false;
            }
            self.digest = Some(policy.digest().to_owned());
        }
        if let Some(Err(error)) = question.pin.as_deref().map(|pin| policy.check_pin(pin)) {
            self.set_not_usable(PolicyProblem::from(&error));
            return None;
        }
        let asked = PolicyAndSettings {
            policy: policy.digest().to_owned(),
            settings,
        };
        if self.rejected.as_ref() == Some(&asked) {
            return None;
        }
        let is_accepted = self.accepted.as_ref() == Some(&asked);
        if is_accepted {
            self.set_usable(&question.source, policy);
        }
        (question.has_decision() || !is_accepted).then_some((asked, !is_accepted))
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
    /// Creates an empty set. `deciding` are the policies that decide. A group is sent to `queue` when
    /// its condition must be written.
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
            room: Arc::new(Semaphore::new(WAITING as usize)),
            queue,
            metrics,
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
        let shadow = group.and_then(|group| Some((group, question::id_of(group)?)));
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
            groups.insert(key.clone(), ShadowedGroup::new(uid, id, inherits));
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
                group.shown = Some(ShadowNews::from(&status));
                ShadowCondition::Is(status)
            }
            None => {
                let status = snapshot.group.status.as_ref();
                group.shown = status.and_then(|status| ShadowNews::shown(&status.conditions));
                ShadowCondition::Unchanged
            }
        }
    }

    /// Asks the shadow policy of a group, in a separate task. `default` is the built-in policy
    /// `default`.
    pub fn ask(&self, key: &GroupRef, default: &Policy, question: ShadowQuestion) {
        let (source, has_decision) = (question.source.clone(), question.has_decision());
        let read = self.read(&source, default);
        // Hashing large settings takes time, so it is done without the lock.
        let settings = question.settings_digest();
        let mut groups = self.groups();
        let Some(group) = groups.get_mut(key).filter(|g| g.id == question.id) else {
            return;
        };
        let is_asked = match read {
            // It was evicted from memory, or is loaded for the first time.
            PolicyRead::Loading(_) => false,
            PolicyRead::Failed(problem) => {
                group.set_not_usable(problem);
                false
            }
            PolicyRead::Loaded(policy) => self.begin(key, group, question, policy, settings),
        };
        if has_decision && !is_asked {
            self.count(&source, group, ShadowOutcome::Skipped, None);
        }
        self.report_news(key, group);
    }

    fn read(&self, source: &PolicySource, default: &Policy) -> PolicyRead {
        match source {
            PolicySource::BuiltIn(BuiltInPolicy::Default) => PolicyRead::Loaded(default.clone()),
            PolicySource::BuiltIn(_) => self.0.deciding.read(source),
            PolicySource::ConfigMap(_) | PolicySource::Kept(_) => self.0.own.read(source),
        }
    }

    /// Starts the task of a question. Returns whether its decision will be compared.
    fn begin(
        &self,
        key: &GroupRef,
        group: &mut ShadowedGroup,
        question: ShadowQuestion,
        policy: Policy,
        settings: String,
    ) -> bool {
        let Some((asked, check_settings)) = group.prepare(&question, &policy, settings) else {
            return false;
        };
        let size = u32::try_from(question.size() / 1024 + 1).unwrap_or(WAITING);
        let room = self
            .0
            .room
            .clone()
            .try_acquire_many_owned(size.min(WAITING));
        let (false, Ok(room)) = (group.is_busy, room) else {
            return false;
        };
        group.is_busy = true;
        let task = Task {
            shadows: self.clone(),
            key: key.clone(),
            id: question.id.clone(),
            source: question.source.clone(),
            has_decision: question.has_decision(),
            policy,
            asked,
            _room: room,
        };
        tokio::spawn(task.run(question, check_settings));
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
    fn report_news(&self, key: &GroupRef, group: &mut ShadowedGroup) {
        if group.is_reporting || !group.has_news() {
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
            if group.has_news() {
                group.reported = Some(Instant::now());
                // The receiver is dropped only when the process ends.
                let _ = shadows.0.queue.send(key.clone());
            }
        });
    }
}

/// A question that is being answered.
struct Task {
    shadows: Shadows,
    key: GroupRef,
    id: String,
    source: PolicySource,
    has_decision: bool,
    policy: Policy,
    asked: PolicyAndSettings,
    /// Room for the question.
    _room: OwnedSemaphorePermit,
}

impl Task {
    async fn run(self, question: ShadowQuestion, check_settings: bool) {
        let namespace = self.key.namespace.as_deref().unwrap_or_default();
        // The permit also keeps the policy and the compiler from using their memory at the same time.
        let mut permit = self.shadows.0.compiler.acquire(namespace).await;
        let policy = self.policy.clone();
        let reply = on_low_priority_thread(move || question.ask(&policy, check_settings)).await;
        // No panic is known here. If one occurs, it is attributed to the policy.
        let reply = reply.unwrap_or_else(|error| Reply {
            settings: Some(Err(EvalError::Trapped(error.into()))),
            comparison: None,
            used: Duration::ZERO,
        });
        permit.charge(reply.used);
        drop(permit);
        self.finish(reply);
    }

    fn finish(&self, reply: Reply) {
        let mut groups = self.shadows.groups();
        let Some(group) = groups.get_mut(&self.key) else {
            return;
        };
        if group.id != self.id {
            return;
        }
        group.is_busy = false;
        if group.digest.as_ref() != Some(&self.asked.policy) {
            return;
        }
        match reply.settings {
            Some(Ok(())) => {
                group.accepted = Some(self.asked.clone());
                group.rejected = None;
                group.set_usable(&self.source, &self.policy);
            }
            Some(Err(error)) => {
                let problem = PolicyProblem::settings(&error);
                // The settings are checked again if the machine was too busy.
                group.rejected = (!problem.transient).then(|| self.asked.clone());
                group.accepted = None;
                group.set_not_usable(problem);
            }
            None => {}
        }
        if let Some(comparison) = reply.comparison {
            self.record(group, comparison);
        } else if self.has_decision {
            let skipped = ShadowOutcome::Skipped;
            self.shadows.count(&self.source, group, skipped, None);
        }
        self.shadows.report_news(&self.key, group);
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
                digest = self.asked.policy,
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
