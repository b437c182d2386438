//! What to do about a group, from what was observed. Pure: time, seed, and the
//! policy's answer come in as values.
//!
//! [`settle`] looks at the run in progress and at all other pods; where that leaves
//! room for a run, [`request`] says what the policy is asked and [`choose`] what
//! follows from its answer.

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
pub(crate) use pods::BLACKOUT;
pub use pods::{next_run, plan_group};
pub use policy_selection::{
    PolicySelection, news, record_no_policy, record_policy_error, record_selection,
};

use crate::cluster::TypeRead;
use crate::item_sources::SourceLists;
use crate::pod::PodView;
use oaat_api::{OaatGroup, OaatGroupStatus, Timestamp};
use std::time::Duration;

/// Everything that one cycle saw.
#[derive(Clone, Debug)]
pub struct GroupSnapshot {
    /// The time.
    pub now: Timestamp,
    /// The group, as read live.
    pub group: OaatGroup,
    /// The items in effect: those of the spec, and those of its sources.
    pub items: Vec<String>,
    /// The lists of its sources.
    pub listing: SourceLists,
    /// Its uid.
    pub uid: String,
    /// All pods that carry its name label, listed live after the group was read.
    pub pods: Vec<PodView>,
    /// The pod of the run in progress.
    pub current: CurrentPod,
    /// The current pod was seen being deleted before it had ended.
    pub deleted_while_running: bool,
    /// The group or its namespace is being deleted.
    pub terminating: bool,
    /// Its type.
    pub type_: TypeRead,
    /// Whether this replica holds a lease. Without an election none does: others may act as well.
    pub leads: bool,
    /// The least time between two starts of an item.
    pub retry_floor: Duration,
}

/// The pod of the run in progress.
#[derive(Clone, Debug, PartialEq)]
pub enum CurrentPod {
    /// No run is in progress.
    None,
    /// There it is.
    Present(PodView),
    /// A live read of its name gave nothing, or a pod with another uid. With what it
    /// was when it was last seen, if it was.
    Absent(Option<PodView>),
}

/// A pod, by name and uid.
#[derive(Clone, Debug, PartialEq)]
pub struct PodId {
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// The resource version it was seen at, where only exactly that pod is meant: one that
    /// has been opened or has started since is another matter.
    pub version: Option<String>,
}

impl PodId {
    /// The pod as it was seen, and not as it may be by now.
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

/// Something that happened, for an event on the group.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingEvent {
    /// Whether a person should look at it.
    pub warning: bool,
    /// A CamelCase token.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// The pod it is about.
    pub pod: Option<PodId>,
}

/// The start of an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// The item.
    pub item: String,
    /// Number of the run.
    pub run: i64,
}

/// What is to be done, in the order of the fields.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Pods that must not run, and are deleted whatever else happens.
    pub stale_pods: Vec<PodId>,
    /// The current pod, whose gate is still shut.
    pub open: Option<PodId>,
    /// The item to start.
    pub start: Option<Start>,
    /// The status to be written, if it differs from the one that was read. With a
    /// start, `current` is added to it.
    pub status: OaatGroupStatus,
    /// The current pod, to be deleted once the status says why.
    pub stop: Option<PodId>,
    /// Finished pods that are kept no longer.
    pub expired: Vec<PodId>,
    /// Events.
    pub events: Vec<PendingEvent>,
    /// When to look again if nothing happens before.
    pub requeue_at: Option<Timestamp>,
    /// Nothing runs, nothing blocks: the policy may be asked.
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
