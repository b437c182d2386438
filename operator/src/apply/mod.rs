//! Applies a plan to the cluster, in the order that the one-pod-at-a-time guarantee requires.
//! Decides only how responses of the API server affect the rest of the plan.

use crate::cluster::{Cluster, ClusterError, GroupRead};
use crate::mutation::broken;
use crate::plan::{self, PendingEvent, Plan, ShadowCondition, Start};
use crate::pod::{self, GATE_REMOVED, PodParams, PodView};
use crate::run_history;
use crate::snapshot::{GroupSnapshot, PodId};
use futures::future;
use oaat_api::reasons::{events, stopping};
use oaat_api::text;
use oaat_api::{
    CurrentRun, OaatGroupStatus, OaatTypeSpec, OtherGates, Stopping, Timestamp, Variable,
};
use serde_json::{Value, json};
use std::ops::ControlFlow;

/// The part of a plan that is known to have been applied.
#[derive(Debug, Default)]
pub struct Applied {
    /// The events of the plan, once the status that they describe is written, and those of the
    /// requests.
    pub events: Vec<PendingEvent>,
    /// Whether the gate of the current pod was opened.
    pub started: bool,
    /// When to reconcile the group again.
    pub requeue_at: Option<Timestamp>,
    /// The group's resource version after the last write, if there was one.
    pub written: Option<String>,
    /// The status after the last write, if there was one.
    pub status: Option<OaatGroupStatus>,
}

/// How applying a plan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyResult {
    /// The whole plan was applied, or the rest of it no longer matters.
    Completed,
    /// The group has changed since it was read. It must be reconciled again at once.
    Conflict,
}

/// Applies plans to one group.
pub struct Applier<'a, C> {
    /// The cluster.
    pub cluster: &'a C,
    /// The snapshot that the plan is based on.
    pub snapshot: &'a GroupSnapshot,
    /// The namespace of the group.
    pub namespace: &'a str,
    /// The name of the group.
    pub name: &'a str,
    /// The planned status before the policy was evaluated. It is written if a start fails.
    pub status_without_start: OaatGroupStatus,
    /// The condition `ShadowAgrees` for each status write.
    pub shadow: ShadowCondition,
    /// Ten random characters of a to z and 0 to 9, never used before.
    pub nonce: String,
}

impl<C: Cluster> Applier<'_, C> {
    /// Applies a plan. A start requires `spec`, the spec of the OaatType. `applied` records what
    /// was applied, even if an error interrupts the rest.
    ///
    /// # Errors
    /// Returns an error if a request to the cluster fails. It is then unknown how much more of the
    /// plan took effect. The next reconcile reads the current state first.
    pub async fn apply(
        self,
        mut plan: Plan,
        spec: Option<&OaatTypeSpec>,
        applied: &mut Applied,
    ) -> Result<ApplyResult, ClusterError> {
        let known = self.snapshot.group.status.as_ref().and_then(|s| s.run);
        if !plan.stale_pods.is_empty() && plan.status.run > known {
            // The replica that created a stale candidate may be slow rather than crashed. This
            // write makes its claim fail. Otherwise, it could claim a pod that no longer exists.
            if self.write(&mut plan.status, applied).await? == ApplyResult::Conflict {
                return Ok(ApplyResult::Conflict);
            }
            applied.events.append(&mut plan.events);
        }
        if !plan.stale_pods.is_empty() {
            // Between the read of the group and the list of its pods, another replica may have
            // claimed and opened a pod, which then looks stale. If the group is still unchanged
            // after the list, no replica has.
            if applied.written.is_none() && !broken!(NoSecondRead) && !self.unchanged().await? {
                return Ok(ApplyResult::Conflict);
            }
            for stale_pod in &plan.stale_pods {
                self.delete(stale_pod).await?;
            }
        }
        if let Some(pod) = plan.open.take()
            && self.open_current(&mut plan, &pod, applied).await? == ApplyResult::Conflict
        {
            return Ok(ApplyResult::Conflict);
        }
        let result = match (plan.start.take(), spec) {
            (Some(start), Some(spec)) => self.start(&mut plan, start, spec, applied).await?,
            _ => StartResult::NotStarted,
        };
        match result {
            StartResult::Started => {}
            // An earlier step has written the status already.
            StartResult::NotStarted if applied.written.is_some() => {}
            StartResult::NotStarted => {
                if self.write(&mut plan.status, applied).await? == ApplyResult::Conflict {
                    return Ok(ApplyResult::Conflict);
                }
                applied.events.append(&mut plan.events);
            }
            StartResult::ClaimVoid => {
                applied.requeue_at = Some(self.snapshot.now);
                return Ok(ApplyResult::Completed);
            }
            StartResult::Conflict => return Ok(ApplyResult::Conflict),
            StartResult::NamespaceTerminating => return Ok(ApplyResult::Completed),
        }
        applied.requeue_at = plan.requeue_at;
        if let Some(pod) = &plan.stop {
            self.delete(pod).await?;
        }
        // For the same reason, another replica may still have to record the result of a finished
        // pod. A write by this replica has shown that no result is missing.
        if !plan.expired.is_empty()
            && applied.written.is_none()
            && !broken!(NoSecondReadFinished)
            && !self.unchanged().await?
        {
            return Ok(ApplyResult::Conflict);
        }
        // The order of these deletions does not matter.
        let mut deletions = Vec::new();
        for pod in &plan.expired {
            deletions.push(self.delete(pod));
        }
        future::try_join_all(deletions).await?;
        Ok(ApplyResult::Completed)
    }

    /// Returns whether the group is still the one that was read at the start of the reconcile.
    async fn unchanged(&self) -> Result<bool, ClusterError> {
        Ok(match self.cluster.group(self.namespace, self.name).await? {
            GroupRead::Found(now) => {
                now.metadata.resource_version == self.snapshot.group.metadata.resource_version
            }
            GroupRead::Gone | GroupRead::Undecodable { .. } => false,
        })
    }

    /// Opens the gate of the current pod if the replica that claimed it has not.
    async fn open_current(
        &self,
        plan: &mut Plan,
        pod: &PodId,
        applied: &mut Applied,
    ) -> Result<ApplyResult, ClusterError> {
        let before = self.snapshot.group.status.as_ref();
        let before = before.and_then(|status| status.current.as_ref());
        // One write is enough: it makes the claimer's resource version stale.
        let announced = before.is_some_and(|current| current.resumed.is_some());
        if !announced && applied.written.is_none() && !broken!(OpenUnannounced) {
            if self.write(&mut plan.status, applied).await? == ApplyResult::Conflict {
                return Ok(ApplyResult::Conflict);
            }
            applied.events.append(&mut plan.events);
        }
        let open = self.cluster.open_gate(self.namespace, &pod.name, &pod.uid);
        match (open.await, &plan.status.current) {
            (Ok(()), Some(current)) => self.record_started(current, applied),
            // The pod is gone. Its watch event triggers a reconcile, which records the result.
            (Ok(()) | Err(ClusterError::NotFound), _) => {}
            (Err(error @ ClusterError::Rejected { .. }), current) => {
                let item = current.as_ref().map_or("", |current| &current.item);
                let message = format!(
                    "{}: the scheduling gate of pod {} cannot be removed: {error}",
                    text::name(item),
                    pod.name
                );
                if applied.written.is_some() {
                    let message = json!({ "message": text::clean(&message, text::MESSAGE) });
                    self.write_patch(&self.version(applied), message, applied)
                        .await?;
                } else {
                    plan.status.message = Some(message);
                    self.write(&mut plan.status, applied).await?;
                }
                return Err(error);
            }
            (Err(other), _) => return Err(other),
        }
        Ok(ApplyResult::Completed)
    }

    /// Returns the variables in `spec.itemOptions` of an item.
    fn env(&self, item: &str) -> &[Variable] {
        let options = self.snapshot.group.spec.item_options.get(item);
        options.map_or(&[], |options| &options.env)
    }

    /// Creates a candidate, claims it, and opens its gate.
    async fn start(
        &self,
        plan: &mut Plan,
        start: Start,
        spec: &OaatTypeSpec,
        applied: &mut Applied,
    ) -> Result<StartResult, ClusterError> {
        let candidate = match self.create_candidate(plan, &start, spec, applied).await? {
            ControlFlow::Continue(candidate) => candidate,
            ControlFlow::Break(result) => return Ok(result),
        };
        let current = CurrentRun {
            run: start.run,
            item: start.item,
            pod_name: candidate.name.clone(),
            pod_uid: candidate.uid.clone(),
            claimed: self.snapshot.now,
            // A webhook or proxy removed the gate, so this pod may already run. The operator claims
            // it in order to stop it: a claimed pod blocks other runs and is counted once.
            stopping: (!candidate.gated).then(|| Stopping {
                reason: stopping::GATE_REMOVED.into(),
                message: GATE_REMOVED.into(),
                since: self.snapshot.now,
                exit_code: None,
            }),
            resumed: None,
            other_gates: (!candidate.other_gates.is_empty()).then(OtherGates::default),
        };
        if broken!(OpenBeforeClaim) {
            let (name, uid) = (&candidate.name, &candidate.uid);
            self.cluster.open_gate(self.namespace, name, uid).await?;
        }
        plan::claim(self.snapshot, &mut plan.status, &current);
        if self.write(&mut plan.status, applied).await? == ApplyResult::Conflict {
            // A proxy may have duplicated the request, and this is the response to the duplicate:
            // the first request made the claim, and another replica may have opened the gate since.
            let mut exactly = PodId::exactly(&candidate);
            if broken!(WithdrawAnyVersion) {
                exactly.version = None;
            }
            self.delete(&exactly).await?;
            return Ok(StartResult::Conflict);
        }
        applied.events.append(&mut plan.events);
        if !candidate.gated {
            self.delete(&(&candidate).into()).await?;
            return Ok(StartResult::Started);
        }
        let open = self
            .cluster
            .open_gate(self.namespace, &candidate.name, &candidate.uid);
        match open.await {
            Ok(()) => {
                self.record_started(&current, applied);
                Ok(StartResult::Started)
            }
            Err(ClusterError::NotFound) => {
                self.void_claim(&plan.status, &current, applied).await?;
                Ok(StartResult::ClaimVoid)
            }
            Err(other) => Err(other),
        }
    }

    /// Creates the candidate for a start. Returns the result of the start instead if there is no
    /// candidate to claim.
    async fn create_candidate(
        &self,
        plan: &mut Plan,
        start: &Start,
        spec: &OaatTypeSpec,
        applied: &mut Applied,
    ) -> Result<ControlFlow<StartResult, PodView>, ClusterError> {
        let pod = pod::build(
            spec,
            &PodParams {
                namespace: self.namespace,
                group: self.name,
                group_uid: &self.snapshot.uid,
                item: &start.item,
                env: self.env(&start.item),
                run: start.run,
                timeout: start.timeout,
                nonce: &self.nonce,
            },
        );
        let Some(pod) = pod else {
            self.record_rejection(plan, start, 413, pod::TOO_LARGE);
            return Ok(ControlFlow::Break(StartResult::NotStarted));
        };
        match self.cluster.create_pod(self.namespace, &pod).await {
            Ok(pod) => Ok(ControlFlow::Continue(PodView::from(&pod))),
            Err(ClusterError::NamespaceTerminating) => {
                Ok(ControlFlow::Break(StartResult::NamespaceTerminating))
            }
            Err(ClusterError::Rejected { code, message }) => {
                if self
                    .cluster
                    .is_namespace_terminating(self.namespace)
                    .await?
                {
                    return Ok(ControlFlow::Break(StartResult::NamespaceTerminating));
                }
                self.record_rejection(plan, start, code, &message);
                Ok(ControlFlow::Break(StartResult::NotStarted))
            }
            Err(ClusterError::QuotaExceeded {
                message,
                counts_finished_pods,
            }) => {
                plan.status = self.status_without_start.clone();
                plan::record_quota_exceeded(
                    self.snapshot,
                    plan,
                    start,
                    &message,
                    counts_finished_pods,
                );
                Ok(ControlFlow::Break(StartResult::NotStarted))
            }
            Err(other) => {
                // It is unknown whether there is a candidate now; the next reconcile finds out.
                // The end of the previous run must be recorded before that.
                let mut status = self.status_without_start.clone();
                plan::record_create_unavailable(
                    self.snapshot,
                    &mut status,
                    start,
                    &other.to_string(),
                );
                self.write(&mut status, applied).await?;
                if applied.written.is_some() {
                    applied.events.append(&mut plan.events);
                }
                Err(other)
            }
        }
    }

    /// Withdraws a claim whose pod was deleted before its gate was opened.
    ///
    /// The pod never ran: it was deleted as an unclaimed candidate. The status is therefore the one
    /// without the start, except for the number of the run. The group also pauses, so that a
    /// controller that deletes such pods cannot cause an endless loop of starts.
    async fn void_claim(
        &self,
        claimed: &OaatGroupStatus,
        current: &CurrentRun,
        applied: &mut Applied,
    ) -> Result<(), ClusterError> {
        let mut void = OaatGroupStatus {
            run: claimed.run,
            ..self.status_without_start.clone()
        };
        if let Some(item) = void.items.get_mut(&current.item) {
            item.last_started = Some(current.claimed);
        }
        let message = format!(
            "pod {} was deleted before it could start; the run is not counted",
            current.pod_name
        );
        let floor = self.snapshot.retry_floor;
        run_history::back_off(&mut void, &message, self.snapshot.now, floor);
        if let Some(patch) = patch(self.snapshot, &self.shadow, Some(claimed), &mut void)?
            && self
                .write_patch(&self.version(applied), patch, applied)
                .await?
                == ApplyResult::Completed
        {
            applied.status = Some(void);
            applied.events.push(PendingEvent {
                warning: true,
                reason: events::CLAIM_VOID,
                action: None,
                message,
                pod: None,
            });
        }
        Ok(())
    }

    /// Records that the gate of the current pod is open.
    fn record_started(&self, current: &CurrentRun, applied: &mut Applied) {
        applied.started = true;
        applied.events.push(PendingEvent {
            warning: false,
            reason: events::STARTED,
            action: None,
            message: format!(
                "run {} of {} in pod {}",
                current.run,
                text::name(&current.item),
                current.pod_name
            ),
            pod: Some(PodId {
                name: current.pod_name.clone(),
                uid: current.pod_uid.clone(),
                version: None,
            }),
        });
    }

    /// Replaces the planned start with a failure of the item without a pod.
    fn record_rejection(&self, plan: &mut Plan, start: &Start, code: u16, message: &str) {
        plan.status = self.status_without_start.clone();
        plan::record_rejected_pod(self.snapshot, plan, start, code, message);
    }

    /// Cleans the status. Writes it if it differs from the one that was read, and only if the group
    /// has not changed since.
    async fn write(
        &self,
        status: &mut OaatGroupStatus,
        applied: &mut Applied,
    ) -> Result<ApplyResult, ClusterError> {
        let before = self.snapshot.group.status.as_ref();
        let Some(patch) = patch(self.snapshot, &self.shadow, before, status)? else {
            return Ok(ApplyResult::Completed);
        };
        let version = self.snapshot.group.metadata.resource_version.clone();
        let version = version.unwrap_or_default();
        #[cfg(oaat_mutations)]
        let (version, patch) = crate::mutation::write(self, version, patch).await?;
        let result = self.write_patch(&version, patch, applied).await?;
        if result == ApplyResult::Completed {
            applied.status = Some(status.clone());
        }
        Ok(result)
    }

    /// Returns the last known resource version of the group.
    fn version(&self, applied: &Applied) -> String {
        let read = || self.snapshot.group.metadata.resource_version.clone();
        applied.written.clone().or_else(read).unwrap_or_default()
    }

    /// Writes a patch of the status if the group still has this resource version.
    async fn write_patch(
        &self,
        version: &str,
        patch: Value,
        applied: &mut Applied,
    ) -> Result<ApplyResult, ClusterError> {
        let write = self
            .cluster
            .write_status(self.namespace, self.name, version, patch);
        match write.await {
            Ok(version) => {
                applied.written = Some(version);
                Ok(ApplyResult::Completed)
            }
            // A group that is gone has changed as well.
            Err(ClusterError::Conflict(_) | ClusterError::NotFound) => Ok(ApplyResult::Conflict),
            Err(other) => Err(other),
        }
    }

    async fn delete(&self, pod: &PodId) -> Result<(), ClusterError> {
        self.cluster
            .delete_pod(self.namespace, &pod.name, &pod.uid, pod.version.as_deref())
            .await
    }
}

/// Completes and cleans the new status. Returns the patch from the old status to the new one, if a
/// write is necessary.
fn patch(
    snapshot: &GroupSnapshot,
    shadow: &ShadowCondition,
    old: Option<&OaatGroupStatus>,
    new: &mut OaatGroupStatus,
) -> Result<Option<Value>, ClusterError> {
    plan::update_progress(snapshot, new);
    plan::set_shadow_condition(snapshot, new, shadow);
    oaat_api::clean_status(new);
    let json = |status: Option<&OaatGroupStatus>| {
        serde_json::to_value(status).map_err(|e| ClusterError::Unavailable(e.to_string()))
    };
    let patch = run_history::merge_patch(&json(old)?, &json(Some(new))?);
    Ok(patch.filter(|patch| !plan::only_updates_shadow_counts(patch, old, new)))
}

/// The result of starting an item.
enum StartResult {
    /// The candidate was claimed, and then opened, or deleted because it had no gate.
    Started,
    /// Nothing was claimed. The status to write is the plan's.
    NotStarted,
    /// The candidate was claimed, but its pod is gone.
    ClaimVoid,
    /// The group changed in the meantime.
    Conflict,
    /// The namespace is being deleted.
    NamespaceTerminating,
}

#[cfg(test)]
pub(crate) mod tests;
