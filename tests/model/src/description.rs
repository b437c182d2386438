//! Describes counterexamples in words.

use crate::environment::Action;
use crate::replica::Choice;
use crate::state::{Next, PodRef, Request, State};

fn replica(state: &State, r: usize) -> String {
    format!("replica {}", state.names.replicas[r] + 1)
}

fn pod(state: &State, pod: PodRef) -> String {
    match pod {
        PodRef::Is(place) => format!("pod {}", state.names.pods[usize::from(place)]),
        PodRef::Gone => "a pod that is gone".into(),
        PodRef::None => "no pod".into(),
    }
}

fn request(state: &State, request: Request) -> String {
    match request {
        Request::Create { run, item, .. } => {
            format!("creates a candidate for run {run}, item {item}")
        }
        Request::Open(which) => format!("opens the gate of {}", pod(state, which)),
        Request::Delete { pod: which, .. } => format!("deletes {}", pod(state, which)),
        Request::Stop { pod: which, .. } => {
            format!(
                "deletes {}, which has not started in time",
                pod(state, which)
            )
        }
        Request::Status(write) => {
            let mut parts = Vec::new();
            if write.record != PodRef::None {
                parts.push(format!("records the end of {}", pod(state, write.record)));
            }
            if write.current != PodRef::None {
                let current = pod(state, write.current);
                parts.push(format!("makes {current} current as run {}", write.run));
            } else if write.run > 0 {
                parts.push(format!("records run {} as rejected", write.run));
            }
            if write.void {
                parts.push("withdraws its claim".into());
            }
            match write.stopping {
                Some(true) => parts.push("announces that it ends the run".into()),
                Some(false) => {
                    parts.push("announces that it does not end the run after all".into())
                }
                None => {}
            }
            if write.resume {
                parts.push("announces that it opens the gate for the claimer".into());
            }
            if parts.is_empty() {
                parts.push("writes the status".into());
            }
            parts.join(" and ")
        }
    }
}

fn describe_step(state: &State, r: usize, choice: Choice) -> String {
    let acting = &state.facts.replicas[r];
    let what = match (acting.next, acting.request()) {
        (Next::Read, _) => "reads the group".into(),
        (Next::List, _) => "lists the pods".into(),
        (Next::Get, _) => "reads the current pod".into(),
        (Next::SecondRead | Next::SecondReadFinished, _) => "reads the group again".into(),
        (_, Some(what)) => request(state, what),
        (_, None) => "does nothing".into(),
    };
    let rejected = if choice.refused { ", rejected" } else { "" };
    format!("{} {what}{rejected}", replica(state, r))
}

/// Describes an action in `state`, in one line.
pub fn describe_action(state: &State, action: &Action) -> String {
    let at = |place: usize| pod(state, PodRef::Is(place as u8));
    let of = |r: usize| describe_step(state, r, Choice::default());
    match *action {
        Action::Step(r, choice) => describe_step(state, r, choice),
        Action::ResponseLost(r) => format!("{}, and the response is lost", of(r)),
        Action::Delayed(r) => format!(
            "{}, which is still in transit when the replica gives up",
            of(r)
        ),
        Action::Crash(r) => format!("{} crashes and starts again", replica(state, r)),
        Action::Arrive(index) => match state.facts.late[index] {
            Some(late) => format!("a late request {}", request(state, late)),
            None => "nothing arrives".into(),
        },
        Action::Starts(place) => format!("{} has started", at(place)),
        Action::Ends(place) => format!("the containers of {} end", at(place)),
        Action::Delete(place) => format!("{} is deleted by hand", at(place)),
        Action::Vanish(place) => format!("{} is gone", at(place)),
        Action::Unlabel(place) => format!("{} loses its group label", at(place)),
        Action::Wipe { .. } => "the status is cleared by hand".into(),
        Action::Edit => "the group is edited".into(),
        Action::Recreate => "the group is deleted without its pods, and created again".into(),
    }
}

/// Describes a path through the model, line by line.
pub fn describe_path(path: &[(State, Option<Action>)]) -> Vec<String> {
    path.iter()
        .filter_map(|(state, action)| action.as_ref().map(|action| describe_action(state, action)))
        .collect()
}
