//! One reconcile of one group: read, validate, items, plan, select, apply.

use crate::apply::{Applied, Applier, ApplyResult};
use crate::cluster::{Cluster, ClusterError, Freshness};
use crate::decision_log::DecisionLog;
use crate::fair_limiter::Permit;
use crate::group_metrics::GroupSample;
use crate::group_ref::GroupRef;
use crate::item_sources;
use crate::last_seen_pods::LastSeenPods;
use crate::metrics::RunResultMetric;
use crate::plan::{self, AnsweredRequest, PendingEvent, Plan, ShadowCondition};
use crate::policies::PolicyCache;
use crate::policy_limiter::{PolicyLimiter, on_blocking_thread};
use crate::policy_metrics::DecisionSample;
use crate::policy_selection::PolicySelection;
use crate::policy_source::{LastGoodPolicy, PolicyRead, PolicySource};
use crate::read_snapshot::{ReconcileInputs, SnapshotRead, read_snapshot};
use crate::shadow::{ShadowEvaluation, Shadows};
use crate::snapshot::GroupSnapshot;
use crate::snapshot::TypeRead;
use kube::runtime::reflector::ObjectRef;
use oaat_api::reasons::{progress, ready, states};
use oaat_api::text;
use oaat_api::validate::{FieldError, ValidatedGroup, validate};
use oaat_api::{
    BuiltInPolicy, OaatGroup, OaatGroupStatus, OaatTypeSpec, OnError, PolicyInUse, RunResult,
    Timestamp, set_condition,
};
use policy_host::{Decision, EvalError, Evaluation, Policy, Request};
use serde_json::json;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// Reconciles one group, with everything that a reconcile needs.
pub struct Reconciler<'a, C> {
    /// The cluster.
    pub cluster: &'a C,
    /// The last known states of pods that are gone.
    pub last_seen_pods: &'a LastSeenPods,
    /// The policy for groups without `spec.policy`.
    pub default: &'a Policy,
    /// The policies that groups use.
    pub policies: &'a PolicyCache,
    /// Limits evaluations of those policies.
    pub limiter: &'a PolicyLimiter,
    /// The shadow policies of groups. `None` if there are none.
    pub shadows: Option<&'a Shadows>,
    /// Logs and records decisions. `None` if the plan is discarded or changes nothing.
    pub decision_log: Option<&'a DecisionLog>,
    /// The operator's own image, for pods that fetch lists of items from web servers.
    pub image: Option<&'a str>,
    /// Whether no other replica acts: leader election is on, and `--shard` is not used.
    pub leads: bool,
    /// The minimum time between two starts of an item.
    pub retry_floor: Duration,
    /// Returns ten random characters of a to z and 0 to 9.
    pub nonce: fn() -> String,
    /// Returns the current time.
    pub now: fn() -> Timestamp,
}

/// The result of a reconcile.
#[derive(Debug, Default)]
pub struct ReconcileOutcome {
    /// Events on the group.
    pub events: Vec<PendingEvent>,
    /// The group's uid, for the events.
    pub uid: String,
    /// The runs that started or ended, for the metrics.
    pub runs: Vec<RunResultMetric>,
    /// When to reconcile the group again.
    pub requeue_at: Option<Timestamp>,
    /// The group's resource version after the operator's last write.
    pub written: Option<String>,
    /// The error that ended the reconcile after a part of it was done. The other fields describe
    /// that part. The caller retries later.
    pub error: Option<ClusterError>,
    /// The evaluations of policies, for the metrics.
    pub decisions: Vec<DecisionSample>,
    /// The last good policies. The operator keeps copies of those that are not built in.
    pub last_good: Vec<LastGoodPolicy>,
    /// The time from the observed end of a run to the claim of the next run, if both are new.
    pub handover: Option<Duration>,
    /// The metrics of the group, unless it is gone or cannot be decoded.
    pub sample: Option<GroupSample>,
    /// The evaluation of the group's shadow policy.
    pub shadow: Option<ShadowEvaluation>,
}

/// The plan of a group before its policy is evaluated.
struct Planned {
    plan: Plan,
    /// The run whose end the plan records.
    finished: Option<FinishedRun>,
}

struct FinishedRun {
    pod_uid: String,
    result: Option<RunResult>,
}

/// The policy of a group in one reconcile.
enum GroupPolicy {
    /// The policy is selected. Without an accepted policy, only the selection is known.
    Resolved(Box<PolicySelection>, Option<Policy>),
    /// The policy must check its settings first. The decision is deferred by this time.
    SettingsUnchecked(Duration),
}

/// A plan after the policy was evaluated, if a decision was needed.
struct PlanWithDecision {
    plan: Plan,
    /// The planned status if nothing starts.
    status_without_start: OaatGroupStatus,
    /// The type of the item to start, if there is one.
    spec: Option<Arc<OaatTypeSpec>>,
    decided: Decided,
}

/// The evaluations of policies in one reconcile.
#[derive(Default)]
struct Decided {
    samples: Vec<DecisionSample>,
    /// The answer that the plan follows.
    answered: Option<AnsweredRequest>,
}

/// What a decision is based on.
struct DecisionContext<'a> {
    snapshot: &'a GroupSnapshot,
    valid: &'a ValidatedGroup,
    selection: &'a PolicySelection,
    group: GroupRef,
    /// The same reconcile records the end of a run.
    records: bool,
}

/// A policy's answer.
struct PolicyAnswer {
    request: Request,
    request_sha256: String,
    evaluation: Evaluation<Decision>,
    took: Duration,
}

impl PolicyAnswer {
    /// Returns the metrics of the evaluation of the policy from `source`.
    fn sample(&self, source: &PolicySource) -> DecisionSample {
        DecisionSample::new(source, &self.evaluation, self.took)
    }

    fn into_answered_request(self, policy: PolicyInUse) -> AnsweredRequest {
        AnsweredRequest {
            policy,
            request: self.request,
            request_sha256: self.request_sha256,
            evaluation: self.evaluation,
        }
    }
}

/// The source of the policy that decides for groups without their own.
const DEFAULT_POLICY: PolicySource = PolicySource::BuiltIn(BuiltInPolicy::Default);

/// The requeue delay of a group that waits for the limiter, in case its turn is not reported.
const LIMITER_REQUEUE_DELAY: Duration = Duration::from_secs(60);

/// The delay before a start is planned again whose type could not be read.
const TYPE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The maximum number of attempts that end in a conflict. After that, the caller retries.
const ATTEMPTS: usize = 5;

impl Planned {
    fn new(snapshot: &GroupSnapshot, valid: &Result<ValidatedGroup, Vec<FieldError>>) -> Self {
        let plan = plan::plan_group(snapshot, valid);
        let before = snapshot.group.status.as_ref();
        let finished = before
            .and_then(|status| status.current.as_ref())
            .filter(|_| plan.status.current.is_none())
            .map(|current| FinishedRun {
                pod_uid: current.pod_uid.clone(),
                result: plan.status.history.first().map(|run| run.result),
            });
        Self { plan, finished }
    }

    /// Returns whether the plan has changes that must not wait for a policy.
    fn urgent(&self) -> bool {
        self.finished.is_some() || self.plan.open.is_some() || self.plan.stop.is_some()
    }
}

impl<C: Cluster> Reconciler<'_, C> {
    /// Reconciles a group. After a conflict with another writer, starts again with a new read.
    ///
    /// # Errors
    /// Returns an error if a request to the cluster fails or if every attempt ends in a conflict.
    /// The caller retries later.
    pub async fn reconcile(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<ReconcileOutcome, ClusterError> {
        for _ in 0..ATTEMPTS {
            if let Some(outcome) = self.try_reconcile(namespace, name).await? {
                return Ok(outcome);
            }
            debug!(
                namespace,
                group = name,
                "the group changed during the reconcile; reconciling again"
            );
        }
        Err(ClusterError::Conflict(format!(
            "the group changed during {ATTEMPTS} attempts in a row"
        )))
    }

    /// Makes one attempt. Returns `None` after a conflict.
    async fn try_reconcile(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<ReconcileOutcome>, ClusterError> {
        let snapshot = match self.read(namespace, name).await? {
            ControlFlow::Continue(snapshot) => snapshot,
            ControlFlow::Break(outcome) => return Ok(Some(outcome)),
        };
        let valid = validate(&snapshot.group.spec);
        let snapshot = self.read_items(snapshot, valid.as_ref().ok()).await;
        let planned = Planned::new(&snapshot, &valid);
        let policy = self.select_policy(&snapshot, &planned).await?;
        let group = ObjectRef::new(name).within(namespace);
        let records = planned.finished.is_some();
        let decided = self
            .select_item(group, &snapshot, &valid, planned.plan, policy, records)
            .await;
        let valid = valid.as_ref().ok();
        self.apply(namespace, name, &snapshot, valid, decided, planned.finished)
            .await
    }

    /// Reads the group and its pods. Returns the outcome instead if there is nothing to plan:
    /// the group is gone, is being deleted, or cannot be decoded.
    async fn read(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<ControlFlow<ReconcileOutcome, Box<GroupSnapshot>>, ClusterError> {
        let inputs = ReconcileInputs {
            now: (self.now)(),
            leads: self.leads,
            retry_floor: self.retry_floor,
        };
        let read =
            read_snapshot(self.cluster, self.last_seen_pods, &inputs, namespace, name).await?;
        let outcome = match read {
            SnapshotRead::Found(snapshot) if !snapshot.terminating => {
                return Ok(ControlFlow::Continue(snapshot));
            }
            SnapshotRead::Found(_) => ReconcileOutcome::default(),
            SnapshotRead::Gone => {
                self.last_seen_pods.remove_group(namespace, name);
                ReconcileOutcome::default()
            }
            SnapshotRead::Undecodable {
                error,
                generation,
                resource_version,
            } => {
                let written = self
                    .report_undecodable(namespace, name, &error, generation, &resource_version)
                    .await?;
                ReconcileOutcome {
                    written,
                    ..ReconcileOutcome::default()
                }
            }
        };
        Ok(ControlFlow::Break(outcome))
    }

    /// Reads the lists of `spec.itemsFrom`, and returns the snapshot with the items in effect.
    async fn read_items(
        &self,
        mut snapshot: Box<GroupSnapshot>,
        valid: Option<&ValidatedGroup>,
    ) -> Box<GroupSnapshot> {
        item_sources::read_item_sources(self.cluster, &mut snapshot, valid, self.image).await;
        snapshot
    }

    /// Reads the group's policy, and returns the policy that decides.
    async fn select_policy(
        &self,
        snapshot: &GroupSnapshot,
        planned: &Planned,
    ) -> Result<GroupPolicy, ClusterError> {
        let (group, items) = (&snapshot.group, &snapshot.items);
        let source = PolicySource::from_group(group);
        let read = match &source {
            Some(source) => Some(self.read_policy(source).await?),
            None => None,
        };
        // Urgent changes do not wait for a policy that has yet to check its settings.
        if planned.urgent()
            && !self
                .policies
                .settings_are_checked(group, items, read.as_ref())
        {
            return Ok(GroupPolicy::SettingsUnchecked(Duration::ZERO));
        }
        let named = source.zip(read.clone());
        let last_good = LastGoodPolicy::all(group, group.status.as_ref());
        let last_good = last_good.into_iter().filter_map(|last| {
            if planned.urgent() {
                // Checking its settings takes time, which an urgent plan does not have.
                return Some((last, PolicyRead::Loading(snapshot.now)));
            }
            self.read_last_good(group, named.as_ref(), last)
        });
        let selected = self
            .policies
            .select(group, items, read, self.default, self.limiter, last_good)
            .await;
        Ok(match selected {
            Some((selection, policy)) => GroupPolicy::Resolved(Box::new(selection), policy),
            None => GroupPolicy::SettingsUnchecked(LIMITER_REQUEUE_DELAY),
        })
    }

    /// Returns the state of a last good policy of a group, and where it comes from. `named` is the
    /// policy that the group names, which may be the same.
    fn read_last_good(
        &self,
        group: &OaatGroup,
        named: Option<&(PolicySource, PolicyRead)>,
        last: LastGoodPolicy,
    ) -> Option<(LastGoodPolicy, PolicyRead)> {
        if let Some((source, PolicyRead::Loaded(policy))) = named
            && last.matches(policy.digest(), source)
        {
            let source = source.clone();
            return Some((
                LastGoodPolicy { source, ..last },
                PolicyRead::Loaded(policy.clone()),
            ));
        }
        if last.source == DEFAULT_POLICY {
            return Some((last, PolicyRead::Loaded(self.default.clone())));
        }
        let namespace = group.metadata.namespace.as_deref().unwrap_or_default();
        let name = group.metadata.name.as_deref().unwrap_or_default();
        let read = self.cluster.last_good_policy(namespace, name, &last.source);
        Some((last, read?))
    }

    /// Returns the state of the policy from a source.
    async fn read_policy(&self, source: &PolicySource) -> Result<PolicyRead, ClusterError> {
        match source {
            PolicySource::BuiltIn(BuiltInPolicy::Default) => {
                Ok(PolicyRead::Loaded(self.default.clone()))
            }
            other => self.cluster.policy(other).await,
        }
    }

    /// Selects the item to start, and returns the plan with that start. Nothing is selected if
    /// nothing may start, or if the decision is deferred. `records` is true if the plan records
    /// the end of a run.
    async fn select_item(
        &self,
        group: GroupRef,
        snapshot: &GroupSnapshot,
        valid: &Result<ValidatedGroup, Vec<FieldError>>,
        mut plan: Plan,
        policy: GroupPolicy,
        records: bool,
    ) -> PlanWithDecision {
        if let GroupPolicy::Resolved(selection, _) = &policy {
            plan::record_selection(snapshot, &mut plan, selection);
        }
        let status_without_start = plan.status.clone();
        let mut spec = None;
        let mut decided = Decided::default();
        match policy {
            GroupPolicy::SettingsUnchecked(wait) => plan::defer_decision(snapshot, &mut plan, wait),
            GroupPolicy::Resolved(selection, policy) => {
                if let (true, Ok(valid)) = (plan.may_start, valid) {
                    let context = DecisionContext {
                        snapshot,
                        valid,
                        selection: &selection,
                        group,
                        records,
                    };
                    let is_requested = plan::plan_requested_item(snapshot, valid, &mut plan);
                    if !is_requested {
                        decided = self.decide(&context, &mut plan, policy).await;
                    }
                    spec = self
                        .type_to_start(snapshot, &mut plan, &status_without_start, is_requested)
                        .await;
                }
            }
        }
        let before = snapshot.group.status.as_ref();
        let before = before.map(|status| status.conditions.as_slice());
        let policy_event = plan::policy_event(
            &snapshot.group,
            before.unwrap_or_default(),
            &plan.status.conditions,
        );
        plan.events.extend(policy_event);
        PlanWithDecision {
            plan,
            status_without_start,
            spec,
            decided,
        }
    }

    /// Returns the type of the item to start. If it can no longer be used, nothing starts.
    ///
    /// The type of a requested item is read from the API server: the snapshot may have an older version
    /// than the one at the request, if another replica processed the request.
    async fn type_to_start(
        &self,
        snapshot: &GroupSnapshot,
        plan: &mut Plan,
        status_without_start: &OaatGroupStatus,
        is_requested: bool,
    ) -> Option<Arc<OaatTypeSpec>> {
        let start = plan.start.as_ref()?;
        let (name, group_type) = snapshot.type_of(&start.item);
        let namespace = snapshot.group.metadata.namespace.as_deref();
        let namespace = namespace.unwrap_or_default();
        let freshness = if is_requested {
            Freshness::Live
        } else {
            Freshness::Cached
        };
        let read = if is_requested || snapshot.item_types.contains_key(name) {
            self.cluster.oaat_type(namespace, name, freshness).await
        } else {
            Ok(group_type.clone())
        };
        if let Ok(TypeRead::Valid(type_)) = read {
            return Some(type_);
        }
        // The type has changed since the snapshot, or cannot be read at the moment.
        plan.start = None;
        plan.status = status_without_start.clone();
        plan::defer_decision(snapshot, plan, TYPE_RETRY_DELAY);
        None
    }

    /// Applies the plan. Returns `None` after a conflict.
    async fn apply(
        &self,
        namespace: &str,
        name: &str,
        snapshot: &GroupSnapshot,
        valid: Option<&ValidatedGroup>,
        planned: PlanWithDecision,
        finished: Option<FinishedRun>,
    ) -> Result<Option<ReconcileOutcome>, ClusterError> {
        let PlanWithDecision {
            mut plan,
            status_without_start,
            spec,
            decided,
        } = planned;
        let shadow = self.shadow_condition(namespace, name, snapshot);
        let before = snapshot.group.status.as_ref();
        let before = before.map_or(&[][..], |status| &status.conditions);
        plan.events.extend(plan::shadow_event(before, &shadow));
        let applier = Applier {
            cluster: self.cluster,
            snapshot,
            namespace,
            name,
            status_without_start,
            shadow,
            nonce: (self.nonce)(),
        };
        let mut applied = Applied::default();
        let result = applier.apply(plan, spec.as_deref(), &mut applied).await;
        let mut runs = Vec::new();
        let mut observed_end = None;
        if let (Some(finished), Some(_)) = (finished, &applied.written) {
            observed_end = self
                .last_seen_pods
                .remove(namespace, name, &finished.pod_uid);
            runs.extend(finished.result.map(RunResultMetric::from));
        }
        if applied.started {
            runs.push(RunResultMetric::Started);
        }
        let error = match result {
            Ok(ApplyResult::Conflict) => return Ok(None),
            Ok(ApplyResult::Completed) => None,
            Err(error) if applied.written.is_none() && applied.events.is_empty() => {
                return Err(error);
            }
            Err(error) => Some(error),
        };
        let status = applied.status.as_ref().or(snapshot.group.status.as_ref());
        let sample = GroupSample::new(
            snapshot,
            valid,
            status.unwrap_or(&OaatGroupStatus::default()),
        );
        Ok(Some(ReconcileOutcome {
            events: applied.events,
            uid: snapshot.uid.clone(),
            runs,
            requeue_at: applied.requeue_at,
            written: applied.written,
            error,
            decisions: decided.samples,
            last_good: LastGoodPolicy::all(&snapshot.group, status),
            handover: observed_end
                .filter(|_| applied.started)
                .map(|end| end.elapsed()),
            sample: Some(sample),
            shadow: self
                .shadows
                .and_then(|_| ShadowEvaluation::new(snapshot, decided.answered)),
        }))
    }

    /// Returns the condition about the shadow policy for the next status of a group.
    fn shadow_condition(
        &self,
        namespace: &str,
        name: &str,
        snapshot: &GroupSnapshot,
    ) -> ShadowCondition {
        let key = ObjectRef::new(name).within(namespace);
        self.shadows.map_or(ShadowCondition::Absent, |shadows| {
            shadows.condition(&key, snapshot)
        })
    }

    /// Plans the decision of the group's policy or of its substitute, or defers it. Returns the
    /// evaluations.
    async fn decide(
        &self,
        context: &DecisionContext<'_>,
        plan: &mut Plan,
        policy: Option<Policy>,
    ) -> Decided {
        let DecisionContext {
            snapshot,
            selection,
            ..
        } = context;
        let policy = match policy {
            Some(policy) => policy,
            None if selection.needs_default() => {
                return self.decide_by_default(context, plan).await;
            }
            None => {
                plan::record_no_policy(snapshot, plan, selection);
                return Decided::default();
            }
        };
        let mut permit = None;
        if policy.digest() != self.default.digest() {
            permit = self.limiter.acquire(&context.group);
            if permit.is_none() {
                // The end of a run is recorded in the meantime.
                let wait = if context.records {
                    Duration::ZERO
                } else {
                    LIMITER_REQUEUE_DELAY
                };
                plan::defer_decision(snapshot, plan, wait);
                return Decided::default();
            }
        }
        let Some(in_use) = selection.in_use.clone() else {
            return Decided::default();
        };
        let Some(answer) = self
            .evaluate(context, plan, selection, &policy, permit)
            .await
        else {
            plan::defer_decision(snapshot, plan, Duration::ZERO);
            return Decided::default();
        };
        let source = PolicySource::from_group(&snapshot.group);
        let source = source.filter(|_| policy.digest() != self.default.digest());
        let mut samples = vec![answer.sample(source.as_ref().unwrap_or(&DEFAULT_POLICY))];
        if let Err(error) = &answer.evaluation.answer {
            plan::record_policy_error(snapshot, plan, selection, error);
            if selection.on_error == OnError::UseDefault {
                let decided = self.decide_by_default(context, plan).await;
                samples.extend(decided.samples);
                return Decided { samples, ..decided };
            }
        }
        let answered = answer.into_answered_request(in_use);
        plan::plan_decision(snapshot, context.valid, plan, selection, &answered);
        Decided {
            samples,
            answered: Some(answered),
        }
    }

    /// Plans the decision of the built-in policy instead of the group's.
    async fn decide_by_default(&self, context: &DecisionContext<'_>, plan: &mut Plan) -> Decided {
        let substitute = PolicySelection::built_in(self.default, None);
        let answer = self
            .evaluate(context, plan, &substitute, self.default, None)
            .await;
        let (Some(in_use), Some(answer)) = (substitute.in_use, answer) else {
            return Decided::default();
        };
        let samples = vec![answer.sample(&DEFAULT_POLICY)];
        let answered = answer.into_answered_request(in_use);
        let (snapshot, selection) = (context.snapshot, context.selection);
        plan::plan_decision(snapshot, context.valid, plan, selection, &answered);
        Decided {
            samples,
            answered: Some(answered),
        }
    }

    /// Evaluates a policy. Returns `None` if the evaluation exceeds the deadline of its permit, or
    /// delays recording the end of a run for too long.
    ///
    /// A policy usually runs guest code for microseconds. A slow one must not delay the groups that
    /// share this thread, so the evaluation has its own.
    async fn evaluate(
        &self,
        context: &DecisionContext<'_>,
        plan: &Plan,
        selection: &PolicySelection,
        policy: &Policy,
        permit: Option<Permit>,
    ) -> Option<PolicyAnswer> {
        let request = plan::policy_request(context.snapshot, context.valid, plan, selection);
        let (policy, decision_log) = (policy.clone(), self.decision_log.cloned());
        let sent_request = request.clone();
        let evaluate = move |deadline| {
            let started = Instant::now();
            let evaluation = match deadline {
                Some(deadline) => policy.evaluate_within(&request, deadline)?,
                None => policy.evaluate(&request),
            };
            let took = started.elapsed();
            let recorded = decision_log.map(|log| log.record(&policy, &request, &evaluation));
            let request_sha256 = recorded.unwrap_or_default();
            Some(PolicyAnswer {
                request,
                request_sha256,
                evaluation,
                took,
            })
        };
        let evaluated = match permit {
            Some(permit) => {
                let (group, short_deadline) = (&context.group, context.records);
                self.limiter
                    .evaluate(group, permit, short_deadline, evaluate)
                    .await
            }
            None => on_blocking_thread(move || evaluate(None)).await,
        };
        // No panic is known here. If one occurs, it is attributed to the policy and reported in the
        // group's status.
        evaluated.unwrap_or_else(|error| {
            let message = format!("the evaluation failed: {error}");
            Some(PolicyAnswer {
                request: sent_request,
                request_sha256: String::new(),
                evaluation: Evaluation {
                    answer: Err(EvalError::Trapped(message.into())),
                    fuel: 0,
                    log: Vec::new(),
                    log_dropped: 0,
                },
                took: Duration::ZERO,
            })
        })
    }

    /// Writes to the group's status that the object cannot be decoded. Returns the resource version
    /// after the write; `None` if the group changed or is gone.
    async fn report_undecodable(
        &self,
        namespace: &str,
        name: &str,
        error: &str,
        generation: Option<i64>,
        version: &str,
    ) -> Result<Option<String>, ClusterError> {
        warn!(
            namespace,
            group = name,
            error,
            "the group cannot be decoded"
        );
        let message = format!("this version of the operator cannot decode the object: {error}");
        let message = text::clean(&message, text::MESSAGE);
        let mut conditions = Vec::new();
        let condition = (ready::TYPE, false, ready::UNDECODABLE, message.clone());
        set_condition(&mut conditions, (self.now)(), generation, condition);
        let condition = (progress::STALLED, true, ready::UNDECODABLE, message.clone());
        set_condition(&mut conditions, (self.now)(), generation, condition);
        let status = json!({
            "observedGeneration": generation, "state": states::INVALID, "message": message,
            "conditions": conditions,
        });
        match self
            .cluster
            .write_status(namespace, name, version, status)
            .await
        {
            Ok(version) => Ok(Some(version)),
            Err(ClusterError::Conflict(_) | ClusterError::NotFound) => Ok(None),
            Err(other) => Err(other),
        }
    }
}
