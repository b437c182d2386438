//! One cycle of one group, from top to bottom: observe, validate, decide, act, record.

use crate::act::{Actor, Done, End};
use crate::api::{OnError, PolicyInUse, Timestamp, set_condition};
use crate::cluster::{Cluster, ClusterError, TypeRead};
use crate::decide::{self, Answered, Note, Observed, Plan, Ruling};
use crate::items;
use crate::lane::{Lane, Leave};
use crate::observe::{Circumstances, Observation, observe};
use crate::policies::{Adopted, Source};
use crate::recorder::Recorder;
use crate::sightings::Sightings;
use crate::validate::{Valid, validate};
use policy_host::{Decision, EvalError, Evaluation, Policy, Request};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use std::time::{Duration, Instant};
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
    /// When the policies of groups may be asked.
    pub lane: &'a Lane,
    /// Writes decisions down.
    pub recorder: &'a Recorder,
    /// The operator's own image, for pods that ask web servers for lists of items.
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

/// What a policy is to be asked about.
struct Question<'a> {
    seen: &'a Observed,
    valid: &'a Valid,
    ruling: &'a Ruling,
    group: (String, String),
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

/// How long this thread has had a core.
fn core_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
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
        let mut seen = match observed {
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
        items::look(self.cluster, &mut seen, valid.as_ref().ok(), self.image).await;
        let mut plan = decide::settle(&seen, &valid);
        let read = match Source::of(&seen.group) {
            Some(source) => Some(self.cluster.policy(&source).await?),
            None => None,
        };
        let before = seen.group.status.as_ref().and_then(|s| s.current.as_ref());
        let recorded = before
            .filter(|_| plan.status.current.is_none())
            .map(|current| current.pod_uid.clone());
        // What is to be done does not wait for a policy that has yet to say whether it accepts
        // its settings.
        let pressing = recorded.is_some() || plan.open.is_some() || plan.stop.is_some();
        let later = pressing && !self.adopted.settled(&seen.group, read.as_ref());
        let (ruling, policy) = match later {
            true => (Ruling::by_default(self.default, None), None),
            false => {
                let ruled = self.adopted.rule(&seen.group, read, self.default).await;
                decide::rule(&seen, &mut plan, &ruled.0);
                ruled
            }
        };
        let settled = plan.status.clone();
        let mut decided_in = None;
        let mut spec = None;
        if later {
            decide::put_off(&seen, &mut plan, Duration::ZERO);
        } else if let (true, Ok(valid), TypeRead::Valid(type_)) = (plan.free, &valid, &seen.type_) {
            let question = Question {
                seen: &seen,
                valid,
                ruling: &ruling,
                group: (namespace.to_owned(), name.to_owned()),
                records: recorded.is_some(),
            };
            if !decide::asked_for(&seen, valid, &mut plan) {
                decided_in = self.consult(&question, &mut plan, policy).await;
            }
            spec = Some(type_.clone());
        }
        let conditions = seen.group.status.as_ref().map(|s| s.conditions.as_slice());
        let news = decide::news(conditions.unwrap_or_default(), &plan.status.conditions);
        plan.notes.extend(news);
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

    /// Has the group's policy decide, or the one that stands in for it, or puts the question off.
    /// Gives how long it took, if any was asked.
    async fn consult(
        &self,
        question: &Question<'_>,
        plan: &mut Plan,
        policy: Option<Policy>,
    ) -> Option<Duration> {
        let Question { seen, ruling, .. } = question;
        let policy = match policy {
            Some(policy) => policy,
            None if ruling.falls_back() => return self.by_default(question, plan).await,
            None => {
                decide::nobody(seen, plan, ruling);
                return None;
            }
        };
        let mut leave = None;
        if policy.digest() != self.default.digest() {
            let entered = match Instant::now() {
                // To record never waits for a policy: if it may take long, the record is
                // written first and by itself.
                now if question.records
                    && !self.lane.quick(&question.group, policy.digest(), now) =>
                {
                    Err(Duration::ZERO)
                }
                now => self.lane.enter(&question.group, policy.digest(), now),
            };
            match entered {
                Ok(entered) => leave = Some(entered),
                Err(wait) => {
                    decide::put_off(seen, plan, wait);
                    return None;
                }
            }
        }
        let in_use = ruling.in_use.clone()?;
        let asked = self.ask(question, plan, ruling, &policy, leave).await;
        let Some(Asked { evaluation, .. }) = &asked else {
            decide::put_off(seen, plan, Duration::ZERO);
            return None;
        };
        let took = asked.as_ref().map(|asked| asked.took);
        if let Err(error) = &evaluation.answer {
            decide::gave_none(seen, plan, ruling, error);
            if ruling.on_error == OnError::UseDefault {
                return self.by_default(question, plan).await;
            }
        }
        decide::choose(seen, question.valid, plan, ruling, asked?.by(in_use));
        took
    }

    /// The default policy decides instead.
    async fn by_default(&self, question: &Question<'_>, plan: &mut Plan) -> Option<Duration> {
        let instead = Ruling::by_default(self.default, None);
        let in_use = instead.in_use.clone()?;
        let asked = self.ask(question, plan, &instead, self.default, None);
        let asked = asked.await?;
        let took = asked.took;
        let answered = asked.by(in_use);
        decide::choose(
            question.seen,
            question.valid,
            plan,
            question.ruling,
            answered,
        );
        Some(took)
    }

    /// Asks a policy. `None`: what the lane allows was not enough, and it is to be asked again.
    ///
    /// A policy runs guest code for microseconds as a rule; one that does not must not
    /// hold up the groups that share this thread.
    async fn ask(
        &self,
        question: &Question<'_>,
        plan: &Plan,
        ruling: &Ruling,
        policy: &Policy,
        leave: Option<Leave>,
    ) -> Option<Asked> {
        let request = decide::request(question.seen, question.valid, plan, ruling);
        let (policy, recorder) = (policy.clone(), self.recorder.clone());
        let again = request.clone();
        let evaluated = tokio::task::spawn_blocking(move || {
            let (started, used) = (Instant::now(), core_time());
            let short = leave.as_ref().and_then(Leave::within);
            let evaluation = match short {
                Some(short) => policy.evaluate_within(&request, short),
                None => policy.evaluate(&request),
            };
            let took = started.elapsed();
            let cut_short =
                short.is_some() && matches!(evaluation.answer, Err(EvalError::Deadline(_)));
            if let Some(leave) = leave {
                // Not by the clock: on a busy machine any policy seems to take long.
                leave.took(core_time().saturating_sub(used), cut_short, Instant::now());
            }
            if cut_short {
                return None;
            }
            let request_sha256 = recorder.record(&policy, &request, &evaluation);
            Some(Asked {
                request,
                request_sha256,
                evaluation,
                took,
            })
        });
        // Nothing in there panics by what is known; were it otherwise, it would be the policy's
        // doing, and the group says so.
        evaluated.await.unwrap_or_else(|broken| {
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
