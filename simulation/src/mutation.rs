//! Rules of the protocol, each switched off: what the oracle must notice.
//!
//! The cycle under test is never changed. It reaches the cluster through its verbs only, so a
//! rule is switched off there: each mutation has the verbs behave as if the cycle broke it.

/// A rule switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mutation {
    /// Candidates are created without our gate.
    NoGate,
    /// The gate is opened before the claim is written.
    OpenBeforeClaim,
    /// Status writes do not carry the resource version.
    ClaimWithoutVersion,
    /// The pods are listed before the group is read.
    ListBeforeRead,
    /// A pod that the list does not show is taken to be gone.
    AbsenceFromList,
    /// A claim's patch leaves out `podUid` and so keeps the one before it.
    KeepOldPodUid,
    /// A pod that is being deleted is taken to have ended.
    TerminatingIsTerminal,
    /// Every gated pod that is seen is opened.
    OpenAnyGated,
    /// Pods are not listed at all.
    NoList,
    /// Pods are deleted without waiting for their containers.
    ForceDelete,
    /// Strays are deleted without another look at the group.
    NoSecondRead,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::NoGate,
        Self::OpenBeforeClaim,
        Self::ClaimWithoutVersion,
        Self::ListBeforeRead,
        Self::AbsenceFromList,
        Self::KeepOldPodUid,
        Self::TerminatingIsTerminal,
        Self::OpenAnyGated,
        Self::NoList,
        Self::ForceDelete,
        Self::NoSecondRead,
    ];
}
