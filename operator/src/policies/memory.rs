//! The memory budget for the machine code of policies, in total and for each namespace.

use policy_host::Policy;
use std::collections::HashMap;

/// The maximum for all policies, in bytes.
const TOTAL: usize = 32 << 20;
/// The maximum for the policies of one namespace, in bytes. The machine code of one policy is
/// limited to half of it.
const NAMESPACE: usize = 8 << 20;
/// The maximum for all shadow policies, and for those of one namespace, in bytes.
const SHADOWS: usize = 8 << 20;

/// The owner of the built-in policies, which are never evicted. No namespace has this name.
pub(super) const BUILT_IN: &str = "";

/// The policies in memory. An evicted policy is compiled again when needed.
pub struct PolicyMemory {
    total: usize,
    per_namespace: usize,
    /// The policies by namespace and digest.
    policies: HashMap<(String, String), Entry>,
    /// Counts uses, to order policies by their last use.
    uses: u64,
}

struct Entry {
    policy: Policy,
    last_use: u64,
}

impl Default for PolicyMemory {
    fn default() -> Self {
        Self::new(TOTAL, NAMESPACE)
    }
}

impl PolicyMemory {
    fn new(total: usize, per_namespace: usize) -> Self {
        Self {
            total,
            per_namespace,
            policies: HashMap::new(),
            uses: 0,
        }
    }

    /// Creates the memory for policies that never decide.
    pub fn for_shadows() -> Self {
        Self::new(SHADOWS, SHADOWS)
    }

    /// Keeps a policy of a namespace, and evicts others until all fit: first the least recently
    /// used of this namespace if it exceeds its budget, then of the namespace that uses the most
    /// memory.
    pub fn insert(&mut self, namespace: &str, policy: &Policy) {
        self.insert_within(namespace, policy, self.per_namespace, self.total);
    }

    fn insert_within(
        &mut self,
        namespace: &str,
        policy: &Policy,
        per_namespace: usize,
        total: usize,
    ) {
        self.uses += 1;
        let key = (namespace.to_owned(), policy.digest().to_owned());
        let entry = Entry {
            policy: policy.clone(),
            last_use: self.uses,
        };
        self.policies.insert(key, entry);
        while namespace != BUILT_IN
            && self.size_of(namespace) > per_namespace
            && self.drop_oldest(namespace)
        {}
        while self.size() > total {
            let sizes = self
                .policies
                .keys()
                .filter(|(owner, _)| owner != BUILT_IN)
                .map(|(owner, _)| (self.size_of(owner), owner));
            let Some((_, largest)) = sizes.max() else {
                return;
            };
            let largest = largest.clone();
            self.drop_oldest(&largest);
        }
    }

    /// Marks a policy of a namespace as recently used.
    pub fn touch(&mut self, namespace: &str, digest: &str) {
        self.uses += 1;
        let key = (namespace.to_owned(), digest.to_owned());
        if let Some(entry) = self.policies.get_mut(&key) {
            entry.last_use = self.uses;
        }
    }

    /// Drops the policies of a namespace.
    pub fn remove_namespace(&mut self, namespace: &str) {
        self.policies.retain(|(owner, _), _| owner != namespace);
    }

    fn size(&self) -> usize {
        self.policies
            .values()
            .map(|entry| entry.policy.size())
            .sum()
    }

    fn size_of(&self, namespace: &str) -> usize {
        let of_namespace = self
            .policies
            .iter()
            .filter(|((owner, _), _)| owner == namespace);
        of_namespace.map(|(_, entry)| entry.policy.size()).sum()
    }

    fn drop_oldest(&mut self, namespace: &str) -> bool {
        let of_namespace = self
            .policies
            .iter()
            .filter(|((owner, _), _)| owner == namespace);
        let oldest = of_namespace.min_by_key(|(_, entry)| entry.last_use);
        let oldest = oldest.map(|(key, _)| key.clone());
        oldest.is_some_and(|key| self.policies.remove(&key).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_host::{Host, Limits};

    fn policies() -> Vec<Policy> {
        let host = Host::new(Limits::default()).unwrap();
        (0..4_u8)
            .map(|name| {
                // The same component under another digest.
                let wasm = [built_in_policies::DEFAULT_POLICY, &[0, 2, 1, name]].concat();
                host.load(&wasm, None).unwrap()
            })
            .collect()
    }

    fn held(memory: &PolicyMemory, policies: &[Policy]) -> Vec<(String, usize)> {
        let index = |digest: &str| policies.iter().position(|policy| policy.digest() == digest);
        let held = memory.policies.keys();
        let mut held: Vec<_> = held
            .map(|(namespace, digest)| (namespace.clone(), index(digest).unwrap()))
            .collect();
        held.sort();
        held
    }

    #[test]
    fn least_recently_used_policy_of_the_namespace_is_evicted_first() {
        let (policies, mut memory) = (policies(), PolicyMemory::default());
        let size = policies.iter().map(Policy::size).max().unwrap();
        let keep = |memory: &mut PolicyMemory, namespace, index: usize| {
            memory.insert_within(namespace, &policies[index], 2 * size, 3 * size);
        };
        for index in 0..3 {
            keep(&mut memory, "a", index);
        }
        assert_eq!(held(&memory, &policies), [("a".into(), 1), ("a".into(), 2)]);
        memory.touch("a", policies[1].digest());
        keep(&mut memory, "a", 3);
        assert_eq!(held(&memory, &policies), [("a".into(), 1), ("a".into(), 3)]);
        // Over the total, the largest namespace loses a policy.
        keep(&mut memory, "b", 0);
        keep(&mut memory, "c", 0);
        let expected = [("a".into(), 3), ("b".into(), 0), ("c".into(), 0)];
        assert_eq!(held(&memory, &policies), expected);
        // Built-in policies are not evicted, and count toward the total.
        for index in 0..3 {
            keep(&mut memory, BUILT_IN, index);
        }
        let expected = (0..3).map(|index| (BUILT_IN.to_owned(), index));
        assert!(held(&memory, &policies).into_iter().eq(expected));
    }

    #[test]
    fn policies_of_a_namespace_are_dropped_together() {
        let (policies, mut memory) = (policies(), PolicyMemory::default());
        for namespace in ["a", "b"] {
            memory.insert(namespace, &policies[0]);
        }
        memory.remove_namespace("a");
        assert_eq!(held(&memory, &policies), [("b".into(), 0)]);
    }
}
