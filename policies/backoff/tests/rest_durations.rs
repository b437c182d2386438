//! How a rest grows: rows, and what holds for all settings.

use policy_backoff::Backoff;
use proptest::prelude::*;

const MINUTE: u64 = 60_000;

/// From a minute to an hour, without jitter.
fn backoff(factor: f64) -> Backoff {
    Backoff {
        base: MINUTE,
        factor,
        max: 60 * MINUTE,
        jitter: 0.0,
    }
}

#[test]
fn a_rest_grows_by_the_factor_up_to_max() {
    // factor, failures, minutes
    let cases = [
        (2.0, 0, 0.0),
        (2.0, 1, 1.0),
        (2.0, 2, 2.0),
        (2.0, 3, 4.0),
        (2.0, 6, 32.0),
        (2.0, 7, 60.0),
        (2.0, u32::MAX, 60.0),
        (1.0, 1, 1.0),
        (1.0, u32::MAX, 1.0),
        (1.5, 3, 2.25),
        (f64::MAX, 1, 1.0),
        (f64::MAX, 3, 60.0),
    ];
    for (factor, failures, minutes) in cases {
        let rest = backoff(factor).rest(failures);
        assert_eq!(rest as f64 / MINUTE as f64, minutes, "{factor} {failures}");
    }
}

#[test]
fn without_a_base_there_is_no_rest() {
    let none = Backoff {
        base: 0,
        ..backoff(f64::MAX)
    };
    assert_eq!(none.rest(u32::MAX), 0);
}

#[test]
fn jitter_belongs_to_the_failure() {
    let jittery = Backoff {
        jitter: 0.5,
        ..backoff(2.0)
    };
    let rest = jittery.rest_of("a", 3, 1000);
    assert_eq!(rest, jittery.rest_of("a", 3, 1000));
    for (name, failures, at) in [("b", 3, 1000), ("a", 4, 1000), ("a", 3, 1001)] {
        assert_ne!(rest, jittery.rest_of(name, failures, at));
    }
}

#[test]
fn jitter_moves_rests_over_the_whole_range() {
    let jittery = Backoff {
        jitter: 0.5,
        ..backoff(2.0)
    };
    let mut tenths = [0_u32; 10];
    for at in 0..10_000 {
        // From 2 to 6 minutes.
        let rest = jittery.rest_of("a", 3, at) - 2 * MINUTE;
        tenths[(rest * 10 / (4 * MINUTE)) as usize] += 1;
    }
    // 1,000 expected each, standard deviation 30: six of them.
    for count in tenths {
        assert!((820..=1180).contains(&count), "{tenths:?}");
    }
}

/// What these failures get in this release, for ever: a rest that has begun ends when
/// it was said to end, whatever release decides then.
#[test]
fn the_jitter_does_not_change_between_releases() {
    let jittery = Backoff {
        jitter: 0.5,
        ..backoff(2.0)
    };
    let rests = [("a", 1, 0), ("a", 2, 0), ("ü/1", 3, 1_800_000_000_000)]
        .map(|(name, failures, at)| jittery.rest_of(name, failures, at));
    assert_eq!(rests, RESTS);
}

const RESTS: [u64; 3] = [57_695, 140_956, 215_761];

prop_compose! {
    fn any_backoff()(
        base in prop_oneof![0..100 * MINUTE, any::<u64>()],
        more in prop_oneof![0..1000 * MINUTE, any::<u64>()],
        factor in prop_oneof![1.0..4.0, 1.0..1.000_001, 1.0..f64::MAX],
        jitter in prop_oneof![Just(0.0), Just(1.0), 0.0..1.0],
    ) -> Backoff {
        Backoff { base, factor, max: base.saturating_add(more), jitter }
    }
}

fn failures() -> impl Strategy<Value = u32> {
    prop_oneof![1_u32..100, any::<u32>()]
}

proptest! {
    #[test]
    fn one_failure_more_never_rests_for_less(backoff in any_backoff(), failures in failures()) {
        let more = backoff.rest(failures.saturating_add(1));
        prop_assert!(backoff.rest(failures) <= more);
        prop_assert!(more <= backoff.max);
    }

    #[test]
    fn a_rest_lies_between_base_less_jitter_and_max(
        backoff in any_backoff(),
        failures in failures(),
        at in any::<i64>(),
    ) {
        let rest = backoff.rest_of("a", failures, at);
        prop_assert!(rest <= backoff.max);
        // An f64 has 53 bits, a duration 64; and no part of a millisecond is kept.
        let least = backoff.base as f64 * (1.0 - backoff.jitter);
        prop_assert!(rest as f64 >= least * (1.0 - 1e-15) - 1.0, "{} < {}", rest, least);
    }

    #[test]
    fn jitter_moves_a_rest_by_its_part_at_most(
        jitter in 0.0..=1.0,
        failures in 1_u32..6,
        at in any::<i64>(),
    ) {
        let plain = backoff(2.0).rest(failures) as f64;
        let moved = Backoff { jitter, ..backoff(2.0) }.rest_of("a", failures, at) as f64;
        prop_assert!((moved - plain).abs() <= plain * jitter + 1.0, "{} {}", plain, moved);
    }
}
