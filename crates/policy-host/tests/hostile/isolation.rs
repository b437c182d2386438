//! An evaluation never sees data of an earlier one in its memories, globals, tables, or data segments,
//! however the earlier one ended.

use crate::common::{limits, request};
use hostile_policies::residue_detector;
use policy_host::{Choice, Evaluation, Host, Limits, Policy};
use std::time::Duration;

const CLEAN: Choice = Choice::Run(0);

/// Returns limits under which the policy can search its memory several times.
fn more_fuel() -> Limits {
    Limits {
        fuel: 50_000_000,
        ..limits()
    }
}

/// Returns the choice, or the reason of the error.
fn outcome(policy: &Policy, settings: &str) -> Result<Choice, &'static str> {
    let Evaluation { answer, .. } = policy.evaluate(&request(settings, ""));
    answer
        .map(|decision| decision.choice)
        .map_err(|error| error.reason())
}

#[test]
fn evaluation_finds_no_data_of_earlier_ones() {
    check_isolation(|limits| Host::new(limits).unwrap());
}

#[test]
fn evaluation_finds_no_data_of_earlier_ones_in_reused_memory() {
    // All evaluations use the same memory.
    check_isolation(|limits| Host::for_many_evaluations(limits, 1).unwrap());
}

/// Loads two policies with the same code and different digests.
fn load(host: &Host) -> [Policy; 2] {
    let policies = [1, 2].map(|id| host.load(&residue_detector(id).unwrap(), None).unwrap());
    assert_ne!(policies[0].digest(), policies[1].digest());
    policies
}

/// Checks that neither policy finds data.
fn assert_clean([one, other]: &[Policy; 2], after: &str) {
    for policy in [other, one, one] {
        assert_eq!(outcome(policy, "{}"), Ok(CLEAN), "after {after}");
    }
}

fn check_isolation(host: impl Fn(Limits) -> Host) {
    let policies = load(&host(more_fuel()));
    assert_clean(&policies, "the trial request");
    for (settings, expected) in [
        (r#"{"crash":1}"#, Err("Trapped")),
        (r#"{"loop":1}"#, Err("OutOfFuel")),
        (r#"{"grow":1}"#, Err("OutOfMemory")),
        (r#"{"bad-answer":1}"#, Err("BadAnswer")),
        // The policy detects data that is there.
        (r#"{"search-again":1}"#, Ok(Choice::Wait(None))),
    ] {
        assert_eq!(outcome(&policies[0], settings), expected, "{settings}");
        assert_clean(&policies, settings);
    }
    // With this fuel, the deadline ends the endless loop on any machine.
    let policies = load(&host(Limits {
        fuel: 1 << 50,
        ..limits()
    }));
    let endless = request(r#"{"loop":1}"#, "");
    let interrupted = policies[0].evaluate_within(&endless, Duration::from_millis(30));
    assert!(interrupted.is_none());
    assert_clean(&policies, "a timeout");
}
