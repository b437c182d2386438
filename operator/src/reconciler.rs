//! One cycle of one group, from top to bottom: observe, validate, decide, act, record.

use crate::apply::{Applied, Applier, ApplyResult};
use crate::cluster::{Cluster, ClusterError, TypeRead};
use crate::decision_log::DecisionLog;
use crate::fair_limiter::Permit;
use crate::group_ref::GroupRef;
use crate::item_sources;
use crate::last_seen_pods::LastSeenPods;
use crate::plan::{self, Answered, GroupSnapshot, PendingEvent, Plan, PolicySelection};
use crate::policies::{PolicyCache, Source};
use crate::policy_limiter::{PolicyLimiter, finish};
use crate::snapshot::{ReconcileInputs, SnapshotRead, read_snapshot};
use kube::runtime::reflector::ObjectRef;
use oaat_api::text;
use oaat_api::validate::{ValidatedGroup, validate};
use oaat_api::{OnError, PolicyInUse, Timestamp, set_condition};
use policy_host::{Decision, EvalError, Evaluation, Policy, Request};
use serde_json::json;
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// What a cycle works with.
pub struct Reconciler<'a, C> {
    /// The cluster.
    pub cluster: &'a C,
    /// What was seen of pods that are gone.
    pub last_seen_pods: &'a LastSeenPods,
    /// The policy that decides where a group names none.
    pub default: &'a Policy,
    /// The policies that groups use.
    pub policies: &'a PolicyCache,
    /// Limits evaluations of those policies.
    pub limiter: &'a PolicyLimiter,
    /// Writes decisions down.
    pub recorder: &'a DecisionLog,
    /// The operator's own image, for pods that fetch lists of items from web servers.
    pub image: Option<&'a str>,
    /// Whether this replica holds the lease.
    pub leads: bool,
    /// The least time between two starts of an item.
    pub retry_floor: Duration,
    /// Makes ten random characters of a to z and 0 to 9.
    pub nonce: fn() -> String,
    /// The time.
    pub now: fn() -> Timestamp,
}

/// What came of a cycle.
#[derive(Debug, Default)]
pub struct ReconcileOutcome {
    /// Events for the group, with its uid.
    pub events: Vec<PendingEvent>,
    /// Uid of the group, for the events.
    pub uid: String,
    /// When to look again.
    pub requeue_at: Option<Timestamp>,
    /// The group's resource version after our last write.
    pub written: Option<String>,
    /// What broke the cycle off, after part of it was done: that part is in the other
    /// fields, and the caller tries again later.
    pub error: Option<ClusterError>,
    /// How long the policy took to decide, if it was asked.
    pub decided_in: Option<Duration>,
}

/// What a policy is to be asked about.
struct Question<'a> {
    snapshot: &'a GroupSnapshot,
    valid: &'a ValidatedGroup,
    selection: &'a PolicySelection,
    group: GroupRef,
    /// The end of a run is to be recorded in the same cycle.
    records: bool,
}

/// A policy's answer.
struct Asked {
    request: Request,
    request_sha256: String,
    evaluation: Evaluation<Decision>,
    took: Duration,
}

impl Asked {
    fn by(self, policy: PolicyInUse) -> Answered {
        Answered {
            policy,
            request: self.request,
            request_sha256: self.request_sha256,
            evaluation: self.evaluation,
        }
    }
}

/// The time that a policy may take to decide while the end of a run waits to be recorded. The
/// default policy takes about a millisecond for 2,000 items.
const WHILE_RECORDING: Duration = Duration::from_millis(40);
/// The requeue delay of a group that waits for the limiter, in case its turn is not reported.
const FALLBACK: Duration = Duration::from_secs(60);

/// Cycles that may end in a conflict before the group is left to the next trigger.
const ATTEMPTS: usize = 5;

impl<C: Cluster> Reconciler<'_, C> {
    /// Runs one cycle, again from a fresh read for as long as someone else writes the
    /// group in between.
    ///
    /// # Errors
    /// When the cluster does not answer; the caller tries again later.
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
                "the group changed meanwhile; looking again"
            );
        }
        Err(ClusterError::Conflict(format!(
            "{ATTEMPTS} attempts in a row"
        )))
    }

    /// One attempt; `None` after a conflict.
    async fn try_reconcile(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<ReconcileOutcome>, ClusterError> {
        let inputs = ReconcileInputs {
            now: (self.now)(),
            leads: self.leads,
            retry_floor: self.retry_floor,
        };
        let observed =
            read_snapshot(self.cluster, self.last_seen_pods, &inputs, namespace, name).await?;
        let mut snapshot = match observed {
            SnapshotRead::Found(snapshot) => snapshot,
            SnapshotRead::Gone => {
                self.last_seen_pods.forget(namespace, name);
                return Ok(Some(ReconcileOutcome::default()));
            }
            SnapshotRead::Undecodable {
                error,
                generation,
                resource_version,
            } => {
                let written = self
                    .report(namespace, name, &error, generation, &resource_version)
                    .await?;
                return Ok(Some(ReconcileOutcome {
                    written,
                    ..ReconcileOutcome::default()
                }));
            }
        };
        if snapshot.terminating {
            return Ok(Some(ReconcileOutcome::default()));
        }
        let valid = validate(&snapshot.group.spec);
        item_sources::read_item_sources(
            self.cluster,
            &mut snapshot,
            valid.as_ref().ok(),
            self.image,
        )
        .await;
        let mut plan = plan::plan_group(&snapshot, &valid);
        let read = match Source::of(&snapshot.group) {
            Some(source) => Some(self.cluster.policy(&source).await?),
            None => None,
        };
        let before = snapshot
            .group
            .status
            .as_ref()
            .and_then(|s| s.current.as_ref());
        let recorded = before
            .filter(|_| plan.status.current.is_none())
            .map(|current| current.pod_uid.clone());
        // What is to be done does not wait for a policy that has yet to say whether it accepts
        // its settings.
        let pressing = recorded.is_some() || plan.open.is_some() || plan.stop.is_some();
        let later = pressing
            && !self
                .policies
                .settled(&snapshot.group, &snapshot.items, read.as_ref());
        let ruled = match later {
            true => None,
            false => {
                let (policies, default) = (self.policies, self.default);
                let ruled = policies.select(
                    &snapshot.group,
                    &snapshot.items,
                    read,
                    default,
                    self.limiter,
                );
                ruled.await
            }
        };
        if let Some((selection, _)) = &ruled {
            plan::record_selection(&snapshot, &mut plan, selection);
        }
        let settled = plan.status.clone();
        let mut decided_in = None;
        let mut spec = None;
        match ruled {
            None => {
                let wait = if later { Duration::ZERO } else { FALLBACK };
                plan::defer_decision(&snapshot, &mut plan, wait);
            }
            Some((selection, policy)) => {
                if let (true, Ok(valid), TypeRead::Valid(type_)) =
                    (plan.may_start, &valid, &snapshot.type_)
                {
                    let question = Question {
                        snapshot: &snapshot,
                        valid,
                        selection: &selection,
                        group: ObjectRef::new(name).within(namespace),
                        records: recorded.is_some(),
                    };
                    if !plan::plan_requested_item(&snapshot, valid, &mut plan) {
                        decided_in = self.ask_policy(&question, &mut plan, policy).await;
                    }
                    spec = Some(type_.clone());
                }
            }
        }
        let conditions = snapshot
            .group
            .status
            .as_ref()
            .map(|s| s.conditions.as_slice());
        let news = plan::news(conditions.unwrap_or_default(), &plan.status.conditions);
        plan.events.extend(news);
        let applier = Applier {
            cluster: self.cluster,
            snapshot: &snapshot,
            namespace,
            name,
            settled,
            nonce: (self.nonce)(),
        };
        let mut applied = Applied::default();
        let end = applier.apply(plan, spec.as_deref(), &mut applied).await;
        if let (Some(uid), Some(_)) = (recorded, &applied.written) {
            self.last_seen_pods.recorded(namespace, name, &uid);
        }
        let error = match end {
            Ok(ApplyResult::Conflict) => return Ok(None),
            Ok(ApplyResult::Completed) => None,
            Err(error) if applied.written.is_none() && applied.events.is_empty() => {
                return Err(error);
            }
            Err(error) => Some(error),
        };
        Ok(Some(ReconcileOutcome {
            events: applied.events,
            uid: snapshot.uid,
            requeue_at: applied.requeue_at,
            written: applied.written,
            error,
            decided_in,
        }))
    }

    /// Has the group's policy decide, or the one that stands in for it, or puts the question off.
    /// Gives how long it took, if any was asked.
    async fn ask_policy(
        &self,
        question: &Question<'_>,
        plan: &mut Plan,
        policy: Option<Policy>,
    ) -> Option<Duration> {
        let Question {
            snapshot,
            selection,
            ..
        } = question;
        let policy = match policy {
            Some(policy) => policy,
            None if selection.needs_default() => return self.by_default(question, plan).await,
            None => {
                plan::record_no_policy(snapshot, plan, selection);
                return None;
            }
        };
        let mut permit = None;
        if policy.digest() != self.default.digest() {
            permit = self.limiter.acquire(&question.group);
            if permit.is_none() {
                // The end of a run is recorded in the meantime.
                let wait = if question.records {
                    Duration::ZERO
                } else {
                    FALLBACK
                };
                plan::defer_decision(snapshot, plan, wait);
                return None;
            }
        }
        let in_use = selection.in_use.clone()?;
        let asked = self.ask(question, plan, selection, &policy, permit).await;
        let Some(Asked { evaluation, .. }) = &asked else {
            plan::defer_decision(snapshot, plan, Duration::ZERO);
            return None;
        };
        let took = asked.as_ref().map(|asked| asked.took);
        if let Err(error) = &evaluation.answer {
            plan::record_policy_error(snapshot, plan, selection, error);
            if selection.on_error == OnError::UseDefault {
                return self.by_default(question, plan).await;
            }
        }
        plan::plan_decision(snapshot, question.valid, plan, selection, asked?.by(in_use));
        took
    }

    /// The default policy decides instead.
    async fn by_default(&self, question: &Question<'_>, plan: &mut Plan) -> Option<Duration> {
        let instead = PolicySelection::by_default(self.default, None);
        let in_use = instead.in_use.clone()?;
        let asked = self.ask(question, plan, &instead, self.default, None);
        let asked = asked.await?;
        let took = asked.took;
        let answered = asked.by(in_use);
        plan::plan_decision(
            question.snapshot,
            question.valid,
            plan,
            question.selection,
            answered,
        );
        Some(took)
    }

    /// Asks a policy. Returns `None` if the policy takes long and the end of a run must be recorded
    /// first.
    ///
    /// A policy runs guest code for microseconds as a rule; one that does not must not
    /// hold up the groups that share this thread.
    async fn ask(
        &self,
        question: &Question<'_>,
        plan: &Plan,
        selection: &PolicySelection,
        policy: &Policy,
        permit: Option<Permit>,
    ) -> Option<Asked> {
        let request = plan::request(question.snapshot, question.valid, plan, selection);
        let (policy, recorder) = (policy.clone(), self.recorder.clone());
        let again = request.clone();
        let hurry = question.records && permit.is_some();
        let evaluated = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let evaluation = match hurry {
                true => policy.evaluate_within(&request, WHILE_RECORDING),
                false => policy.evaluate(&request),
            };
            let took = started.elapsed();
            if hurry && matches!(evaluation.answer, Err(EvalError::Deadline(_))) {
                return (None, took, permit);
            }
            let request_sha256 = recorder.record(&policy, &request, &evaluation);
            let asked = Asked {
                request,
                request_sha256,
                evaluation,
                took,
            };
            (Some(asked), took, permit)
        });
        let evaluated = evaluated.await.map(|(asked, took, permit)| {
            if let Some(permit) = permit {
                finish(permit, took);
            }
            asked
        });
        // Nothing in there panics by what is known; were it otherwise, it would be the policy's
        // doing, and the group says so.
        evaluated.unwrap_or_else(|broken| {
            let words = format!("the evaluation broke off: {broken}");
            Some(Asked {
                request: again,
                request_sha256: String::new(),
                evaluation: Evaluation {
                    answer: Err(EvalError::Trapped(words)),
                    fuel: 0,
                    log: Vec::new(),
                    log_dropped: 0,
                },
                took: Duration::ZERO,
            })
        })
    }

    /// Says on the object that it cannot be decoded.
    async fn report(
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
        let message = format!("this operator cannot read the object: {error}");
        let message = text::clean(&message, text::MESSAGE);
        let mut conditions = Vec::new();
        let condition = ("Ready", false, "Undecodable", message.clone());
        set_condition(&mut conditions, (self.now)(), generation, condition);
        let status = json!({ "state": "Invalid", "message": message, "conditions": conditions });
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
