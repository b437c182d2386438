//! Performs a plan on the cluster, in the order that the guarantee demands. No
//! decisions but what an answer of the server means for the plan.

use crate::api::{Current, OaatGroupStatus, OaatTypeSpec, Timestamp};
use crate::cluster::{Cluster, ClusterError};
use crate::decide::{self, Note, Observed, Plan, PodId, Start};
use crate::pod::{self, PodRequest, PodView};
use crate::record;
use futures::future;
use serde_json::{Value, json};

/// What came of a plan.
#[derive(Debug)]
pub enum Done {
    /// It was performed; the status is as planned, and so are the events.
    Yes {
        /// What happened, the plan's notes and more.
        notes: Vec<Note>,
        /// When to look again.
        again: Option<Timestamp>,
        /// The group's resource version after the last write, if there was one.
        written: Option<String>,
        /// A run was started.
        started: bool,
    },
    /// The group is not what it was when it was read: look again at once.
    Conflict,
}

/// The one who performs plans for a group.
pub struct Actor<'a, C> {
    /// The cluster.
    pub cluster: &'a C,
    /// What the plan is based on.
    pub seen: &'a Observed,
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

impl<C: Cluster> Actor<'_, C> {
    /// Performs a plan. `spec` is the type's, and needed for a start.
    ///
    /// # Errors
    /// When the cluster does not answer. How much of the plan took effect is then
    /// unknown, and is found out by the next cycle, which looks first.
    pub async fn perform(
        self,
        mut plan: Plan,
        spec: Option<&OaatTypeSpec>,
    ) -> Result<Done, ClusterError> {
        for stray in &plan.strays {
            self.delete(stray).await?;
        }
        if let Some(pod) = &plan.open {
            match self
                .cluster
                .open_gate(self.namespace, &pod.name, &pod.uid)
                .await
            {
                // It is gone; the watch says so, and the next cycle records it.
                Err(ClusterError::NotFound) => {}
                other => other?,
            }
        }
        let mut started = false;
        let mut written = None;
        match (plan.start.take(), spec) {
            (Some(start), Some(spec)) => match self.start(&mut plan, start, spec).await? {
                Started::Yes(version) => {
                    written = Some(version);
                    started = true;
                }
                Started::Refused => match self.write(&plan.status).await? {
                    Written::Conflict => return Ok(Done::Conflict),
                    Written::Yes(version) => written = version,
                },
                Started::Void => {
                    return Ok(Done::Yes {
                        notes: plan.notes,
                        again: Some(self.seen.now),
                        written,
                        started,
                    });
                }
                Started::Conflict => return Ok(Done::Conflict),
                Started::Ending => {
                    return Ok(Done::Yes {
                        notes: vec![],
                        again: None,
                        written,
                        started,
                    });
                }
            },
            _ => match self.write(&plan.status).await? {
                Written::Conflict => return Ok(Done::Conflict),
                Written::Yes(version) => written = version,
            },
        }
        if let Some(pod) = &plan.stop {
            self.delete(pod).await?;
        }
        // Whether these go now or a moment later matters to nobody.
        let mut deletions = Vec::new();
        for pod in &plan.expired {
            deletions.push(self.delete(pod));
        }
        future::try_join_all(deletions).await?;
        Ok(Done::Yes {
            notes: plan.notes,
            again: plan.again,
            written,
            started,
        })
    }

    /// Candidate, claim, opening.
    async fn start(
        &self,
        plan: &mut Plan,
        start: Start,
        spec: &OaatTypeSpec,
    ) -> Result<Started, ClusterError> {
        let pod = pod::build(
            spec,
            &PodRequest {
                namespace: self.namespace,
                group: self.name,
                group_uid: &self.seen.uid,
                item: &start.item,
                run: start.run,
                nonce: &self.nonce,
            },
        );
        let candidate = match self.cluster.create_pod(self.namespace, &pod).await {
            Ok(pod) => PodView::from(&pod),
            Err(ClusterError::NamespaceEnds) => return Ok(Started::Ending),
            Err(ClusterError::Rejected { code, message }) => {
                if self.cluster.namespace_ends(self.namespace).await? {
                    return Ok(Started::Ending);
                }
                self.refused(plan, &start, code, &message);
                return Ok(Started::Refused);
            }
            Err(other) => {
                // Whether there is a candidate now is unknown; the next cycle finds out.
                // The end of the previous run must not wait for that.
                let mut status = self.settled.clone();
                decide::unavailable(self.seen, &mut status, &start, &other.to_string());
                self.write(&status).await?;
                return Err(other);
            }
        };
        if !candidate.gated {
            // Something between us and the server took the gate away, so this pod may
            // run although nobody claimed it.
            self.delete(&(&candidate).into()).await?;
            let message = "the API server accepted the pod without its scheduling gate; an admission \
                           webhook that changes pods must leave spec.schedulingGates alone";
            self.refused(plan, &start, 200, message);
            return Ok(Started::Refused);
        }
        let current = Current {
            run: start.run,
            item: start.item,
            pod_name: candidate.name.clone(),
            pod_uid: candidate.uid.clone(),
            claimed: self.seen.now,
            stopping: None,
        };
        decide::claim(self.seen, &mut plan.status, &current);
        let version = match self.write(&plan.status).await? {
            Written::Yes(Some(version)) => version,
            Written::Yes(None) | Written::Conflict => {
                self.delete(&(&candidate).into()).await?;
                return Ok(Started::Conflict);
            }
        };
        match self
            .cluster
            .open_gate(self.namespace, &candidate.name, &candidate.uid)
            .await
        {
            Ok(()) => {
                plan.notes.push(Note {
                    warning: false,
                    reason: "Started",
                    message: format!(
                        "run {} of {} in pod {}",
                        current.run, current.item, current.pod_name
                    ),
                    pod: Some((&candidate).into()),
                });
                Ok(Started::Yes(version))
            }
            Err(ClusterError::NotFound) => {
                // The pod never ran: whoever deleted it took it for a candidate that
                // nobody would claim.
                plan.notes.push(Note {
                    warning: true,
                    reason: "ClaimVoid",
                    message: format!(
                        "pod {} was deleted before it could start; nothing is counted",
                        candidate.name
                    ),
                    pod: None,
                });
                let void = json!({ "current": null });
                match self
                    .cluster
                    .write_status(self.namespace, self.name, &version, void)
                    .await
                {
                    Ok(_) | Err(ClusterError::Conflict(_) | ClusterError::NotFound) => {
                        Ok(Started::Void)
                    }
                    Err(other) => Err(other),
                }
            }
            Err(other) => Err(other),
        }
    }

    /// The item has failed without a pod; the status says so instead of a start.
    fn refused(&self, plan: &mut Plan, start: &Start, code: u16, message: &str) {
        plan.status = self.settled.clone();
        decide::refuse(self.seen, plan, start, code, message);
    }

    /// Writes the status if it differs from the one that was read.
    async fn write(&self, status: &OaatGroupStatus) -> Result<Written, ClusterError> {
        let json = |status: &Option<OaatGroupStatus>| {
            serde_json::to_value(status).map_err(|e| ClusterError::Unavailable(e.to_string()))
        };
        let old = json(&self.seen.group.status)?;
        let new = json(&Some(status.clone()))?;
        let Some(patch) = record::merge_patch(&old, &new) else {
            return Ok(Written::Yes(None));
        };
        self.write_patch(patch).await
    }

    async fn write_patch(&self, patch: Value) -> Result<Written, ClusterError> {
        let version = self
            .seen
            .group
            .metadata
            .resource_version
            .clone()
            .unwrap_or_default();
        match self
            .cluster
            .write_status(self.namespace, self.name, &version, patch)
            .await
        {
            Ok(version) => Ok(Written::Yes(Some(version))),
            Err(ClusterError::Conflict(_) | ClusterError::NotFound) => Ok(Written::Conflict),
            Err(other) => Err(other),
        }
    }

    async fn delete(&self, pod: &PodId) -> Result<(), ClusterError> {
        self.cluster
            .delete_pod(self.namespace, &pod.name, &pod.uid)
            .await
    }
}

enum Started {
    /// With the group's resource version after the claim.
    Yes(String),
    Refused,
    Void,
    Conflict,
    Ending,
}

enum Written {
    /// With the new resource version, if there was something to write.
    Yes(Option<String>),
    Conflict,
}
