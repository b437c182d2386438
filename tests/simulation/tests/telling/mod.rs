//! Telling what tests found where one sees it: what `println!` says in a test that passes is
//! swallowed.

use oaat_simulation::many::Sum;
use std::io::Write;

/// Writes a line to the standard output of the test itself.
pub fn tell(words: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody may be listening, which is no failure of what is tested.
    let _ = writeln!(out, "{words}");
}

/// What many histories came to, in a line.
#[allow(dead_code, reason = "not every test has a sum to tell of")]
pub fn summary(sum: &Sum) -> String {
    format!(
        "{} histories, {} runs, {} looks, {} writes, {} faults, {} violations",
        sum.histories,
        sum.runs,
        sum.looks,
        sum.writes,
        sum.faults,
        u8::from(sum.wrong.is_some())
    )
}
