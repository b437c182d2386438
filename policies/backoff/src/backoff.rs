//! Computes backoff delays.

use policy_sdk::{Duration, Instant};
use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

/// The number of consecutive failures after which the delay no longer grows.
const MAX_GROWTH_STEPS: u32 = 1000;

/// The effective settings of an item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The delay after the first failure.
    pub base: Duration,
    /// The factor by which each further failure multiplies the delay; at least 1.
    pub factor: f64,
    /// The maximum delay; at least `base`.
    pub max: Duration,
    /// The maximum change of a delay by jitter, as a fraction of the delay; from 0 to 1.
    pub jitter: f64,
}

impl Backoff {
    /// Returns the delay after a number of consecutive failures, without jitter.
    pub fn delay(&self, failures: u32) -> Duration {
        if failures == 0 {
            return 0;
        }
        (self.grown(failures) as Duration).min(self.max)
    }

    /// Returns the delay of an item after a number of consecutive failures, with jitter. `at` is the
    /// time of the latest failure. The delay never exceeds `max`.
    pub fn jittered_delay(&self, name: &str, failures: u32, at: Instant) -> Duration {
        if failures == 0 || self.jitter == 0.0 {
            return self.delay(failures);
        }
        let scale = 1.0 - self.jitter + 2.0 * self.jitter * jitter_fraction(name, failures, at);
        ((self.grown(failures) * scale) as Duration).min(self.max)
    }

    /// Returns `base` × `factor`^(`failures` − 1), at most `max`. Multiplies step by step, because
    /// the rounding of `powf` depends on the platform and may not be monotonic.
    fn grown(&self, failures: u32) -> f64 {
        let (mut delay, max) = (self.base as f64, self.max as f64);
        for _ in 1..failures.min(MAX_GROWTH_STEPS) {
            if delay >= max {
                break;
            }
            delay *= self.factor;
        }
        delay.min(max)
    }
}

/// Returns a number from 0 to 1 (exclusive) that depends only on the failure. The seed of the request
/// is not used, because it changes with each run and would change the end of a delay.
fn jitter_fraction(name: &str, failures: u32, at: Instant) -> f64 {
    let failure = failures.to_le_bytes().into_iter().chain(at.to_le_bytes());
    // FNV-1a folds the bytes, and ChaCha spreads them. Both algorithms are published and stable.
    let folded = name
        .bytes()
        .chain(failure)
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    // An f64 has 53 bits of precision.
    let bits = ChaCha8Rng::seed_from_u64(folded).next_u64() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}
