//! The node: starts the pods that may run, ends them, and reports to the API server with some
//! delay.

use crate::randomness::Randomness;
use crate::simulated_cluster::{Change, SimulatedCluster, gates, skewed_time};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus, Pod,
};
use oaat_operator::pod::PodView;

/// A step of the node with one pod.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// The scheduler binds the pod, or waits for the queue to remove its scheduling gate.
    Bind,
    /// The queue removes its scheduling gate.
    LeaveQueue,
    /// The container starts.
    Start,
    /// The node reports that the pod runs.
    ReportRunning,
    /// The container exits with this exit code.
    End(i32),
    /// The node reports that the main container has ended and that the sidecar still runs.
    ReportCompletion,
    /// The node reports how the pod ended.
    ReportEnd,
    /// The node ends the containers, because the pod is being deleted. The exit code.
    Kill(i32),
    /// The pod object is removed.
    Remove,
    /// The pod is evicted.
    Evict,
    /// The node is lost, with the container and the pod object.
    Vanish,
}

/// How items run in a history.
#[derive(Clone, Copy, Debug)]
pub struct RunProfile {
    /// The longest run in milliseconds.
    pub max_run_ms: u64,
    /// The number of runs out of 1,000 that fail.
    pub failures_per_1000: u64,
}

/// Steps to schedule: the delay in milliseconds, the UID of the pod, and the step.
pub type ScheduledSteps = Vec<(u64, String, Step)>;

fn report(pod: &mut Pod, phase: &str, states: &[(&str, ContainerState)]) {
    let status = pod.status.get_or_insert_default();
    status.phase = Some(phase.into());
    let statuses = states.iter().map(|(name, state)| ContainerStatus {
        name: (*name).into(),
        state: Some(state.clone()),
        ..ContainerStatus::default()
    });
    status.container_statuses = Some(statuses.collect());
}

fn running() -> ContainerState {
    ContainerState {
        running: Some(ContainerStateRunning::default()),
        ..ContainerState::default()
    }
}

fn terminated(code: i32, now: u64, clock: i64) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: code,
            finished_at: Some(skewed_time(now, clock)),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

/// Returns the node's steps that follow from a change.
pub fn react(change: &Change, random: &mut Randomness) -> ScheduledSteps {
    match change {
        Change::Opened(uid) => {
            // Sometimes the pod is unschedulable or its image is missing.
            let wait = match random.fault(30) {
                Some(mut fault) => fault.draw(1_000..60_000),
                None => random.draw(1..300),
            };
            vec![(wait, uid.clone(), Step::Bind)]
        }
        Change::Terminating(uid, grace) => {
            let (wait, code) = match random.draw(0..4) {
                0 => (random.draw(0..500), 0),
                1 => (grace * 1000, 137),
                _ => (random.draw(0..3_000), 143),
            };
            let wait = match random.fault(100) {
                // The node hangs.
                Some(mut fault) => fault.draw(0..60_000),
                None => wait,
            };
            vec![(wait, uid.clone(), Step::Kill(code))]
        }
        _ => Vec::new(),
    }
}

/// Takes a step, if it is still possible.
pub fn step(
    cluster: &mut SimulatedCluster,
    uid: &str,
    step: Step,
    run_profile: RunProfile,
    random: &mut Randomness,
) -> ScheduledSteps {
    let (now, clock) = (cluster.now, cluster.node_clock);
    let name = cluster.name_of(uid);
    let terminating = name
        .as_ref()
        .and_then(|name| cluster.pods.get(name))
        .is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
    let is_queued = name
        .as_ref()
        .and_then(|name| cluster.pods.get(name))
        .is_some_and(|pod| !PodView::from(pod).other_gates.is_empty());
    let Some(truth) = cluster.truth.get_mut(uid) else {
        return Vec::new();
    };
    let ended = truth.ended.is_some() || truth.evicted;
    let later = |wait: u64, step: Step| vec![(wait, uid.to_owned(), step)];
    let report_delay = |random: &mut Randomness| match random.fault(50) {
        Some(mut fault) => fault.draw(0..20_000),
        None => random.draw(0..200),
    };
    match step {
        Step::Bind if is_queued => later(random.draw(0..60_000), Step::LeaveQueue),
        Step::LeaveQueue => {
            cluster.change_pod(uid, |pod| {
                if let Some(gates) = gates(pod) {
                    gates.clear();
                }
            });
            later(random.draw(1..300), Step::Bind)
        }
        Step::Bind if name.is_some() && !terminating => {
            truth.bound = true;
            later(random.draw(1..200), Step::Start)
        }
        Step::Start if name.is_some() && !terminating && !ended && !truth.running => {
            truth.running = true;
            if truth.lister {
                let list = serde_json::to_string(&cluster.listed).unwrap_or_default();
                truth.printed = Some(list);
            }
            let lister = truth.lister;
            cluster.check();
            // Usually within its timeout, because each list must be read at some time.
            let max_run_ms = if lister {
                run_profile.max_run_ms.min(5_000)
            } else {
                run_profile.max_run_ms
            };
            let run = random.draw(10..max_run_ms);
            let code = i32::from(random.per_1000(run_profile.failures_per_1000));
            let mut steps = later(report_delay(random), Step::ReportRunning);
            let end = match random.fault(40) {
                Some(mut fault) => [Step::Vanish, Step::Evict][fault.draw(0..2) as usize],
                None => Step::End(code),
            };
            steps.extend(later(run, end));
            steps
        }
        Step::ReportRunning if !ended => {
            cluster.change_pod(uid, |pod| report(pod, "Running", &[("main", running())]));
            Vec::new()
        }
        Step::End(code) if truth.sidecar && truth.running && !ended => {
            truth.ended = Some((code, now));
            truth.clock = clock;
            later(report_delay(random), Step::ReportCompletion)
        }
        Step::ReportCompletion if truth.running => {
            let (code, at) = truth.ended.unwrap_or((137, now));
            let states = [
                ("main", terminated(code, at, truth.clock)),
                ("sidecar", running()),
            ];
            cluster.change_pod(uid, |pod| report(pod, "Running", &states));
            Vec::new()
        }
        Step::End(code) if truth.running && !truth.sidecar => {
            truth.running = false;
            truth.ended = Some((code, now));
            truth.clock = clock;
            later(report_delay(random), Step::ReportEnd)
        }
        Step::ReportEnd if !truth.evicted => {
            let (code, at) = truth.ended.unwrap_or((137, now));
            let phase = if code == 0 && !truth.sidecar {
                "Succeeded"
            } else {
                "Failed"
            };
            let mut states = vec![("main", terminated(code, at, truth.clock))];
            if truth.sidecar {
                states.push(("sidecar", terminated(143, now, clock)));
            }
            cluster.change_pod(uid, |pod| report(pod, phase, &states));
            if terminating {
                later(random.draw(0..500), Step::Remove)
            } else {
                Vec::new()
            }
        }
        Step::Kill(_) if ended && !truth.running => later(random.draw(0..500), Step::Remove),
        Step::Kill(code) if truth.running => {
            truth.running = false;
            if !ended {
                truth.ended = Some((code, now));
                truth.clock = clock;
            }
            later(report_delay(random), Step::ReportEnd)
        }
        // The container never started, and will not start.
        Step::Kill(_) => {
            truth.ended = Some((137, now));
            later(random.draw(0..500), Step::Remove)
        }
        Step::Remove if !truth.running => {
            cluster.remove_pod(uid);
            Vec::new()
        }
        Step::Evict if truth.running && !ended => {
            truth.running = false;
            truth.evicted = true;
            cluster.change_pod(uid, |pod| {
                report(pod, "Failed", &[]);
                pod.status.get_or_insert_default().reason = Some("Evicted".into());
            });
            Vec::new()
        }
        Step::Vanish if truth.running && !ended => {
            truth.running = false;
            truth.evicted = true;
            cluster.remove_pod(uid);
            Vec::new()
        }
        _ => Vec::new(),
    }
}
