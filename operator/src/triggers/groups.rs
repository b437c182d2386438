//! Handles group watch events.

use super::{Triggers, hash};
use crate::group_ref::{GroupRef, WatchedGroup, gone};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use std::collections::HashSet;
use std::time::Duration;

/// The time that the response to the operator's own write may take after the watch event of that
/// write.
const OWN_WRITE_DELAY: Duration = Duration::from_millis(500);

impl Triggers {
    /// Records the resource version after the operator's own write of a group's status.
    pub fn record_own_write(&self, group: &GroupRef, version: &str) {
        if let Some(known) = self.state().groups.get_mut(group) {
            known.written = version.to_owned();
        }
    }

    /// Handles an event of the watch on groups.
    pub fn group(&self, event: &Event<WatchedGroup>) {
        let group = match event {
            Event::Apply(group) | Event::InitApply(group) => group,
            Event::Delete(group) => {
                let key = ObjectRef::from_obj(group);
                self.last_seen_pods
                    .remove_group(&group.namespace().unwrap_or_default(), &group.name_any());
                self.cache
                    .remove_group(group.meta().uid.as_deref().unwrap_or_default());
                self.references.remove_group(&key);
                self.state().groups.remove(&key);
                // The reconcile removes the metrics of the group.
                self.trigger(key);
                return;
            }
            Event::Init => {
                self.state().changed_groups.clear();
                return;
            }
            Event::InitDone => {
                self.forget_missing_groups();
                let changed = {
                    let mut state = self.state();
                    state.groups_listed = true;
                    std::mem::take(&mut state.changed_groups)
                };
                changed.into_iter().for_each(|group| self.trigger(group));
                return;
            }
        };
        let key = ObjectRef::from_obj(group);
        let meta = group.meta();
        let user_input = hash((
            &meta.uid,
            meta.generation,
            meta.deletion_timestamp.is_some(),
            // Annotations are not part of the spec, so they do not change the generation.
            &meta.annotations,
        ));
        let version = meta.resource_version.clone().unwrap_or_default();
        let unchanged = {
            let mut state = self.state();
            let first_list = !state.groups_listed;
            let known = state.groups.entry(key.clone()).or_default();
            let unchanged = known.user_input == user_input;
            known.user_input = user_input;
            if first_list {
                return;
            }
            if let Event::InitApply(_) = event {
                // The store contains the objects of the list when the list ends.
                let stored = self.groups.get(&key);
                if stored.and_then(|group| group.resource_version()) != Some(version) {
                    state.changed_groups.push(key);
                }
                return;
            }
            unchanged
        };
        if !unchanged {
            self.trigger(key);
            return;
        }
        // Only the status changed: usually by the operator, rarely by a user. The response to the
        // operator's own write may arrive shortly after the event.
        let triggers = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(OWN_WRITE_DELAY).await;
            let own_write = {
                let state = triggers.state();
                let known = state.groups.get(&key);
                known.is_some_and(|known| !newer(&version, &known.written))
            };
            if !own_write {
                triggers.trigger(key);
            }
        });
    }

    /// Forgets the groups that no longer exist. No event is delivered for groups deleted while the
    /// watch was disconnected.
    fn forget_missing_groups(&self) {
        let (mut names, mut uids) = (HashSet::new(), HashSet::new());
        for group in self.groups.state() {
            names.insert(ObjectRef::from_obj(group.as_ref()));
            uids.extend(group.meta().uid.clone());
        }
        self.cache.retain(&uids);
        self.references.retain(&names);
        let mut state = self.state();
        for group in gone(state.groups.keys(), &names) {
            state.groups.remove(&group);
            let namespace = group.namespace.as_deref().unwrap_or_default();
            self.last_seen_pods.remove_group(namespace, &group.name);
            self.trigger(group);
        }
    }
}

/// Returns whether `one` is a later resource version than `other`. Both are decimal numbers of any
/// length.
fn newer(one: &str, other: &str) -> bool {
    (one.len(), one) > (other.len(), other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_versions_are_compared_as_numbers() {
        assert!(newer("10", "9"));
        assert!(newer("9", ""));
        assert!(!newer("9", "10"));
        assert!(!newer("10", "10"));
    }
}
