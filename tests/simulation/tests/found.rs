//! Counterexamples that were found on the way: each stays, as a seed.

mod telling;

use oaat_simulation::many::one;
use oaat_simulation::{Faults, Kind, Mutation, Setting, default_policy};
use telling::tell;

/// A history that went wrong, and what became of that.
struct Found {
    /// Its seed.
    seed: u64,
    /// The faults that the seed was drawn among: with others it would be another history.
    faults: Faults,
    /// The rule that has been made of it, which it still shows to be needed.
    without: Option<Mutation>,
    /// What it shows: without that rule or, where there is none, to this day.
    shows: Kind,
}

/// What was found.
///
/// - A claimer whose claim was doubled on its way heard of the second, which was a conflict, and
///   deleted its candidate, which another replica had opened on the strength of the first.
/// - A stray was deleted that another replica opened in that very moment; the shortest history
///   for each rule about strays that came of it.
/// - A candidate was claimed that another replica had just removed.
/// - Not to be helped, and told in docs/guarantees.md: a request to open a gate is doubled, the pod
///   is gone before the second arrives, and its answer, that there is no such pod, is the one
///   that the claimer hears. It takes its claim back, and a run that began is forgotten.
const FOUND: &[Found] = &[
    Found {
        seed: 267,
        faults: Faults::Second,
        without: Some(Mutation::WithdrawAnyVersion),
        shows: Kind::RunDeleted,
    },
    Found {
        seed: 30,
        faults: Faults::Second,
        without: Some(Mutation::NoSecondRead),
        shows: Kind::RunDeleted,
    },
    Found {
        seed: 8,
        faults: Faults::Second,
        without: Some(Mutation::DeleteAnyVersion),
        shows: Kind::RunDeleted,
    },
    Found {
        seed: 39,
        faults: Faults::Second,
        without: Some(Mutation::RemoveUnannounced),
        shows: Kind::RunDeleted,
    },
    Found {
        seed: 11,
        faults: Faults::Repeated,
        without: None,
        shows: Kind::Lost,
    },
];

#[test]
fn what_was_found_stays_found() {
    let policy = default_policy().unwrap();
    for found in FOUND {
        let whole = Setting {
            seed: found.seed,
            faults: found.faults,
            ..Setting::default()
        };
        let broken = Setting {
            mutation: found.without,
            ..whole.clone()
        };
        let violation = one(&broken, &policy).unwrap().violation;
        let what = violation.unwrap_or_else(|| panic!("{broken:?} shows nothing any more"));
        assert_eq!(what.kind, found.shows, "{broken:?}");
        tell(&format!(
            "seed {} without {:?}: {what}",
            found.seed, found.without
        ));
        if found.without.is_some() {
            let violation = one(&whole, &policy).unwrap().violation;
            assert!(violation.is_none(), "{whole:?}: {violation:?}");
        }
    }
}
