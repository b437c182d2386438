//! What can be wrong with a history.

use std::fmt;

/// What kind of thing was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Two pods of the group ran, or could, at the same time.
    TwoAtOnce,
    /// The group moved on while the pod of its run could still run.
    MovedOnEarly,
    /// A run that began is not on record.
    Lost,
    /// A run is on record twice, or one that was not in progress.
    RecordedTwice,
    /// A run is on record with another result than it had.
    WrongResult,
    /// Failures, runs, last success or last failure of an item are not what its runs say.
    WrongCounts,
    /// A time lies outside of what it may be.
    WrongTime,
    /// Two runs have one number, or numbers went down.
    NumberShared,
    /// An item was started again too soon, or a group after a refused pod.
    TooSoon,
    /// The operator deleted a pod that had every right to run.
    RunDeleted,
    /// The operator deleted a finished pod whose run was not on record.
    ResultDeleted,
    /// A run was claimed beside a pod that blocks, with a pod that is none of the group's, or while
    /// the group or the item is suspended.
    Blocked,
    /// A run that a namespace took along was counted as a failure.
    NamespaceCounted,
    /// The history of an item is gone that its source had not long ago.
    Forgotten,
    /// Something was to happen, and does not any more.
    Stuck,
    /// A candidate that nobody chose was left lying.
    LeftOver,
}

/// Something that was wrong.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Of what kind.
    pub kind: Kind,
    /// The same in words.
    pub words: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.words)
    }
}
