//! The whole model, and that each of its rules is needed.

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

/// Two replicas and two runs that a window ends.
const WINDOWS: Protocol = Protocol {
    windows: true,
    ..START_TIMEOUT
};

/// Says on the standard output of the test itself what was found: what `println!` says in a test
/// that passes is swallowed.
fn tell(words: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody may be listening, which is no failure of what is tested.
    let _ = writeln!(out, "{words}");
}

/// Two replicas, two items, three runs, two crashes, one request that is not answered in time,
/// one change by hand, one refused pod: every order in which all of it can come.
#[test]
fn nothing_that_must_hold_is_ever_broken() {
    let report = Report::of(Protocol::default(), THREADS);
    tell(&format!("two replicas: {report}"));
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
            timeouts: 0,
        },
        ..Protocol::default()
    };
    let report = Report::of(protocol, THREADS);
    tell(&format!("three replicas: {report}"));
    for property in violations() {
        assert!(!report.found(property), "{property}\n{report}");
    }
}

#[test]
fn each_rule_that_is_broken_is_noticed() {
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
        let way = report.ways.get(mutation.breaks());
        assert!(way.is_some(), "{mutation:?}: {report}");
        let mut words = format!("{mutation:?} breaks: {}", mutation.breaks());
        for line in way.into_iter().flatten() {
            words.push_str("\n  ");
            words.push_str(line);
        }
        tell(&words);
    }
}

/// A pod that does not start in time: the status says that it is to be ended, and then it is
/// deleted, if it is still as it was seen.
#[test]
fn a_pod_that_does_not_start_in_time_is_ended() {
    let report = Report::of(START_TIMEOUT, THREADS);
    tell(&format!("with startTimeout: {report}"));
    for property in violations() {
        assert!(!report.found(property), "{property}\n{report}");
    }
}

/// A run that a window ends: the status says so, and then its pod is deleted, started or not.
#[test]
fn a_run_that_a_window_ends_is_recorded_as_any_other() {
    let report = Report::of(WINDOWS, THREADS);
    tell(&format!("with windows: {report}"));
    for property in violations() {
        assert!(!report.found(property), "{property}\n{report}");
    }
}

/// States that differ in nothing that matters are made one. Where there are few enough to do
/// without that, what is found is the same.
#[test]
fn what_is_left_out_makes_no_difference() {
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
        tell(&format!(
            "{mutation:?}: the same with {} states as with all {}",
            reduced.states, whole.states
        ));
        assert!(mutation.is_some() || reduced.states < whole.states);
    }
}
