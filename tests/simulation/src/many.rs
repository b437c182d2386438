//! Many histories on all cores, and the shortest form of one that went wrong.

use crate::history::History;
use crate::setting::{Faults, Kill, Setting, Verdict};
use crate::violation::Violation;
use policy_host::Policy;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// What many histories came to.
#[derive(Debug, Default)]
pub struct Sum {
    /// Histories.
    pub histories: u64,
    /// Runs recorded.
    pub runs: u64,
    /// Looks at the group.
    pub looks: u64,
    /// Writes that set out.
    pub writes: u64,
    /// Faults.
    pub faults: u64,
    /// The first that went wrong.
    pub wrong: Option<(Setting, Violation)>,
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

/// Runs so many histories until one goes wrong; `setting` says how the n-th is made.
///
/// # Errors
/// When no thread can be had.
pub fn many(
    count: u64,
    setting: impl Fn(u64) -> Setting + Sync,
    policy: &Policy,
    progress: impl Fn(u64) + Sync,
) -> std::io::Result<Sum> {
    let (next, wrong) = (AtomicU64::new(0), AtomicBool::new(false));
    let sum = Mutex::new((u64::MAX, Sum::default()));
    let work = || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let _inside = runtime.enter();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count || wrong.load(Ordering::Relaxed) {
                return Ok(());
            }
            let setting = setting(number);
            let verdict = History::run(&setting, policy);
            let (first, sum) = &mut *sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.histories += 1;
            sum.runs += verdict.runs;
            sum.looks += verdict.looks;
            sum.writes += verdict.writes;
            sum.faults += verdict.faults.len() as u64;
            if let Some(what) = verdict.violation {
                wrong.store(true, Ordering::Relaxed);
                // Of several at once the first, so that the answer is always the same.
                if number < *first {
                    *first = number;
                    sum.wrong = Some((setting, what));
                }
            }
            progress(sum.histories);
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
    let (_, sum) = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(sum)
}

/// The histories of these seeds with the replica killed that makes the n-th write, for each of
/// their writes: just before it, and just after it took effect.
///
/// # Errors
/// When no thread for the policy can be had.
pub fn killed_at_every_write(
    seeds: Range<u64>,
    faults: Faults,
    policy: &Policy,
) -> std::io::Result<Vec<Setting>> {
    let mut settings = Vec::new();
    for seed in seeds {
        let setting = Setting {
            seed,
            faults,
            ..Setting::default()
        };
        let writes = one(&setting, policy)?.writes;
        for kill in (1..=writes).flat_map(|n| [Kill::Before(n), Kill::After(n)]) {
            settings.push(Setting {
                kill: Some(kill),
                ..setting.clone()
            });
        }
    }
    Ok(settings)
}

/// Leaves out every fault without which a history goes wrong in the same way, and tells what is
/// left.
///
/// # Errors
/// When no thread for the policy can be had.
pub fn shortest(setting: &Setting, policy: &Policy) -> std::io::Result<(Setting, Verdict)> {
    let mut setting = setting.clone();
    let whole = one(&setting, policy)?;
    let kind = whole.violation.map(|violation| violation.kind);
    let mut faults = whole.faults;
    // Halves first, then quarters, down to single faults.
    let mut size = faults.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < faults.len() {
            let piece = &faults[at..(at + size).min(faults.len())];
            let mut attempt = setting.clone();
            attempt.without.extend(piece);
            let verdict = one(&attempt, policy)?;
            if verdict.violation.map(|violation| violation.kind) == kind {
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
    let verdict = one(&setting, policy)?;
    Ok((setting, verdict))
}
