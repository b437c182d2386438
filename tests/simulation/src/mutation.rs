//! The rules of the protocol that can be switched off, and the violation that the oracle must
//! detect for each.
//!
//! The switches are in the operator's code, where the rule is applied, and are compiled only for
//! the simulation. See `operator/src/mutation.rs`.

use crate::violation::ViolationKind;

pub use oaat_operator::mutation::{Mutation, without};

/// Returns the violation that switching off a rule causes.
pub fn breaks(rule: Mutation) -> ViolationKind {
    match rule {
        Mutation::NoGate
        | Mutation::OpenBeforeClaim
        | Mutation::ClaimWithoutVersion
        | Mutation::ListBeforeRead
        | Mutation::AbsenceFromList
        | Mutation::TerminatingIsTerminal
        | Mutation::OpenAnyGated
        | Mutation::NoList
        | Mutation::ManyListers
        | Mutation::CompletedIsTerminal
        | Mutation::ForceDelete => ViolationKind::TwoAtOnce,
        Mutation::KeepOldPodUid | Mutation::RecordApart => ViolationKind::RecordedTwice,
        Mutation::NoSecondRead
        | Mutation::DeleteAnyVersion
        | Mutation::RemoveUnannounced
        | Mutation::WithdrawAnyVersion
        | Mutation::NoAdoption => ViolationKind::RunDeleted,
        Mutation::NoSecondReadFinished => ViolationKind::ResultDeleted,
        Mutation::OnlyClaimerOpens
        | Mutation::NoFutureTimeCorrection
        | Mutation::NoSecondDelete => ViolationKind::Stuck,
        Mutation::OpenUnannounced => ViolationKind::Lost,
        Mutation::NumberFromStatus | Mutation::RefusalWithoutNumber => ViolationKind::NumberShared,
        Mutation::NamespaceUnasked => ViolationKind::NamespaceCounted,
        Mutation::NoFloor => ViolationKind::TooSoon,
        Mutation::TimesBelieved => ViolationKind::WrongTime,
        Mutation::FailuresStay => ViolationKind::WrongCounts,
        Mutation::NewestDueFirst => ViolationKind::UnfairTurns,
        Mutation::LostShardsUnserved => ViolationKind::Unserved,
        Mutation::MissingForgotten => ViolationKind::Forgotten,
        Mutation::NoGiveUp => ViolationKind::TooManyAttempts,
        Mutation::DisruptionsFail => ViolationKind::DisruptionCountedAsFailure,
        Mutation::GatedPodTimesOut => ViolationKind::GatedPodTimedOut,
    }
}
