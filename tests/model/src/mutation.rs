//! The rules of the protocol that can be switched off, to show that each is needed and that the
//! model detects it. A rule has the same name as in `operator/src/mutation.rs`, if it exists there.

use crate::fault::Fault;
use crate::properties::{AT_MOST_ONE, RECOVERS};
use clap::ValueEnum;

/// A rule that is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Mutation {
    /// Candidates are created without the scheduling gate.
    NoGate,
    /// The gate is removed before the claim is written.
    OpenBeforeClaim,
    /// The status is written without a resource version.
    ClaimWithoutVersion,
    /// The pods are listed before the group is read.
    ListBeforeRead,
    /// A current pod that the list does not contain is considered gone.
    AbsenceFromList,
    /// The patch of a claim leaves the old `podUid` in `current`.
    KeepOldPodUid,
    /// A pod that is being deleted is considered terminal.
    TerminatingIsTerminal,
    /// The gate of every gated pod of the group is removed.
    OpenAnyGated,
    /// The pods are not listed at all.
    NoList,
    /// Running pods are force-deleted.
    ForceDelete,
    /// Stale pods are deleted without a second read of the group.
    NoSecondRead,
    /// Finished pods are deleted without a second read of the group.
    NoSecondReadFinished,
    /// Gated stale pods are deleted even if their gate has been removed since.
    DeleteAnyVersion,
    /// A pod that did not start in time is deleted even if it has started since.
    StopAnyVersion,
    /// A pod that a blackout ends is deleted before the status announces it.
    StopUnannounced,
    /// No replica opens a claimed pod whose claimer crashed.
    OnlyClaimerOpens,
    /// A replica that opens a gate for another claimer does not announce it in the status first.
    OpenUnannounced,
    /// A result is written without a new `current`, which a second write then sets.
    RecordApart,
    /// Running pods are not adopted after the status was cleared.
    NoAdoption,
    /// The next run number is taken only from the status.
    NumberFromStatus,
}

impl Mutation {
    /// Returns the property that does not hold without the rule.
    pub fn breaks(self) -> &'static str {
        match self {
            Self::NoGate
            | Self::OpenBeforeClaim
            | Self::ClaimWithoutVersion
            | Self::ListBeforeRead
            | Self::AbsenceFromList
            | Self::TerminatingIsTerminal
            | Self::OpenAnyGated
            | Self::NoList
            | Self::ForceDelete => AT_MOST_ONE,
            Self::KeepOldPodUid => Fault::RecordedEarly.property(),
            Self::NoSecondRead
            | Self::DeleteAnyVersion
            | Self::StopAnyVersion
            | Self::StopUnannounced
            | Self::NoAdoption => Fault::RunningDeleted.property(),
            Self::NoSecondReadFinished => Fault::ResultDeleted.property(),
            Self::OnlyClaimerOpens => RECOVERS,
            Self::OpenUnannounced => Fault::TakenBack.property(),
            Self::RecordApart => Fault::RecordedTwice.property(),
            Self::NumberFromStatus => Fault::NumberRepeated.property(),
        }
    }
}
