//! What one reconcile read, as values.

use crate::pod::{PodView, names};
use oaat_api::{ItemSource, OaatGroup, OaatTypeSpec, Timestamp};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Everything that one reconcile read.
#[derive(Clone, Debug)]
pub struct GroupSnapshot {
    /// The current time.
    pub now: Timestamp,
    /// The group, read from the API server.
    pub group: OaatGroup,
    /// The items in effect: those of the spec, then those of its sources.
    pub items: Vec<String>,
    /// The lists of the group's sources.
    pub listing: SourceLists,
    /// The UID of the group.
    pub uid: String,
    /// All pods with the group's label, listed from the API server after the group was read.
    pub pods: Vec<PodView>,
    /// The pod of the run in progress.
    pub current: CurrentPod,
    /// Whether the current pod was seen being deleted before it had ended.
    pub deleted_while_running: bool,
    /// Whether the group or its namespace is being deleted.
    pub terminating: bool,
    /// The group's OaatType.
    pub type_: TypeRead,
    /// The OaatTypes in `spec.itemOptions`, by name.
    pub item_types: BTreeMap<String, ItemType>,
    /// Whether this replica holds the lease. Always false without an election, because other
    /// replicas may act as well.
    pub leads: bool,
    /// The minimum time between two starts of an item.
    pub retry_floor: Duration,
}

impl GroupSnapshot {
    /// Returns the name and the state of an item's OaatType.
    pub(crate) fn type_of(&self, item: &str) -> (&str, &TypeRead) {
        let spec = &self.group.spec;
        let options = spec.item_options.get(item);
        match options.and_then(|options| options.oaat_type.as_ref()) {
            // A type that was not read belongs to an invalid spec.
            Some(name) => {
                let read = self.item_types.get(name).map(|type_| &type_.read);
                (name, read.unwrap_or(&TypeRead::Unchecked))
            }
            None => (&spec.oaat_type, &self.type_),
        }
    }
}

/// The pod of the run in progress.
#[derive(Clone, Debug, PartialEq)]
pub enum CurrentPod {
    /// No run is in progress.
    None,
    /// The pod exists.
    Present(PodView),
    /// A read of its name from the API server found no pod, or a pod with another UID. Contains
    /// the last known state, if the pod was seen.
    Absent(Option<PodView>),
}

/// A pod, by name and UID.
#[derive(Clone, Debug, PartialEq)]
pub struct PodId {
    /// The name.
    pub name: String,
    /// The UID.
    pub uid: String,
    /// The resource version, if only the pod in exactly this state is meant, and not one whose gate
    /// was opened or that has started since.
    pub version: Option<String>,
}

impl PodId {
    /// Identifies the pod at the resource version at which it was read.
    pub(crate) fn exactly(pod: &PodView) -> Self {
        Self {
            version: Some(pod.version.clone()),
            ..Self::from(pod)
        }
    }
}

impl From<&PodView> for PodId {
    fn from(pod: &PodView) -> Self {
        Self {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            version: None,
        }
    }
}

/// The type of a group, as far as it is known.
#[derive(Clone, Debug, PartialEq)]
pub enum TypeRead {
    /// The type does not exist.
    Missing,
    /// The type cannot be used. The text says why.
    Invalid(String),
    /// The type has not been checked yet.
    Unchecked,
    /// The type can be used.
    Valid(Arc<OaatTypeSpec>),
}

/// A type in `spec.itemOptions`. Many large types would need too much memory, so the pod is omitted.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemType {
    /// The type without its pod.
    pub read: TypeRead,
    /// The hash of the whole type.
    pub hash: String,
}

impl ItemType {
    /// Returns what remains of a type.
    pub(crate) fn new(read: TypeRead) -> Self {
        match read {
            TypeRead::Valid(type_) => Self {
                hash: type_hash(&type_),
                read: TypeRead::Valid(Arc::new(OaatTypeSpec {
                    type_: type_.type_.clone(),
                    podspec: None,
                    pod_metadata: None,
                    completion_containers: Vec::new(),
                })),
            },
            read => Self {
                read,
                hash: String::new(),
            },
        }
    }
}

/// Returns a hash of a type, by which a change is detected.
pub(crate) fn type_hash(type_: &OaatTypeSpec) -> String {
    names::hash(&serde_json::to_string(type_).unwrap_or_default(), 16)
}

/// The lists of the sources, and the condition that reports them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceLists {
    /// The entries of `status.itemSources`.
    pub sources: Vec<ItemSource>,
    /// The items that the sources listed before this reconcile.
    pub before: HashSet<String>,
    /// The condition `ItemsReady`: whether it is true, its reason, and its message. `None` if there
    /// are no sources.
    pub ready: Option<(bool, &'static str, String)>,
    /// The names of the sources whose list has never been read.
    pub unread: Vec<String>,
    /// When to reconcile again.
    pub requeue_at: Option<Timestamp>,
}

/// New information about a source.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum SourceUpdate {
    /// Nothing has changed.
    #[default]
    Nothing,
    /// The source is being read, or waits to be read. The message describes the current step.
    Pending(String),
    /// The content of a watched source, with the time of its last change.
    Watched(Timestamp, Result<Vec<String>, String>),
    /// The result of reading a source, with the time of the read.
    Read(Timestamp, Result<Vec<String>, String>),
}
