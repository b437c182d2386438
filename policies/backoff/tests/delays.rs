//! Tests backoff delays with examples and properties.

use policy_backoff::Backoff;
use proptest::prelude::*;

const MINUTE: u64 = 60_000;

/// Returns a backoff from a minute to an hour, without jitter.
fn backoff(factor: f64) -> Backoff {
    Backoff {
        base: MINUTE,
        factor,
        max: 60 * MINUTE,
        jitter: 0.0,
    }
}

#[test]
fn delay_grows_by_the_factor_up_to_max() {
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
        let delay = backoff(factor).delay(failures);
        assert_eq!(delay as f64 / MINUTE as f64, minutes, "{factor} {failures}");
    }
}

#[test]
fn delay_is_zero_if_base_is_zero() {
    let none = Backoff {
        base: 0,
        ..backoff(f64::MAX)
    };
    assert_eq!(none.delay(u32::MAX), 0);
}

#[test]
fn jitter_depends_only_on_the_failure() {
    let jittery = Backoff {
        jitter: 0.5,
        ..backoff(2.0)
    };
    let delay = jittery.jittered_delay("a", 3, 1000);
    assert_eq!(delay, jittery.jittered_delay("a", 3, 1000));
    for (name, failures, at) in [("b", 3, 1000), ("a", 4, 1000), ("a", 3, 1001)] {
        assert_ne!(delay, jittery.jittered_delay(name, failures, at));
    }
}

#[test]
fn jitter_spreads_delays_over_the_whole_range() {
    let jittery = Backoff {
        jitter: 0.5,
        ..backoff(2.0)
    };
    let mut tenths = [0_u32; 10];
    for at in 0..10_000 {
        // From 2 to 6 minutes.
        let delay = jittery.jittered_delay("a", 3, at) - 2 * MINUTE;
        tenths[(delay * 10 / (4 * MINUTE)) as usize] += 1;
    }
    // The mean is 1,000 and the standard deviation is 30. Allows six of them.
    for count in tenths {
        assert!((820..=1180).contains(&count), "{tenths:?}");
    }
}

/// Pins the jitter: an update of the policy must not change the end of a backoff that has begun.
#[test]
fn jitter_is_the_same_in_every_release() {
    let jittery = Backoff {
        jitter: 0.5,
        ..backoff(2.0)
    };
    let delays = [("a", 1, 0), ("a", 2, 0), ("ü/1", 3, 1_800_000_000_000)]
        .map(|(name, failures, at)| jittery.jittered_delay(name, failures, at));
    assert_eq!(delays, DELAYS);
}

const DELAYS: [u64; 3] = [57_695, 140_956, 215_761];

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
    fn delay_is_monotonic(backoff in any_backoff(), failures in failures()) {
        let more = backoff.delay(failures.saturating_add(1));
        prop_assert!(backoff.delay(failures) <= more);
        prop_assert!(more <= backoff.max);
    }

    #[test]
    fn jittered_delay_is_between_reduced_base_and_max(
        backoff in any_backoff(),
        failures in failures(),
        at in any::<i64>(),
    ) {
        let delay = backoff.jittered_delay("a", failures, at);
        prop_assert!(delay <= backoff.max);
        // Allows for the precision of an f64 and for rounding to milliseconds.
        let least = backoff.base as f64 * (1.0 - backoff.jitter);
        prop_assert!(delay as f64 >= least * (1.0 - 1e-15) - 1.0, "{} < {}", delay, least);
    }

    #[test]
    fn jitter_changes_a_delay_by_at_most_its_fraction(
        jitter in 0.0..=1.0,
        failures in 1_u32..6,
        at in any::<i64>(),
    ) {
        let plain = backoff(2.0).delay(failures) as f64;
        let moved = Backoff { jitter, ..backoff(2.0) }.jittered_delay("a", failures, at) as f64;
        prop_assert!((moved - plain).abs() <= plain * jitter + 1.0, "{} {}", plain, moved);
    }
}
