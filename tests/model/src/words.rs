//! Counterexamples in words.

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
        PodRef::Nobody => "no pod".into(),
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
            if write.record != PodRef::Nobody {
                parts.push(format!("records the end of {}", pod(state, write.record)));
            }
            if write.current != PodRef::Nobody {
                let current = pod(state, write.current);
                parts.push(format!("makes {current} current as run {}", write.run));
            } else if write.run > 0 {
                parts.push(format!("records run {} as refused", write.run));
            }
            if write.void {
                parts.push("takes its claim back".into());
            }
            match write.stopping {
                Some(true) => parts.push("says that the run is to be ended".into()),
                Some(false) => parts.push("says that the run is not to be ended after all".into()),
                None => {}
            }
            if write.resume {
                parts.push("says that it opens the gate for the claimer".into());
            }
            if parts.is_empty() {
                parts.push("writes the status".into());
            }
            parts.join(" and ")
        }
    }
}

fn step(state: &State, r: usize, choice: Choice) -> String {
    let acting = &state.facts.replicas[r];
    let what = match (acting.next, acting.request()) {
        (Next::Read, _) => "reads the group".into(),
        (Next::List, _) => "lists the pods".into(),
        (Next::Get, _) => "reads the current pod".into(),
        (Next::Reread | Next::RereadFinished, _) => "reads the group again".into(),
        (_, Some(what)) => request(state, what),
        (_, None) => "does nothing".into(),
    };
    let refused = if choice.refused { ", refused" } else { "" };
    format!("{} {what}{refused}", replica(state, r))
}

/// What happens in `state`, in one line.
pub fn sentence(state: &State, action: &Action) -> String {
    let at = |place: usize| pod(state, PodRef::Is(place as u8));
    let of = |r: usize| step(state, r, Choice::default());
    match *action {
        Action::Step(r, choice) => step(state, r, choice),
        Action::Unheard(r) => format!("{}, and the answer is lost", of(r)),
        Action::Delayed(r) => format!("{}, which is still on its way when it gives up", of(r)),
        Action::Crash(r) => format!("{} crashes and starts again", replica(state, r)),
        Action::Arrive(index) => match state.facts.late[index] {
            Some(late) => format!("late, a request {}", request(state, late)),
            None => "nothing arrives".into(),
        },
        Action::Starts(place) => format!("{} has started", at(place)),
        Action::Ends(place) => format!("the containers of {} end", at(place)),
        Action::Delete(place) => format!("{} is deleted by hand", at(place)),
        Action::Vanish(place) => format!("{} is gone", at(place)),
        Action::Unlabel(place) => format!("{} loses its group label", at(place)),
        Action::Wipe { .. } => "the status is wiped by hand".into(),
        Action::Edit => "the group is edited".into(),
        Action::Recreate => "the group is deleted without its pods, and created again".into(),
    }
}

/// A way through the model, line by line.
pub fn story(path: &[(State, Option<Action>)]) -> Vec<String> {
    path.iter()
        .filter_map(|(state, action)| action.as_ref().map(|action| sentence(state, action)))
        .collect()
}
