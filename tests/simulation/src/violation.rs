//! The violations that a history can show.

use std::fmt;

/// The kind of a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViolationKind {
    /// Two pods of the group ran, or might run, at the same time.
    TwoAtOnce,
    /// The group left a run while its pod might still run.
    MovedOnEarly,
    /// A run that started is not recorded.
    Lost,
    /// A run is recorded twice, or a run is recorded that was not current.
    RecordedTwice,
    /// A run is recorded with a wrong result.
    WrongResult,
    /// The failures, runs, last success, or last failure of an item do not match its runs.
    WrongCounts,
    /// A time is outside of its possible range.
    WrongTime,
    /// Two runs have the same number, or numbers decreased.
    NumberShared,
    /// An item was started again too soon, or a group after a rejected pod.
    TooSoon,
    /// The operator deleted a pod that may run.
    RunDeleted,
    /// The operator deleted a finished pod whose run is not recorded.
    ResultDeleted,
    /// A run was claimed while another pod blocked the group, with a pod of another group, or while
    /// the group or the item was suspended.
    Blocked,
    /// A run that ended because its namespace was deleted was counted as a failure.
    NamespaceCounted,
    /// An item was started again after `maxFailures` failures in a row.
    TooManyAttempts,
    /// A run that ended because of a disruption was counted as a failure.
    DisruptionCountedAsFailure,
    /// A run whose pod waited for scheduling gates of others was counted as a failure.
    GatedPodTimedOut,
    /// The history of an item was deleted although its source recently contained it.
    Forgotten,
    /// A group had fewer turns than another one that was always due as well.
    UnfairTurns,
    /// No replica served a group for longer than a lease after the last fault.
    Unserved,
    /// Two replicas served a group long after the last fault.
    ServedTwice,
    /// The group no longer makes progress.
    Stuck,
    /// A candidate without a claim was not removed.
    LeftOver,
}

/// A violation.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The kind.
    pub kind: ViolationKind,
    /// A description.
    pub details: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.details)
    }
}
