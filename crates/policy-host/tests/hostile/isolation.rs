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
    check_isolation(&Host::new(more_fuel()).unwrap());
}

#[test]
fn evaluation_finds_no_data_of_earlier_ones_in_reused_memory() {
    // All evaluations use the same memory.
    check_isolation(&Host::for_many_evaluations(more_fuel(), 1).unwrap());
}

fn check_isolation(host: &Host) {
    let load = |id| host.load(&residue_detector(id).unwrap(), None).unwrap();
    let (one, other) = (load(1), load(2));
    assert_ne!(one.digest(), other.digest());
    let assert_clean = |after: &str| {
        for policy in [&other, &one, &one] {
            assert_eq!(outcome(policy, "{}"), Ok(CLEAN), "after {after}");
        }
    };
    assert_clean("the trial request");
    for (settings, expected) in [
        (r#"{"crash":1}"#, Err("Trapped")),
        (r#"{"loop":1}"#, Err("OutOfFuel")),
        (r#"{"grow":1}"#, Err("OutOfMemory")),
        (r#"{"bad-answer":1}"#, Err("BadAnswer")),
        // The policy detects data that is there.
        (r#"{"search-again":1}"#, Ok(Choice::Wait(None))),
    ] {
        assert_eq!(outcome(&one, settings), expected, "{settings}");
        assert_clean(settings);
    }
    let interrupted = request(r#"{"loop":1}"#, "");
    let interrupted = one.evaluate_within(&interrupted, Duration::from_millis(30));
    assert!(interrupted.is_none());
    assert_clean("a timeout");
}
