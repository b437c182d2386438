//! Explores the whole model, and shows that each of its rules is needed.

use clap::ValueEnum;
use oaat_model::{Budget, Mutation, Protocol, Report, violations};
use std::io::Write;

const THREADS: usize = 2;

/// Two replicas and two pods that do not start in time.
const START_TIMEOUT: Protocol = Protocol {
    replicas: 2,
    items: 1,
    runs: 2,
    budget: Budget {
        crashes: 1,
        unanswered: 1,
        tampering: 0,
        refusals: 0,
        timeouts: 2,
    },
    windows: false,
    mutation: None,
    whole: false,
};

/// Two replicas and two runs that the operator ends while they run: at the beginning of a blackout, or
/// because their completion containers have ended.
const WINDOWS: Protocol = Protocol {
    windows: true,
    ..START_TIMEOUT
};

/// Prints a line to the standard output of the test itself. The test runner discards the output of
/// `println!` in tests that pass.
fn print_line(line: &str) {
    let mut out = std::io::stdout().lock();
    // An unread output does not fail the test.
    let _ = writeln!(out, "{line}");
}

/// Two replicas, two items, three runs, two crashes, one request without a timely response, one
/// change by hand, and one rejected pod, in every possible order.
#[test]
fn two_replicas_keep_all_properties() {
    let report = Report::of(Protocol::default(), THREADS);
    print_line(&format!("two replicas: {report}"));
    for property in violations() {
        assert!(!report.found(property), "{property}\n{report}");
    }
    assert!(report.not_reached.is_empty(), "{report}");
    assert!(report.states > 1_000_000, "{report}");
}

/// A third replica requires so many states that most faults are left to the other tests.
#[test]
fn three_replicas_keep_all_properties() {
    let protocol = Protocol {
        replicas: 3,
        runs: 2,
        budget: Budget {
            crashes: 1,
            unanswered: 0,
            tampering: 0,
            refusals: 0,
            timeouts: 0,
        },
        ..Protocol::default()
    };
    let report = Report::of(protocol, THREADS);
    print_line(&format!("three replicas: {report}"));
    for property in violations() {
        assert!(!report.found(property), "{property}\n{report}");
    }
}

#[test]
fn every_rule_switched_off_is_detected() {
    for mutation in Mutation::value_variants() {
        let protocol = match mutation {
            Mutation::StopAnyVersion => START_TIMEOUT,
            Mutation::StopUnannounced => WINDOWS,
            _ => Protocol::default(),
        };
        let protocol = Protocol {
            mutation: Some(*mutation),
            ..protocol
        };
        let report = Report::of(protocol, THREADS);
        let path = report.paths.get(mutation.breaks());
        assert!(path.is_some(), "{mutation:?}: {report}");
        let mut words = format!("{mutation:?} breaks: {}", mutation.breaks());
        for line in path.into_iter().flatten() {
            words.push_str("\n  ");
            words.push_str(line);
        }
        print_line(&words);
    }
}

/// The status announces that the pod is ended. Then the pod is deleted, if it is unchanged since it
/// was read.
#[test]
fn start_timeout_keeps_all_properties() {
    let report = Report::of(START_TIMEOUT, THREADS);
    print_line(&format!("with startTimeout: {report}"));
    for property in violations() {
        assert!(!report.found(property), "{property}\n{report}");
    }
}

/// The status announces it. Then the pod is deleted, started or not.
#[test]
fn blackouts_keep_all_properties() {
    let report = Report::of(WINDOWS, THREADS);
    print_line(&format!("with windows: {report}"));
    for property in violations() {
        assert!(!report.found(property), "{property}\n{report}");
    }
}

/// Small configurations have the same findings without merging equivalent states.
#[test]
fn merging_states_does_not_change_the_findings() {
    let small = Protocol {
        runs: 2,
        items: 1,
        budget: Budget {
            crashes: 1,
            unanswered: 0,
            tampering: 0,
            refusals: 0,
            timeouts: 0,
        },
        ..Protocol::default()
    };
    let broken = [
        Mutation::NoGate,
        Mutation::OnlyClaimerOpens,
        Mutation::NoList,
    ];
    for mutation in std::iter::once(None).chain(broken.map(Some)) {
        let [reduced, whole] = [false, true].map(|whole| {
            let protocol = Protocol {
                mutation,
                whole,
                ..small
            };
            Report::of(protocol, THREADS)
        });
        for property in violations() {
            let both = (reduced.found(property), whole.found(property));
            assert_eq!(
                both.0, both.1,
                "{mutation:?}, {property}:\n{reduced}\n{whole}"
            );
        }
        print_line(&format!(
            "{mutation:?}: the same with {} states as with all {}",
            reduced.states, whole.states
        ));
        assert!(mutation.is_some() || reduced.states < whole.states);
    }
}
