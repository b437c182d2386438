//! Performs a plan on the cluster, in the order that the guarantee demands. No
//! decisions but what an answer of the server means for the plan.

use crate::cluster::{Cluster, ClusterError, GroupRead};
use crate::mutation::broken;
use crate::plan::{self, GroupSnapshot, PendingEvent, Plan, PodId, Start};
use crate::pod::{self, GATE_REMOVED, PodRequest, PodView};
use crate::run_history;
use futures::future;
use oaat_api::text;
use oaat_api::{Current, OaatGroupStatus, OaatTypeSpec, Stopping, Timestamp, Variable};
use serde_json::{Value, json};

/// What was done of a plan, so far as it is known to have been done.
#[derive(Debug, Default)]
pub struct Applied {
    /// What happened: the plan's notes once the status that they tell of is written, and
    /// more.
    pub events: Vec<PendingEvent>,
    /// When to look again.
    pub requeue_at: Option<Timestamp>,
    /// The group's resource version after the last write, if there was one.
    pub written: Option<String>,
}

/// How performing a plan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyResult {
    /// To its end.
    Completed,
    /// The group is not what it was when it was read: look again at once.
    Conflict,
}

/// The one who performs plans for a group.
pub struct Applier<'a, C> {
    /// The cluster.
    pub cluster: &'a C,
    /// What the plan is based on.
    pub snapshot: &'a GroupSnapshot,
    /// Namespace of the group.
    pub namespace: &'a str,
    /// Name of the group.
    pub name: &'a str,
    /// The status as it was settled before the policy was asked: what is written when a
    /// start does not come about.
    pub settled: OaatGroupStatus,
    /// Ten random characters of a to z and 0 to 9, never used before.
    pub nonce: String,
}

impl<C: Cluster> Applier<'_, C> {
    /// Performs a plan. `spec` is the type's, and needed for a start. `done` says what
    /// was done, also where that was not all.
    ///
    /// # Errors
    /// When the cluster does not answer. How much more of the plan took effect is then
    /// unknown, and is found out by the next cycle, which looks first.
    pub async fn apply(
        self,
        mut plan: Plan,
        spec: Option<&OaatTypeSpec>,
        applied: &mut Applied,
    ) -> Result<ApplyResult, ClusterError> {
        let known = self.snapshot.group.status.as_ref().and_then(|s| s.run);
        if !plan.stale_pods.is_empty() && plan.status.run > known {
            // A candidate is about to be removed whose creator may be slow and not gone. This
            // write makes its claim fail; without it a pod might be claimed that is no more.
            if self.write(&mut plan.status, applied).await? == ApplyResult::Conflict {
                return Ok(ApplyResult::Conflict);
            }
            applied.events.append(&mut plan.events);
        }
        if !plan.stale_pods.is_empty() {
            // Between our read of the group and our list of its pods another replica may
            // have claimed and opened one, which then looks like a stray. If the group is
            // still what was read, after the list, none has.
            if applied.written.is_none() && !broken!(NoSecondRead) && !self.unchanged().await? {
                return Ok(ApplyResult::Conflict);
            }
            for stale_pod in &plan.stale_pods {
                self.delete(stale_pod).await?;
            }
        }
        if let Some(pod) = plan.open.take()
            && self.resume(&mut plan, &pod, applied).await? == ApplyResult::Conflict
        {
            return Ok(ApplyResult::Conflict);
        }
        let started = match (plan.start.take(), spec) {
            (Some(start), Some(spec)) => self.start(&mut plan, start, spec, applied).await?,
            _ => Started::No,
        };
        match started {
            Started::Yes => {}
            // What was resumed is written already.
            Started::No if applied.written.is_some() => {}
            Started::No => {
                if self.write(&mut plan.status, applied).await? == ApplyResult::Conflict {
                    return Ok(ApplyResult::Conflict);
                }
                applied.events.append(&mut plan.events);
            }
            Started::Void => {
                applied.requeue_at = Some(self.snapshot.now);
                return Ok(ApplyResult::Completed);
            }
            Started::Conflict => return Ok(ApplyResult::Conflict),
            Started::Ending => return Ok(ApplyResult::Completed),
        }
        applied.requeue_at = plan.requeue_at;
        if let Some(pod) = &plan.stop {
            self.delete(pod).await?;
        }
        // By the same token a finished pod may be one whose result another replica has yet
        // to record. A write of ours has shown that it is not.
        if !plan.expired.is_empty()
            && applied.written.is_none()
            && !broken!(NoSecondReadFinished)
            && !self.unchanged().await?
        {
            return Ok(ApplyResult::Conflict);
        }
        // Whether these go now or a moment later matters to nobody.
        let mut deletions = Vec::new();
        for pod in &plan.expired {
            deletions.push(self.delete(pod));
        }
        future::try_join_all(deletions).await?;
        Ok(ApplyResult::Completed)
    }

    /// Whether the group is still what was read at the start of the cycle.
    async fn unchanged(&self) -> Result<bool, ClusterError> {
        Ok(match self.cluster.group(self.namespace, self.name).await? {
            GroupRead::Found(now) => {
                now.metadata.resource_version == self.snapshot.group.metadata.resource_version
            }
            GroupRead::Gone | GroupRead::Undecodable { .. } => false,
        })
    }

    /// Opens the gate of the run in progress.
    async fn resume(
        &self,
        plan: &mut Plan,
        pod: &PodId,
        applied: &mut Applied,
    ) -> Result<ApplyResult, ClusterError> {
        let before = self.snapshot.group.status.as_ref();
        let before = before.and_then(|status| status.current.as_ref());
        // Once is enough: it is the claimer's knowledge of the group that it makes out of date.
        let announced = before.is_some_and(|current| current.resumed.is_some());
        if !announced && applied.written.is_none() && !broken!(OpenUnannounced) {
            if self.write(&mut plan.status, applied).await? == ApplyResult::Conflict {
                return Ok(ApplyResult::Conflict);
            }
            applied.events.append(&mut plan.events);
        }
        let open = self.cluster.open_gate(self.namespace, &pod.name, &pod.uid);
        match (open.await, &plan.status.current) {
            (Ok(()), Some(current)) => self.opened(current, applied),
            // It is gone; the watch says so, and the next cycle records it.
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

    /// An item's own variables.
    fn env(&self, item: &str) -> &[Variable] {
        let options = self.snapshot.group.spec.item_options.get(item);
        options.map_or(&[], |options| &options.env)
    }

    /// Candidate, claim, opening.
    async fn start(
        &self,
        plan: &mut Plan,
        start: Start,
        spec: &OaatTypeSpec,
        applied: &mut Applied,
    ) -> Result<Started, ClusterError> {
        let pod = pod::build(
            spec,
            &PodRequest {
                namespace: self.namespace,
                group: self.name,
                group_uid: &self.snapshot.uid,
                item: &start.item,
                env: self.env(&start.item),
                run: start.run,
                nonce: &self.nonce,
            },
        );
        let Some(pod) = pod else {
            self.refused(plan, &start, 413, pod::TOO_LARGE);
            return Ok(Started::No);
        };
        let candidate = match self.cluster.create_pod(self.namespace, &pod).await {
            Ok(pod) => PodView::from(&pod),
            Err(ClusterError::NamespaceEnds) => return Ok(Started::Ending),
            Err(ClusterError::Rejected { code, message }) => {
                if self.cluster.namespace_ends(self.namespace).await? {
                    return Ok(Started::Ending);
                }
                self.refused(plan, &start, code, &message);
                return Ok(Started::No);
            }
            Err(other) => {
                // Whether there is a candidate now is unknown; the next cycle finds out.
                // The end of the previous run must not wait for that.
                let mut status = self.settled.clone();
                plan::unavailable(self.snapshot, &mut status, &start, &other.to_string());
                self.write(&mut status, applied).await?;
                if applied.written.is_some() {
                    applied.events.append(&mut plan.events);
                }
                return Err(other);
            }
        };
        let current = Current {
            run: start.run,
            item: start.item,
            pod_name: candidate.name.clone(),
            pod_uid: candidate.uid.clone(),
            claimed: self.snapshot.now,
            // Something between us and the server took the gate away, so this pod may run
            // already. It is claimed to be ended: so it blocks, and counts once.
            stopping: (!candidate.gated).then(|| Stopping {
                reason: "GateRemoved".into(),
                message: GATE_REMOVED.into(),
                since: self.snapshot.now,
            }),
            resumed: None,
        };
        if broken!(OpenBeforeClaim) {
            let (name, uid) = (&candidate.name, &candidate.uid);
            self.cluster.open_gate(self.namespace, name, uid).await?;
        }
        plan::claim(self.snapshot, &mut plan.status, &current);
        if self.write(&mut plan.status, applied).await? == ApplyResult::Conflict {
            // A request may be doubled on its way: then this is the answer to the second, the
            // first has made the claim, and somebody else may have opened the gate since.
            let mut exactly = PodId::exactly(&candidate);
            if broken!(WithdrawAnyVersion) {
                exactly.version = None;
            }
            self.delete(&exactly).await?;
            return Ok(Started::Conflict);
        }
        applied.events.append(&mut plan.events);
        if !candidate.gated {
            self.delete(&(&candidate).into()).await?;
            return Ok(Started::Yes);
        }
        let open = self
            .cluster
            .open_gate(self.namespace, &candidate.name, &candidate.uid);
        match open.await {
            Ok(()) => {
                self.opened(&current, applied);
                Ok(Started::Yes)
            }
            Err(ClusterError::NotFound) => {
                // The pod never ran: whoever deleted it took it for a candidate that
                // nobody would claim. So all is as it was settled, but for the number, and the
                // group pauses: whoever deletes such pods is not to make us try without end.
                let mut void = OaatGroupStatus {
                    run: plan.status.run,
                    ..self.settled.clone()
                };
                if let Some(item) = void.items.get_mut(&current.item) {
                    item.last_started = Some(current.claimed);
                }
                let message = format!(
                    "pod {} was deleted before it could start; nothing is counted",
                    candidate.name
                );
                let floor = self.snapshot.retry_floor;
                run_history::pause(&mut void, &message, self.snapshot.now, floor);
                if let Some(patch) = patch(Some(&plan.status), &mut void)?
                    && self
                        .write_patch(&self.version(applied), patch, applied)
                        .await?
                        == ApplyResult::Completed
                {
                    applied.events.push(PendingEvent {
                        warning: true,
                        reason: "ClaimVoid",
                        message,
                        pod: None,
                    });
                }
                Ok(Started::Void)
            }
            Err(other) => Err(other),
        }
    }

    /// Tells that the current pod may run now.
    fn opened(&self, current: &Current, applied: &mut Applied) {
        applied.events.push(PendingEvent {
            warning: false,
            reason: "Started",
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

    /// The item has failed without a pod; the status says so instead of a start.
    fn refused(&self, plan: &mut Plan, start: &Start, code: u16, message: &str) {
        plan.status = self.settled.clone();
        plan::refuse(self.snapshot, plan, start, code, message);
    }

    /// Cleans the status. Writes it if it differs from the one that was read, and only if the group
    /// has not changed since.
    async fn write(
        &self,
        status: &mut OaatGroupStatus,
        applied: &mut Applied,
    ) -> Result<ApplyResult, ClusterError> {
        let Some(patch) = patch(self.snapshot.group.status.as_ref(), status)? else {
            return Ok(ApplyResult::Completed);
        };
        let version = self.snapshot.group.metadata.resource_version.clone();
        let version = version.unwrap_or_default();
        #[cfg(oaat_mutations)]
        let (version, patch) = crate::mutation::write(self, version, patch).await?;
        self.write_patch(&version, patch, applied).await
    }

    /// The group's resource version, so far as it is known.
    fn version(&self, applied: &Applied) -> String {
        let read = || self.snapshot.group.metadata.resource_version.clone();
        applied.written.clone().or_else(read).unwrap_or_default()
    }

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
            // A group that is gone is one that has changed.
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

/// Cleans the new status. Returns the patch from the old status to the new one, if they differ.
fn patch(
    old: Option<&OaatGroupStatus>,
    new: &mut OaatGroupStatus,
) -> Result<Option<Value>, ClusterError> {
    text::clean_status(new);
    let json = |status: Option<&OaatGroupStatus>| {
        serde_json::to_value(status).map_err(|e| ClusterError::Unavailable(e.to_string()))
    };
    Ok(run_history::merge_patch(&json(old)?, &json(Some(new))?))
}

enum Started {
    /// Claimed, and opened or to be ended.
    Yes,
    /// Nothing was claimed; the plan's status is what is to be written.
    No,
    /// Claimed, but the pod is gone.
    Void,
    /// The group changed meanwhile.
    Conflict,
    /// The namespace is being deleted.
    Ending,
}

#[cfg(test)]
pub(crate) mod tests;
