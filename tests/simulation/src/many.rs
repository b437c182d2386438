//! Runs many histories on all cores, and shortens a history with a violation.

use crate::config::{HistoryConfig, HistoryResult, Kill};
use crate::faults::FaultSet;
use crate::history::History;
use crate::violation::Violation;
use policy_host::Policy;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// The totals of many histories.
#[derive(Debug, Default)]
pub struct Summary {
    /// The number of histories.
    pub histories: u64,
    /// The number of recorded runs.
    pub runs: u64,
    /// The number of reconciles.
    pub reconciles: u64,
    /// The number of writes that were sent.
    pub writes: u64,
    /// The number of injected faults.
    pub faults: u64,
    /// The first history with a violation.
    pub violation: Option<(HistoryConfig, Violation)>,
}

/// Runs one history.
///
/// # Errors
/// Returns an error if no thread for the policy can be created.
pub fn run_one(config: &HistoryConfig, policy: &Policy) -> std::io::Result<HistoryResult> {
    // The reconcile loop evaluates the policy on a thread of the runtime.
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let _inside = runtime.enter();
    Ok(History::run(config, policy))
}

/// Runs `count` histories until one shows a violation. `config` returns the configuration of the
/// n-th.
///
/// # Errors
/// Returns an error if no thread can be created.
pub fn run_many(
    count: u64,
    config: impl Fn(u64) -> HistoryConfig + Sync,
    policy: &Policy,
    progress: impl Fn(u64) + Sync,
) -> std::io::Result<Summary> {
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let summary = Mutex::new((u64::MAX, Summary::default()));
    let work = || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let _inside = runtime.enter();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count || failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            let config = config(number);
            let result = History::run(&config, policy);
            let (first, summary) = &mut *summary.lock().unwrap_or_else(PoisonError::into_inner);
            summary.histories += 1;
            summary.runs += result.runs;
            summary.reconciles += result.reconciles;
            summary.writes += result.writes;
            summary.faults += result.faults.len() as u64;
            if let Some(violation) = result.violation {
                failed.store(true, Ordering::Relaxed);
                // Keep the first of several, so that the result is always the same.
                if number < *first {
                    *first = number;
                    summary.violation = Some((config, violation));
                }
            }
            progress(summary.histories);
        }
    };
    let cores = thread::available_parallelism()?.get();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker
                .join()
                .unwrap_or_else(|_| Err(std::io::Error::other("a history panicked")))?;
        }
        Ok::<_, std::io::Error>(())
    })?;
    let (_, summary) = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(summary)
}

/// Returns configurations of these seeds in which a replica is killed at the n-th write, for each
/// write: once before it is sent, and once after it took effect.
///
/// # Errors
/// Returns an error if no thread for the policy can be created.
pub fn kills_at_every_write(
    seeds: Range<u64>,
    faults: FaultSet,
    policy: &Policy,
) -> std::io::Result<Vec<HistoryConfig>> {
    let mut configs = Vec::new();
    for seed in seeds {
        let config = HistoryConfig {
            seed,
            faults,
            ..HistoryConfig::default()
        };
        let writes = run_one(&config, policy)?.writes;
        for kill in (1..=writes).flat_map(|n| [Kill::Before(n), Kill::After(n)]) {
            configs.push(HistoryConfig {
                kill: Some(kill),
                ..config.clone()
            });
        }
    }
    Ok(configs)
}

/// Leaves out every fault that the same kind of violation does not require, and returns the
/// shortened history.
///
/// # Errors
/// Returns an error if no thread for the policy can be created.
pub fn shorten(
    config: &HistoryConfig,
    policy: &Policy,
) -> std::io::Result<(HistoryConfig, HistoryResult)> {
    let mut config = config.clone();
    let full = run_one(&config, policy)?;
    let kind = full.violation.map(|violation| violation.kind);
    let mut faults = full.faults;
    // Leave out halves first, then quarters, down to single faults.
    let mut size = faults.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < faults.len() {
            let piece = &faults[at..(at + size).min(faults.len())];
            let mut attempt = config.clone();
            attempt.without.extend(piece);
            let result = run_one(&attempt, policy)?;
            if result.violation.map(|violation| violation.kind) == kind {
                config = attempt;
                faults = result.faults;
            } else {
                at += size;
            }
        }
        if size == 1 {
            break;
        }
        size = size.div_ceil(2);
    }
    config.trace = true;
    let result = run_one(&config, policy)?;
    Ok((config, result))
}
