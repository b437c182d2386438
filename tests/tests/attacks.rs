//! Components that attack the compiler, in the operator's compile process. Each ends with a
//! documented reason and leaves nothing behind in the parent process.
//!
//! This is a separate program, because its memory is measured. `cargo xtask fuzz --target attacks`
//! runs all of them, which takes some minutes. By default, only those that end soon run, and one
//! for each other kind.

#![allow(clippy::unwrap_used)]

use hostile_policies::Attack;
use hostile_policies::compiling::{Compiler, memory};
use oaat_tests::operator;
use std::io::Write;
use std::time::Duration;

/// The timeout for one component.
const LONGEST: Duration = Duration::from_secs(35);
/// The maximum growth of this process, in bytes.
const GROWTH: u64 = 10 << 20;
/// The prefixes of the names of those that always run.
const CHOSEN: [&str; 16] = [
    "artifact",
    "core-count-",
    "count-",
    "cut-",
    "deep-lists",
    "doubling-imports",
    "float-chain",
    "gzip-",
    "nested-",
    "adapter-chain",
    "operand-stacks",
    "bomb-calls",
    "size-",
    "self-instance",
    "threads",
    "variant-lifts",
];

#[test]
fn attacks_end_with_a_reason() {
    let compiler = Compiler::new(operator::binary(!cfg!(debug_assertions)).unwrap()).unwrap();
    let mut attacks = hostile_policies::attacks().unwrap();
    if std::env::var_os("OAAT_FUZZ_SECONDS").is_none() {
        attacks.retain(|attack| CHOSEN.iter().any(|begin| attack.name.starts_with(begin)));
    }
    // Not `println!`, which shows output only if the test fails.
    let mut out = std::io::stdout();
    let mut wrong = Vec::new();
    compiler.verdict(&hostile_policies::honest().unwrap());
    let before = memory("self", "VmRSS").unwrap();
    for Attack {
        name,
        what,
        bytes,
        ends,
    } in &attacks
    {
        let verdict = compiler.verdict(bytes);
        let grown = memory("self", "VmRSS").unwrap().saturating_sub(before);
        let shown = &verdict.message[..verdict.message.floor_char_boundary(100)];
        writeln!(
            out,
            "attack {name:26} {:17} {:6} ms, child {:4} MB, here {:+} KB  {shown}",
            verdict.reason,
            verdict.took.as_millis(),
            verdict.peak >> 20,
            grown >> 10,
        )
        .unwrap();
        // The limits on size and memory may be reached before any other check.
        let named = ends.contains(&verdict.reason) || verdict.reason == "CompileTooLarge";
        if !named || verdict.took > LONGEST || grown > GROWTH {
            wrong.push(format!(
                "{name} ({what}), {grown} bytes here: {verdict:?}, not {ends:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
