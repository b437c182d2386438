//! The budget of faults, and the violations of the protocol.

/// The number of faults and changes by hand that may still occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Budget {
    /// Crashes of replicas.
    pub crashes: u8,
    /// Requests without a response.
    pub unanswered: u8,
    /// Changes by hand to the group or to the labels of a pod.
    pub tampering: u8,
    /// Creations that the API server rejects.
    pub refusals: u8,
    /// Pods that do not start in time, or that a blackout ends.
    pub timeouts: u8,
}

/// A violation of the protocol, detected when it occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// A result was recorded twice, or its run is not the current one.
    RecordedTwice,
    /// A result was recorded while the pod may still run.
    RecordedEarly,
    /// A result was recorded for an item that did not run.
    WrongItem,
    /// A claim was withdrawn although the gate of its pod had been removed.
    TakenBack,
    /// A run number was used before.
    NumberRepeated,
    /// The operator deleted a pod that may run.
    RunningDeleted,
    /// The operator deleted a finished pod whose result is not recorded.
    ResultDeleted,
    /// The model has too few pods for this behavior.
    TooManyPods,
}

impl Fault {
    /// Returns the property that the violation breaks.
    pub fn property(self) -> &'static str {
        match self {
            Self::RecordedTwice => "a result is recorded once",
            Self::RecordedEarly => "a result is recorded when the pod has ended",
            Self::WrongItem => "a result is recorded for the item that ran",
            Self::TakenBack => "no run that began is taken back",
            Self::NumberRepeated => "run numbers never repeat",
            Self::RunningDeleted => "the operator deletes no pod that may run",
            Self::ResultDeleted => "a finished pod is kept until it is recorded",
            Self::TooManyPods => "the model has room",
        }
    }
}
