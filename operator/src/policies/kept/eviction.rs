//! Selects the copies to delete before another one is written.

use crate::policy_source::KeptPolicy;
use oaat_api::Timestamp;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The limits on all copies together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptLimits {
    /// The maximum number of copies.
    pub count: usize,
    /// The maximum total size of their values, in bytes.
    pub bytes: usize,
}

impl KeptLimits {
    /// Returns the share of both limits that a copy uses, in an arbitrary unit. With sizes alone, many
    /// small copies of one namespace could evict a large copy of another.
    fn share(&self, size: usize) -> usize {
        size.saturating_mul(self.count).saturating_add(self.bytes)
    }
}

/// The size and age of a copy.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Copy {
    /// The size of its value, in bytes.
    pub size: usize,
    /// When a replica last recorded that it is in use.
    pub last_used: Timestamp,
}

/// Copies by policy.
pub(super) type Copies = BTreeMap<KeptPolicy, Copy>;

/// Returns the copies that were written or renewed since a time. Each replica renews only the copies
/// that its groups use, so a replica that serves only some groups counts these as in use.
pub(super) fn used_since(
    copies: &Copies,
    since: Timestamp,
) -> impl Iterator<Item = KeptPolicy> + use<'_> {
    let used = copies
        .iter()
        .filter(move |(_, copy)| copy.last_used >= since);
    used.map(|(policy, _)| policy.clone())
}

/// Returns the copies to delete before a new one of `size` bytes is written. Returns `None` if it
/// does not fit. The namespace whose copies use the largest share of the limits loses copies first:
/// unused ones, then the least recently renewed. A new copy never replaces a copy in use of its own
/// namespace.
pub(super) fn copies_to_evict(
    copies: &Copies,
    in_use: &HashSet<KeptPolicy>,
    new: &KeptPolicy,
    size: usize,
    limits: KeptLimits,
) -> Option<Vec<KeptPolicy>> {
    let mut left: BTreeMap<&KeptPolicy, &Copy> = copies.iter().collect();
    let mut evicted = Vec::new();
    loop {
        let bytes = size + left.values().map(|copy| copy.size).sum::<usize>();
        if left.len() < limits.count && bytes <= limits.bytes {
            return Some(evicted);
        }
        let mut shares = HashMap::from([(new.namespace.as_str(), limits.share(size))]);
        for (policy, copy) in &left {
            let share = shares.entry(&policy.namespace).or_default();
            *share = share.saturating_add(limits.share(copy.size));
        }
        let (namespace, _) = shares
            .into_iter()
            .max_by_key(|(namespace, share)| (*share, *namespace))?;
        let is_own = namespace == new.namespace;
        let victim = left
            .iter()
            .filter(|(policy, _)| policy.namespace == namespace)
            .map(|(policy, copy)| (in_use.contains(*policy), copy.last_used, *policy))
            .filter(|(is_used, ..)| !is_own || !is_used)
            .min()?;
        left.remove(victim.2);
        evicted.push(victim.2.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: KeptLimits = KeptLimits {
        count: 4,
        bytes: 100,
    };

    fn policy(name: &str) -> KeptPolicy {
        let (namespace, digest) = name.split_once('/').unwrap();
        KeptPolicy {
            namespace: namespace.into(),
            digest: digest.into(),
        }
    }

    #[test]
    fn namespace_with_the_largest_share_loses_unused_and_old_copies_first() {
        // (copies with size and last use, those in use, the new one and its size, the evicted ones)
        type Case = (
            &'static [(&'static str, usize, i64)],
            &'static [&'static str],
            (&'static str, usize),
            Option<&'static [&'static str]>,
        );
        let cases: [Case; 9] = [
            (&[], &[], ("a/1", 100), Some(&[])),
            (&[], &[], ("a/1", 101), None),
            (
                &[("a/1", 40, 1), ("b/1", 30, 2)],
                &[],
                ("b/2", 30),
                Some(&[]),
            ),
            // The oldest of the largest namespace.
            (
                &[("a/1", 30, 2), ("a/2", 30, 1), ("b/1", 30, 0)],
                &[],
                ("c/1", 20),
                Some(&["a/2"]),
            ),
            // One that is not in use, even if it is newer.
            (
                &[("a/1", 30, 2), ("a/2", 30, 1), ("b/1", 30, 0)],
                &["a/2"],
                ("c/1", 20),
                Some(&["a/1"]),
            ),
            // Another namespace takes its share from copies in use.
            (
                &[("a/1", 1, 4), ("a/2", 1, 3), ("a/3", 1, 2), ("a/4", 1, 1)],
                &["a/1", "a/2", "a/3", "a/4"],
                ("b/1", 1),
                Some(&["a/4"]),
            ),
            // A namespace replaces only its own copies that are not in use.
            (
                &[("a/1", 1, 4), ("a/2", 1, 3), ("a/3", 1, 2), ("a/4", 1, 1)],
                &["a/1", "a/2", "a/3", "a/4"],
                ("a/5", 1),
                None,
            ),
            (
                &[("a/1", 60, 1), ("b/1", 30, 1)],
                &["a/1", "b/1"],
                ("a/2", 30),
                None,
            ),
            // Many small copies do not evict a large one of another namespace.
            (
                &[("a/1", 50, 1), ("b/1", 1, 1), ("b/2", 1, 1), ("b/3", 1, 1)],
                &["a/1", "b/1", "b/2", "b/3"],
                ("b/4", 1),
                None,
            ),
        ];
        for (copies, used, (new, size), expected) in cases {
            let stored = copies.iter().map(|(name, size, last_used)| {
                let last_used = Timestamp(*last_used);
                let size = *size;
                (policy(name), Copy { size, last_used })
            });
            let used = used.iter().map(|name| policy(name)).collect();
            let evicted = copies_to_evict(&stored.collect(), &used, &policy(new), size, LIMITS);
            let expected = expected.map(|names| names.iter().map(|n| policy(n)).collect());
            assert_eq!(evicted, expected, "{new} after {copies:?}");
        }
    }

    #[test]
    fn copies_that_other_shards_renewed_count_as_in_use() {
        let copies: Copies = [("a/others", 9), ("a/old", 3), ("a/mine", 8), ("b/1", 1)]
            .map(|(name, last_used)| {
                let last_used = Timestamp(last_used);
                (policy(name), Copy { size: 1, last_used })
            })
            .into();
        let mine = HashSet::from([policy("a/mine")]);
        let evicted = |used: &HashSet<KeptPolicy>, new: &str| {
            copies_to_evict(&copies, used, &policy(new), 1, LIMITS)
        };
        let mut used = mine.clone();
        used.extend(used_since(&copies, Timestamp(5)));
        assert_eq!(used, HashSet::from([policy("a/mine"), policy("a/others")]));
        assert_eq!(evicted(&used, "c/1"), Some(vec![policy("a/old")]));
        // The next one is the least recently renewed.
        let mut without_old = copies.clone();
        without_old.remove(&policy("a/old"));
        without_old.insert(policy("b/2"), copies[&policy("b/1")].clone());
        let next = |used| copies_to_evict(&without_old, used, &policy("a/new"), 1, LIMITS);
        assert_eq!(next(&used), None);
        assert_eq!(next(&mine), Some(vec![policy("a/others")]));
    }
}
