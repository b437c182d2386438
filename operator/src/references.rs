//! The objects that groups refer to: a type, a policy, and lists of items. Each reconcile records
//! them, so that no watch has to cache a group's spec.

use crate::group_ref::{GroupRef, WatchedGroup, gone};
use crate::item_sources::ConfigMapLists;
use crate::policies::PolicySources;
use crate::policy_source::{LastGoodPolicy, PolicySource};
use crate::shadow::Shadows;
use kube::runtime::reflector::Store;
use oaat_api::OaatGroup;
use oaat_api::validate::MAX_ITEM_TYPES;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// The references of each group. Cheap to clone.
#[derive(Clone)]
pub struct References {
    groups: Store<WatchedGroup>,
    types: Arc<Mutex<HashMap<GroupRef, HashSet<String>>>>,
    policies: PolicySources,
    shadows: Shadows,
    lists: ConfigMapLists,
}

impl References {
    /// Creates an empty record. `groups` are the groups that exist.
    pub fn new(
        groups: Store<WatchedGroup>,
        policies: PolicySources,
        shadows: Shadows,
        lists: ConfigMapLists,
    ) -> Self {
        Self {
            groups,
            types: Arc::default(),
            policies,
            shadows,
            lists,
        }
    }

    /// Returns the policies in use.
    pub fn policies(&self) -> &PolicySources {
        &self.policies
    }

    /// Returns the lists of items in use.
    pub fn lists(&self) -> &ConfigMapLists {
        &self.lists
    }

    fn types(&self) -> std::sync::MutexGuard<'_, HashMap<GroupRef, HashSet<String>>> {
        self.types.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the references of a group; `None` if the group cannot be decoded or is gone. Call
    /// this before reading the referenced objects, so that no change in between is missed.
    pub fn record(&self, key: &GroupRef, group: Option<&OaatGroup>) {
        let lists = group.map(|group| group.spec.items_from.as_slice());
        let rejected = group.and_then(|group| group.status.as_ref()?.rejected_policy.clone());
        let policy = group.and_then(PolicySource::from_group);
        let shadow = self.shadows.record(key, group);
        let last_good = group.map(|group| LastGoodPolicy::all(group, group.status.as_ref()));
        let last_good = last_good.into_iter().flatten().map(|last| last.source);
        self.policies
            .set_sources(key, policy.into_iter().chain(shadow), last_good, rejected);
        self.lists.set_sources(key, lists.unwrap_or_default());
        match group {
            Some(group) => {
                let types = group.spec.item_types().into_iter();
                let types = types.take(MAX_ITEM_TYPES).map(ToOwned::to_owned);
                let types = types.chain([group.spec.oaat_type.clone()]).collect();
                self.types().insert(key.clone(), types)
            }
            None => self.types().remove(key),
        };
        // The group may have been deleted, and its event may have arrived before this call.
        if group.is_some() && self.groups.get(key).is_none() {
            self.remove_group(key);
        }
    }

    /// Removes a group that was deleted.
    pub fn remove_group(&self, key: &GroupRef) {
        self.record(key, None);
    }

    /// Removes all groups except these.
    pub fn retain(&self, existing: &HashSet<GroupRef>) {
        self.policies.retain(existing);
        self.shadows.retain(existing);
        self.lists.retain(existing);
        let mut types = self.types();
        for group in gone(types.keys(), existing) {
            types.remove(&group);
        }
    }

    /// Returns the groups that refer to a type.
    pub fn of_type(&self, namespace: Option<&str>, name: &str) -> Vec<GroupRef> {
        let types = self.types();
        let users = types.iter().filter(|(group, types)| {
            group.namespace.as_deref() == namespace && types.contains(name)
        });
        users.map(|(group, _)| group.clone()).collect()
    }
}
