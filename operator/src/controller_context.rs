//! The shared dependencies of the controllers, and the state of each.

use crate::bounded_read::BoundedReader;
use crate::cluster::Cluster;
use crate::config_maps::ConfigMaps;
use crate::decision_log::DecisionLog;
use crate::events::EventSink;
use crate::fair_limiter::FairLimiter;
use crate::group_metrics::GroupSample;
use crate::group_ref::{GroupRef, WatchedGroup};
use crate::kube_cluster::{KubeCluster, ObjectCaches};
use crate::last_seen_pods::LastSeenPods;
use crate::metrics::Metrics;
use crate::policies::{Compiler, KeptPolicies, PolicyCache};
use crate::policy_limiter::PolicyLimiter;
use crate::reconciler::Reconciler;
use crate::shadow::Shadows;
use crate::shard_leases::Served;
use crate::triggers::Triggers;
use kube::Client;
use kube::runtime::reflector::Store;
use oaat_api::Timestamp;
use policy_host::Policy;
use rand::RngExt;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the controllers of a process share.
#[derive(Clone)]
pub struct ControllerDeps {
    /// The client of the API server. Its own retries must be off.
    pub client: Client,
    /// The policy for groups without `spec.policy`.
    pub default: Policy,
    /// Compiles the policies of groups.
    pub compiler: Compiler,
    /// Compiles the shadow policies of groups.
    pub shadow_compiler: Compiler,
    /// Limits evaluations of the policies of groups.
    pub evaluations: FairLimiter,
    /// Reads individual objects.
    pub reader: BoundedReader,
    /// Objects that are kept in memory.
    pub caches: ObjectCaches,
    /// Reads ConfigMaps.
    pub config_maps: ConfigMaps,
    /// The copies of the last good policies.
    pub kept: Option<KeptPolicies>,
    /// The operator's own image.
    pub image: Option<String>,
    /// Logs and records decisions.
    pub decision_log: DecisionLog,
    /// Publishes events.
    pub events: EventSink,
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
    /// The minimum time between two starts of an item.
    pub retry_floor: Duration,
    /// Whether no other replica acts: leader election is on, and `--shard` is not used.
    pub leads: bool,
    /// The groups and types that this replica serves.
    pub served: Served,
    /// The label selector of the groups to reconcile.
    pub group_selector: Option<String>,
}

/// The state of the controllers of one namespace, or of all.
pub(crate) struct Context {
    pub shared: ControllerDeps,
    pub cluster: KubeCluster,
    pub last_seen_pods: Arc<LastSeenPods>,
    pub policies: Arc<PolicyCache>,
    pub triggers: Triggers,
    pub groups: Store<WatchedGroup>,
    pub limiter: PolicyLimiter,
    pub shadows: Shadows,
    pub failures: Mutex<HashMap<GroupRef, u32>>,
}

impl Context {
    /// Publishes the metrics of a group. Removes them if the group is gone.
    pub fn record_sample(&self, group: &GroupRef, sample: Option<GroupSample>) {
        let metrics = &self.shared.metrics.groups;
        match sample {
            Some(sample) => metrics.record(group, sample),
            None => metrics.remove(group),
        }
        // The group may have been deleted during the reconcile.
        if self.groups.get(group).is_none() {
            metrics.remove(group);
        }
    }

    /// Returns the reconciler of groups on this cluster.
    pub fn reconciler<'a, C: Cluster>(
        &'a self,
        cluster: &'a C,
        decision_log: Option<&'a DecisionLog>,
    ) -> Reconciler<'a, C> {
        let shared = &self.shared;
        Reconciler {
            cluster,
            last_seen_pods: &self.last_seen_pods,
            default: &shared.default,
            policies: &self.policies,
            limiter: &self.limiter,
            shadows: Some(&self.shadows),
            decision_log,
            image: shared.image.as_deref(),
            leads: shared.leads,
            retry_floor: shared.retry_floor,
            nonce,
            now: Timestamp::now,
        }
    }
}

/// A timer may fire this much early relative to the clock that reconciles use. The policy would then
/// wait for another second.
const TIMER_MARGIN: Duration = Duration::from_millis(3);

/// Returns the delay of a timer for something that becomes due at `at`.
pub(crate) fn requeue_delay(at: Timestamp) -> Duration {
    at.since(Timestamp::now()) + TIMER_MARGIN
}

/// Returns ten random characters of a to z and 0 to 9.
fn nonce() -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = rand::rng();
    (0..10)
        .map(|_| char::from(ALPHABET[random.random_range(0..36)]))
        .collect()
}
