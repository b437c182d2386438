//! The objects that a watch knows, and those that are missing from the list in progress.

use std::collections::HashMap;
use std::hash::Hash;

/// The objects of a watch. No event is delivered for objects that are deleted while the watch is
/// disconnected: they are missing from the next list.
pub(super) struct ListedObjects<K, V> {
    known: HashMap<K, V>,
    /// During a list, the objects that it has not contained yet. While lists keep failing, these include
    /// objects that are gone.
    unlisted: HashMap<K, V>,
}

impl<K, V> Default for ListedObjects<K, V> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            unlisted: HashMap::new(),
        }
    }
}

impl<K: Eq + Hash, V> ListedObjects<K, V> {
    /// Begins a list. The list before may have been interrupted.
    pub(super) fn begin_list(&mut self) {
        self.unlisted.extend(self.known.drain());
    }

    /// Ends a list, and returns the objects that it did not contain.
    pub(super) fn end_list(&mut self) -> HashMap<K, V> {
        std::mem::take(&mut self.unlisted)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.known.insert(key, value);
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.known.get(key).or_else(|| self.unlisted.get(key))
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let unlisted = self.unlisted.remove(key);
        self.known.remove(key).or(unlisted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_that_a_list_has_not_contained_yet_are_known() {
        let mut objects = ListedObjects::default();
        objects.insert("a", 1);
        objects.begin_list();
        assert_eq!(objects.get(&"a"), Some(&1));
        assert_eq!(objects.remove(&"a"), Some(1));
        assert!(objects.end_list().is_empty());
    }
}
