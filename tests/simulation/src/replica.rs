//! A replica of the operator: the real cycle, and just enough around it to say when it runs.

use crate::chance::Chance;
use crate::cluster::Wire;
use crate::mutation::{Mutation, without};
use crate::world::{GROUP, NAMESPACE, wall};
use futures::task::{ArcWake, waker};
use oaat_api::Timestamp;
use oaat_operator::cluster::ClusterError;
use oaat_operator::decision_log::DecisionLog;
use oaat_operator::last_seen_pods::LastSeenPods;
use oaat_operator::pod::PodView;
use oaat_operator::policies::PolicyCache;
use oaat_operator::policy_limiter::{PolicyLimiter, permits};
use oaat_operator::reconciler::{ReconcileOutcome, Reconciler};
use policy_host::Policy;
use std::cell::Cell;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::{self, Thread};
use std::time::Duration;
use tokio::sync::mpsc::unbounded_channel;

type Look = Pin<Box<dyn Future<Output = Result<ReconcileOutcome, ClusterError>>>>;

/// What is remembered of a pod between watch events.
type Known = ((bool, bool, Option<String>), bool);

/// A replica.
pub struct Replica {
    /// Grows with every start of the process: what was meant for an earlier one is lost.
    pub life: u64,
    /// Whether the process runs.
    pub alive: bool,
    /// Whether it is stopped, as by SIGSTOP, and what came for it meanwhile.
    pub paused: bool,
    /// Whether it believes to hold the lease.
    pub leads: bool,
    /// By how many milliseconds its clock is ahead.
    pub clock: i64,
    /// Its requests.
    pub wire: Wire,
    /// What it remembers of pods that ended.
    pub last_seen_pods: Arc<LastSeenPods>,
    /// Whether its watch is down.
    pub deaf: bool,
    policies: Arc<PolicyCache>,
    known: HashMap<String, Known>,
    look: Option<Look>,
    again: bool,
    /// Failed looks in a row.
    failures: u32,
    /// What its clock has shown since its look began, earliest and latest.
    pub clocks: (i64, i64),
    /// The version of the group that its own last write made, as far as it knows.
    pub wrote: u64,
}

/// What a look came to, for the replica's queue.
pub enum Looked {
    /// It still waits for answers.
    Waiting,
    /// It is over; look again after so many milliseconds, if at all.
    Over(Option<u64>),
}

thread_local! {
    /// The clock of the replica that is being run on this thread.
    static CLOCK: Cell<i64> = const { Cell::new(0) };
    /// Names given so far on this thread.
    static NONCES: Cell<u64> = const { Cell::new(0) };
}

fn now() -> Timestamp {
    Timestamp(CLOCK.get())
}

fn nonce() -> String {
    NONCES.set(NONCES.get() + 1);
    format!("{:010}", NONCES.get())
}

/// Names start afresh with every history.
pub fn begin() {
    NONCES.set(0);
}

/// Wakes the thread that runs the history when the policy has decided on another.
struct Unpark(Thread);

impl ArcWake for Unpark {
    fn wake_by_ref(this: &Arc<Self>) {
        this.0.unpark();
    }
}

impl Replica {
    /// A process that has just been started.
    pub fn new(life: u64, leads: bool, clock: i64) -> Self {
        Self {
            life,
            alive: true,
            paused: false,
            leads,
            clock,
            wire: Wire::default(),
            last_seen_pods: Arc::default(),
            deaf: false,
            policies: Arc::default(),
            known: HashMap::new(),
            look: None,
            again: false,
            failures: 0,
            clocks: (0, 0),
            wrote: 0,
        }
    }

    /// Begins a look, or remembers that one is due after the present one.
    pub fn wake(&mut self, default: &Policy, floor: Duration) -> bool {
        if self.look.is_some() {
            self.again = true;
            return false;
        }
        let (wire, last_seen_pods) = (self.wire.clone(), self.last_seen_pods.clone());
        let (policies, default, leads) = (self.policies.clone(), default.clone(), self.leads);
        self.clocks = (i64::MAX, i64::MIN);
        self.look = Some(Box::pin(async move {
            let reconciler = Reconciler {
                cluster: &wire,
                last_seen_pods: &last_seen_pods,
                default: &default,
                policies: &policies,
                limiter: &PolicyLimiter::new(permits(), unbounded_channel().0),
                recorder: &DecisionLog::default(),
                image: Some("oaat-operator"),
                leads,
                retry_floor: floor,
                nonce,
                now,
            };
            reconciler.reconcile(NAMESPACE, GROUP).await
        }));
        true
    }

    /// Whether a look is under way.
    pub fn looks(&self) -> bool {
        self.look.is_some()
    }

    /// Goes on with the look until it waits for an answer of the cluster.
    /// `rule` is one that is switched off meanwhile.
    pub fn go_on(&mut self, at: u64, rule: Option<Mutation>, chance: &mut Chance) -> Looked {
        let Some(look) = &mut self.look else {
            return Looked::Waiting;
        };
        let clock = wall(at) + self.clock;
        CLOCK.set(clock);
        self.clocks = (self.clocks.0.min(clock), self.clocks.1.max(clock));
        let waker = waker(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        let outcome = loop {
            match without(rule, || look.as_mut().poll(&mut context)) {
                Poll::Ready(outcome) => break outcome,
                Poll::Pending if self.wire.mailbox().open > 0 => return Looked::Waiting,
                // The policy decides, on a thread of its own.
                Poll::Pending => thread::park(),
            }
        };
        self.look = None;
        if let Ok(ReconcileOutcome {
            written: Some(version),
            ..
        }) = &outcome
        {
            self.wrote = version.parse().unwrap_or(0).max(self.wrote);
        }
        let wait = match outcome {
            Ok(outcome) if outcome.error.is_none() => {
                self.failures = 0;
                let left = |at: Timestamp| at.since(now()).as_millis() as u64 + 3;
                outcome.requeue_at.map(left)
            }
            _ => {
                self.failures += 1;
                Some((100 << (self.failures - 1).min(8)) + chance.number(0..50))
            }
        };
        if std::mem::take(&mut self.again) {
            return Looked::Over(Some(1));
        }
        Looked::Over(wait)
    }

    /// A watch event of a pod. Says after how many milliseconds a look is worth while, if one
    /// is.
    pub fn sees(&mut self, pod: &PodView, gone: bool, rule: Option<Mutation>) -> Option<u64> {
        without(rule, || self.remembers(pod, gone))
    }

    fn remembers(&mut self, pod: &PodView, gone: bool) -> Option<u64> {
        let before = self.known.remove(&pod.uid);
        let was_over = before.as_ref().is_some_and(|known| known.1);
        if !was_over {
            self.last_seen_pods.record(NAMESPACE, GROUP, pod.clone());
        }
        if gone {
            return (!was_over).then_some(1);
        }
        let known = (pod.interest(), pod.terminal());
        let news = before.as_ref() != Some(&known);
        let first = before.is_none();
        self.known.insert(pod.uid.clone(), known);
        match (first && pod.gated, news) {
            (true, _) => Some(5200),
            (false, true) => Some(1),
            (false, false) => None,
        }
    }

    /// The watch was taken up again: what was known may be out of date.
    pub fn relist(&mut self) {
        self.known.clear();
        self.deaf = false;
    }
}
