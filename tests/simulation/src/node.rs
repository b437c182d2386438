//! The node: starts what may run, ends it, and tells the server with some delay.

use crate::chance::Chance;
use crate::world::{Change, World, time};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus, Pod,
};

/// One step of the node with one pod.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// The scheduler gives it to the node.
    Bind,
    /// Its container starts.
    Start,
    /// The server hears that it runs.
    TellRunning,
    /// Its container ends by itself, with this exit code.
    End(i32),
    /// The server hears how it ended.
    TellEnd,
    /// Its container is ended, because the pod is to go.
    Kill(i32),
    /// The pod object is taken away.
    Remove,
    /// The pod is evicted.
    Evict,
    /// The node is lost, container and all, and the pod object with it.
    Vanish,
}

/// How an item runs on this node.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Longest run in milliseconds.
    pub longest: u64,
    /// Runs that fail, of 1,000.
    pub failing: u64,
}

/// Steps that come later: how much later, with which pod, what.
pub type Later = Vec<(u64, String, Step)>;

fn report(pod: &mut Pod, phase: &str, state: Option<ContainerState>) {
    let status = pod.status.get_or_insert_default();
    status.phase = Some(phase.into());
    status.container_statuses = state.map(|state| {
        vec![ContainerStatus {
            name: "main".into(),
            state: Some(state),
            ..ContainerStatus::default()
        }]
    });
}

fn terminated(code: i32, now: u64, clock: i64) -> ContainerState {
    let at = now.saturating_add_signed(clock);
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: code,
            finished_at: Some(time(at)),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

/// What follows for the node from what has happened.
pub fn hears(change: &Change, chance: &mut Chance) -> Later {
    match change {
        Change::Opened(uid) => {
            // Now and then there is no room, or no image.
            let wait = match chance.fault(30) {
                Some(mut fault) => fault.within(1_000..60_000),
                None => chance.number(1..300),
            };
            vec![(wait, uid.clone(), Step::Bind)]
        }
        Change::Going(uid, grace) => {
            let (wait, code) = match chance.number(0..4) {
                0 => (chance.number(0..500), 0),
                1 => (grace * 1000, 137),
                _ => (chance.number(0..3_000), 143),
            };
            let wait = match chance.fault(100) {
                // The node hangs.
                Some(mut fault) => fault.within(0..60_000),
                None => wait,
            };
            vec![(wait, uid.clone(), Step::Kill(code))]
        }
        _ => Vec::new(),
    }
}

/// Takes a step, if it still can be taken.
pub fn take(
    world: &mut World,
    uid: &str,
    step: Step,
    manner: Manner,
    chance: &mut Chance,
) -> Later {
    let (now, clock) = (world.now, world.node_clock);
    let name = world.name_of(uid);
    let going = name
        .as_ref()
        .and_then(|name| world.pods.get(name))
        .is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
    let Some(truth) = world.truth.get_mut(uid) else {
        return Vec::new();
    };
    let over = truth.ended.is_some() || truth.evicted;
    let later = |wait: u64, step: Step| vec![(wait, uid.to_owned(), step)];
    let tell = |chance: &mut Chance| match chance.fault(50) {
        Some(mut fault) => fault.within(0..20_000),
        None => chance.number(0..200),
    };
    match step {
        Step::Bind if name.is_some() => {
            truth.bound = true;
            later(chance.number(1..200), Step::Start)
        }
        Step::Start if name.is_some() && !going && !over && !truth.live => {
            truth.live = true;
            if truth.lister {
                let list = serde_json::to_string(&world.listed).unwrap_or_default();
                truth.printed = Some(list);
            }
            let lister = truth.lister;
            world.check();
            // Within its timeout as a rule: some time each list must be read.
            let longest = match lister {
                true => manner.longest.min(5_000),
                false => manner.longest,
            };
            let run = chance.number(10..longest);
            let code = i32::from(chance.of_1000(manner.failing));
            let mut steps = later(tell(chance), Step::TellRunning);
            let fate = match chance.fault(40) {
                Some(mut fault) => [Step::Vanish, Step::Evict][fault.within(0..2) as usize],
                None => Step::End(code),
            };
            steps.extend(later(run, fate));
            steps
        }
        Step::TellRunning if !over => {
            let running = ContainerState {
                running: Some(ContainerStateRunning::default()),
                ..ContainerState::default()
            };
            world.change_pod(uid, |pod| report(pod, "Running", Some(running)));
            Vec::new()
        }
        Step::End(code) if truth.live => {
            truth.live = false;
            truth.ended = Some((code, now));
            truth.clock = clock;
            later(tell(chance), Step::TellEnd)
        }
        Step::TellEnd if !truth.evicted => {
            let (code, at) = truth.ended.unwrap_or((137, now));
            let phase = if code == 0 { "Succeeded" } else { "Failed" };
            let state = terminated(code, at, truth.clock);
            world.change_pod(uid, |pod| report(pod, phase, Some(state)));
            if going {
                later(chance.number(0..500), Step::Remove)
            } else {
                Vec::new()
            }
        }
        Step::Kill(_) if over => later(chance.number(0..500), Step::Remove),
        Step::Kill(code) if truth.live => {
            truth.live = false;
            truth.ended = Some((code, now));
            truth.clock = clock;
            later(tell(chance), Step::TellEnd)
        }
        // It was never started, and will not be.
        Step::Kill(_) => {
            truth.ended = Some((137, now));
            later(chance.number(0..500), Step::Remove)
        }
        Step::Remove if !truth.live => {
            world.remove_pod(uid);
            Vec::new()
        }
        Step::Evict if truth.live => {
            truth.live = false;
            truth.evicted = true;
            world.change_pod(uid, |pod| {
                report(pod, "Failed", None);
                pod.status.get_or_insert_default().reason = Some("Evicted".into());
            });
            Vec::new()
        }
        Step::Vanish if truth.live => {
            truth.live = false;
            truth.evicted = true;
            world.remove_pod(uid);
            Vec::new()
        }
        _ => Vec::new(),
    }
}
