//! A replica of the operator: the real reconcile loop, and the few lines that determine when it
//! runs.

use crate::mutation::{Mutation, without};
use crate::randomness::Randomness;
use crate::replica_client::ReplicaClient;
use crate::simulated_cluster::{GROUP, NAMESPACE, wall};
use futures::task::{ArcWake, waker};
use oaat_api::Timestamp;
use oaat_operator::cluster::ClusterError;
use oaat_operator::decision_log::DecisionLog;
use oaat_operator::last_seen_pods::LastSeenPods;
use oaat_operator::pod::{PodView, TriggerState};
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

type ReconcileFuture = Pin<Box<dyn Future<Output = Result<ReconcileOutcome, ClusterError>>>>;

/// What is remembered of a pod between watch events.
#[derive(PartialEq, Eq)]
struct KnownPod {
    trigger_state: TriggerState,
    terminal: bool,
}

/// A replica.
pub struct Replica {
    /// The number of the process's life. Events for an earlier life are dropped.
    pub life: u64,
    /// Whether the process runs.
    pub alive: bool,
    /// Whether the process is paused, as by SIGSTOP.
    pub paused: bool,
    /// Whether it believes that it holds the lease.
    pub leads: bool,
    /// How far its clock is ahead, in milliseconds.
    pub clock: i64,
    /// Its client.
    pub client: ReplicaClient,
    /// The last state of pods that ended.
    pub last_seen_pods: Arc<LastSeenPods>,
    /// Whether its watch is down.
    pub watch_down: bool,
    policies: Arc<PolicyCache>,
    known: HashMap<String, KnownPod>,
    reconcile: Option<ReconcileFuture>,
    reconcile_again: bool,
    /// The number of consecutive failed reconciles.
    failures: u32,
    /// The earliest and latest time of its clock since its reconcile began, in milliseconds.
    pub clocks: (i64, i64),
    /// The resource version of its own last write, if it knows that.
    pub wrote: u64,
}

/// The progress of a reconcile.
pub enum Progress {
    /// The reconcile waits for responses.
    Waiting,
    /// The reconcile is done. Requeue after this time in milliseconds, if set.
    Done(Option<u64>),
}

thread_local! {
    /// The clock of the replica that runs on this thread.
    static CLOCK: Cell<i64> = const { Cell::new(0) };
    /// The number of names generated on this thread.
    static NONCES: Cell<u64> = const { Cell::new(0) };
}

fn now() -> Timestamp {
    Timestamp(CLOCK.get())
}

fn nonce() -> String {
    NONCES.set(NONCES.get() + 1);
    format!("{:010}", NONCES.get())
}

/// Resets the generated names for a new history.
pub fn begin() {
    NONCES.set(0);
}

/// Wakes the thread of the history when the policy has decided on another thread.
struct Unpark(Thread);

impl ArcWake for Unpark {
    fn wake_by_ref(this: &Arc<Self>) {
        this.0.unpark();
    }
}

impl Replica {
    /// Creates a replica whose process has just started.
    pub fn new(life: u64, leads: bool, clock: i64) -> Self {
        Self {
            life,
            alive: true,
            paused: false,
            leads,
            clock,
            client: ReplicaClient::default(),
            last_seen_pods: Arc::default(),
            watch_down: false,
            policies: Arc::default(),
            known: HashMap::new(),
            reconcile: None,
            reconcile_again: false,
            failures: 0,
            clocks: (0, 0),
            wrote: 0,
        }
    }

    /// Starts a reconcile and returns `true`. If one is in progress, remembers to start another one
    /// after it.
    pub fn wake(&mut self, default: &Policy, floor: Duration) -> bool {
        if self.reconcile.is_some() {
            self.reconcile_again = true;
            return false;
        }
        let (client, last_seen_pods) = (self.client.clone(), self.last_seen_pods.clone());
        let (policies, default, leads) = (self.policies.clone(), default.clone(), self.leads);
        self.clocks = (i64::MAX, i64::MIN);
        self.reconcile = Some(Box::pin(async move {
            let reconciler = Reconciler {
                cluster: &client,
                last_seen_pods: &last_seen_pods,
                default: &default,
                policies: &policies,
                limiter: &PolicyLimiter::new(permits(), unbounded_channel().0),
                shadows: None,
                decision_log: Some(&DecisionLog::default()),
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

    /// Continues the reconcile until it waits for a response of the cluster. `rule` is switched off
    /// meanwhile.
    pub fn poll(&mut self, at: u64, rule: Option<Mutation>, random: &mut Randomness) -> Progress {
        let Some(reconcile) = &mut self.reconcile else {
            return Progress::Waiting;
        };
        let clock = wall(at) + self.clock;
        CLOCK.set(clock);
        self.clocks = (self.clocks.0.min(clock), self.clocks.1.max(clock));
        let waker = waker(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        let outcome = loop {
            match without(rule, || reconcile.as_mut().poll(&mut context)) {
                Poll::Ready(outcome) => break outcome,
                Poll::Pending if self.client.requests().unanswered > 0 => return Progress::Waiting,
                // The policy decides on its own thread.
                Poll::Pending => thread::park(),
            }
        };
        self.reconcile = None;
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
                let delay = |at: Timestamp| at.since(now()).as_millis() as u64 + 3;
                outcome.requeue_at.map(delay)
            }
            _ => {
                self.failures += 1;
                Some((100 << (self.failures - 1).min(8)) + random.draw(0..50))
            }
        };
        if std::mem::take(&mut self.reconcile_again) {
            return Progress::Done(Some(1));
        }
        Progress::Done(wait)
    }

    /// Processes a watch event of a pod. Returns the delay in milliseconds after which to
    /// reconcile, if needed.
    pub fn observe_pod(
        &mut self,
        pod: &PodView,
        gone: bool,
        rule: Option<Mutation>,
    ) -> Option<u64> {
        without(rule, || self.remember_pod(pod, gone))
    }

    fn remember_pod(&mut self, pod: &PodView, gone: bool) -> Option<u64> {
        let before = self.known.remove(&pod.uid);
        let was_terminal = before.as_ref().is_some_and(|known| known.terminal);
        if !was_terminal {
            self.last_seen_pods.record(NAMESPACE, GROUP, pod.clone());
        }
        if gone {
            return (!was_terminal).then_some(1);
        }
        let known = KnownPod {
            trigger_state: pod.trigger_state(),
            terminal: pod.is_terminal(),
        };
        let changed = before.as_ref() != Some(&known);
        let first = before.is_none();
        self.known.insert(pod.uid.clone(), known);
        if first && pod.gated {
            Some(5200)
        } else {
            changed.then_some(1)
        }
    }

    /// Establishes the watch again. Everything that was known may be out of date. `group_version` is
    /// the resource version of the group, if it exists.
    pub fn relist(&mut self, group_version: Option<String>) {
        self.known.clear();
        self.client.requests().watched_version = group_version;
        self.watch_down = false;
    }
}
