//! One cycle of one group, from top to bottom: observe, validate, decide, act, record.

use crate::act::{Actor, Done, End};
use crate::api::{OnError, Timestamp, set_condition};
use crate::cluster::{Cluster, ClusterError, TypeRead};
use crate::decide::{self, Answered, Note, Observed, Plan, Ruling};
use crate::observe::{Circumstances, Observation, observe};
use crate::policies::{Adopted, Source};
use crate::recorder::Recorder;
use crate::sightings::Sightings;
use crate::validate::{Valid, validate};
use policy_host::Policy;
use serde_json::json;
use std::time::Duration;
use tracing::{debug, warn};

/// What a cycle works with.
pub struct Cycle<'a, C> {
    /// The cluster.
    pub cluster: &'a C,
    /// What was seen of pods that are gone.
    pub sightings: &'a Sightings,
    /// The policy that decides where a group names none.
    pub default: &'a Policy,
    /// The policies that groups have adopted.
    pub adopted: &'a Adopted,
    /// Writes decisions down.
    pub recorder: &'a Recorder,
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
pub struct Outcome {
    /// Events for the group, with its uid.
    pub notes: Vec<Note>,
    /// Uid of the group, for the events.
    pub uid: String,
    /// When to look again.
    pub again: Option<Timestamp>,
    /// The group's resource version after our last write.
    pub written: Option<String>,
    /// What broke the cycle off, after part of it was done: that part is in the other
    /// fields, and the caller tries again later.
    pub error: Option<ClusterError>,
    /// How long the policy took to decide, if it was asked.
    pub decided_in: Option<Duration>,
}

/// Cycles that may end in a conflict before the group is left to the next trigger.
const ATTEMPTS: usize = 5;

impl<C: Cluster> Cycle<'_, C> {
    /// Runs one cycle, again from a fresh read for as long as someone else writes the
    /// group in between.
    ///
    /// # Errors
    /// When the cluster does not answer; the caller tries again later.
    pub async fn run(&self, namespace: &str, name: &str) -> Result<Outcome, ClusterError> {
        for _ in 0..ATTEMPTS {
            if let Some(outcome) = self.once(namespace, name).await? {
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
    async fn once(&self, namespace: &str, name: &str) -> Result<Option<Outcome>, ClusterError> {
        let circumstances = Circumstances {
            now: (self.now)(),
            leads: self.leads,
            retry_floor: self.retry_floor,
        };
        let observed = observe(
            self.cluster,
            self.sightings,
            &circumstances,
            namespace,
            name,
        )
        .await?;
        let seen = match observed {
            Observation::Seen(seen) => seen,
            Observation::Gone => {
                self.sightings.forget(namespace, name);
                return Ok(Some(Outcome::default()));
            }
            Observation::Undecodable {
                error,
                generation,
                resource_version,
            } => {
                let written = self
                    .report(namespace, name, &error, generation, &resource_version)
                    .await?;
                return Ok(Some(Outcome {
                    written,
                    ..Outcome::default()
                }));
            }
        };
        if seen.ends {
            return Ok(Some(Outcome::default()));
        }
        let valid = validate(&seen.group.spec);
        let mut plan = decide::settle(&seen, &valid);
        let read = match Source::of(&seen.group) {
            Some(source) => Some(self.cluster.policy(&source).await?),
            None => None,
        };
        let (ruling, policy) = self.adopted.rule(&seen.group, read, self.default).await;
        decide::rule(&seen, &mut plan, &ruling);
        let settled = plan.status.clone();
        let mut decided_in = None;
        let mut spec = None;
        if let (true, Ok(valid), TypeRead::Valid(type_)) = (plan.free, &valid, &seen.type_) {
            let started = std::time::Instant::now();
            let asked = self.consult(&seen, valid, &mut plan, &ruling, policy).await;
            decided_in = asked.then(|| started.elapsed());
            spec = Some(type_.clone());
        }
        let conditions = seen.group.status.as_ref().map(|s| s.conditions.as_slice());
        let news = decide::news(conditions.unwrap_or_default(), &plan.status.conditions);
        plan.notes.extend(news);
        let before = seen.group.status.as_ref().and_then(|s| s.current.as_ref());
        let recorded = before
            .filter(|_| settled.current.is_none())
            .map(|current| current.pod_uid.clone());
        let actor = Actor {
            cluster: self.cluster,
            seen: &seen,
            namespace,
            name,
            settled,
            nonce: (self.nonce)(),
        };
        let mut done = Done::default();
        let end = actor.perform(plan, spec.as_deref(), &mut done).await;
        if let (Some(uid), Some(_)) = (recorded, &done.written) {
            self.sightings.recorded(namespace, name, &uid);
        }
        let error = match end {
            Ok(End::Conflict) => return Ok(None),
            Ok(End::Reached) => None,
            Err(error) if done.written.is_none() && done.notes.is_empty() => return Err(error),
            Err(error) => Some(error),
        };
        Ok(Some(Outcome {
            notes: done.notes,
            uid: seen.uid,
            again: done.again,
            written: done.written,
            error,
            decided_in,
        }))
    }

    /// Has the group's policy decide, or the one that stands in for it. Says whether any was
    /// asked.
    async fn consult(
        &self,
        seen: &Observed,
        valid: &Valid,
        plan: &mut Plan,
        ruling: &Ruling,
        policy: Option<Policy>,
    ) -> bool {
        let policy = match policy {
            Some(policy) => policy,
            None if ruling.falls_back() => {
                self.by_default(seen, valid, plan, ruling).await;
                return true;
            }
            None => {
                decide::nobody(seen, plan, ruling);
                return false;
            }
        };
        let Some(asked) = self.ask(seen, valid, plan, ruling, &policy).await else {
            return false;
        };
        if let Err(error) = &asked.evaluation.answer {
            decide::gave_none(seen, plan, ruling, error);
            if ruling.on_error == OnError::UseDefault {
                self.by_default(seen, valid, plan, ruling).await;
                return true;
            }
        }
        decide::choose(seen, valid, plan, ruling, asked);
        true
    }

    /// The default policy decides instead.
    async fn by_default(&self, seen: &Observed, valid: &Valid, plan: &mut Plan, ruling: &Ruling) {
        let instead = Ruling::by_default(self.default, None);
        if let Some(asked) = self.ask(seen, valid, plan, &instead, self.default).await {
            decide::choose(seen, valid, plan, ruling, asked);
        }
    }

    /// A policy runs guest code for microseconds as a rule; one that does not must not
    /// hold up the groups that share this thread.
    async fn ask(
        &self,
        seen: &Observed,
        valid: &Valid,
        plan: &Plan,
        ruling: &Ruling,
        policy: &Policy,
    ) -> Option<Answered> {
        let in_use = ruling.in_use.clone()?;
        let request = decide::request(seen, valid, plan, ruling);
        let (policy, recorder) = (policy.clone(), self.recorder.clone());
        let evaluated = tokio::task::spawn_blocking(move || {
            let evaluation = policy.evaluate(&request);
            let request_sha256 = recorder.record(&policy, &request, &evaluation);
            (request, request_sha256, evaluation)
        });
        // Nothing in there panics; a cycle that was broken off asks again.
        let (request, request_sha256, evaluation) = evaluated.await.ok()?;
        Some(Answered {
            policy: in_use,
            request,
            request_sha256,
            evaluation,
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
