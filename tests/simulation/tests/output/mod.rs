//! Prints the findings of tests that pass. The test runner discards the output of `println!` in
//! those.

use oaat_simulation::many::Summary;
use std::io::Write;

/// Prints a line to the standard output of the test itself.
pub fn print_line(line: &str) {
    let mut out = std::io::stdout().lock();
    // An unread output does not fail the test.
    let _ = writeln!(out, "{line}");
}

/// Returns the totals of many histories in one line.
#[allow(dead_code, reason = "not every test prints totals")]
pub fn totals(summary: &Summary) -> String {
    format!(
        "{} histories, {} runs, {} reconciles, {} writes, {} faults, {} violations",
        summary.histories,
        summary.runs,
        summary.reconciles,
        summary.writes,
        summary.faults,
        u8::from(summary.violation.is_some())
    )
}
