//! Distributes groups and types over shards. A shard is a set of replicas that share a lease.
//!
//! The functions are pure. [`crate::shard_leases`] reads the leases. As with leader election, the
//! distribution only saves work: the claim keeps two pods from running at once, whichever replicas
//! reconcile a group.

use crate::mutation::broken;
use k8s_openapi::api::coordination::v1::LeaseSpec;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// The maximum number of shards. Each replica reads the leases of all shards.
pub const MAX_SHARDS: u8 = 64;

/// The shard of a replica: `index` of `count`, written `0/3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u8,
    count: u8,
}

/// Why a text is not a shard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseShardError {
    /// The text does not consist of two numbers.
    #[error("use I/N, for example 0/3")]
    Format,
    /// The number of shards is out of range.
    #[error("the number of shards must be between 1 and {MAX_SHARDS}, not {0}")]
    Count(u64),
    /// The index is not less than the number of shards.
    #[error("with {count} shards, the index must be between 0 and {}, not {index}", count - 1)]
    Index {
        /// The index.
        index: u64,
        /// The number of shards.
        count: u8,
    },
}

impl FromStr for Shard {
    type Err = ParseShardError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse::<u64>().map_err(|_| ParseShardError::Format);
        let (index, count) = text.trim().split_once('/').ok_or(ParseShardError::Format)?;
        let (index, number_of_shards) = (number(index)?, number(count)?);
        let count = u8::try_from(number_of_shards).unwrap_or(u8::MAX);
        if !(1..=MAX_SHARDS).contains(&count) {
            return Err(ParseShardError::Count(number_of_shards));
        }
        match u8::try_from(index) {
            Ok(index) if index < count => Ok(Self { index, count }),
            _ => Err(ParseShardError::Index { index, count }),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl Shard {
    /// Returns the index of this shard.
    pub fn index(self) -> u8 {
        self.index
    }

    /// Returns all shards, in the order of their indexes.
    pub fn all(self) -> impl Iterator<Item = Self> {
        let count = self.count;
        (0..count).map(move |index| Self { index, count })
    }

    /// Returns the name of the lease of this shard. `base_name` is its name without `--shard`.
    pub fn lease_name(self, base_name: &str) -> String {
        format!("{base_name}-shard-{}-of-{}", self.index, self.count)
    }

    /// Returns the value of the label that the leases of all of these shards have in common.
    pub fn lease_label(self, base_name: &str) -> String {
        format!("{base_name}-of-{}", self.count)
    }
}

/// Returns which of the live shards serves the object with this uid, by rendezvous hashing: the one
/// with the highest hash. Therefore, if a shard is added or removed, an object moves only to or
/// from that shard. Returns `None` if no shard is live.
pub fn serving_shard(uid: &str, live: &BTreeSet<u8>) -> Option<u8> {
    // The hash must be the same in all releases, which the hashers of the standard library do not
    // guarantee.
    let hash = |shard: u8| Sha256::digest(format!("{shard}/{uid}"));
    live.iter()
        .copied()
        .max_by_key(|shard| (hash(*shard), *shard))
}

/// What a replica has observed of the leases of all shards.
#[derive(Debug)]
pub struct ObservedLeases {
    own: u8,
    leases: Vec<ObservedLease>,
    last_read: Option<Instant>,
}

#[derive(Clone, Debug, Default)]
struct ObservedLease {
    /// The lease when it last changed; `None` if it does not exist.
    spec: Option<LeaseSpec>,
    /// The last read before the latest change: the earliest time at which the lease may have
    /// changed. `None` if it has not changed since the first read.
    changed_after: Option<Instant>,
}

impl ObservedLease {
    /// Returns when the lease expires unless it changes; `None` if it has no holder or no change
    /// has been observed.
    fn expiry(&self) -> Option<Instant> {
        let spec = self.spec.as_ref()?;
        let holder = spec.holder_identity.as_deref()?;
        let seconds = u64::try_from(spec.lease_duration_seconds?).ok()?;
        let expiry = self
            .changed_after?
            .checked_add(Duration::from_secs(seconds));
        expiry.filter(|_| !holder.is_empty())
    }
}

impl ObservedLeases {
    /// Creates the observations of a replica that has not read a lease yet.
    pub fn new(own: Shard) -> Self {
        Self {
            own: own.index,
            leases: vec![ObservedLease::default(); usize::from(own.count)],
            last_read: None,
        }
    }

    /// Records a read of all leases that began at `started`, in the order of the shards. A lease
    /// that does not exist is `None`.
    pub fn record(&mut self, read: Vec<Option<LeaseSpec>>, started: Instant) {
        for (lease, spec) in self.leases.iter_mut().zip(read) {
            if lease.spec != spec {
                let changed_after = self.last_read;
                *lease = ObservedLease {
                    spec,
                    changed_after,
                };
            }
        }
        self.last_read = Some(started);
    }

    /// Returns the live shards: the replica's own, and those whose lease has a holder and changed
    /// within the lease duration, by the clock of this replica.
    ///
    /// A lease that has not changed since the first read is not live, although its holder may be.
    /// Otherwise, a replica that starts after a crash would leave the groups of the crashed replica
    /// to it for another lease duration. A replica therefore observes the leases before it acquires
    /// its own. It is safe, though wasteful, if two replicas serve the same group.
    pub fn live(&self, now: Instant) -> BTreeSet<u8> {
        let is_live = |lease: &ObservedLease| {
            lease.expiry().is_some_and(|expiry| now < expiry) || broken!(LostShardsUnserved)
        };
        let leases = (0..).zip(&self.leases);
        let live = leases.filter(|(shard, lease)| *shard == self.own || is_live(lease));
        live.map(|(shard, _)| shard).collect()
    }

    /// Returns when the next lease expires unless it changes.
    pub fn next_expiry(&self, now: Instant) -> Option<Instant> {
        let expiries = self.leases.iter().filter_map(ObservedLease::expiry);
        expiries.filter(|expiry| now < *expiry).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn shard(text: &str) -> Shard {
        text.parse().unwrap()
    }

    fn error(text: &str) -> String {
        text.parse::<Shard>().unwrap_err().to_string()
    }

    #[test]
    fn shard_is_parsed_or_rejected_with_the_valid_values() {
        for text in ["0/1", "0/3", "2/3", "63/64"] {
            assert_eq!(shard(text).to_string(), text);
        }
        assert_eq!(shard(" 1/2 ").to_string(), "1/2");
        for text in ["", "1", "/", "a/3", "1/b", "-1/3", "1/2/3", "0.5/1"] {
            assert_eq!(error(text), "use I/N, for example 0/3");
        }
        for (text, count) in [("0/0", 0), ("0/65", 65), ("0/999", 999)] {
            let expected = format!("the number of shards must be between 1 and 64, not {count}");
            assert_eq!(error(text), expected);
        }
        for (text, index) in [("3/3", 3), ("300/3", 300)] {
            let expected = format!("with 3 shards, the index must be between 0 and 2, not {index}");
            assert_eq!(error(text), expected);
        }
    }

    #[test]
    fn each_shard_has_its_own_lease_and_all_have_one_label() {
        let names: Vec<String> = shard("1/2").all().map(|s| s.lease_name("x")).collect();
        assert_eq!(names, ["x-shard-0-of-2", "x-shard-1-of-2"]);
        assert_eq!(shard("1/2").lease_label("x"), "x-of-2");
        assert_ne!(shard("1/3").lease_label("x"), shard("1/2").lease_label("x"));
        // The longest name without --shard still results in a valid label.
        let label = shard("63/64").lease_label("oaat-operator-0123456789");
        assert!(label.len() <= 63, "{label}");
    }

    /// The values must not change between releases; otherwise, all groups move during an upgrade.
    #[test]
    fn distribution_is_stable() {
        let live = (0..5).collect();
        let shards = ["a", "b", "c", "d", "e", "f"].map(|uid| serving_shard(uid, &live));
        assert_eq!(shards, [0, 2, 1, 2, 4, 4].map(Some));
        assert_eq!(serving_shard("a", &BTreeSet::new()), None);
    }

    #[test]
    fn distribution_is_even() {
        for count in [2_u8, 3, 7, 16] {
            let live: BTreeSet<u8> = (0..count).collect();
            let mut groups = vec![0_usize; usize::from(count)];
            for uid in 0..1_000 * usize::from(count) {
                let shard = serving_shard(&uid.to_string(), &live).unwrap();
                groups[usize::from(shard)] += 1;
            }
            let even = groups.iter().all(|groups| (850..1150).contains(groups));
            assert!(even, "{groups:?}");
        }
    }

    proptest! {
        #[test]
        fn only_the_objects_of_a_lost_shard_move(
            uid in "[0-9a-f-]{1,36}",
            live in proptest::collection::btree_set(0..MAX_SHARDS, 1..12),
            lost in any::<prop::sample::Index>(),
        ) {
            let shard = serving_shard(&uid, &live);
            prop_assert!(shard.is_some_and(|shard| live.contains(&shard)));
            let lost = *lost.get(&live.iter().copied().collect::<Vec<_>>());
            let mut rest = live.clone();
            rest.remove(&lost);
            let moved = serving_shard(&uid, &rest);
            if shard == Some(lost) {
                prop_assert!(moved.is_none_or(|moved| rest.contains(&moved)));
            } else {
                prop_assert_eq!(moved, shard);
            }
        }
    }

    fn held(transitions: i32) -> Option<LeaseSpec> {
        Some(LeaseSpec {
            holder_identity: Some("other".into()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        })
    }

    fn live(observed: &ObservedLeases, now: Instant) -> Vec<u8> {
        observed.live(now).into_iter().collect()
    }

    #[test]
    fn shard_is_live_for_the_lease_duration_after_a_change() {
        let (start, mut observed) = (Instant::now(), ObservedLeases::new(shard("0/3")));
        let after = |seconds| start + seconds * SECOND;
        assert_eq!(live(&observed, start), [0]);
        // Whether the holder of a lease is alive is unknown until the lease changes.
        observed.record(vec![held(0), held(0), None], start);
        assert_eq!(live(&observed, start), [0]);
        assert_eq!(observed.next_expiry(start), None);
        // The lease may have changed directly after the first read.
        observed.record(vec![held(1), held(1), None], after(2));
        assert_eq!(live(&observed, after(2)), [0, 1]);
        observed.record(vec![held(1), held(1), held(1)], after(4));
        assert_eq!(live(&observed, after(4)), [0, 1, 2]);
        assert_eq!(observed.next_expiry(after(4)), Some(after(15)));
        assert_eq!(live(&observed, after(14)), [0, 1, 2]);
        assert_eq!(live(&observed, after(15)), [0, 2]);
        assert_eq!(observed.next_expiry(after(15)), Some(after(17)));
        assert_eq!(live(&observed, after(17)), [0]);
    }

    #[test]
    fn shard_whose_lease_is_released_or_deleted_is_not_live() {
        let (now, mut observed) = (Instant::now(), ObservedLeases::new(shard("0/3")));
        observed.record(vec![None, None, None], now);
        observed.record(vec![None, held(0), held(0)], now);
        assert_eq!(live(&observed, now), [0, 1, 2]);
        let released = LeaseSpec {
            holder_identity: None,
            ..held(1).unwrap()
        };
        observed.record(vec![None, Some(released), None], now);
        assert_eq!(live(&observed, now), [0]);
    }
}
