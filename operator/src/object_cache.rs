//! A size-limited cache that keeps one version of each object.

use std::collections::HashMap;
use std::hash::Hash;

/// The approximate size of an entry without its value, in bytes.
const ENTRY_OVERHEAD: usize = 1024;

pub(crate) struct ObjectCache<K, V> {
    entries: HashMap<K, Entry<V>>,
    size: usize,
    /// The maximum size of a value in bytes. Larger ones are not cached.
    max_value: usize,
    /// The maximum size of all entries in bytes.
    max_total: usize,
}

struct Entry<V> {
    version: String,
    size: usize,
    value: V,
}

impl<K: Clone + Eq + Hash, V: Clone> ObjectCache<K, V> {
    /// Creates an empty cache with these limits in bytes.
    pub(crate) fn new(max_value: usize, max_total: usize) -> Self {
        Self {
            entries: HashMap::new(),
            size: 0,
            max_value,
            max_total,
        }
    }

    /// Returns an object if this version of it is cached.
    pub(crate) fn get(&self, key: &K, version: &str) -> Option<V> {
        let entry = self.entries.get(key)?;
        (entry.version == version).then(|| entry.value.clone())
    }

    /// Removes an object, and returns it, if this version of it was cached.
    pub(crate) fn take(&mut self, key: &K, version: &str) -> Option<V> {
        if self.entries.get(key)?.version != version {
            return None;
        }
        self.remove(key)
    }

    /// Caches an object of this size. Evicts others in no particular order to make room.
    pub(crate) fn insert(&mut self, key: K, version: String, size: usize, value: V) {
        self.remove(&key);
        if size > self.max_value {
            return;
        }
        let size = size + ENTRY_OVERHEAD;
        while self.size + size > self.max_total
            && let Some(other) = self.entries.keys().next().cloned()
        {
            self.remove(&other);
        }
        self.size += size;
        let entry = Entry {
            version,
            size,
            value,
        };
        self.entries.insert(key, entry);
    }

    /// Removes an object, and returns it.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let removed = self.entries.remove(key)?;
        self.size -= removed.size;
        Some(removed.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_cached_version_is_returned() {
        let mut cache = ObjectCache::new(10, 10 * ENTRY_OVERHEAD);
        cache.insert("a", "1".into(), 1, 'x');
        assert_eq!(cache.get(&"a", "1"), Some('x'));
        assert_eq!(cache.get(&"a", "2"), None);
        cache.insert("a", "2".into(), 1, 'y');
        assert_eq!(cache.get(&"a", "1"), None);
        assert_eq!(cache.get(&"a", "2"), Some('y'));
        assert_eq!(cache.take(&"a", "1"), None);
        assert_eq!(cache.take(&"a", "2"), Some('y'));
        assert_eq!((cache.get(&"a", "2"), cache.size), (None, 0));
    }

    #[test]
    fn size_is_bounded() {
        let mut cache = ObjectCache::new(ENTRY_OVERHEAD, 10 * ENTRY_OVERHEAD);
        for key in 0..100 {
            cache.insert(key, "1".into(), ENTRY_OVERHEAD, ());
            assert_eq!(cache.get(&key, "1"), Some(()));
        }
        assert_eq!((cache.entries.len(), cache.size), (5, 10 * ENTRY_OVERHEAD));
        cache.insert(100, "1".into(), ENTRY_OVERHEAD + 1, ());
        assert_eq!(
            cache.get(&100, "1"),
            None,
            "an object above `max_value` is not cached"
        );
    }
}
