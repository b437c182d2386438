//! Leader election with a Lease, following the rules of client-go.
//!
//! The election only avoids duplicate work. Two leaders at a time are safe because of the claim.
//! The holder renews the lease. A holder that fails to renew it within the renew deadline, which is
//! shorter than the lease duration, has lost the lease and must stop. Another candidate takes the
//! lease once it has *observed* no change for the lease duration on its own clock. Times in the
//! Lease come from other machines and are not compared.

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff;
use kube::api::PostParams;
use kube::{Api, Client};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

/// The time that a lease is valid without a renewal.
pub const DURATION: Duration = Duration::from_secs(15);
/// The time without a successful renewal after which the holder has lost the lease.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// The timeout for one attempt: half the deadline, so that one lost response does not cost the
/// lease.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time between two renewals, and the timeout for a release or for an attempt in progress.
pub const RETRY: Duration = Duration::from_secs(2);
/// The time between two reads by a standby. A released lease is taken within this time.
pub const STANDBY_INTERVAL: Duration = Duration::from_secs(1);

/// Returns the identity of a candidate.
///
/// A pod is identified by its uid, which is never reused, and two containers of one pod never run
/// at the same time. A restarted container therefore takes back the lease of its pod at once.
/// Without a uid, each process has a different identity.
pub fn identity(pod: Option<&str>, uid: Option<&str>) -> String {
    let pod = pod.unwrap_or("oaat-operator");
    match uid.filter(|uid| !uid.is_empty()) {
        Some(uid) => format!("{pod}_{uid}"),
        None => format!("{pod}_{:016x}", rand::random::<u64>()),
    }
}

/// A candidate for the lease.
pub struct Election {
    api: Api<Lease>,
    name: String,
    /// The labels of the lease.
    labels: BTreeMap<String, String>,
    view: View,
    /// The start of the last successful attempt.
    renewed: Instant,
}

/// The state of one candidate.
struct View {
    identity: String,
    /// The lease of another holder when it last changed, and the local time of that change.
    observed: Option<(LeaseSpec, Instant)>,
}

/// What a candidate may do with the lease.
#[derive(Debug, PartialEq)]
enum LeaseAction {
    /// Take or renew the lease by writing this spec.
    Write(Box<LeaseSpec>),
    /// Wait: another candidate holds the lease, until this time unless it renews the lease.
    Wait(Instant),
}

impl View {
    /// Returns what to do with an existing lease.
    fn next_action(&mut self, spec: &LeaseSpec, now: Instant, time: MicroTime) -> LeaseAction {
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder != self.identity && !holder.is_empty() {
            let since = match &self.observed {
                Some((seen, since)) if seen == spec => *since,
                _ => {
                    self.observed = Some((spec.clone(), now));
                    now
                }
            };
            let seconds = spec.lease_duration_seconds.unwrap_or(0);
            let until = since + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            if now < until {
                return LeaseAction::Wait(until);
            }
        }
        let is_holder = holder == self.identity;
        let transitions = spec.lease_transitions.unwrap_or(0);
        LeaseAction::Write(Box::new(LeaseSpec {
            acquire_time: spec
                .acquire_time
                .clone()
                .filter(|_| is_holder)
                .or_else(|| Some(time.clone())),
            ..self.acquired(transitions.saturating_add(i32::from(!is_holder)), time)
        }))
    }

    /// Returns the lease as held by this candidate.
    fn acquired(&self, transitions: i32, time: MicroTime) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(time.clone()),
            renew_time: Some(time),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Returns the lease after its release; `None` if this candidate does not hold it.
    fn released(&self, spec: &LeaseSpec, time: MicroTime) -> Option<LeaseSpec> {
        (spec.holder_identity.as_ref() == Some(&self.identity)).then(|| LeaseSpec {
            holder_identity: None,
            lease_duration_seconds: Some(1),
            renew_time: Some(time),
            ..spec.clone()
        })
    }
}

/// Returns when a standby reads the lease again.
fn next_read(now: Instant, until: Instant) -> Instant {
    until.min(now + STANDBY_INTERVAL)
}

/// Returns the timeout for a renewal; `None` if the lease is lost.
fn renewal_timeout(renewed: Instant, now: Instant) -> Option<Duration> {
    let remaining = RENEW_DEADLINE.checked_sub(now.saturating_duration_since(renewed))?;
    (!remaining.is_zero()).then(|| remaining.min(ATTEMPT_TIMEOUT))
}

impl Election {
    /// Creates a candidate with this identity for the lease `name`. The holder keeps these labels
    /// on the lease.
    pub fn new(
        client: Client,
        namespace: &str,
        name: String,
        labels: BTreeMap<String, String>,
        identity: String,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name,
            labels,
            view: View {
                identity,
                observed: None,
            },
            renewed: Instant::now(),
        }
    }

    /// Waits for the lease. Returns true once this candidate holds it, or false once `stopped` is
    /// ready. In the latter case, a write in progress may still have acquired the lease: see
    /// [`Self::release`].
    pub async fn acquire(&mut self, stopped: impl Future<Output = ()>) -> bool {
        info!(
            identity = self.view.identity,
            lease = self.name,
            "waiting for the lease"
        );
        tokio::pin!(stopped);
        loop {
            let started = Instant::now();
            let outcome = {
                let attempt = timeout(ATTEMPT_TIMEOUT, self.attempt());
                tokio::pin!(attempt);
                tokio::select! {
                    outcome = &mut attempt => outcome,
                    () = &mut stopped => {
                        // An aborted write might be applied after the release has read the lease.
                        let _ = timeout(RETRY, attempt).await;
                        return false;
                    }
                }
            };
            let next_attempt = match outcome {
                Ok(Ok(None)) => {
                    self.renewed = started;
                    info!(identity = self.view.identity, "acquired the lease");
                    return true;
                }
                Ok(Ok(Some(until))) => next_read(Instant::now(), until),
                Ok(Err(error)) => {
                    warn!(%error, "failed to acquire the lease");
                    started + STANDBY_INTERVAL
                }
                Err(_) => {
                    warn!("failed to acquire the lease: no response from the API server");
                    Instant::now()
                }
            };
            tokio::select! {
                () = sleep_until(next_attempt) => {}
                () = &mut stopped => return false,
            }
        }
    }

    /// Renews the lease, and returns once it is lost.
    pub async fn hold(&mut self) {
        loop {
            sleep(RETRY).await;
            // The deadline counts from the start of an attempt. Other candidates count from the
            // write, which may be long before the response.
            let started = Instant::now();
            let Some(limit) = renewal_timeout(self.renewed, started) else {
                warn!(
                    "failed to renew the lease for {} seconds",
                    RENEW_DEADLINE.as_secs()
                );
                return;
            };
            match timeout(limit, self.attempt()).await {
                Ok(Ok(None)) => self.renewed = started,
                Ok(Ok(Some(_))) => {
                    warn!("another replica holds the lease");
                    return;
                }
                Ok(Err(error)) => warn!(%error, "failed to renew the lease"),
                Err(_) => warn!("failed to renew the lease: no response from the API server"),
            }
        }
    }

    /// Releases the lease if this candidate holds it, so that another need not wait for it to
    /// expire.
    pub async fn release(&self) {
        match timeout(RETRY, self.release_if_held()).await {
            Ok(Ok(true)) => info!("released the lease"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => warn!(%error, "failed to release the lease; it expires on its own"),
            Err(_) => {
                warn!("failed to release the lease: no response in time; it expires on its own");
            }
        }
    }

    /// Returns whether this candidate held the lease.
    async fn release_if_held(&self) -> Result<bool, kube::Error> {
        loop {
            let Some(mut lease) = self.api.get_opt(&self.name).await? else {
                return Ok(false);
            };
            let spec = lease.spec.unwrap_or_default();
            let Some(released) = self.view.released(&spec, time()) else {
                return Ok(false);
            };
            lease.spec = Some(released);
            let params = PostParams::default();
            match self.api.replace(&self.name, &params, &lease).await {
                Ok(_) => return Ok(true),
                // A renewal by this candidate was still in progress.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes or renews the lease if that is possible now. Otherwise returns the time until which
    /// another candidate holds it. Every write carries the resource version of the read before it,
    /// so of two writers one fails. That failure is an error, which does not show who holds the
    /// lease.
    async fn attempt(&mut self) -> Result<Option<Instant>, kube::Error> {
        let params = PostParams::default();
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    labels: Some(self.labels.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.view.acquired(0, time())),
            };
            return self.api.create(&params, &lease).await.map(|_| None);
        };
        let spec = lease.spec.take().unwrap_or_default();
        match self.view.next_action(&spec, Instant::now(), time()) {
            LeaseAction::Wait(until) => {
                debug!(
                    holder = spec.holder_identity,
                    "another replica holds the lease"
                );
                Ok(Some(until))
            }
            LeaseAction::Write(spec) => {
                lease.spec = Some(*spec);
                let labels = lease.metadata.labels.get_or_insert_default();
                labels.extend(self.labels.clone());
                self.api
                    .replace(&self.name, &params, &lease)
                    .await
                    .map(|_| None)
            }
        }
    }
}

fn time() -> MicroTime {
    MicroTime(jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn view(identity: &str) -> View {
        View {
            identity: identity.into(),
            observed: None,
        }
    }

    fn at(second: i64) -> MicroTime {
        MicroTime(jiff::Timestamp::from_second(second).unwrap_or_else(|e| panic!("{e}")))
    }

    fn written(action: LeaseAction) -> LeaseSpec {
        match action {
            LeaseAction::Write(spec) => *spec,
            LeaseAction::Wait(until) => panic!("held by another until {until:?}"),
        }
    }

    #[test]
    fn lease_is_taken_after_its_duration_without_a_change() {
        let (start, mut other) = (Instant::now(), view("b"));
        // The wall clock of the other candidate is years off, which has no effect.
        let lease = view("a").acquired(3, at(1));
        for passed in [Duration::ZERO, SECOND, DURATION - Duration::from_millis(1)] {
            let action = other.next_action(&lease, start + passed, at(2_000_000_000));
            assert_eq!(action, LeaseAction::Wait(start + DURATION), "{passed:?}");
        }
        let lease_of_b = written(other.next_action(&lease, start + DURATION, at(7)));
        assert_eq!(lease_of_b.holder_identity.as_deref(), Some("b"));
        assert_eq!(lease_of_b.lease_transitions, Some(4));
        assert_eq!(
            (lease_of_b.acquire_time, lease_of_b.renew_time),
            (Some(at(7)), Some(at(7)))
        );
    }

    #[test]
    fn renewal_counts_from_the_time_of_its_observation() {
        let (start, mut other) = (Instant::now(), view("b"));
        let mut lease = view("a").acquired(0, at(1));
        other.next_action(&lease, start, at(1));
        lease.renew_time = Some(at(2));
        let observed = start + 14 * SECOND;
        assert_eq!(
            other.next_action(&lease, observed, at(1)),
            LeaseAction::Wait(observed + DURATION)
        );
    }

    #[test]
    fn released_lease_is_taken_at_once() {
        let a = view("a");
        let released = a.released(&a.acquired(0, at(1)), at(2));
        let released = released.unwrap_or_else(|| panic!("a held the lease"));
        assert_eq!(released.holder_identity, None);
        let lease_of_b = written(view("b").next_action(&released, Instant::now(), at(3)));
        assert_eq!(lease_of_b.holder_identity.as_deref(), Some("b"));
        assert_eq!(lease_of_b.lease_transitions, Some(1));
        assert_eq!(lease_of_b.lease_duration_seconds, Some(15));
        assert_eq!(view("b").released(&a.acquired(0, at(1)), at(2)), None);
    }

    #[test]
    fn holder_renews_the_lease_after_a_restart() {
        let lease = view("a").acquired(2, at(1));
        let renewed = written(view("a").next_action(&lease, Instant::now(), at(9)));
        assert_eq!(renewed.acquire_time, Some(at(1)));
        assert_eq!(renewed.renew_time, Some(at(9)));
        assert_eq!(renewed.lease_transitions, Some(2));
    }

    #[test]
    fn empty_lease_is_taken_at_once() {
        let lease = written(view("a").next_action(&LeaseSpec::default(), Instant::now(), at(1)));
        assert_eq!(lease.holder_identity.as_deref(), Some("a"));
    }

    #[test]
    fn standby_reads_the_lease_no_later_than_its_expiry() {
        let now = Instant::now();
        assert_eq!(next_read(now, now + DURATION), now + STANDBY_INTERVAL);
        let soon = now + Duration::from_millis(3);
        assert_eq!(next_read(now, soon), soon);
    }

    #[test]
    fn holder_loses_the_lease_before_another_may_take_it() {
        let renewed = Instant::now();
        assert_eq!(
            renewal_timeout(renewed, renewed + 2 * SECOND),
            Some(ATTEMPT_TIMEOUT)
        );
        let late = renewed + RENEW_DEADLINE - SECOND;
        assert_eq!(renewal_timeout(renewed, late), Some(SECOND));
        assert_eq!(renewal_timeout(renewed, renewed + RENEW_DEADLINE), None);
        assert_eq!(renewal_timeout(renewed, renewed + 60 * SECOND), None);
        // The last attempt ends at the deadline at the latest, however late it begins. After that,
        // only one sleep passes before the deadline is checked.
        assert!(RENEW_DEADLINE + RETRY < DURATION);
    }

    #[test]
    fn identity_is_stable_for_a_pod_and_unique_without_a_uid() {
        let uid = "8c1f0f0e-0000-4000-8000-000000000001";
        assert_eq!(identity(Some("pod"), Some(uid)), format!("pod_{uid}"));
        let unknown = || identity(Some("pod"), Some(""));
        assert!(unknown().starts_with("pod_"));
        assert_ne!(unknown(), unknown());
        assert_ne!(identity(None, None), identity(None, None));
    }
}
