//! What the cycle needs to know of a pod, taken out of the API object.

use crate::mutation::broken;
use crate::pod::names;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use oaat_api::Timestamp;
use oaat_api::text;
use std::time::Duration;

/// The maximum length in bytes of an item on a pod. The names of items are shorter, so a longer one
/// belongs to no item.
const ITEM: usize = 2048;
/// The maximum number of foreign gates that are kept.
const GATES: usize = 20;

/// A pod's phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not all containers have started.
    #[default]
    Pending,
    /// At least one container runs.
    Running,
    /// All containers exited with 0.
    Succeeded,
    /// All containers ended, and not all with 0; or the pod was evicted.
    Failed,
    /// The node does not answer.
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
    /// When the deletion was asked for, to the second.
    pub fn requested(&self) -> Timestamp {
        self.deadline.minus(self.grace)
    }
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ContainerState {
    /// It has not started.
    Waiting {
        /// The kubelet's token, such as ImagePullBackOff.
        reason: String,
        /// The kubelet's words.
        message: String,
    },
    /// It runs.
    Running,
    /// It has ended.
    Terminated {
        /// Its exit code.
        exit_code: i32,
        /// The kubelet's token, such as OOMKilled.
        reason: String,
        /// The kubelet's words, or what the container left as its termination message.
        message: String,
        /// When, by the node's clock.
        finished: Option<Timestamp>,
    },
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContainerView {
    /// Its name.
    pub name: String,
    /// Whether it is an init container.
    pub init: bool,
    /// What it does.
    pub state: ContainerState,
}

/// A pod, as far as the cycle cares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodView {
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// Resource version.
    pub version: String,
    /// Whether it carries a group's name label, and so is watched.
    pub labelled: bool,
    /// Uid of the OaatGroup that controls it, if one does.
    pub owner: Option<String>,
    /// The item in its annotation, or in the label that the first implementation of these
    /// groups gave its pods.
    pub item: Option<String>,
    /// The number in its run label.
    pub run: Option<i64>,
    /// When the API server accepted it.
    pub created: Timestamp,
    /// Whether our gate is on it.
    pub gated: bool,
    /// Gates of others, which keep it from running as well.
    pub other_gates: Vec<String>,
    /// Its phase.
    pub phase: Phase,
    /// A token for its state, such as Evicted.
    pub reason: Option<String>,
    /// The words to it.
    pub message: Option<String>,
    /// A requested deletion.
    pub deletion: Option<Deletion>,
    /// Containers, init containers first. Empty until a kubelet reports.
    pub containers: Vec<ContainerView>,
    /// A container that somebody added to look around in it runs: it does not count for the
    /// result, and the pod is not over.
    pub visited: bool,
    /// When its Ready condition last changed.
    pub ready_changed: Option<Timestamp>,
    /// Why it is not scheduled, in the scheduler's words.
    pub unscheduled: Option<String>,
    /// By whom it is ended before its time, where the cluster says so: an eviction by the
    /// API, a taint, a pod of higher priority.
    pub disruption: Option<String>,
}

impl PodView {
    /// Whether it can never run again. Being deleted is not enough: until its
    /// containers have ended they run.
    pub fn terminal(&self) -> bool {
        if broken!(TerminatingIsTerminal) && self.deletion.is_some() {
            return true;
        }
        let over = matches!(self.phase, Phase::Succeeded | Phase::Failed);
        over && !self.visited
            && !self
                .containers
                .iter()
                .any(|c| c.state == ContainerState::Running)
    }

    /// Whether any of its containers has started. An init container that has ended does not
    /// count: what comes after it may still fail to start.
    pub fn started(&self) -> bool {
        let started = |c: &ContainerView| match c.state {
            ContainerState::Waiting { .. } => false,
            ContainerState::Running => true,
            ContainerState::Terminated { exit_code, .. } => !c.init || exit_code != 0,
        };
        self.phase == Phase::Running || self.containers.iter().any(started)
    }

    /// When its last init container ended: what comes next starts from there.
    pub fn initialized(&self) -> Option<Timestamp> {
        let ended = |c: &ContainerView| match c.state {
            ContainerState::Terminated { finished, .. } if c.init => finished,
            _ => None,
        };
        self.containers.iter().filter_map(ended).max()
    }

    /// What of this pod makes a cycle worth while when it changes. A pod that merely
    /// proceeds (opened, bound, running) changes nothing for its group.
    pub fn interest(&self) -> (bool, bool, Option<String>) {
        let terminal = self.terminal();
        // That a finished pod is deleted concerns nobody.
        (
            terminal,
            !terminal && self.deletion.is_some(),
            self.problem(),
        )
    }

    /// What keeps it from starting, if something worth telling does.
    pub fn problem(&self) -> Option<String> {
        if self.gated || self.terminal() {
            return None;
        }
        if self.deletion.is_some() {
            return Some("is being deleted and has not ended yet".into());
        }
        if self.phase == Phase::Unknown {
            return Some("is on a node that does not answer".into());
        }
        if !self.other_gates.is_empty() {
            let gates = text::list(&self.other_gates, ", ", text::NAME);
            return Some(format!("waits for other scheduling gates: {gates}"));
        }
        if let Some(words) = &self.unscheduled {
            return Some(format!("is not scheduled: {words}"));
        }
        self.containers.iter().find_map(|c| match &c.state {
            // What every pod passes through is not worth a line.
            ContainerState::Waiting { reason, message }
                if !matches!(
                    reason.as_str(),
                    "" | "ContainerCreating" | "PodInitializing"
                ) =>
            {
                let words = if message.is_empty() { "" } else { ": " };
                Some(format!(
                    "does not start: container {}: {reason}{words}{message}",
                    c.name
                ))
            }
            _ => None,
        })
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
                .map(|item| item[..item.floor_char_boundary(ITEM)].to_owned()),
            run: label(names::RUN).and_then(|run| run.parse().ok()),
            created: metadata
                .creation_timestamp
                .as_ref()
                .map(timestamp)
                .unwrap_or_default(),
            gated: !own.is_empty(),
            other_gates: others.into_iter().take(GATES).cloned().collect(),
            phase: match status.phase.as_deref() {
                Some("Running") => Phase::Running,
                Some("Succeeded") => Phase::Succeeded,
                Some("Failed") => Phase::Failed,
                Some("Unknown") => Phase::Unknown,
                _ => Phase::Pending,
            },
            reason: status.reason.clone(),
            message: status.message.clone(),
            deletion: deadline.map(|deadline| Deletion {
                deadline,
                grace: Duration::from_secs(u64::try_from(grace).unwrap_or(0)),
            }),
            containers: init
                .iter()
                .map(|c| container(c, true))
                .chain(main.iter().map(|c| container(c, false)))
                .collect(),
            visited: status
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
            unscheduled: conditions
                .iter()
                .find(|c| {
                    c.type_ == "PodScheduled"
                        && c.status == "False"
                        && c.reason.as_deref() == Some("Unschedulable")
                })
                .map(|c| c.message.clone().unwrap_or_default()),
            disruption: conditions
                .iter()
                .find(|c| c.type_ == "DisruptionTarget" && c.status == "True")
                .map(|c| {
                    let reason = c.reason.as_deref().unwrap_or("DisruptionTarget");
                    match c.message.as_deref().unwrap_or_default() {
                        "" => reason.to_owned(),
                        words => format!("{reason}: {words}"),
                    }
                }),
        }
    }
}

fn container(status: &ContainerStatus, init: bool) -> ContainerView {
    let state = status.state.clone().unwrap_or_default();
    let state = if let Some(ended) = state.terminated {
        ContainerState::Terminated {
            exit_code: ended.exit_code,
            reason: ended.reason.unwrap_or_default(),
            message: ended.message.unwrap_or_default(),
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
        init,
        state,
    }
}
