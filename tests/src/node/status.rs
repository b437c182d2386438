//! The status that the node reports for a pod, computed from the states of its containers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

/// The address of all containers, which are processes of this machine.
pub(super) const ADDRESS: &str = "127.0.0.1";

/// The state of a container, as in the API.
#[derive(Clone, Debug)]
pub(super) enum State {
    Waiting {
        reason: &'static str,
        message: String,
    },
    Running {
        started: Timestamp,
    },
    Terminated {
        /// `None` if unknown, as for lost containers.
        started: Option<Timestamp>,
        finished: Option<Timestamp>,
        code: i32,
        reason: &'static str,
        message: String,
    },
}

impl State {
    pub(super) fn waiting(reason: &'static str) -> Self {
        Self::Waiting {
            reason,
            message: String::new(),
        }
    }

    /// Returns the state of a container that ended, with the reason that its exit code implies.
    pub(super) fn ended(started: Timestamp, finished: Timestamp, code: i32) -> Self {
        Self::Terminated {
            started: Some(started),
            finished: Some(finished),
            code,
            reason: if code == 0 { "Completed" } else { "Error" },
            message: String::new(),
        }
    }

    /// Returns the state of a container that does not run, and about which nothing else is known.
    pub(super) fn lost() -> Self {
        Self::Terminated {
            started: None,
            finished: None,
            code: 137,
            reason: "ContainerStatusUnknown",
            message: "The container could not be located when the pod was terminated".to_owned(),
        }
    }

    /// Returns the exit code, if the container has ended.
    pub(super) fn code(&self) -> Option<i32> {
        match self {
            Self::Terminated { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// A failure of a pod that the exit codes of its containers do not show.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// Whether the container statuses are removed, as for an evicted pod.
    pub(super) forget_containers: bool,
}

/// The state from which a pod's status is rendered.
pub(super) struct Report {
    pub(super) started: Timestamp,
    pub(super) init: Vec<State>,
    pub(super) main: Vec<State>,
    /// Whether nothing runs and nothing will run.
    pub(super) over: bool,
    /// Why the pod failed, if no container caused it.
    pub(super) verdict: Option<Verdict>,
    /// The value of each condition and the time of its last transition.
    transitions: BTreeMap<&'static str, (bool, Timestamp)>,
}

impl Report {
    pub(super) fn new(pod: &Pod, now: Timestamp) -> Self {
        let count =
            |containers: &[Container], reason| vec![State::waiting(reason); containers.len()];
        let (init, main) = containers(pod);
        let reason = if init.is_empty() {
            "ContainerCreating"
        } else {
            "PodInitializing"
        };
        Self {
            started: now,
            init: count(init, "PodInitializing"),
            main: count(main, reason),
            over: false,
            verdict: None,
            transitions: BTreeMap::new(),
        }
    }

    /// Returns the phase, by the kubelet's rules for a pod that never restarts a container.
    pub(super) fn phase(&self) -> &'static str {
        let failed = |state: &State| state.code().is_some_and(|code| code != 0);
        if self.verdict.is_some() || self.init.iter().any(failed) {
            return "Failed";
        }
        if self.over {
            return match self.main.iter().all(|state| state.code() == Some(0)) {
                true => "Succeeded",
                false => "Failed",
            };
        }
        let waiting = |state: &State| matches!(state, State::Waiting { .. });
        if self.init.iter().any(|state| state.code().is_none()) || self.main.iter().any(waiting) {
            return "Pending";
        }
        "Running"
    }

    /// Returns whether the pod has reached its main containers.
    pub(super) fn is_initialized(&self) -> bool {
        self.init.iter().all(|state| state.code() == Some(0))
    }

    /// Renders the status as a strategic merge patch, which preserves what others wrote, such as
    /// the condition PodScheduled.
    pub(super) fn render(&mut self, pod: &Pod, now: Timestamp) -> Value {
        let (init, main) = containers(pod);
        let forget = self
            .verdict
            .as_ref()
            .is_some_and(|verdict| verdict.forget_containers);
        let statuses =
            |containers: &[Container], states: &[State]| match forget || containers.is_empty() {
                true => Value::Null,
                false => Value::Array(
                    containers
                        .iter()
                        .zip(states)
                        .map(|(container, state)| container_status(pod, container, state))
                        .collect(),
                ),
            };
        let mut status = json!({
            "phase": self.phase(),
            "startTime": timestamp(self.started),
            "hostIP": ADDRESS,
            "hostIPs": [{"ip": ADDRESS}],
            "podIP": ADDRESS,
            "podIPs": [{"ip": ADDRESS}],
            "initContainerStatuses": statuses(init, &self.init),
            "containerStatuses": statuses(main, &self.main),
            "conditions": self.conditions(pod, now),
        });
        if let Some(verdict) = &self.verdict {
            status["reason"] = json!(verdict.reason);
            status["message"] = json!(verdict.message);
        }
        status
    }

    fn conditions(&mut self, pod: &Pod, now: Timestamp) -> Vec<Value> {
        let phase = self.phase();
        let (init, main) = containers(pod);
        let names = |containers: &[Container], states: &[State], good: fn(&State) -> bool| {
            let bad = containers
                .iter()
                .zip(states)
                .filter(|(_, state)| !good(state));
            bad.map(|(container, _)| container.name.as_str())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let incomplete = names(init, &self.init, |state| state.code() == Some(0));
        let unready = names(main, &self.main, |state| {
            matches!(state, State::Running { .. })
        });
        let over = match phase {
            "Succeeded" => Some(("PodCompleted", String::new())),
            "Failed" => Some(("PodFailed", String::new())),
            _ => None,
        };

        let initialized = incomplete.is_empty();
        let why_not_initialized = (
            "ContainersNotInitialized",
            format!("containers with incomplete status: [{incomplete}]"),
        );
        let ready = over.is_none() && initialized && unready.is_empty();
        let why_not_ready = over.unwrap_or_else(|| {
            (
                "ContainersNotReady",
                format!("containers with unready status: [{unready}]"),
            )
        });
        let begun = phase != "Pending";
        vec![
            self.condition(
                "PodReadyToStartContainers",
                begun && !matches!(phase, "Succeeded" | "Failed"),
                None,
                now,
            ),
            self.condition("Initialized", initialized, Some(why_not_initialized), now),
            self.condition("ContainersReady", ready, Some(why_not_ready.clone()), now),
            self.condition("Ready", ready, Some(why_not_ready), now),
        ]
    }

    fn condition(
        &mut self,
        kind: &'static str,
        status: bool,
        why_not: Option<(&'static str, String)>,
        now: Timestamp,
    ) -> Value {
        let since = match self.transitions.get(kind) {
            Some((before, since)) if *before == status => *since,
            _ => now,
        };
        self.transitions.insert(kind, (status, since));
        let (reason, message) = why_not.filter(|_| !status).unzip();
        json!({
            "type": kind,
            "status": if status { "True" } else { "False" },
            "reason": reason,
            "message": message.filter(|message| !message.is_empty()),
            "lastTransitionTime": timestamp(since),
        })
    }
}

/// Returns the init containers and the containers, in the order of the spec.
pub(super) fn containers(pod: &Pod) -> (&[Container], &[Container]) {
    match &pod.spec {
        Some(spec) => (
            spec.init_containers.as_deref().unwrap_or_default(),
            &spec.containers,
        ),
        None => (&[], &[]),
    }
}

/// Formats a time as the API does: in whole seconds, UTC.
pub(super) fn timestamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn container_status(pod: &Pod, container: &Container, state: &State) -> Value {
    let image = container.image.as_deref().unwrap_or_default();
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let id = format!("process://{uid}/{}", container.name);
    let (state, running, begun) = match state {
        State::Waiting { reason, message } => {
            let message = (!message.is_empty()).then_some(message);
            (
                json!({"waiting": {"reason": reason, "message": message}}),
                false,
                false,
            )
        }
        State::Running { started } => (
            json!({"running": {"startedAt": timestamp(*started)}}),
            true,
            true,
        ),
        State::Terminated {
            started,
            finished,
            code,
            reason,
            message,
        } => {
            let message = (!message.is_empty()).then_some(message);
            let state = json!({"terminated": {
                "exitCode": code, "reason": reason, "message": message, "containerID": id,
                "startedAt": started.map(timestamp), "finishedAt": finished.map(timestamp),
            }});
            (state, false, true)
        }
    };
    json!({
        "name": container.name,
        "image": image,
        "imageID": if begun { image } else { "" },
        "containerID": if begun { id.as_str() } else { "" },
        "ready": running,
        "started": running,
        "restartCount": 0,
        "lastState": {},
        "state": state,
    })
}
