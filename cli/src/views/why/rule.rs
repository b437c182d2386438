//! What decides that an item does not run now.

use serde::Serialize;
use std::fmt;

/// What decides that an item does not run now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Rule {
    /// Nothing: it runs.
    None,
    /// The operator has not reconciled the item yet.
    NotReconciled,
    /// A field of the group is invalid.
    SpecInvalid,
    /// `spec.suspend` or the annotation `pause_new_jobs`.
    GroupSuspended,
    /// `itemOptions` suspends the item.
    ItemSuspended,
    /// A window is open, or opens before the item would finish.
    BlackoutWindows,
    /// The condition `Ready` of the group is false.
    GroupNotReady,
    /// The item is missing from its source.
    ItemsFrom,
    /// Another item of the group runs.
    OneAtATime,
    /// A user requested it to run now, and it starts in the order of the request.
    RunNow,
    /// It succeeded within its `frequency`.
    Frequency,
    /// It succeeded since the latest time of its `schedule`.
    Schedule,
    /// It has succeeded once.
    EachOnce,
    /// It failed recently.
    FailureCoolOff,
    /// It failed too often.
    MaxFailures,
    /// The operator holds it.
    Hold,
    /// The policy decides the order, or defers it.
    Policy,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::NotReconciled => "not reconciled yet",
            Self::SpecInvalid => "an invalid spec",
            Self::GroupSuspended => "suspend",
            Self::ItemSuspended => "suspend in itemOptions",
            Self::BlackoutWindows => "blackoutWindows",
            Self::GroupNotReady => "condition Ready",
            Self::ItemsFrom => "itemsFrom",
            Self::OneAtATime => "one item at a time",
            Self::RunNow => "run-now",
            Self::Frequency => "frequency",
            Self::Schedule => "schedule",
            Self::EachOnce => "eachOnce",
            Self::FailureCoolOff => "failureCoolOff",
            Self::MaxFailures => "maxFailures",
            Self::Hold => "held by the operator",
            Self::Policy => "policy",
        })
    }
}
