//! The report for people.

use super::{Ran, failed};
use std::fmt::Write;

pub(super) fn write(file: &str, ran: &[Ran]) -> String {
    let mut out = String::new();
    for Ran { report, line, .. } in ran {
        let place = match line {
            Some(line) => format!("  ({file}:{line})"),
            None => String::new(),
        };
        let mark = if report.passed() { "ok  " } else { "FAIL" };
        // Writing to a string does not fail.
        let _ = writeln!(out, "{mark}  {}{place}", report.case);
        for line in report.to_string().lines() {
            let _ = writeln!(out, "      {line}");
        }
    }
    let failed = failed(ran);
    let passed = ran.len() - failed;
    let cases = match ran.len() {
        1 => "1 case".to_owned(),
        several => format!("{several} cases"),
    };
    let _ = writeln!(out, "\n{cases}: {passed} passed, {failed} failed");
    out
}
