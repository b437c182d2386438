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
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

/// How long a lease holds without a renewal.
const DURATION: Duration = Duration::from_secs(15);
/// How long a holder tries to renew before it has lost.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Longest wait for an answer: half the deadline, so that one that is lost on its way is not the
/// end of the lease.
const ANSWER: Duration = Duration::from_secs(5);
/// Between two renewals, and the longest wait for what is to be finished or given back.
const RETRY: Duration = Duration::from_secs(2);
/// Between two looks of one that stands by: a released lease is taken within this.
const STAND_BY: Duration = Duration::from_secs(1);

/// Who takes part. A pod is known by its uid, which no other ever has, and two containers of one pod
/// never run at a time: so one that was started again takes its pod's own lease back at once.
/// Where there is no uid, each process is somebody else.
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
    view: View,
    /// When the last renewal that came through was begun.
    renewed: Instant,
}

/// What one candidate knows, and concludes from it.
struct View {
    identity: String,
    /// What another's lease was when it last changed, and since when by our clock.
    observed: Option<(LeaseSpec, Instant)>,
}

/// What may be done about the lease now.
#[derive(Debug, PartialEq)]
enum Now {
    /// Write this.
    Take(Box<LeaseSpec>),
    /// Another holds it, and until then if it does not renew it.
    Taken(Instant),
}

impl View {
    /// What to do about a lease that is there.
    fn judge(&mut self, spec: &LeaseSpec, now: Instant, time: MicroTime) -> Now {
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
                return Now::Taken(until);
            }
        }
        let ours = holder == self.identity;
        let transitions = spec.lease_transitions.unwrap_or(0);
        Now::Take(Box::new(LeaseSpec {
            acquire_time: spec
                .acquire_time
                .clone()
                .filter(|_| ours)
                .or_else(|| Some(time.clone())),
            ..self.ours(transitions.saturating_add(i32::from(!ours)), time)
        }))
    }

    fn ours(&self, transitions: i32, time: MicroTime) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(time.clone()),
            renew_time: Some(time),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// What the lease becomes when we give it back; `None` if it is not ours.
    fn freed(&self, spec: &LeaseSpec, time: MicroTime) -> Option<LeaseSpec> {
        (spec.holder_identity.as_ref() == Some(&self.identity)).then(|| LeaseSpec {
            holder_identity: None,
            lease_duration_seconds: Some(1),
            renew_time: Some(time),
            ..spec.clone()
        })
    }
}

/// When one that stands by looks again.
fn next_look(now: Instant, until: Instant) -> Instant {
    until.min(now + STAND_BY)
}

/// How long a renewal may take; `None` once the lease is lost.
fn time_to_renew(renewed: Instant, now: Instant) -> Option<Duration> {
    let left = RENEW_DEADLINE.checked_sub(now.saturating_duration_since(renewed))?;
    (!left.is_zero()).then(|| left.min(ANSWER))
}

impl Election {
    /// A candidate called `identity` for the lease of this name.
    pub fn new(client: Client, namespace: &str, name: &str, identity: String) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.into(),
            view: View {
                identity,
                observed: None,
            },
            renewed: Instant::now(),
        }
    }

    /// Returns true once the lease is ours, or false once `stopped` is ready. Then it may be ours
    /// all the same, if that was asked for last: see [`Self::release`].
    pub async fn acquire(&mut self, stopped: impl Future<Output = ()>) -> bool {
        info!(
            identity = self.view.identity,
            lease = self.name,
            "standing by for the lease"
        );
        tokio::pin!(stopped);
        loop {
            let begun = Instant::now();
            let outcome = {
                let attempt = timeout(ANSWER, self.attempt());
                tokio::pin!(attempt);
                tokio::select! {
                    outcome = &mut attempt => outcome,
                    () = &mut stopped => {
                        // A write that was broken off may land after the lease was looked at
                        // for the last time.
                        let _ = timeout(RETRY, attempt).await;
                        return false;
                    }
                }
            };
            let again = match outcome {
                Ok(Ok(None)) => {
                    self.renewed = begun;
                    info!(identity = self.view.identity, "holding the lease");
                    return true;
                }
                Ok(Ok(Some(until))) => next_look(Instant::now(), until),
                Ok(Err(error)) => {
                    warn!(%error, "the lease could not be read or written");
                    begun + STAND_BY
                }
                Err(_) => {
                    warn!("no answer about the lease");
                    Instant::now()
                }
            };
            tokio::select! {
                () = sleep_until(again) => {}
                () = &mut stopped => return false,
            }
        }
    }

    /// Renews the lease, and returns once it is lost.
    pub async fn hold(&mut self) {
        loop {
            sleep(RETRY).await;
            // From the beginning of an attempt: when its answer comes says nothing about when it
            // was written, from where on others count.
            let begun = Instant::now();
            let Some(longest) = time_to_renew(self.renewed, begun) else {
                warn!(
                    "the lease could not be renewed for {} seconds",
                    RENEW_DEADLINE.as_secs()
                );
                return;
            };
            match timeout(longest, self.attempt()).await {
                Ok(Ok(None)) => self.renewed = begun,
                Ok(Ok(Some(_))) => {
                    warn!("another replica holds the lease");
                    return;
                }
                Ok(Err(error)) => warn!(%error, "the lease could not be renewed"),
                Err(_) => warn!("no answer about the lease"),
            }
        }
    }

    /// Gives the lease back if it is ours, so that another need not wait for its end.
    pub async fn release(&self) {
        match timeout(RETRY, self.free()).await {
            Ok(Ok(true)) => info!("released the lease"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => warn!(%error, "the lease was not released; it runs out by itself"),
            Err(_) => warn!("the lease was not released in time; it runs out by itself"),
        }
    }

    /// Says whether there was something to give back.
    async fn free(&self) -> Result<bool, kube::Error> {
        loop {
            let Some(mut lease) = self.api.get_opt(&self.name).await? else {
                return Ok(false);
            };
            let spec = lease.spec.unwrap_or_default();
            let Some(freed) = self.view.freed(&spec, time()) else {
                return Ok(false);
            };
            lease.spec = Some(freed);
            let params = PostParams::default();
            match self.api.replace(&self.name, &params, &lease).await {
                Ok(_) => return Ok(true),
                // A renewal of ours that was still on its way.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes or renews the lease if that is possible now; else gives the time until when another
    /// holds it. Every write carries the resource version of the read before it, so that of two
    /// takers one fails: that is an error, which says nothing yet about who holds it.
    async fn attempt(&mut self) -> Result<Option<Instant>, kube::Error> {
        let params = PostParams::default();
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.view.ours(0, time())),
            };
            return self.api.create(&params, &lease).await.map(|_| None);
        };
        let spec = lease.spec.take().unwrap_or_default();
        match self.view.judge(&spec, Instant::now(), time()) {
            Now::Taken(until) => {
                debug!(holder = spec.holder_identity, "the lease is taken");
                Ok(Some(until))
            }
            Now::Take(ours) => {
                lease.spec = Some(*ours);
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

    fn taken(now: Now) -> LeaseSpec {
        match now {
            Now::Take(spec) => *spec,
            Now::Taken(until) => panic!("taken until {until:?}"),
        }
    }

    #[test]
    fn another_takes_it_when_it_has_seen_it_unchanged_for_its_duration() {
        let (start, mut other) = (Instant::now(), view("b"));
        // Its own clock is years off, which is of no matter.
        let lease = view("a").ours(3, at(1));
        for passed in [Duration::ZERO, SECOND, DURATION - Duration::from_millis(1)] {
            let now = other.judge(&lease, start + passed, at(2_000_000_000));
            assert_eq!(now, Now::Taken(start + DURATION), "{passed:?}");
        }
        let ours = taken(other.judge(&lease, start + DURATION, at(7)));
        assert_eq!(ours.holder_identity.as_deref(), Some("b"));
        assert_eq!(ours.lease_transitions, Some(4));
        assert_eq!(
            (ours.acquire_time, ours.renew_time),
            (Some(at(7)), Some(at(7)))
        );
    }

    #[test]
    fn each_renewal_counts_from_when_it_is_seen() {
        let (start, mut other) = (Instant::now(), view("b"));
        let mut lease = view("a").ours(0, at(1));
        other.judge(&lease, start, at(1));
        lease.renew_time = Some(at(2));
        let seen = start + 14 * SECOND;
        assert_eq!(
            other.judge(&lease, seen, at(1)),
            Now::Taken(seen + DURATION)
        );
    }

    #[test]
    fn one_that_was_given_back_is_taken_at_once() {
        let a = view("a");
        let freed = a.freed(&a.ours(0, at(1)), at(2));
        let freed = freed.unwrap_or_else(|| panic!("it was a's"));
        assert_eq!(freed.holder_identity, None);
        let ours = taken(view("b").judge(&freed, Instant::now(), at(3)));
        assert_eq!(ours.holder_identity.as_deref(), Some("b"));
        assert_eq!(ours.lease_transitions, Some(1));
        assert_eq!(ours.lease_duration_seconds, Some(15));
        assert_eq!(view("b").freed(&a.ours(0, at(1)), at(2)), None);
    }

    #[test]
    fn who_holds_it_renews_it_also_after_a_restart() {
        let lease = view("a").ours(2, at(1));
        let renewed = taken(view("a").judge(&lease, Instant::now(), at(9)));
        assert_eq!(renewed.acquire_time, Some(at(1)));
        assert_eq!(renewed.renew_time, Some(at(9)));
        assert_eq!(renewed.lease_transitions, Some(2));
    }

    #[test]
    fn a_lease_without_content_is_free() {
        let ours = taken(view("a").judge(&LeaseSpec::default(), Instant::now(), at(1)));
        assert_eq!(ours.holder_identity.as_deref(), Some("a"));
    }

    #[test]
    fn who_stands_by_looks_often_and_not_later_than_the_end() {
        let now = Instant::now();
        assert_eq!(next_look(now, now + DURATION), now + STAND_BY);
        let soon = now + Duration::from_millis(3);
        assert_eq!(next_look(now, soon), soon);
    }

    #[test]
    fn a_holder_has_lost_before_another_may_take_it() {
        let renewed = Instant::now();
        assert_eq!(time_to_renew(renewed, renewed + 2 * SECOND), Some(ANSWER));
        let late = renewed + RENEW_DEADLINE - SECOND;
        assert_eq!(time_to_renew(renewed, late), Some(SECOND));
        assert_eq!(time_to_renew(renewed, renewed + RENEW_DEADLINE), None);
        assert_eq!(time_to_renew(renewed, renewed + 60 * SECOND), None);
        // The last attempt ends at the deadline at the latest, however late it begins; one sleep
        // before the next look at the clock is all that comes on top.
        assert!(RENEW_DEADLINE + RETRY < DURATION);
    }

    #[test]
    fn a_pod_is_itself_again_after_a_restart_and_nobody_else() {
        let uid = "8c1f0f0e-0000-4000-8000-000000000001";
        assert_eq!(identity(Some("pod"), Some(uid)), format!("pod_{uid}"));
        let unknown = || identity(Some("pod"), Some(""));
        assert!(unknown().starts_with("pod_"));
        assert_ne!(unknown(), unknown());
        assert_ne!(identity(None, None), identity(None, None));
    }
}
