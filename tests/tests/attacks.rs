//! Components made against the compiler, in the operator's compile process: each ends in a named
//! reason, and leaves nothing behind in the process that asked. A program of its own, whose memory
//! is measured.

#![allow(clippy::unwrap_used)]

use oaat_tests::compiling::{Compiler, binary, memory};
use std::io::Write;
use std::time::Duration;

#[test]
fn attacks_end_in_a_named_reason() {
    let compiler = Compiler::new(binary().unwrap()).unwrap();
    let only = std::env::var("ATTACK").unwrap_or_default();
    let mut out = std::io::stdout();
    let mut wrong = Vec::new();
    let attacks = hostile_policies::attacks().unwrap();
    let before = memory("self", "VmRSS").unwrap();
    for attack in attacks.iter().filter(|a| a.name.contains(&only)) {
        let verdict = compiler.verdict(&attack.bytes).unwrap();
        writeln!(
            out,
            "attack {:24} {:16} {:6} ms {:5} MB {:8} bytes {}",
            attack.name,
            verdict.reason,
            verdict.took.as_millis(),
            verdict.peak >> 20,
            attack.bytes.len(),
            verdict.message.chars().take(120).collect::<String>(),
        )
        .unwrap();
        if !attack.ends.contains(&&*verdict.reason) || verdict.took > Duration::from_secs(35) {
            wrong.push(format!("{}: {verdict:?}", attack.name));
        }
    }
    let grown = memory("self", "VmRSS").unwrap().saturating_sub(before);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(grown < 10 << 20, "this process grew by {grown} bytes");
}
