//! Rules of the protocol that can be switched off, to show that each is needed and that the
//! model would notice.

use crate::fault::Fault;
use crate::properties::{AT_MOST_ONE, RECOVERS};
use clap::ValueEnum;

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Mutation {
    /// Candidates are created without a scheduling gate.
    NoGate,
    /// The gate is opened before the claim.
    OpenBeforeClaim,
    /// The status is written whatever the group's resource version is.
    ClaimWithoutVersion,
    /// The pods are listed before the group is read.
    ListBeforeRead,
    /// A current pod that the list does not show is taken for gone.
    AbsenceFromList,
    /// The patch that moves `current` leaves the old `podUid` in it.
    MergeKeepsUid,
    /// A pod that is being deleted is taken for one that has ended.
    TerminatingIsTerminal,
    /// Any gated pod of the group is opened.
    OpenAnyGated,
    /// The pods are not listed at all.
    NoList,
    /// Running pods are deleted by force.
    ForceDelete,
    /// Strays are deleted without a second read of the group.
    NoReread,
    /// Finished pods are deleted without a second read of the group.
    NoRereadFinished,
    /// Gated strays are deleted also if they have been opened since.
    DeleteAnyVersion,
    /// A pod that did not start in time is deleted also if it has started since.
    StopAnyVersion,
    /// What a window ends is deleted before the status says so.
    StopUnannounced,
    /// Nobody opens a claimed pod whose claimer has crashed.
    OnlyClaimerOpens,
    /// Who opens a gate that another has claimed does not say so in the status before.
    OpenUnannounced,
    /// The end of a run is written without moving `current` on, which a second write does.
    RecordApart,
    /// A status that was wiped stays so: running pods are not taken for current again.
    NoAdoption,
    /// The next run's number is taken from the status alone.
    NumberFromStatus,
}

impl Mutation {
    /// The property that is lost without the rule.
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
            Self::MergeKeepsUid => Fault::RecordedEarly.property(),
            Self::NoReread
            | Self::DeleteAnyVersion
            | Self::StopAnyVersion
            | Self::StopUnannounced
            | Self::NoAdoption => Fault::RunningDeleted.property(),
            Self::NoRereadFinished => Fault::ResultDeleted.property(),
            Self::OnlyClaimerOpens => RECOVERS,
            Self::OpenUnannounced => Fault::TakenBack.property(),
            Self::RecordApart => Fault::RecordedTwice.property(),
            Self::NumberFromStatus => Fault::NumberRepeated.property(),
        }
    }
}
