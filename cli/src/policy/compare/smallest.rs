//! A map of bounded size.

use std::collections::BTreeMap;

/// A map with the entries with the `N` smallest keys. What it contains does not depend on the order of
/// insertion, so several threads that share the work always get the same result.
#[derive(Clone, Debug)]
pub(crate) struct Smallest<K, V, const N: usize> {
    entries: BTreeMap<K, V>,
    /// Whether keys were left out.
    pub truncated: bool,
}

impl<K, V, const N: usize> Default for Smallest<K, V, N> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            truncated: false,
        }
    }
}

impl<K: Ord, V, const N: usize> Smallest<K, V, N> {
    /// Returns the value of a key. `new` creates it if necessary. Returns `None` if `N` other keys are
    /// smaller.
    pub fn entry(&mut self, key: K, new: impl FnOnce() -> V) -> Option<&mut V> {
        if self.entries.len() >= N && !self.entries.contains_key(&key) {
            self.truncated = true;
            if self
                .entries
                .last_key_value()
                .is_none_or(|(last, _)| *last < key)
            {
                return None;
            }
            self.entries.pop_last();
        }
        Some(self.entries.entry(key).or_insert_with(new))
    }

    /// Adds the entries of another map. `add` combines two values of the same key.
    pub fn merge(&mut self, other: Self, add: impl Fn(&mut V, V)) {
        self.truncated |= other.truncated;
        for (key, value) in other.entries {
            match self.entries.get_mut(&key) {
                Some(sum) => add(sum, value),
                None => {
                    self.entry(key, || value);
                }
            }
        }
    }

    /// Returns the entries in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter()
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Smallest;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_do_not_depend_on_how_the_work_is_shared(
            keys in proptest::collection::vec(0_u8..20, 0..60), split in 0_usize..60,
        ) {
            let count = |keys: &[u8]| {
                let mut map = Smallest::<u8, u32, 5>::default();
                for key in keys {
                    if let Some(count) = map.entry(*key, || 0) {
                        *count += 1;
                    }
                }
                map
            };
            let mut distinct = keys.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let smallest = distinct.iter().take(5);
            let of = |key: &u8| keys.iter().filter(|k| *k == key).count() as u32;
            let expected: Vec<_> = smallest.map(|key| (*key, of(key))).collect();
            let (first, second) = keys.split_at(split.min(keys.len()));
            for (one, other) in [(first, second), (second, first)] {
                let mut map = count(one);
                map.merge(count(other), |sum, more| *sum += more);
                let found: Vec<_> = map.iter().map(|(key, count)| (*key, *count)).collect();
                prop_assert_eq!(&found, &expected);
                prop_assert_eq!(map.truncated, distinct.len() > 5);
            }
        }
    }
}
