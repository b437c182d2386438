//! Components that attack the compiler, in the operator's compile process: the time that each
//! takes, and the memory that the parent process gains.

use crate::samples::ms;
use anyhow::Result;
use hostile_policies::Attack;
use hostile_policies::compiling::{Compiler, memory};
use oaat_tests::operator;
use std::time::Duration;

/// The goal for the time of one component.
const TIME_GOAL: Duration = Duration::from_secs(35);
/// The goal for the growth of this process, in megabytes.
const GROWTH_GOAL: f64 = 10.0;

pub fn measure() -> Result<()> {
    let compiler = Compiler::new(operator::binary(true)?)?;
    let all = hostile_policies::attacks()?;
    println!("components that attack the compiler:");
    let megabytes = || anyhow::Ok(memory("self", "VmRSS")? as f64 / f64::from(1 << 20));
    let before = megabytes()?;
    let (mut longest, mut most, mut late) = (Duration::ZERO, 0.0_f64, 0);
    for Attack { name, bytes, .. } in &all {
        let verdict = compiler.verdict(bytes);
        let grown = megabytes()? - before;
        println!(
            "  {name:26} {:17} {:>10}, child {:>5} MB, this process {grown:+.1} MB",
            verdict.reason,
            ms(verdict.took),
            verdict.peak >> 20,
        );
        longest = longest.max(verdict.took);
        most = most.max(grown);
        late += usize::from(verdict.took > TIME_GOAL);
    }
    println!(
        "  {} of {} took longer than {TIME_GOAL:?} (goal 0)",
        late,
        all.len()
    );
    println!(
        "  the longest took {} (goal {})",
        ms(longest),
        ms(TIME_GOAL)
    );
    println!("  this process grew by {most:.1} MB (goal {GROWTH_GOAL} MB)");
    Ok(())
}
