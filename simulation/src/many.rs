//! Many histories on all cores, and the shortest form of one that went wrong.

use crate::history::{History, Setting, Verdict};
use crate::mutation::Mutation;
use policy_host::Policy;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// What many histories came to.
#[derive(Debug, Default)]
pub struct Sum {
    /// Histories.
    pub seeds: u64,
    /// Runs recorded.
    pub runs: u64,
    /// Looks at the group.
    pub looks: u64,
    /// Faults.
    pub faults: u64,
    /// The first that went wrong, by its seed.
    pub wrong: Option<(u64, String)>,
}

/// Runs one history.
///
/// # Errors
/// When no thread for the policy can be had.
pub fn one(setting: &Setting, policy: &Policy) -> std::io::Result<Verdict> {
    // The cycle has its policy decide on a thread of the runtime.
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let _inside = runtime.enter();
    Ok(History::run(setting, policy))
}

/// Runs the histories of these seeds until one goes wrong.
///
/// # Errors
/// When no thread can be had.
pub fn many(
    seeds: Range<u64>,
    mutation: Option<Mutation>,
    policy: &Policy,
    progress: impl Fn(u64) + Sync,
) -> std::io::Result<Sum> {
    let (next, wrong) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let sum = Mutex::new(Sum::default());
    let work = || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let _inside = runtime.enter();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) || wrong.load(Ordering::Relaxed) {
                return Ok(());
            }
            let setting = Setting {
                seed,
                mutation,
                ..Setting::default()
            };
            let verdict = History::run(&setting, policy);
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.seeds += 1;
            sum.runs += verdict.runs;
            sum.looks += verdict.looks;
            sum.faults += verdict.faults.len() as u64;
            if let Some(what) = verdict.violation {
                wrong.store(true, Ordering::Relaxed);
                // Of several at once the first seed, so that the answer is always the same.
                if sum.wrong.as_ref().is_none_or(|(first, _)| seed < *first) {
                    sum.wrong = Some((seed, what));
                }
            }
            progress(sum.seeds);
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
    Ok(sum.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Leaves out every fault without which the history of a seed goes wrong all the same, and
/// tells what is left.
///
/// # Errors
/// When no thread for the policy can be had.
pub fn shortest(
    seed: u64,
    mutation: Option<Mutation>,
    policy: &Policy,
) -> std::io::Result<Verdict> {
    let mut setting = Setting {
        seed,
        mutation,
        ..Setting::default()
    };
    let mut faults = one(&setting, policy)?.faults;
    // Halves first, then quarters, down to single faults.
    let mut size = faults.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < faults.len() {
            let piece: BTreeSet<u64> = faults[at..(at + size).min(faults.len())]
                .iter()
                .copied()
                .collect();
            let mut without = setting.without.clone();
            without.extend(&piece);
            let attempt = Setting {
                without,
                ..setting.clone()
            };
            let verdict = one(&attempt, policy)?;
            if verdict.violation.is_some() {
                setting = attempt;
                faults = verdict.faults;
            } else {
                at += size;
            }
        }
        if size == 1 {
            break;
        }
        size = size.div_ceil(2);
    }
    setting.told = true;
    one(&setting, policy)
}
