//! Counterexamples that the simulation found. Each remains as a seed.

mod output;

use oaat_simulation::many::run_one;
use oaat_simulation::{FaultSet, HistoryConfig, Mutation, ViolationKind, default_policy};
use output::print_line;

/// A history with a violation, and the rule that prevents it.
struct Found {
    /// The seed.
    seed: u64,
    /// The set that its faults were drawn from. With another set, it is another history.
    faults: FaultSet,
    /// The rule that was added because of it. The history still needs that rule.
    without: Option<Mutation>,
    /// The violation without that rule or, if there is no rule, the violation to this day.
    shows: ViolationKind,
}

/// The counterexamples:
///
/// - A claim was duplicated on its way. Its claimer received the second response, a conflict, and
///   deleted its candidate. Another replica had opened the candidate because of the first.
/// - A stale pod was deleted at the moment at which another replica opened it; one shortest history
///   for each rule about stale pods that followed from it.
/// - A candidate was claimed that another replica had just removed.
/// - Unavoidable, and described in `docs/guarantees.md`: a request to open a gate is duplicated,
///   the pod is gone before the second one arrives, and the claimer receives the second response,
///   that there is no such pod. The claimer withdraws its claim, and a run that started is
///   forgotten.
const FOUND: &[Found] = &[
    Found {
        seed: 1245,
        faults: FaultSet::Standard,
        without: Some(Mutation::WithdrawAnyVersion),
        shows: ViolationKind::RunDeleted,
    },
    Found {
        seed: 20,
        faults: FaultSet::Standard,
        without: Some(Mutation::NoSecondRead),
        shows: ViolationKind::RunDeleted,
    },
    Found {
        seed: 8,
        faults: FaultSet::Standard,
        without: Some(Mutation::DeleteAnyVersion),
        shows: ViolationKind::RunDeleted,
    },
    Found {
        seed: 70,
        faults: FaultSet::Standard,
        without: Some(Mutation::RemoveUnannounced),
        shows: ViolationKind::RunDeleted,
    },
    Found {
        seed: 11,
        faults: FaultSet::RepeatedOpen,
        without: None,
        shows: ViolationKind::Lost,
    },
];

#[test]
fn found_counterexamples_still_show_their_violations() {
    let policy = default_policy().unwrap();
    for found in FOUND {
        let unbroken = HistoryConfig {
            seed: found.seed,
            faults: found.faults,
            ..HistoryConfig::default()
        };
        let broken = HistoryConfig {
            mutation: found.without,
            ..unbroken.clone()
        };
        let violation = run_one(&broken, &policy).unwrap().violation;
        let violation =
            violation.unwrap_or_else(|| panic!("{broken:?} no longer shows a violation"));
        assert_eq!(violation.kind, found.shows, "{broken:?}");
        print_line(&format!(
            "seed {} without {:?}: {violation}",
            found.seed, found.without
        ));
        if found.without.is_some() {
            let violation = run_one(&unbroken, &policy).unwrap().violation;
            assert!(violation.is_none(), "{unbroken:?}: {violation:?}");
        }
    }
}
