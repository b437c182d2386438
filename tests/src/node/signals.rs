//! What can end a pod from outside, as its worker receives it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// The default grace period of a pod, in seconds.
const DEFAULT_GRACE: i64 = 30;

/// Why a pod has to end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The pod is no longer in the API.
    Gone,
    /// The pod was deleted; it ends with a grace period.
    Deleted,
    /// The pod's `activeDeadlineSeconds` passed.
    Deadline,
    /// A test requested an eviction.
    Evicted,
}

/// The worker's end of the connection.
pub(super) struct Signals {
    pod: watch::Receiver<Arc<Pod>>,
    evict: watch::Receiver<bool>,
    deadline: Option<Instant>,
}

/// The node's end of the connection. Dropping it means that the pod is gone.
pub(super) struct Line {
    pub(super) pod: watch::Sender<Arc<Pod>>,
    pub(super) evict: watch::Sender<bool>,
    /// Whether the worker has ended; set under the same lock that senders hold.
    pub(super) over: bool,
}

/// Connects a pod's worker with the node.
pub(super) fn connect(pod: Arc<Pod>) -> (Line, Signals) {
    let seconds = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.active_deadline_seconds);
    let (pod_sender, pod) = watch::channel(pod);
    let (evict_sender, evict) = watch::channel(false);
    let signals = Signals {
        pod,
        evict,
        deadline: seconds.map(|seconds| Instant::now() + whole(seconds)),
    };
    let line = Line {
        pod: pod_sender,
        evict: evict_sender,
        over: false,
    };
    (line, signals)
}

impl Signals {
    /// Returns the last known state of the pod.
    pub(super) fn pod(&self) -> Arc<Pod> {
        Arc::clone(&self.pod.borrow())
    }

    /// Waits for the first reason to end the pod.
    pub(super) async fn stop(&mut self) -> Stop {
        loop {
            if *self.evict.borrow_and_update() {
                return Stop::Evicted;
            }
            if self
                .pod
                .borrow_and_update()
                .metadata
                .deletion_timestamp
                .is_some()
            {
                return Stop::Deleted;
            }
            let changed = tokio::select! {
                changed = self.pod.changed() => changed,
                changed = self.evict.changed() => changed,
                () = until(self.deadline) => return Stop::Deadline,
            };
            if changed.is_err() {
                return Stop::Gone;
            }
        }
    }

    /// Waits for the end of the grace period. A later deletion may shorten it, but never extends
    /// it.
    pub(super) async fn grace_over(&mut self, stop: &Stop) {
        let asked = Instant::now();
        let mut kill_at = asked + whole(grace(&self.pod(), stop));
        loop {
            tokio::select! {
                () = sleep_until(kill_at) => return,
                changed = self.pod.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let pod = self.pod();
                    if pod.metadata.deletion_timestamp.is_some() {
                        kill_at = kill_at.min(asked + whole(grace(&pod, &Stop::Deleted)));
                    }
                }
            }
        }
    }
}

fn grace(pod: &Pod, stop: &Stop) -> i64 {
    let own = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.termination_grace_period_seconds)
        .unwrap_or(DEFAULT_GRACE);
    match stop {
        Stop::Deleted => pod.metadata.deletion_grace_period_seconds.unwrap_or(own),
        _ => own,
    }
}

fn whole(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
