//! Reads the leases of all shards, and keeps track of what this replica serves.

use crate::lease::{ATTEMPT_TIMEOUT, RETRY};
use crate::metrics::Metrics;
use crate::shard::{ObservedLeases, Shard, serving_shard};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Api;
use kube::api::ListParams;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};
use tracing::{info, warn};

/// The label on the leases of shards. Replicas list the leases with their own value.
pub const LABEL: &str = "oaat.kawaja.net/shards";
/// The time between two reads.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// How long a replica observes the other leases before it acquires its own. Within this time, each
/// live holder renews its lease, and the renewal is read.
pub const OBSERVATION_PERIOD: Duration = RETRY.saturating_add(INTERVAL).saturating_add(INTERVAL);

/// The groups and types that this replica serves. Cheap to clone.
#[derive(Clone)]
pub enum Served {
    /// All, because the replica has no shard.
    All,
    /// Those that are distributed to a shard.
    Shard(Shard, watch::Receiver<BTreeSet<u8>>),
}

impl Served {
    /// Returns whether the replica serves the object with this uid.
    pub fn contains(&self, uid: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::Shard(own, live) => {
                let shard = serving_shard(uid.unwrap_or_default(), &live.borrow());
                shard == Some(own.index())
            }
        }
    }

    /// Calls `handle` after each change of what the replica serves, with a function that returns
    /// whether the object with this uid moved to or from this replica. Never returns.
    pub async fn on_change(self, mut handle: impl FnMut(&dyn Fn(Option<&str>) -> bool)) {
        if let Self::Shard(own, mut live) = self {
            let mut before = live.borrow_and_update().clone();
            while live.changed().await.is_ok() {
                let after = live.borrow_and_update().clone();
                let serves = |live: &BTreeSet<u8>, uid: Option<&str>| {
                    serving_shard(uid.unwrap_or_default(), live) == Some(own.index())
                };
                handle(&|uid| serves(&before, uid) != serves(&after, uid));
                before = after;
            }
        }
        std::future::pending().await
    }
}

/// Observes the leases of all shards.
pub struct ShardObserver {
    leases: Api<Lease>,
    own: Shard,
    /// The name of the lease without `--shard`.
    base_name: String,
    observed: ObservedLeases,
    live: watch::Sender<BTreeSet<u8>>,
    metrics: Arc<Metrics>,
}

impl ShardObserver {
    /// Starts to observe the leases. Returns what the replica serves.
    pub fn start(leases: Api<Lease>, base_name: &str, own: Shard, metrics: Arc<Metrics>) -> Served {
        let observed = ObservedLeases::new(own);
        let (live, receiver) = watch::channel(observed.live(Instant::now()));
        let observer = Self {
            leases,
            own,
            base_name: base_name.to_owned(),
            observed,
            live,
            metrics,
        };
        tokio::spawn(observer.run());
        Served::Shard(own, receiver)
    }

    async fn run(mut self) {
        let mut next_read = Instant::now();
        loop {
            if next_read <= Instant::now() {
                let started = Instant::now();
                next_read = started + INTERVAL;
                match timeout(ATTEMPT_TIMEOUT, self.read()).await {
                    Ok(Ok(read)) => self.observed.record(read, started),
                    Ok(Err(error)) => warn!(%error, "failed to read the leases of the shards"),
                    Err(_) => warn!(
                        "failed to read the leases of the shards: no response from the API server"
                    ),
                }
            }
            let now = Instant::now();
            self.publish(self.observed.live(now));
            let expiry = self.observed.next_expiry(now);
            let wake = expiry.map_or(next_read, |expiry| expiry.min(next_read));
            sleep_until(wake.into()).await;
        }
    }

    /// Returns the leases of all shards, in the order of their indexes.
    async fn read(&self) -> Result<Vec<Option<LeaseSpec>>, kube::Error> {
        let label = format!("{LABEL}={}", self.own.lease_label(&self.base_name));
        let params = ListParams::default().labels(&label);
        let leases = self.leases.list(&params).await?.into_iter();
        let mut by_name: HashMap<_, _> = leases
            .filter_map(|lease| Some((lease.metadata.name?, lease.spec?)))
            .collect();
        let names = self.own.all().map(|s| s.lease_name(&self.base_name));
        Ok(names.map(|name| by_name.remove(&name)).collect())
    }

    /// Logs, counts, and publishes the live shards.
    fn publish(&self, live: BTreeSet<u8>) {
        let count = i64::try_from(live.len()).unwrap_or(i64::MAX);
        self.metrics.live_shards.set(count);
        let before = self.live.borrow().clone();
        if before == live {
            return;
        }
        for shard in self.own.all() {
            let is_live = live.contains(&shard.index());
            if is_live == before.contains(&shard.index()) {
                continue;
            }
            if is_live {
                info!(%shard, "a replica holds the lease of this shard and serves its groups");
            } else {
                info!(%shard, "no replica holds the lease of this shard; the others serve its groups");
            }
        }
        self.live.send_replace(live);
    }
}
