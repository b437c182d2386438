//! The pods of the original operator, which have other labels.
//!
//! The original operator must be stopped before this one starts, so no such pod is created later. If
//! the watch shows none for a group, its reconciles do not have to list them.

use crate::pod::names;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The label selector of these pods.
pub const SELECTOR: &str = "app=oaat-operator,parent-name";

/// The pods that exist according to a watch. Cheap to clone.
#[derive(Clone, Default)]
pub struct LegacyPods(Arc<Mutex<ObservedPods>>);

#[derive(Default)]
struct ObservedPods {
    /// Whether the first list has ended.
    complete: bool,
    /// The namespace and the group of each pod, by uid.
    groups: HashMap<String, (String, String)>,
}

impl LegacyPods {
    /// Handles an event of the watch on these pods.
    pub fn observe(&self, event: &Event<Pod>) {
        let mut listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => *listed = ObservedPods::default(),
            Event::InitApply(pod) | Event::Apply(pod) => {
                let group = pod
                    .labels()
                    .get(names::ORIGINAL_GROUP)
                    .cloned()
                    .unwrap_or_default();
                let group = (pod.namespace().unwrap_or_default(), group);
                listed.groups.insert(pod.uid().unwrap_or_default(), group);
            }
            Event::InitDone => listed.complete = true,
            Event::Delete(pod) => {
                listed.groups.remove(&pod.uid().unwrap_or_default());
            }
        }
    }

    /// Returns whether there may be such a pod for a group.
    pub fn may_exist(&self, namespace: &str, group: &str) -> bool {
        let listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_group = |(of_namespace, of_group): &(String, String)| {
            of_namespace == namespace && of_group == group
        };
        !listed.complete || listed.groups.values().any(of_group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn legacy_pods_are_ruled_out_only_after_the_first_list() {
        let pods = LegacyPods::default();
        let pod = |uid: &str, group: &str| -> Pod {
            serde_json::from_value(json!({ "metadata": {
                "name": uid, "namespace": "n", "uid": uid, "labels": { "parent-name": group },
            } }))
            .unwrap()
        };
        pods.observe(&Event::Init);
        pods.observe(&Event::InitApply(pod("1", "a")));
        assert!(pods.may_exist("n", "b"));
        pods.observe(&Event::InitDone);
        pods.observe(&Event::Apply(pod("2", "a")));
        assert!(pods.may_exist("n", "a"));
        assert!(!pods.may_exist("n", "b") && !pods.may_exist("other", "a"));
        pods.observe(&Event::Delete(pod("1", "a")));
        assert!(pods.may_exist("n", "a"));
        pods.observe(&Event::Delete(pod("2", "a")));
        assert!(!pods.may_exist("n", "a"));
        pods.observe(&Event::Init);
        assert!(pods.may_exist("n", "a"));
    }
}
