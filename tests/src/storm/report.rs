//! The report of a storm.

use anyhow::{Context, Result, bail};
use std::fmt;
use std::time::{Duration, SystemTime};

/// Returns the seed in the environment variable OAAT_STORM_SEED, or a new one.
///
/// # Errors
/// Returns an error if the variable is not a number.
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

/// The result of a storm.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The number of SIGKILLs.
    pub kills: usize,
    /// The number of SIGTERMs, after which a leader releases its lease.
    pub stops: usize,
    /// The number of times that an operator was frozen.
    pub freezes: usize,
    /// The number of operators that exited because they lost the lease.
    pub exits: usize,
    /// The number of restarts of the API server and of etcd.
    pub restarts: usize,
    /// The number of requests with an injected fault.
    pub broken: u64,
    /// The number of runs, each recorded once.
    pub runs: usize,
    /// The duration.
    pub took: Duration,
    /// The violations: two pods at the same time, a run that is lost, recorded twice, or recorded
    /// with the wrong result, or groups that do not settle.
    pub violations: Vec<String>,
}

impl Report {
    /// Checks that there were no violations.
    ///
    /// # Errors
    /// Returns an error if there were violations; the error is the report.
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
            "{kills} kills, {stops} stops, {freezes} freezes, {exits} exits without the lease, \
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
