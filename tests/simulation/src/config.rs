//! The configuration of a history, and its result.

use crate::faults::FaultSet;
use crate::mutation::Mutation;
use crate::violation::Violation;
use std::collections::BTreeSet;

/// A write at which the replica that makes it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// Before the n-th write of the history is sent. It never arrives.
    Before(u64),
    /// After the n-th write took effect. Its response is never read.
    After(u64),
}

/// The configuration of a history.
#[derive(Clone, Debug, Default)]
pub struct HistoryConfig {
    /// The seed.
    pub seed: u64,
    /// The set that faults are drawn from.
    pub faults: FaultSet,
    /// A write at which its replica is killed, in addition to all other faults.
    pub kill: Option<Kill>,
    /// A rule that is switched off. Only the kind of violation that it causes is then reported.
    pub mutation: Option<Mutation>,
    /// The numbers of faults to leave out.
    pub without: BTreeSet<u64>,
    /// Whether to record every step.
    pub trace: bool,
}

/// The result of a history.
#[derive(Debug, Default)]
pub struct HistoryResult {
    /// The first violation.
    pub violation: Option<Violation>,
    /// The number of recorded runs.
    pub runs: u64,
    /// The number of reconciles.
    pub reconciles: u64,
    /// The number of writes that were sent.
    pub writes: u64,
    /// The numbers of the faults that were injected.
    pub faults: Vec<u64>,
    /// Every step, if [`HistoryConfig::trace`] is set.
    pub trace: Vec<String>,
}
