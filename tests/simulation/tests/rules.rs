//! Switches off the rules of the protocol in the operator's own code, one after the other. The
//! oracle must detect the expected violation of each.

mod output;

use clap::ValueEnum;
use oaat_simulation::many::{run_many, shorten};
use oaat_simulation::mutation::breaks;
use oaat_simulation::{FaultSet, HistoryConfig, Mutation, default_policy, shards, turns};
use output::print_line;

/// Most violations are detected within a few dozen histories.
const SEEDS: u64 = 3_000;
/// The number of lines printed of a history: its end.
const LINES: usize = 40;

/// Detected only if several faults coincide that are rare among all faults.
const RARE: [Mutation; 1] = [Mutation::ListBeforeRead];

/// These take too long for a test: a run that starts and ends between a read and a list of another
/// replica, which is then the first to process its end; and a claimer that is slow to open a pod
/// that another replica opens for it, and that is gone at once. The model shows both.
const RAREST: [Mutation; 2] = [Mutation::NoSecondReadFinished, Mutation::OpenUnannounced];

/// A history has one group, so only `turns` and `shards` detect these.
const WORK_QUEUE_RULE: Mutation = Mutation::NewestDueFirst;
const SHARD_RULE: Mutation = Mutation::LostShardsUnserved;

#[test]
fn unfair_turns_are_detected() {
    for seed in 0..100 {
        let violation = turns::simulate(seed, None);
        assert!(violation.is_none(), "seed {seed}: {violation:?}");
    }
    let violation = (0..100).find_map(|seed| turns::simulate(seed, Some(WORK_QUEUE_RULE)));
    assert_eq!(violation.map(|v| v.kind), Some(breaks(WORK_QUEUE_RULE)));
}

#[test]
fn groups_of_lost_shards_are_served_by_the_others() {
    for seed in 0..1000 {
        let violation = shards::simulate(seed, None);
        assert!(violation.is_none(), "seed {seed}: {violation:?}");
    }
    let violation = (0..1000).find_map(|seed| shards::simulate(seed, Some(SHARD_RULE)));
    assert_eq!(violation.map(|v| v.kind), Some(breaks(SHARD_RULE)));
}

#[test]
fn every_rule_switched_off_is_detected() {
    let policy = default_policy().unwrap();
    let all = Mutation::value_variants().iter();
    let in_histories =
        |rule: &&Mutation| !RAREST.contains(rule) && ![WORK_QUEUE_RULE, SHARD_RULE].contains(rule);
    for rule in all.filter(in_histories) {
        let faults = match rule {
            rule if RARE.contains(rule) => FaultSet::UserInterference,
            Mutation::ManyListers | Mutation::MissingForgotten => FaultSet::ItemLists,
            Mutation::NoGiveUp | Mutation::DisruptionsFail | Mutation::GatedPodTimesOut => {
                FaultSet::Disruptions
            }
            Mutation::NoFutureTimeCorrection => FaultSet::ClockJumps,
            Mutation::NoSecondDelete | Mutation::CompletedIsTerminal => {
                FaultSet::SidecarsAndDeletions
            }
            _ => FaultSet::default(),
        };
        let config = |number| HistoryConfig {
            seed: number,
            faults,
            mutation: Some(*rule),
            ..HistoryConfig::default()
        };
        let summary = run_many(SEEDS, config, &policy, |_| ()).unwrap();
        let Some((config, what)) = summary.violation else {
            panic!("{rule:?} was not detected in {SEEDS} histories");
        };
        assert_eq!(what.kind, breaks(*rule), "{rule:?}: {what}");
        let (short, result) = shorten(&config, &policy).unwrap();
        let found = result.violation.map(|violation| violation.kind);
        assert_eq!(found, Some(breaks(*rule)), "{short:?}");
        let (seed, faults) = (config.seed, &result.faults);
        print_line(&format!("{rule:?}, seed {seed}, faults {faults:?}:"));
        let skipped = result.trace.len().saturating_sub(LINES);
        if skipped > 0 {
            print_line(&format!("  ({skipped} earlier lines)"));
        }
        for line in &result.trace[skipped..] {
            print_line(&format!("  {line}"));
        }
        print_line(&format!("  {what}\n"));
    }
}

/// Rules can be switched off only in tests. The shipped operator is another package, in which
/// `oaat_mutations` is a compile error.
#[test]
fn a_rule_is_in_effect_unless_it_is_switched_off() {
    use oaat_operator::mutation::off;
    use oaat_simulation::mutation::without;
    let rule = Mutation::NoGate;
    assert!(!off(rule));
    assert!(without(Some(rule), || off(rule) && !off(Mutation::NoList)));
    assert!(!off(rule));
}
