//! The whole model, and that each of its rules is needed.

use clap::ValueEnum;
use oaat_model::{Budget, Mutation, Protocol, Report, violations};

const THREADS: usize = 2;

/// Two replicas, two items, three runs, two crashes, one request that is not answered in time,
/// one change by hand, one refused pod: every order in which all of it can come.
#[test]
fn nothing_that_must_hold_is_ever_broken() {
    let report = Report::of(Protocol::default(), THREADS);
    println!("{report}");
    for property in violations() {
        assert!(!report.found(property), "{property}\n{report}");
    }
    assert!(report.missing.is_empty(), "{report}");
    assert!(report.states > 1_000_000, "{report}");
}

/// A third replica costs so many states that faults are left to the others.
#[test]
fn three_replicas_hold_it_as_well() {
    let protocol = Protocol {
        replicas: 3,
        runs: 2,
        budget: Budget {
            crashes: 1,
            unanswered: 0,
            tampering: 0,
            refusals: 0,
        },
        ..Protocol::default()
    };
    let report = Report::of(protocol, THREADS);
    println!("{report}");
    for property in violations() {
        assert!(!report.found(property), "{property}\n{report}");
    }
}

#[test]
fn each_rule_that_is_broken_is_noticed() {
    for mutation in Mutation::value_variants() {
        let protocol = Protocol {
            mutation: Some(*mutation),
            ..Protocol::default()
        };
        let report = Report::of(protocol, THREADS);
        let way = report.ways.get(mutation.breaks());
        assert!(way.is_some(), "{mutation:?}: {report}");
        println!("{mutation:?} breaks: {}", mutation.breaks());
        for line in way.into_iter().flatten() {
            println!("  {line}");
        }
    }
}
