//! The properties that must always hold, and the states that must be reachable.

use crate::Protocol;
use crate::fault::Fault;
use crate::state::{Ledger, Next, PodRef, Replica, Request, State};
use stateright::{Expectation, Property};

/// The operator's main guarantee.
pub const AT_MOST_ONE: &str = "at most one pod of the group may run";
/// The guarantee that nothing deadlocks.
pub const RECOVERS: &str = "once faults stop, all runs are recorded";

fn never(state: &State, fault: Fault) -> bool {
    state.facts.fault != Some(fault)
}

/// Returns whether every run that started is current until it is recorded. Otherwise, it never will
/// be recorded.
fn started_runs_are_current_or_recorded(state: &State) -> bool {
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

/// Returns whether the model recovers. Checked in states in which all replicas are idle and no
/// request is in transit. A reconcile always ends, and a request in transit may never arrive, so
/// such a state follows from every state.
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

/// Returns all properties.
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
        P::always("a run that started is current or recorded", |_, s| {
            started_runs_are_current_or_recorded(s)
        }),
        P::always(Fault::RunningDeleted.property(), |_, s| {
            never(s, Fault::RunningDeleted)
        }),
        P::always(Fault::ResultDeleted.property(), |_, s| {
            never(s, Fault::ResultDeleted)
        }),
        P::always(Fault::TooManyPods.property(), |_, s| {
            never(s, Fault::TooManyPods)
        }),
        P::always(RECOVERS, recovers),
        P::sometimes("all runs are recorded", |p, s| p.all_recorded(s)),
        P::sometimes("two candidates wait for a claim", |_, s| {
            s.facts
                .replicas
                .iter()
                .filter(|r| r.next == Next::Claim)
                .count()
                == 2
        }),
        P::sometimes("a claim fails", |_, s| any(s, |r| r.next == Next::Withdraw)),
        P::sometimes("a claim is withdrawn", |_, s| {
            any(s, |r| r.next == Next::Void)
        }),
        P::sometimes("a replica that is not the claimer opens a gate", |_, s| {
            any(s, |r| r.next == Next::Open)
        }),
        P::sometimes("a pod is adopted", |_, s| {
            any(s, |r| {
                r.next == Next::Write && r.adopt != PodRef::None && r.fresh
            })
        }),
        P::sometimes("the current pod is not listed", |_, s| {
            any(
                s,
                |r| matches!((r.next, r.current), (Next::Get, Some(c)) if s.pod(c.name).is_some()),
            )
        }),
        P::sometimes("a stale pod is deleted", |_, s| {
            any(s, |r| r.next == Next::DeleteStale)
        }),
        P::sometimes("a finished pod is deleted", |_, s| {
            any(s, |r| r.next == Next::DeleteFinished)
        }),
        P::sometimes("a pod that has not started is deleted", |p, s| {
            any(s, |r| r.next == Next::Stop) || p.budget.timeouts == 0
        }),
        P::sometimes("a rejected pod is recorded", |_, s| {
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

/// Returns the names of the properties that must always hold.
pub fn violations() -> Vec<&'static str> {
    properties()
        .into_iter()
        .filter(|p| p.expectation == Expectation::Always)
        .map(|p| p.name)
        .collect()
}
