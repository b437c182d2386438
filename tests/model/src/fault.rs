//! What may go wrong with the world, and what must never go wrong with the protocol.

/// What may still go wrong, or be done by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Budget {
    /// Crashes of replicas.
    pub crashes: u8,
    /// Requests that are not answered.
    pub unanswered: u8,
    /// Changes by hand to the group or to a pod's labels.
    pub tampering: u8,
    /// Creations that the API server refuses.
    pub refusals: u8,
    /// Pods that have not started in time, or that a window ends.
    pub timeouts: u8,
}

/// What must never happen, found out in the moment in which it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// A result was recorded that was recorded before, or whose run is not the current one.
    RecordedTwice,
    /// A result was recorded while the pod may still run.
    RecordedEarly,
    /// A result was credited to another item than the one that ran.
    WrongItem,
    /// A claim was taken back although the pod had been opened.
    TakenBack,
    /// A run's number was given before.
    NumberRepeated,
    /// The operator deleted a pod that may run.
    RunningDeleted,
    /// The operator deleted a finished pod whose result is not recorded.
    ResultDeleted,
    /// The model is too small for this behaviour.
    NoRoom,
}

impl Fault {
    /// The property that it breaks.
    pub fn property(self) -> &'static str {
        match self {
            Self::RecordedTwice => "a result is recorded once",
            Self::RecordedEarly => "a result is recorded when the pod has ended",
            Self::WrongItem => "a result is recorded for the item that ran",
            Self::TakenBack => "no run that began is taken back",
            Self::NumberRepeated => "run numbers never repeat",
            Self::RunningDeleted => "the operator deletes no pod that may run",
            Self::ResultDeleted => "a finished pod is kept until it is recorded",
            Self::NoRoom => "the model has room",
        }
    }
}
