//! What is said of a storm.

use anyhow::{Context, Result, bail};
use std::fmt;
use std::time::{Duration, SystemTime};

/// A seed: what the environment variable OAAT_STORM_SEED says, else a new one.
///
/// # Errors
/// When the variable is no number.
pub fn seed() -> Result<u64> {
    match std::env::var("OAAT_STORM_SEED") {
        Ok(seed) => seed
            .parse()
            .with_context(|| format!("OAAT_STORM_SEED={seed}: a number is expected")),
        Err(_) => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
            Ok(u64::from(now.subsec_nanos()))
        }
    }
}

/// What came of a storm, also of one that ended badly.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// SIGKILLs.
    pub kills: usize,
    /// SIGTERMs, by which a leader gives its lease back.
    pub stops: usize,
    /// Times that an operator was frozen.
    pub freezes: usize,
    /// Operators that ended by themselves, for want of the lease.
    pub exits: usize,
    /// Restarts of the API server and of etcd.
    pub restarts: usize,
    /// Requests that were late, lost or unheard.
    pub broken: u64,
    /// Runs, each recorded once.
    pub runs: usize,
    /// How long it took.
    pub took: Duration,
    /// What must never be: two pods at a time, a run lost, recorded twice or otherwise than it
    /// ended; or that it does not come to an end.
    pub violations: Vec<String>,
}

impl Report {
    /// Whether there were no violations.
    ///
    /// # Errors
    /// The violations, and all the rest.
    pub fn judge(&self) -> Result<()> {
        if !self.violations.is_empty() {
            bail!("{self}");
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            kills,
            stops,
            freezes,
            exits,
            restarts,
            broken,
            runs,
            took,
            violations,
        } = self;
        write!(
            f,
            "{kills} kills, {stops} stops, {freezes} freezes, {exits} exits for want of the lease, \
             {restarts} restarts of API server and etcd, {broken} requests late or broken, {runs} runs, \
             {} violations in {} s (seed {seed})",
            violations.len(),
            took.as_secs()
        )?;
        for violation in violations {
            write!(f, "\nVIOLATION: {violation}")?;
        }
        Ok(())
    }
}
