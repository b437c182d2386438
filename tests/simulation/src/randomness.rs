//! Randomness as a function of a seed. One seed is one history. Leaving out a fault does not change
//! the other faults.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeSet;
use std::ops::Range;

/// The random numbers of one history.
pub struct Randomness {
    seed: u64,
    /// For everything but faults: delays, run times, and order.
    rng: ChaCha8Rng,
    /// The number of times that a fault was possible.
    faults: u64,
    /// The numbers of the faults to leave out.
    without: BTreeSet<u64>,
    /// The numbers of the injected faults.
    pub injected: Vec<u64>,
    /// Whether there are no more faults.
    pub fault_free: bool,
}

impl Randomness {
    /// Creates the random numbers of a seed, without some of its faults.
    pub fn new(seed: u64, without: &BTreeSet<u64>) -> Self {
        Self {
            seed,
            rng: ChaCha8Rng::seed_from_u64(seed),
            faults: 0,
            without: without.clone(),
            injected: Vec::new(),
            fault_free: false,
        }
    }

    /// Draws a number from `range`.
    pub fn draw(&mut self, range: Range<u64>) -> u64 {
        self.rng.random_range(range)
    }

    /// Returns `true` `times` times out of 1,000.
    pub fn per_1000(&mut self, times: u64) -> bool {
        self.draw(0..1000) < times
    }

    /// Picks one of `several`.
    pub fn pick<T: Copy>(&mut self, several: &[T]) -> T {
        several[self.draw(0..several.len() as u64) as usize]
    }

    /// Returns a fault `times` times out of 1,000. The fault has its own generator, so leaving it
    /// out does not change any other fault.
    pub fn fault(&mut self, times: u64) -> Option<Fault> {
        let number = self.faults;
        self.faults += 1;
        if self.fault_free || self.without.contains(&number) {
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

/// An injected fault.
pub struct Fault {
    /// The number of the fault in its history.
    pub number: u64,
    rng: ChaCha8Rng,
}

impl Fault {
    /// Draws a number from `range`.
    pub fn draw(&mut self, range: Range<u64>) -> u64 {
        self.rng.random_range(range)
    }

    /// Picks one of `several`.
    pub fn pick<T: Copy>(&mut self, several: &[T]) -> T {
        several[self.draw(0..several.len() as u64) as usize]
    }
}
