//! Plans what to do about a group from its snapshot. Pure: the time, the seed, and the policy's
//! answer are passed in as values.
//!
//! [`plan_group`] plans the current run and all other pods. If an item may start, [`policy_request`]
//! builds the request to the policy, and [`plan_decision`] applies its answer.

mod claim;
mod clock;
mod complete;
mod conditions;
mod decision;
mod give_up;
mod hold;
mod pods;
mod policy_condition;
mod rejected_settings;
mod run_message;
mod schedule_times;
mod shadow_condition;

#[cfg(test)]
pub(crate) mod tests;

pub use claim::{
    claim, defer_decision, record_create_unavailable, record_quota_exceeded, record_rejected_pod,
};
pub use conditions::update_progress;
pub use decision::{AnsweredRequest, plan_decision, plan_requested_item, policy_request, seed};
pub use pods::{next_run, plan_group};
pub(crate) use policy_condition::describe as describe_policy;
pub use policy_condition::{policy_event, record_no_policy, record_policy_error, record_selection};
pub(crate) use schedule_times::ScheduleTimes;
pub(crate) use shadow_condition::ShadowSummary;
pub use shadow_condition::{
    ShadowCondition, ShadowStatus, only_updates_shadow_counts, set_shadow_condition, shadow_event,
};

use crate::snapshot::PodId;
use oaat_api::{OaatGroupStatus, Timestamp};
use std::time::Duration;

/// An event on the group that is published once the plan is applied.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingEvent {
    /// Whether the event has the type `Warning`.
    pub warning: bool,
    /// A reason from [`oaat_api::reasons::events`].
    pub reason: &'static str,
    /// The reason of the condition that the event is about. It keeps events apart: for some minutes,
    /// Kubernetes clients merge events that differ only in their messages.
    pub action: Option<String>,
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
    /// How long the run may take; zero means unlimited.
    pub timeout: Duration,
}

/// The actions to take, in the order of the fields.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Pods that must not run. They are deleted regardless of the rest of the plan.
    pub stale_pods: Vec<PodId>,
    /// The current pod, if its gate must be opened.
    pub open: Option<PodId>,
    /// The item to start.
    pub start: Option<Start>,
    /// The new status. Written if it differs from the one that was read. With a start, the claim
    /// adds `current`.
    pub status: OaatGroupStatus,
    /// The current pod, if it must be deleted. A reason for the stop is written to the status first.
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
            action: None,
            message,
            pod,
        });
    }
}
