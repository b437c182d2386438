//! Rules of the protocol switched off in the operator's own code, one after the other: for each
//! the oracle sees what must come of it.

mod telling;

use clap::ValueEnum;
use oaat_simulation::many::{many, shortest};
use oaat_simulation::mutation::breaks;
use oaat_simulation::{Faults, Mutation, Setting, default_policy};
use telling::tell;

/// Most are noticed within a few dozen histories.
const SEEDS: u64 = 3_000;
/// Lines of a history that are told: its end.
const LINES: usize = 40;

/// Missed only where several things coincide that each are rare among all faults.
const RARE: [Mutation; 1] = [Mutation::ListBeforeRead];

/// These take longer than a test may take: a run that begins and ends between a read and a list
/// of another replica, which then is the first to look at its end; a claimer that is slow to open
/// what another opens for it, and whose pod is gone at once. The model shows what comes of them.
const RAREST: [Mutation; 2] = [Mutation::NoSecondReadFinished, Mutation::OpenUnannounced];

#[test]
fn each_rule_that_is_switched_off_is_noticed() {
    let policy = default_policy().unwrap();
    let all = Mutation::value_variants().iter();
    for rule in all.filter(|rule| !RAREST.contains(rule)) {
        let faults = match rule {
            rule if RARE.contains(rule) => Faults::Meddling,
            Mutation::ManyListers | Mutation::MissingForgotten => Faults::Lists,
            _ => Faults::default(),
        };
        let setting = |number| Setting {
            seed: number,
            faults,
            mutation: Some(*rule),
            ..Setting::default()
        };
        let sum = many(SEEDS, setting, &policy, |_| ()).unwrap();
        let Some((setting, what)) = sum.wrong else {
            panic!("{rule:?} was not noticed in {SEEDS} histories");
        };
        assert_eq!(what.kind, breaks(*rule), "{rule:?}: {what}");
        let (short, verdict) = shortest(&setting, &policy).unwrap();
        let found = verdict.violation.map(|violation| violation.kind);
        assert_eq!(found, Some(breaks(*rule)), "{short:?}");
        let (seed, faults) = (setting.seed, &verdict.faults);
        tell(&format!("{rule:?}, seed {seed}, faults {faults:?}:"));
        let skipped = verdict.told.len().saturating_sub(LINES);
        if skipped > 0 {
            tell(&format!("  ({skipped} lines before)"));
        }
        for line in &verdict.told[skipped..] {
            tell(&format!("  {line}"));
        }
        tell(&format!("  {what}\n"));
    }
}

/// The rules can be switched off where they are tested and nowhere else: the operator that is
/// shipped is another package, in which `oaat_mutations` is a compile error.
#[test]
fn a_rule_is_in_force_unless_it_is_switched_off() {
    use oaat_operator::mutation::off;
    use oaat_simulation::mutation::without;
    let rule = Mutation::NoGate;
    assert!(!off(rule));
    assert!(without(Some(rule), || off(rule) && !off(Mutation::NoList)));
    assert!(!off(rule));
}
