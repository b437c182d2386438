//! Plans what to do about a group from its snapshot. Pure: the time, the seed, and the policy's
//! answer are passed in as values.
//!
//! [`plan_group`] plans the current run and all other pods. If an item may start, [`request`]
//! builds the request to the policy, and [`plan_decision`] applies its answer.

mod complete;
mod conditions;
mod decision;
mod hold;
mod pods;
mod policy_selection;
#[cfg(test)]
mod tests;

pub use conditions::{claim, defer_decision, refuse, unavailable};
pub use decision::{Answered, plan_decision, plan_requested_item, request, seed};
pub(crate) use oaat_api::reasons::stopping::BLACKOUT;
pub use pods::{next_run, plan_group};
pub use policy_selection::{
    PolicySelection, policy_event, record_no_policy, record_policy_error, record_selection,
};

use crate::cluster::TypeRead;
use crate::item_sources::SourceLists;
use crate::pod::PodView;
use oaat_api::{OaatGroup, OaatGroupStatus, Timestamp};
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
    /// Whether this replica holds the lease. Always false without an election, because other
    /// replicas may act as well.
    pub leads: bool,
    /// The minimum time between two starts of an item.
    pub retry_floor: Duration,
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

/// An event on the group that is published once the plan is applied.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingEvent {
    /// Whether the event has the type `Warning`.
    pub warning: bool,
    /// A reason from [`oaat_api::reasons::events`].
    pub reason: &'static str,
    /// A sentence that a user can act on.
    pub message: String,
    /// The related pod.
    pub pod: Option<PodId>,
}

/// The start of an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// The item.
    pub item: String,
    /// The number of the run.
    pub run: i64,
}

/// The actions to take, in the order of the fields.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Pods that must not run. They are deleted whatever else happens.
    pub stale_pods: Vec<PodId>,
    /// The current pod, if its gate must be opened.
    pub open: Option<PodId>,
    /// The item to start.
    pub start: Option<Start>,
    /// The new status. Written if it differs from the one that was read. With a start, the claim
    /// adds `current`.
    pub status: OaatGroupStatus,
    /// The current pod, if it must be deleted after the status contains the reason.
    pub stop: Option<PodId>,
    /// Finished pods whose retention has ended.
    pub expired: Vec<PodId>,
    /// The events to publish.
    pub events: Vec<PendingEvent>,
    /// When to reconcile again if nothing happens before.
    pub requeue_at: Option<Timestamp>,
    /// Whether an item may start, so that the policy may be asked.
    pub may_start: bool,
}

impl Plan {
    fn requeue_at(&mut self, at: Timestamp) {
        self.requeue_at = Some(self.requeue_at.map_or(at, |other| other.min(at)));
    }

    fn event(&mut self, warning: bool, reason: &'static str, message: String, pod: Option<PodId>) {
        self.events.push(PendingEvent {
            warning,
            reason,
            message,
            pod,
        });
    }
}
