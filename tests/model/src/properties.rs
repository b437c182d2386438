//! What must always hold, and what must be possible.

use crate::Protocol;
use crate::fault::Fault;
use crate::state::{Ledger, Next, PodRef, Replica, Request, State};
use stateright::{Expectation, Property};

/// The promise that the operator exists for.
pub const AT_MOST_ONE: &str = "at most one pod of the group may run";
/// The promise that nothing gets stuck.
pub const RECOVERS: &str = "once faults stop, all runs come to be recorded";

fn never(state: &State, fault: Fault) -> bool {
    state.facts.fault != Some(fault)
}

/// A run that began is the current one until it is recorded; else it never will be.
fn kept(state: &State) -> bool {
    let group = state.facts.group;
    let pods = state.facts.pods.iter().enumerate();
    pods.filter_map(|(place, pod)| pod.map(|pod| (place, pod)))
        .filter(|(_, pod)| matches!(pod.ledger, Ledger::Claimed | Ledger::Adopted))
        .all(|(place, _)| {
            group
                .current
                .is_some_and(|c| c.name == PodRef::Is(place as u8))
        })
}

/// Checked where all replicas are between two cycles and nothing is on its way. A cycle always
/// ends, and what is on its way may as well never arrive, so from every state such a one is
/// reached.
fn recovers(protocol: &Protocol, state: &State) -> bool {
    let idle = state
        .facts
        .replicas
        .iter()
        .all(|r| *r == Replica::default());
    let quiet = state.facts.late.iter().all(Option::is_none);
    !idle || !quiet || state.facts.fault.is_some() || protocol.recovers(state)
}

fn any(state: &State, what: impl Fn(&Replica) -> bool) -> bool {
    state.facts.replicas.iter().any(what)
}

/// All properties.
pub(crate) fn properties() -> Vec<Property<Protocol>> {
    type P = Property<Protocol>;
    vec![
        P::always(AT_MOST_ONE, |_, s| {
            s.facts
                .pods
                .iter()
                .flatten()
                .filter(|pod| pod.may_run())
                .count()
                <= 1
        }),
        P::always(Fault::RecordedTwice.property(), |_, s| {
            never(s, Fault::RecordedTwice)
        }),
        P::always(Fault::RecordedEarly.property(), |_, s| {
            never(s, Fault::RecordedEarly)
        }),
        P::always(Fault::WrongItem.property(), |_, s| {
            never(s, Fault::WrongItem)
        }),
        P::always(Fault::NumberRepeated.property(), |_, s| {
            never(s, Fault::NumberRepeated)
        }),
        P::always(Fault::TakenBack.property(), |_, s| {
            never(s, Fault::TakenBack)
        }),
        P::always("a run that began is current or recorded", |_, s| kept(s)),
        P::always(Fault::RunningDeleted.property(), |_, s| {
            never(s, Fault::RunningDeleted)
        }),
        P::always(Fault::ResultDeleted.property(), |_, s| {
            never(s, Fault::ResultDeleted)
        }),
        P::always(Fault::NoRoom.property(), |_, s| never(s, Fault::NoRoom)),
        P::always(RECOVERS, recovers),
        P::sometimes("all runs are recorded", |p, s| p.all_recorded(s)),
        P::sometimes("two candidates wait for their claim", |_, s| {
            s.facts
                .replicas
                .iter()
                .filter(|r| r.next == Next::Claim)
                .count()
                == 2
        }),
        P::sometimes("a claim fails", |_, s| any(s, |r| r.next == Next::Withdraw)),
        P::sometimes("a claim is void", |_, s| any(s, |r| r.next == Next::Void)),
        P::sometimes("a gate is opened by another than the claimer", |_, s| {
            any(s, |r| r.next == Next::Open)
        }),
        P::sometimes("a pod is taken for current again", |_, s| {
            any(s, |r| {
                r.next == Next::Write && r.adopt != PodRef::Nobody && r.fresh
            })
        }),
        P::sometimes("the current pod is not listed", |_, s| {
            any(
                s,
                |r| matches!((r.next, r.current), (Next::Get, Some(c)) if s.pod(c.name).is_some()),
            )
        }),
        P::sometimes("a stray is deleted", |_, s| {
            any(s, |r| r.next == Next::DeleteStray)
        }),
        P::sometimes("a finished pod is deleted", |_, s| {
            any(s, |r| r.next == Next::DeleteFinished)
        }),
        P::sometimes("a pod that has not started is deleted", |p, s| {
            any(s, |r| r.next == Next::Stop) || p.budget.timeouts == 0
        }),
        P::sometimes("a refused pod is recorded", |_, s| {
            any(s, |r| r.refused && r.fresh)
        }),
        P::sometimes("a pod of a deleted group runs", |_, s| {
            s.facts
                .pods
                .iter()
                .flatten()
                .any(|p| p.owner != s.facts.group.uid && p.may_run())
        }),
        P::sometimes("a claim arrives late", |_, s| {
            s.facts
                .late
                .iter()
                .any(|l| matches!(l, Some(Request::Status(w)) if w.run > 0))
        }),
        P::sometimes("a creation arrives late", |_, s| {
            s.facts
                .late
                .iter()
                .any(|l| matches!(l, Some(Request::Create { .. })))
        }),
    ]
}

/// The properties that must always hold, by name.
pub fn violations() -> Vec<&'static str> {
    properties()
        .into_iter()
        .filter(|p| p.expectation == Expectation::Always)
        .map(|p| p.name)
        .collect()
}
