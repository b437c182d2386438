//! What groups use besides their pods: a type, a policy, lists of items. Known from the read of
//! each cycle, so that no watch has to keep a group's spec.

use crate::api::OaatGroup;
use crate::items::Lists;
use crate::policies::{Source, Sources};
use crate::triggers::{GroupRef, WatchedGroup, gone};
use kube::runtime::reflector::Store;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// What each group uses. Cheap to clone.
#[derive(Clone)]
pub struct Uses {
    groups: Store<WatchedGroup>,
    types: Arc<Mutex<HashMap<GroupRef, String>>>,
    policies: Sources,
    lists: Lists,
}

impl Uses {
    /// Nothing is used yet. `groups` are those that there are.
    pub fn new(groups: Store<WatchedGroup>, policies: Sources, lists: Lists) -> Self {
        Self {
            groups,
            types: Arc::default(),
            policies,
            lists,
        }
    }

    /// The policies in use.
    pub fn policies(&self) -> &Sources {
        &self.policies
    }

    /// The lists of items in use.
    pub fn lists(&self) -> &Lists {
        &self.lists
    }

    fn types(&self) -> std::sync::MutexGuard<'_, HashMap<GroupRef, String>> {
        self.types.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a group uses; nothing, if it cannot be decoded. Called before what it uses is
    /// read, so that no change in between goes unnoticed.
    pub fn note(&self, key: &GroupRef, group: Option<&OaatGroup>) {
        let lists = group.map(|group| group.spec.items_from.as_slice());
        let rejected = group.and_then(|group| group.status.as_ref()?.rejected_policy.clone());
        self.policies
            .used(key, group.and_then(Source::of), rejected);
        self.lists.used(key, lists.unwrap_or_default());
        match group {
            Some(group) => self
                .types()
                .insert(key.clone(), group.spec.oaat_type.clone()),
            None => self.types().remove(key),
        };
        // Deleted meanwhile: its event may have come before this.
        if group.is_some() && self.groups.get(key).is_none() {
            self.forget(key);
        }
    }

    /// Forgets a group that was deleted.
    pub fn forget(&self, key: &GroupRef) {
        self.note(key, None);
    }

    /// Forgets all groups but these.
    pub fn retain(&self, there: &HashSet<GroupRef>) {
        self.policies.retain(there);
        self.lists.retain(there);
        let mut types = self.types();
        for group in gone(types.keys(), there) {
            types.remove(&group);
        }
    }

    /// The groups that name a type.
    pub fn of_type(&self, namespace: Option<&str>, name: &str) -> Vec<GroupRef> {
        let types = self.types();
        let users = types
            .iter()
            .filter(|(group, type_)| group.namespace.as_deref() == namespace && *type_ == name);
        users.map(|(group, _)| group.clone()).collect()
    }
}
