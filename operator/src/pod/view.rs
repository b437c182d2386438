//! The parts of a pod that a reconcile needs.

use crate::mutation::broken;
use crate::pod::names;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodCondition, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use oaat_api::Timestamp;
use oaat_api::text;
use std::fmt;
use std::time::Duration;

/// The maximum length in bytes of an item on a pod. The names of items are shorter, so a longer
/// text is not the name of an item.
const MAX_ITEM: usize = 2048;
/// The maximum number of other gates that are stored.
const MAX_GATES: usize = 20;

/// How long a pod may create its containers before the group's message reports it.
const SLOW_START: Duration = Duration::from_secs(30);
/// How long the last containers may run after others have ended before the group's message reports it.
const SLOW_END: Duration = Duration::from_secs(10);

/// The maximum length of a container's name in bytes, as in the API server.
const MAX_CONTAINER_NAME: usize = 63;
/// The maximum number of completion containers, as in the schema of a type.
const MAX_COMPLETION_CONTAINERS: usize = 20;

/// The phase of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// No container is running yet.
    #[default]
    Pending,
    /// At least one container is running or has started.
    Running,
    /// All containers exited with 0.
    Succeeded,
    /// All containers ended, but not all with 0, or the pod was evicted.
    Failed,
    /// The node does not respond.
    Unknown,
}

/// A requested deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Deletion {
    /// The end of the grace period.
    pub deadline: Timestamp,
    /// The grace period.
    pub grace: Duration,
}

impl Deletion {
    /// Returns when the deletion was requested, with a resolution of one second.
    pub fn requested(&self) -> Timestamp {
        self.deadline.minus(self.grace)
    }
}

/// The state of a container.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ContainerState {
    /// The container has not started.
    Waiting {
        /// The reason from the kubelet, such as ImagePullBackOff.
        reason: String,
        /// The message from the kubelet.
        message: String,
    },
    /// The container is running.
    Running,
    /// The container has ended.
    Terminated {
        /// The exit code.
        exit_code: i32,
        /// The reason from the kubelet, such as OOMKilled.
        reason: String,
        /// The last lines of the container's termination message.
        message: String,
        /// When the container ended, on the node's clock.
        finished: Option<Timestamp>,
    },
}

/// The kind of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContainerKind {
    /// A regular container.
    Main,
    /// An init container that must end before the next one starts.
    Init,
    /// A native sidecar: an init container with `restartPolicy: Always`. The kubelet ends it after
    /// the regular containers.
    Sidecar,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContainerView {
    /// The name.
    pub name: String,
    /// The kind.
    pub kind: ContainerKind,
    /// The state.
    pub state: ContainerState,
}

/// The state of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodView {
    /// The name.
    pub name: String,
    /// The uid.
    pub uid: String,
    /// The resource version.
    pub version: String,
    /// Whether the pod has the label of a group, and therefore is watched.
    pub labelled: bool,
    /// The uid of the OaatGroup that is its controller.
    pub owner: Option<String>,
    /// The item in its annotation, or in the label that the original operator set.
    pub item: Option<String>,
    /// The number of the run in its label.
    pub run: Option<i64>,
    /// When the API server created the pod.
    pub created: Timestamp,
    /// Whether the pod has the operator's gate.
    pub gated: bool,
    /// Whether the pod has a node.
    pub bound: bool,
    /// Other scheduling gates, which also keep the pod from running.
    pub other_gates: Vec<String>,
    /// The phase.
    pub phase: Phase,
    /// The reason of the phase, such as Evicted.
    pub reason: Option<String>,
    /// The message of the phase.
    pub message: Option<String>,
    /// The requested deletion, if there is one.
    pub deletion: Option<Deletion>,
    /// The containers, init containers first. Empty until a kubelet reports them.
    pub containers: Vec<ContainerView>,
    /// Whether an ephemeral container is running. It does not affect the result, but while it runs,
    /// the pod is not terminal.
    pub ephemeral_running: bool,
    /// When the condition `Ready` last changed.
    pub ready_changed: Option<Timestamp>,
    /// Why the pod is not scheduled: the message of the scheduler.
    pub unscheduled: Option<String>,
    /// The containers that decide when the run ends; all containers if there are none.
    pub completion_containers: Vec<String>,
    /// When the kubelet accepted the pod.
    pub accepted: Option<Timestamp>,
    /// Whether `activeDeadlineSeconds` limits the time of the run.
    pub has_deadline: bool,
    /// The disruption of the pod, from the condition `DisruptionTarget`.
    pub disruption: Option<Disruption>,
}

/// Why something in the cluster ends a pod: for example an eviction by the API, a taint, or
/// preemption.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disruption {
    /// The reason, such as `EvictionByEvictionAPI`.
    pub reason: String,
    /// The message; may be empty.
    pub message: String,
    /// When the disruption was announced, with a resolution of one second.
    pub since: Timestamp,
}

impl fmt::Display for Disruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message.as_str() {
            "" => f.write_str(&self.reason),
            message => write!(f, "{}: {message}", self.reason),
        }
    }
}

/// The state of a pod whose changes trigger a reconcile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TriggerState {
    terminal: bool,
    deleted: bool,
    problem: Option<String>,
    /// The number of regular containers that have ended.
    ended: usize,
}

/// What is expected to change soon. If it does not change until `at`, the message is shown.
#[derive(Debug, PartialEq)]
pub struct Delay {
    /// When the message is shown.
    pub at: Timestamp,
    /// What takes long, as the end of a sentence.
    pub message: String,
}

impl PodView {
    /// Returns whether the pod can never run again. A requested deletion is not enough: the
    /// containers run until they have ended.
    pub fn is_terminal(&self) -> bool {
        if broken!(TerminatingIsTerminal) && self.deletion.is_some() {
            return true;
        }
        if broken!(CompletedIsTerminal) {
            let named = |c: &ContainerView| self.completion_containers.contains(&c.name);
            let mut containers = self.containers.iter();
            if containers.any(|c| named(c) && c.finished().is_some()) {
                return true;
            }
        }
        let ended = matches!(self.phase, Phase::Succeeded | Phase::Failed);
        ended
            && !self.ephemeral_running
            && !self
                .containers
                .iter()
                .any(|c| c.state == ContainerState::Running)
    }

    /// Returns whether any container has started. An init container that succeeded does not count,
    /// because the next container may still fail to start. A sidecar does not count either: it starts
    /// before the regular containers.
    pub fn started(&self) -> bool {
        let started = |c: &ContainerView| match (&c.state, c.kind) {
            (ContainerState::Waiting { .. }, _) | (_, ContainerKind::Sidecar) => false,
            (ContainerState::Running, _) => true,
            (ContainerState::Terminated { exit_code, .. }, ContainerKind::Init) => *exit_code != 0,
            (ContainerState::Terminated { .. }, ContainerKind::Main) => true,
        };
        self.phase == Phase::Running || self.containers.iter().any(started)
    }

    /// Returns whether a deletion was requested and completes without another request.
    pub fn deletion_is_in_progress(&self) -> bool {
        self.deletion.is_some() && !self.deletion_is_incomplete()
    }

    /// Returns whether the deletion of a pod that never ran was interrupted. The API server deletes
    /// a pod without a node in two steps; if the client's connection breaks in between, the pod
    /// remains until it is deleted again.
    pub fn deletion_is_incomplete(&self) -> bool {
        let immediate = self.deletion.is_some_and(|d| d.grace.is_zero());
        immediate && !self.bound && !self.is_terminal() && !broken!(NoSecondDelete)
    }

    /// Returns when the last init container ended. The next container can start from then on.
    pub fn initialized(&self) -> Option<Timestamp> {
        let ended = |c: &ContainerView| match c.state {
            ContainerState::Terminated { finished, .. } if c.kind == ContainerKind::Init => {
                finished
            }
            _ => None,
        };
        self.containers.iter().filter_map(ended).max()
    }

    /// Returns the state whose changes trigger a reconcile. The normal progress of a pod (opened,
    /// bound, running) requires no action.
    pub fn trigger_state(&self) -> TriggerState {
        let terminal = self.is_terminal();
        let ended = self.main_containers().filter(|c| c.finished().is_some());
        TriggerState {
            terminal,
            // The deletion of a finished pod requires no action.
            deleted: !terminal && self.deletion.is_some(),
            problem: self.problem(),
            ended: if terminal { 0 } else { ended.count() },
        }
    }

    fn main_containers(&self) -> impl Iterator<Item = &ContainerView> {
        let containers = self.containers.iter();
        containers.filter(|c| c.kind == ContainerKind::Main)
    }

    /// Returns what may take too long: the start of the containers, or the end of the last ones
    /// after others have ended.
    pub fn delay(&self) -> Option<Delay> {
        if self.gated || self.is_terminal() || self.deletion.is_some() {
            return None;
        }
        if let Some(accepted) = self.accepted.filter(|_| !self.started()) {
            let since = self.initialized().unwrap_or(accepted).max(accepted);
            return Some(Delay {
                at: since.plus(SLOW_START),
                message: format!(
                    "has been creating its containers since {since}; a volume, the network, or a \
                     sidecar may not be ready (kubectl describe pod {} shows its events)",
                    self.name
                ),
            });
        }
        let running = self.main_containers().filter(|c| c.is_running());
        let running = text::list(running.map(|c| &c.name), ", ", text::NAME);
        let last = self.main_containers().filter_map(|c| c.finished()).max()?;
        let ended = self.main_containers().filter(|c| c.finished().is_some());
        let ended = text::list(ended.map(|c| &c.name), ", ", text::NAME);
        (!running.is_empty()).then(|| Delay {
            at: last.plus(SLOW_END),
            message: format!(
                "is still running: {ended} ended at {last}, but {running} has not ended; if it \
                 never ends, set completionContainers in the OaatType"
            ),
        })
    }

    /// Returns what keeps the pod from starting or ending, as the end of a sentence.
    pub fn problem(&self) -> Option<String> {
        if self.gated || self.is_terminal() {
            return None;
        }
        if self.deletion.is_some() {
            return Some("is terminating".into());
        }
        if self.phase == Phase::Unknown {
            return Some("is on a node that does not respond".into());
        }
        if !self.other_gates.is_empty() {
            let gates = text::list(&self.other_gates, ", ", text::NAME);
            return Some(format!("is waiting for other scheduling gates: {gates}"));
        }
        if let Some(message) = &self.unscheduled {
            return Some(format!("is not scheduled: {message}"));
        }
        self.containers.iter().find_map(|c| match &c.state {
            // Every pod passes through these states.
            ContainerState::Waiting { reason, message }
                if !matches!(
                    reason.as_str(),
                    "" | "ContainerCreating" | "PodInitializing"
                ) =>
            {
                let separator = if message.is_empty() { "" } else { ": " };
                Some(format!(
                    "is not starting: container {}: {reason}{separator}{message}",
                    c.name
                ))
            }
            _ => None,
        })
    }
}

impl ContainerView {
    /// Returns whether the container is running.
    pub fn is_running(&self) -> bool {
        self.state == ContainerState::Running
    }

    /// Returns when the container ended, on the node's clock.
    pub fn finished(&self) -> Option<Timestamp> {
        match self.state {
            ContainerState::Terminated { finished, .. } => Some(finished.unwrap_or_default()),
            _ => None,
        }
    }
}

fn timestamp(time: &Time) -> Timestamp {
    Timestamp(time.0.as_millisecond())
}

impl From<&Pod> for PodView {
    fn from(pod: &Pod) -> Self {
        let metadata = &pod.metadata;
        let spec = pod.spec.as_ref();
        let status = pod.status.clone().unwrap_or_default();
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let owner = metadata.owner_references.iter().flatten().find(|owner| {
            owner.controller == Some(true)
                && owner.kind == "OaatGroup"
                && owner.api_version.starts_with("kawaja.net/")
        });
        let gates = spec.and_then(|spec| spec.scheduling_gates.as_deref());
        let gates = gates.unwrap_or_default().iter().map(|gate| &gate.name);
        let (own, others): (Vec<_>, Vec<_>) = gates.partition(|name| *name == names::GATE);
        let deadline = metadata.deletion_timestamp.as_ref().map(timestamp);
        let grace = metadata.deletion_grace_period_seconds.unwrap_or(0);
        let init = status
            .init_container_statuses
            .as_deref()
            .unwrap_or_default();
        let main = status.container_statuses.as_deref().unwrap_or_default();
        let label = |key| metadata.labels.as_ref().and_then(|l| l.get(key));
        let annotation = |key| metadata.annotations.as_ref().and_then(|a| a.get(key));
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            version: metadata.resource_version.clone().unwrap_or_default(),
            labelled: label(names::GROUP).is_some(),
            owner: owner.map(|owner| owner.uid.clone()),
            item: annotation(names::ITEM)
                .or(label(names::ORIGINAL_ITEM))
                .map(|item| item[..item.floor_char_boundary(MAX_ITEM)].to_owned()),
            run: label(names::RUN).and_then(|run| run.parse().ok()),
            created: metadata
                .creation_timestamp
                .as_ref()
                .map(timestamp)
                .unwrap_or_default(),
            gated: !own.is_empty(),
            bound: spec.is_some_and(|spec| spec.node_name.is_some()),
            other_gates: others.into_iter().take(MAX_GATES).cloned().collect(),
            phase: phase(status.phase.as_deref()),
            reason: status.reason.clone(),
            message: status.message.clone(),
            deletion: deadline.map(|deadline| Deletion {
                deadline,
                grace: Duration::from_secs(u64::try_from(grace).unwrap_or(0)),
            }),
            containers: init
                .iter()
                .map(|c| container(c, init_kind(spec, &c.name)))
                .chain(main.iter().map(|c| container(c, ContainerKind::Main)))
                .collect(),
            ephemeral_running: status
                .ephemeral_container_statuses
                .iter()
                .flatten()
                .any(|c| {
                    c.state
                        .as_ref()
                        .is_some_and(|state| state.running.is_some())
                }),
            ready_changed: conditions
                .iter()
                .find(|c| c.type_ == "Ready")
                .and_then(|c| c.last_transition_time.as_ref())
                .map(timestamp),
            unscheduled: unscheduled(conditions),
            disruption: disruption(conditions),
            completion_containers: annotation(names::COMPLETION_CONTAINERS)
                .into_iter()
                .flat_map(|names| names.split(','))
                .filter(|name| name.len() <= MAX_CONTAINER_NAME)
                .take(MAX_COMPLETION_CONTAINERS)
                .map(ToOwned::to_owned)
                .collect(),
            accepted: status.start_time.as_ref().map(timestamp),
            has_deadline: spec.is_some_and(|spec| spec.active_deadline_seconds.is_some()),
        }
    }
}

fn phase(phase: Option<&str>) -> Phase {
    match phase {
        Some("Running") => Phase::Running,
        Some("Succeeded") => Phase::Succeeded,
        Some("Failed") => Phase::Failed,
        Some("Unknown") => Phase::Unknown,
        _ => Phase::Pending,
    }
}

/// Returns why no node can run the pod, as the scheduler reports it.
fn unscheduled(conditions: &[PodCondition]) -> Option<String> {
    let condition = conditions.iter().find(|c| {
        c.type_ == "PodScheduled"
            && c.status == "False"
            && c.reason.as_deref() == Some("Unschedulable")
    })?;
    Some(condition.message.clone().unwrap_or_default())
}

/// Returns the disruption that is ending the pod.
fn disruption(conditions: &[PodCondition]) -> Option<Disruption> {
    let condition = conditions
        .iter()
        .find(|c| c.type_ == "DisruptionTarget" && c.status == "True")?;
    let reason = condition.reason.clone();
    let since = condition.last_transition_time.as_ref();
    Some(Disruption {
        reason: reason.unwrap_or_else(|| "DisruptionTarget".into()),
        message: condition.message.clone().unwrap_or_default(),
        since: since.map(timestamp).unwrap_or_default(),
    })
}

/// Returns the kind of an init container.
fn init_kind(spec: Option<&PodSpec>, name: &str) -> ContainerKind {
    let containers = spec.and_then(|spec| spec.init_containers.as_deref());
    let mut containers = containers.unwrap_or_default().iter();
    let restarts = |c: &Container| c.restart_policy.as_deref() == Some("Always");
    if containers.any(|c| c.name == name && restarts(c)) {
        ContainerKind::Sidecar
    } else {
        ContainerKind::Init
    }
}

fn container(status: &ContainerStatus, kind: ContainerKind) -> ContainerView {
    let state = status.state.clone().unwrap_or_default();
    let state = if let Some(ended) = state.terminated {
        ContainerState::Terminated {
            exit_code: ended.exit_code,
            reason: ended.reason.unwrap_or_default(),
            // Usually the end of its log, where the cause is in the last lines.
            message: text::last_lines(
                ended.message.as_deref().unwrap_or_default(),
                text::TERMINATION_MESSAGE,
            ),
            finished: ended.finished_at.as_ref().map(timestamp),
        }
    } else if state.running.is_some() {
        ContainerState::Running
    } else {
        let waiting = state.waiting.unwrap_or_default();
        ContainerState::Waiting {
            reason: waiting.reason.unwrap_or_default(),
            message: waiting.message.unwrap_or_default(),
        }
    };
    ContainerView {
        name: status.name.clone(),
        kind,
        state,
    }
}
