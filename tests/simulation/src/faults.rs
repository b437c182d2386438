//! The kinds of faults, and the sets that a history draws them from.

use crate::randomness::Fault;

/// A set of faults. A seed keeps its meaning only with the set that it was drawn from, so a new
/// kind of fault requires a new set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum FaultSet {
    /// No faults.
    None,
    /// Requests that are slow, lost, late, unanswered, duplicated, or rejected; replicas that are
    /// killed or paused; clocks, watches, and users.
    Basic,
    /// `Basic`, and replicas that are killed before or after a request takes effect, the second
    /// response to a duplicated request, and deleted namespaces.
    #[default]
    Standard,
    /// `Standard`, and the claimer receives the second response to a duplicated request to open a
    /// gate. One such case is outside of the guarantees; see `docs/guarantees.md`.
    RepeatedOpen,
    /// Few kinds of faults, but frequent ones: slow requests, replicas that are killed after a
    /// request, and users who delete pods, edit the status, and replace the group. Finds
    /// violations that require several of these at once.
    UserInterference,
    /// `Standard`, and users who suspend the group or an item, open a blackout window, and request
    /// items to run now.
    SuspendAndRunNow,
    /// `Standard`, and some items come from a list that a pod prints. The list changes.
    ItemLists,
    /// `Standard`, and pods that are evicted by the API, pods that wait for the scheduling gate of a
    /// queue, and items that give up.
    Disruptions,
    /// `Standard`, and clocks that jump by years.
    ClockJumps,
    /// `Standard`, pods whose sidecar runs until the operator deletes the pod, and interrupted
    /// deletions of pods that are not bound.
    SidecarsAndDeletions,
}

/// What happens to a request on its way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFault {
    /// The request or its response is slow.
    Slow,
    /// The request never arrives.
    Lost,
    /// The request arrives after its sender has given up.
    Late,
    /// The response is lost.
    ResponseLost,
    /// The request arrives twice, and its sender receives the first response.
    RepeatedFirstResponse,
    /// The server fails to process the request.
    ServerError,
    /// The server rejects the request.
    Rejected,
    /// The request arrives twice, and its sender receives the second response.
    RepeatedSecondResponse,
    /// The sender is killed before it sends the request.
    SenderKilledBefore,
    /// The sender is killed after the request takes effect, and does not read the response.
    SenderKilledAfter,
}

/// The faults of requests. Kept seeds depend on the order.
const REQUEST_FAULTS: [RequestFault; 10] = [
    RequestFault::Slow,
    RequestFault::Lost,
    RequestFault::Late,
    RequestFault::ResponseLost,
    RequestFault::RepeatedFirstResponse,
    RequestFault::ServerError,
    RequestFault::Rejected,
    RequestFault::RepeatedSecondResponse,
    RequestFault::SenderKilledBefore,
    RequestFault::SenderKilledAfter,
];

/// The number of faults in [`REQUEST_FAULTS`] that belong to [`FaultSet::Basic`].
const BASIC_REQUEST_FAULTS: u64 = 7;

/// A fault that is not a request's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A replica is killed.
    KillReplica,
    /// A replica is paused.
    PauseReplica,
    /// A replica's clock is wrong.
    SkewReplicaClock,
    /// The node's clock is wrong.
    SkewNodeClock,
    /// A replica's watch is down.
    WatchDown,
    /// A user deletes a pod.
    DeletePod,
    /// A user edits the status.
    EditStatus,
    /// A user deletes the group.
    DeleteGroup,
    /// A user creates a pod with the group's label.
    CreateForeignPod,
    /// A replica does not find the OaatType.
    TypeMissing,
    /// A user edits the spec.
    EditSpec,
    /// A user removes the label of the current pod.
    RemovePodLabel,
    /// A user deletes the namespace.
    DeleteNamespace,
    /// All replicas are killed at once, as when their machine fails.
    KillAllReplicas,
    /// A user suspends the group.
    SuspendGroup,
    /// A user suspends an item.
    SuspendItem,
    /// A user requests items to run now.
    RunNow,
    /// A user adds a blackout window that is open.
    OpenBlackoutWindow,
    /// The list that pods print changes.
    ChangeItemList,
    /// The API evicts the current pod, as when a node is drained.
    DisruptPod,
    /// A replica's clock jumps by years.
    JumpReplicaClock,
    /// The node's clock jumps by years.
    JumpNodeClock,
    /// The API server crashes while it deletes the next pod that is not bound. The pod remains, with
    /// a deletion timestamp.
    InterruptDeletion,
}

/// The faults of [`FaultSet::Standard`]; a kind that occurs more than once is more frequent. Kept
/// seeds depend on the order.
const STANDARD_FAULTS: [FaultKind; 20] = [
    FaultKind::KillReplica,
    FaultKind::KillReplica,
    FaultKind::KillReplica,
    FaultKind::KillReplica,
    FaultKind::PauseReplica,
    FaultKind::SkewReplicaClock,
    FaultKind::SkewNodeClock,
    FaultKind::WatchDown,
    FaultKind::WatchDown,
    FaultKind::DeletePod,
    FaultKind::DeletePod,
    FaultKind::DeletePod,
    FaultKind::EditStatus,
    FaultKind::DeleteGroup,
    FaultKind::CreateForeignPod,
    FaultKind::TypeMissing,
    FaultKind::EditSpec,
    FaultKind::RemovePodLabel,
    FaultKind::DeleteNamespace,
    FaultKind::KillAllReplicas,
];

/// The number of faults in [`STANDARD_FAULTS`] that belong to [`FaultSet::Basic`].
const BASIC_FAULTS: u64 = 18;

impl FaultSet {
    /// The number of requests out of 1,000 that fail.
    pub fn request_faults_per_1000(self) -> u64 {
        match self {
            Self::UserInterference => 150,
            _ => 25,
        }
    }

    /// How many times out of 1,000 a fault occurs that is not a request's.
    pub fn other_faults_per_1000(self) -> u64 {
        match self {
            Self::UserInterference => 400,
            _ => 80,
        }
    }

    /// Draws a fault of a request.
    pub fn draw_request_fault(self, fault: &mut Fault) -> RequestFault {
        match self {
            Self::None | Self::Basic => {
                REQUEST_FAULTS[fault.draw(0..BASIC_REQUEST_FAULTS) as usize]
            }
            Self::Standard
            | Self::RepeatedOpen
            | Self::SuspendAndRunNow
            | Self::ItemLists
            | Self::Disruptions
            | Self::ClockJumps
            | Self::SidecarsAndDeletions => fault.pick(&REQUEST_FAULTS),
            Self::UserInterference => fault.pick(&[
                RequestFault::Slow,
                RequestFault::Slow,
                RequestFault::Slow,
                RequestFault::SenderKilledAfter,
            ]),
        }
    }

    /// Draws a fault that is not a request's.
    pub fn draw_fault_kind(self, fault: &mut Fault) -> FaultKind {
        match self {
            Self::None | Self::Basic => STANDARD_FAULTS[fault.draw(0..BASIC_FAULTS) as usize],
            Self::Standard | Self::RepeatedOpen => fault.pick(&STANDARD_FAULTS),
            Self::SuspendAndRunNow => {
                let standard = fault.pick(&STANDARD_FAULTS);
                fault.pick(&[
                    standard,
                    FaultKind::SuspendGroup,
                    FaultKind::SuspendItem,
                    FaultKind::RunNow,
                    FaultKind::OpenBlackoutWindow,
                ])
            }
            Self::ItemLists => {
                let standard = fault.pick(&STANDARD_FAULTS);
                fault.pick(&[
                    standard,
                    FaultKind::ChangeItemList,
                    FaultKind::ChangeItemList,
                ])
            }
            Self::Disruptions => {
                let standard = fault.pick(&STANDARD_FAULTS);
                fault.pick(&[standard, FaultKind::DisruptPod, FaultKind::DisruptPod])
            }
            Self::ClockJumps => {
                let standard = fault.pick(&STANDARD_FAULTS);
                let (replica, node) = (FaultKind::JumpReplicaClock, FaultKind::JumpNodeClock);
                fault.pick(&[standard, replica, node])
            }
            Self::SidecarsAndDeletions => {
                let standard = fault.pick(&STANDARD_FAULTS);
                fault.pick(&[standard, FaultKind::InterruptDeletion])
            }
            Self::UserInterference => fault.pick(&[
                FaultKind::DeletePod,
                FaultKind::DeletePod,
                FaultKind::EditStatus,
                FaultKind::DeleteGroup,
            ]),
        }
    }
}
