//! Leader election by a Lease, after the rules of client-go.
//!
//! It saves work and nothing else: that two leaders cannot harm each other is the
//! claim's doing. A holder renews; one that could not renew for the renew deadline,
//! which is shorter than the lease, has lost it and must stop. Another takes the
//! lease once it has *observed* it unchanged for the lease's duration by its own
//! clock: times in the Lease come from other machines and are not compared.

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff;
use kube::api::PostParams;
use kube::{Api, Client};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

/// How long a lease holds without a renewal.
const DURATION: Duration = Duration::from_secs(15);
/// How long a holder tries to renew before it has lost.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between two attempts.
const RETRY: Duration = Duration::from_secs(2);
/// Between two looks of one that stands by: a released lease is taken within this.
const STAND_BY: Duration = Duration::from_secs(1);

/// A candidate for the lease.
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// What was last observed, and since when by our clock.
    observed: Option<(LeaseSpec, Instant)>,
}

impl Election {
    /// A candidate called `identity` for the lease of this name.
    pub fn new(client: Client, namespace: &str, name: &str, identity: String) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.into(),
            identity,
            observed: None,
        }
    }

    /// Returns once the lease is ours.
    pub async fn acquire(&mut self) {
        info!(
            identity = self.identity,
            lease = self.name,
            "standing by for the lease"
        );
        loop {
            match timeout(RENEW_DEADLINE, self.attempt()).await {
                Ok(Ok(true)) => {
                    info!(identity = self.identity, "holding the lease");
                    return;
                }
                Ok(Ok(false)) => {}
                Ok(Err(error)) => warn!(%error, "the lease could not be read or written"),
                Err(_) => warn!("no answer about the lease"),
            }
            sleep(STAND_BY).await;
        }
    }

    /// Returns once the lease is lost.
    pub async fn hold(&mut self) {
        let mut renewed = Instant::now();
        loop {
            sleep(RETRY).await;
            let left = RENEW_DEADLINE.saturating_sub(renewed.elapsed());
            match timeout(left, self.attempt()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => {
                    warn!("another replica holds the lease");
                    return;
                }
                Ok(Err(error)) => warn!(%error, "the lease could not be renewed"),
                Err(_) => warn!("no answer about the lease"),
            }
            if renewed.elapsed() >= RENEW_DEADLINE {
                warn!(
                    "the lease could not be renewed for {} seconds",
                    RENEW_DEADLINE.as_secs()
                );
                return;
            }
        }
    }

    /// Gives the lease back, so that another need not wait for its end.
    pub async fn release(&self) {
        let free = async {
            let mut lease = self.api.get(&self.name).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_ref() != Some(&self.identity) {
                return Ok(());
            }
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(now());
            self.api
                .replace(&self.name, &PostParams::default(), &lease)
                .await
                .map(|_| ())
        };
        match timeout(RETRY, free).await {
            Ok(Ok(())) => info!("released the lease"),
            Ok(Err(error)) => warn!(%error, "the lease was not released; it runs out by itself"),
            Err(_) => warn!("the lease was not released in time; it runs out by itself"),
        }
    }

    /// Takes or renews the lease if that is possible now. Every write carries the
    /// resource version of the read before it, so that of two takers one fails: that is an
    /// error, which says nothing yet about who holds it.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.ours(0)),
            };
            return self
                .api
                .create(&PostParams::default(), &lease)
                .await
                .map(|_| true);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        if holder != self.identity && !holder.is_empty() {
            let since = match &self.observed {
                Some((seen, since)) if *seen == spec => *since,
                _ => {
                    let now = Instant::now();
                    self.observed = Some((spec.clone(), now));
                    now
                }
            };
            let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
            if since.elapsed() < Duration::from_secs(seconds) {
                debug!(holder, "the lease is taken");
                return Ok(false);
            }
        }
        let transitions = spec.lease_transitions.unwrap_or(0);
        let mut ours = self.ours(transitions.saturating_add(i32::from(holder != self.identity)));
        if holder == self.identity {
            ours.acquire_time = spec.acquire_time;
        }
        lease.spec = Some(ours);
        self.api
            .replace(&self.name, &PostParams::default(), &lease)
            .await
            .map(|_| true)
    }

    fn ours(&self, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(now()),
            renew_time: Some(now()),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

fn now() -> MicroTime {
    MicroTime(jiff::Timestamp::now())
}
