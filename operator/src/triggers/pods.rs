//! Handles pod watch events.

use super::listed_pods::ListedPods;
use super::watch_state::KnownPod;
use super::{Triggers, hash};
use crate::group_ref::GroupRef;
use crate::pod::{PodView, names};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::Event;
use std::time::Duration;

/// The delay before a gated pod triggers a reconcile. Its creator normally opens it within
/// milliseconds.
const UNCLAIMED_DELAY: Duration = Duration::from_millis(5200);

impl Triggers {
    /// Handles an event of the watch on pods with a group's label.
    pub fn pod(&self, event: &Event<Pod>) {
        let (pod, deleted, listed) = match event {
            Event::Apply(pod) => (pod, false, false),
            Event::InitApply(pod) => (pod, false, true),
            Event::Delete(pod) => (pod, true, false),
            Event::Init => {
                let mut state = self.state();
                state.pods.begin_list();
                if let Some(listed) = &mut state.listed_pods {
                    *listed = ListedPods::default();
                    self.pods_listed.send_replace(false);
                }
                return;
            }
            Event::InitDone => {
                self.pods_listed.send_replace(true);
                let missing = self.state().pods.end_list();
                for pod in missing.into_values().filter(|pod| !pod.terminal) {
                    self.trigger_labeled(pod.group);
                }
                return;
            }
        };
        let view = PodView::from(pod);
        let uid = view.uid.clone();
        let (before, first_list) = {
            let mut state = self.state();
            let first_list = state.listed_pods.as_mut().filter(|_| listed);
            let is_first_list = first_list.is_some();
            if let Some(pods) = first_list {
                pods.add(pod, &view);
            }
            (state.pods.remove(&uid), is_first_list)
        };
        let group = self.group_of(pod, names::GROUP);
        // The label changed, which concerns two groups.
        if let Some(before) = &before
            && Some(&before.group) != group.as_ref()
        {
            self.trigger_labeled(before.group.clone());
        }
        let Some(group) = group else { return };
        let known = KnownPod {
            trigger_state: hash(view.trigger_state()),
            gated: view.gated,
            terminal: view.is_terminal(),
            group: group.clone(),
        };
        let relabelled = before.as_ref().is_none_or(|before| before.group != group);
        let changed = before
            .as_ref()
            .is_none_or(|before| before.trigger_state != known.trigger_state);
        let was_terminal = before.as_ref().is_some_and(|before| before.terminal);
        // A pod that was terminal before is a finished pod, and its state no longer matters.
        if (!listed || before.is_some()) && !was_terminal && self.groups.get(&group).is_some() {
            let namespace = group.namespace.clone().unwrap_or_default();
            self.last_seen_pods.record(&namespace, &group.name, view);
        }
        if deleted {
            if !(known.terminal && was_terminal) {
                self.trigger(group);
            }
            return;
        }
        let unclaimed = before.is_none() && known.gated && !listed;
        self.state().pods.insert(uid.clone(), known);
        if unclaimed {
            let triggers = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(UNCLAIMED_DELAY).await;
                let still_gated = triggers
                    .state()
                    .pods
                    .get(&uid)
                    .is_some_and(|known| known.gated);
                if still_gated {
                    triggers.trigger(group);
                }
            });
        } else if (changed || relabelled) && !first_list {
            self.trigger(group);
        }
    }

    /// Handles an event of the watch on pods that print lists of items. Triggers a reconcile if the
    /// pod has ended, cannot start, or is gone.
    pub fn lister(&self, event: &Event<Pod>) {
        let (pod, deleted) = match event {
            Event::Apply(pod) | Event::InitApply(pod) => (pod, false),
            Event::Delete(pod) => (pod, true),
            Event::Init => {
                self.state().listers.begin_list();
                return;
            }
            Event::InitDone => {
                let missing = self.state().listers.end_list();
                missing.into_values().for_each(|group| self.trigger(group));
                return;
            }
        };
        let view = PodView::from(pod);
        // A sidecar may run on after the container that prints the list has ended.
        let ended = view.containers.iter().any(|c| c.finished().is_some());
        let relevant = deleted || ended || view.is_terminal() || view.problem().is_some();
        let Some(group) = self.group_of(pod, names::LISTER) else {
            return;
        };
        {
            let mut state = self.state();
            state.listers.remove(&view.uid);
            if !deleted {
                state.listers.insert(view.uid, group.clone());
            }
        }
        if relevant {
            self.trigger(group);
        }
    }

    /// Triggers a reconcile of the group of a pod. If the pod was seen before its group, only the label
    /// of the group is known, which is not the name if that is long.
    fn trigger_labeled(&self, group: GroupRef) {
        if self.groups.get(&group).is_some() {
            return self.trigger(group);
        }
        self.trigger_if(|other| {
            other.namespace() == group.namespace
                && names::group_label(&other.name_any()) == group.name
        });
    }

    /// Returns the group in the label `key` of a pod. A long name is hashed in the label. The
    /// annotation then contains it, or, for a foreign pod, the known groups are searched.
    fn group_of(&self, pod: &Pod, key: &str) -> Option<GroupRef> {
        let namespace = pod.namespace()?;
        let label = pod.labels().get(key)?;
        let matches = |name: &str| names::group_label(name) == *label;
        let named = ObjectRef::new(label).within(&namespace);
        if self.groups.get(&named).is_some() {
            return Some(named);
        }
        if let Some(name) = pod.annotations().get(key).filter(|name| matches(name)) {
            return Some(ObjectRef::new(name).within(&namespace));
        }
        let found = self.groups.find(|group| {
            group.namespace().as_ref() == Some(&namespace) && matches(&group.name_any())
        });
        // If there is none, the group usually does not exist yet.
        Some(found.map_or(named, |group| ObjectRef::from_obj(group.as_ref())))
    }
}
