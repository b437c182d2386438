//! The state of the watches.

use super::listed_objects::ListedObjects;
use super::listed_pods::ListedPods;
use crate::group_ref::GroupRef;
use crate::kube_cluster::WatchedType;
use kube::runtime::reflector::ObjectRef;
use std::collections::HashMap;

#[derive(Default)]
pub(super) struct WatchState {
    /// The pods by uid.
    pub(super) pods: ListedObjects<String, KnownPod>,
    /// The groups of the pods that print lists of items, by the uid of the pod.
    pub(super) listers: ListedObjects<String, GroupRef>,
    /// The resource versions of the types.
    pub(super) types: ListedObjects<ObjectRef<WatchedType>, String>,
    /// The types of the list in progress.
    pub(super) listed_types: Vec<ObjectRef<WatchedType>>,
    /// The types whose version changed in the list in progress. The store has the new versions only when
    /// the list ends.
    pub(super) changed_types: Vec<ObjectRef<WatchedType>>,
    pub(super) groups: HashMap<GroupRef, KnownGroup>,
    /// Whether the initial list of groups has ended. Its groups are not triggered one by one.
    pub(super) groups_listed: bool,
    /// The groups of a relist that changed while the watch was disconnected.
    pub(super) changed_groups: Vec<GroupRef>,
    /// The pods of the initial list, until `Triggers::take_listed_pods`.
    pub(super) listed_pods: Option<ListedPods>,
}

impl WatchState {
    /// Records the version of a type. Returns whether it is another one.
    pub(super) fn record_type(
        &mut self,
        type_: &ObjectRef<WatchedType>,
        version: Option<String>,
    ) -> bool {
        let version = version.unwrap_or_default();
        let before = self.types.remove(type_);
        let changed = before.as_ref() != Some(&version);
        self.types.insert(type_.clone(), version);
        changed
    }
}

/// The known state of a pod.
pub(super) struct KnownPod {
    /// A hash of `PodView::trigger_state`.
    pub(super) trigger_state: u64,
    pub(super) gated: bool,
    pub(super) terminal: bool,
    /// The group in its label.
    pub(super) group: GroupRef,
}

/// The known state of a group.
#[derive(Default)]
pub(super) struct KnownGroup {
    /// A hash of everything that the user controls.
    pub(super) user_input: u64,
    /// The resource version after the operator's last write.
    pub(super) written: String,
}
