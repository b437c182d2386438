//! Human-readable reports.

use super::{CaseResult, failed};
use std::fmt::Write;

pub(super) fn write(file: &str, results: &[CaseResult]) -> String {
    let mut out = String::new();
    for CaseResult { report, line, .. } in results {
        let position = match line {
            Some(line) => format!("  ({file}:{line})"),
            None => String::new(),
        };
        let mark = if report.passed() { "ok  " } else { "FAIL" };
        // Writing to a string does not fail.
        let _ = writeln!(out, "{mark}  {}{position}", report.case);
        for line in report.to_string().lines() {
            let _ = writeln!(out, "      {line}");
        }
    }
    let failed = failed(results);
    let passed = results.len() - failed;
    let cases = match results.len() {
        1 => "1 case".to_owned(),
        several => format!("{several} cases"),
    };
    let _ = writeln!(out, "\n{cases}: {passed} passed, {failed} failed");
    out
}
