//! Chance, as a function of a seed. One seed is one history, and a fault can be left out of
//! it without changing what the other faults are.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeSet;
use std::ops::Range;

/// Everything that is left to chance in one history.
pub struct Chance {
    seed: u64,
    /// For what is no fault: delays, run times, who comes first.
    rng: ChaCha8Rng,
    /// Faults that could have been so far.
    faults: u64,
    /// Faults that are left out.
    without: BTreeSet<u64>,
    /// Faults that were.
    pub injected: Vec<u64>,
    /// From the end of the faults on there are none.
    pub calm: bool,
}

impl Chance {
    /// The chance of one seed, without some of its faults.
    pub fn new(seed: u64, without: &BTreeSet<u64>) -> Self {
        Self {
            seed,
            rng: ChaCha8Rng::seed_from_u64(seed),
            faults: 0,
            without: without.clone(),
            injected: Vec::new(),
            calm: false,
        }
    }

    /// A number of the range.
    pub fn number(&mut self, range: Range<u64>) -> u64 {
        self.rng.random_range(range)
    }

    /// True so many times out of 1,000.
    pub fn of_1000(&mut self, times: u64) -> bool {
        self.number(0..1000) < times
    }

    /// One of several.
    pub fn one_of<T: Copy>(&mut self, several: &[T]) -> T {
        several[self.number(0..several.len() as u64) as usize]
    }

    /// Whether there is a fault here, so many times out of 1,000. If so, what it is made of is
    /// drawn from the generator given: its own, so that leaving it out changes no other.
    pub fn fault(&mut self, times: u64) -> Option<Fault> {
        let number = self.faults;
        self.faults += 1;
        if self.calm || self.without.contains(&number) {
            return None;
        }
        let own = self.seed.rotate_left(32) ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut rng = ChaCha8Rng::seed_from_u64(own);
        if rng.random_range(0..1000) >= times {
            return None;
        }
        self.injected.push(number);
        Some(Fault { number, rng })
    }
}

/// One fault.
pub struct Fault {
    /// Its number in its history.
    pub number: u64,
    rng: ChaCha8Rng,
}

impl Fault {
    /// A number of the range.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        self.rng.random_range(range)
    }
}
