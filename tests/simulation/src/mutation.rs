//! Rules of the protocol, each switched off, and what the oracle must notice.
//!
//! The switches are in the operator's own code, at the place of the rule, and are compiled for
//! the simulation alone: see `operator/src/mutation.rs`.

use crate::violation::Kind;

pub use oaat_operator::mutation::{Mutation, without};

/// What comes of it when a rule is switched off.
pub fn breaks(rule: Mutation) -> Kind {
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
        | Mutation::ForceDelete => Kind::TwoAtOnce,
        Mutation::KeepOldPodUid | Mutation::RecordApart => Kind::RecordedTwice,
        Mutation::NoSecondRead
        | Mutation::DeleteAnyVersion
        | Mutation::RemoveUnannounced
        | Mutation::WithdrawAnyVersion
        | Mutation::NoAdoption => Kind::RunDeleted,
        Mutation::NoSecondReadFinished => Kind::ResultDeleted,
        Mutation::OnlyClaimerOpens => Kind::Stuck,
        Mutation::OpenUnannounced => Kind::Lost,
        Mutation::NumberFromStatus | Mutation::RefusalWithoutNumber => Kind::NumberShared,
        Mutation::NamespaceUnasked => Kind::NamespaceCounted,
        Mutation::NoFloor => Kind::TooSoon,
        Mutation::TimesBelieved => Kind::WrongTime,
        Mutation::FailuresStay => Kind::WrongCounts,
        Mutation::MissingForgotten => Kind::Forgotten,
    }
}
