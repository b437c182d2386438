//! How a rest grows.

use policy_sdk::{Duration, Instant};
use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

/// After so many failures in a row a rest grows no further, whatever `max` allows.
const GROWS: u32 = 1000;

/// The settings in force for an item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The rest after the first failure.
    pub base: Duration,
    /// By how much each further failure multiplies it; at least 1.
    pub factor: f64,
    /// The longest rest; at least `base`.
    pub max: Duration,
    /// How far a rest is moved up or down, as a part of it; from 0 to 1.
    pub jitter: f64,
}

impl Backoff {
    /// The rest after this many failures in a row, without jitter.
    pub fn rest(&self, failures: u32) -> Duration {
        if failures == 0 {
            return 0;
        }
        (self.grown(failures) as Duration).min(self.max)
    }

    /// The rest of an item after this many failures in a row, of which the latest was
    /// at `at`. Jitter moves it, but never beyond `max`.
    pub fn rest_of(&self, name: &str, failures: u32, at: Instant) -> Duration {
        if failures == 0 || self.jitter == 0.0 {
            return self.rest(failures);
        }
        let moved = 1.0 - self.jitter + 2.0 * self.jitter * lot(name, failures, at);
        ((self.grown(failures) * moved) as Duration).min(self.max)
    }

    /// Multiplies step by step: unlike a power, which each platform may round in its
    /// own way, that gives the same bits everywhere and never less for one failure more.
    fn grown(&self, failures: u32) -> f64 {
        let (mut rest, max) = (self.base as f64, self.max as f64);
        for _ in 1..failures.min(GROWS) {
            if rest >= max {
                break;
            }
            rest *= self.factor;
        }
        rest.min(max)
    }
}

/// A number from 0 up to 1 that belongs to this failure of this item. The seed of a
/// request would not do: it changes from run to run, and with it the end of a rest
/// that has begun.
fn lot(name: &str, failures: u32, at: Instant) -> f64 {
    let failure = failures.to_le_bytes().into_iter().chain(at.to_le_bytes());
    // FNV-1a folds the bytes, ChaCha spreads them: both are published, and stay.
    let folded = name
        .bytes()
        .chain(failure)
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    // The 53 bits that an f64 holds.
    let bits = ChaCha8Rng::seed_from_u64(folded).next_u64() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}
