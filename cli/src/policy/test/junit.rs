//! Reports in JUnit XML, which CI servers read.

use super::{CaseResult, failed};
use crate::policy::xml::escape;
use std::fmt::Write;
use std::time::Duration;

pub(super) fn write(file: &str, results: &[CaseResult]) -> String {
    let took: Duration = results.iter().map(|result| result.took).sum();
    let name = escape(file);
    let counts = format!(
        r#"name="{name}" tests="{}" failures="{}" errors="0" time="{}""#,
        results.len(),
        failed(results),
        seconds(took)
    );
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n<testsuite {counts} skipped=\"0\">\n"
    );
    for result in results {
        // Writing to a string does not fail.
        let _ = write!(
            out,
            r#"<testcase name="{}" classname="{}" file="{name}" time="{}""#,
            escape(&result.report.case),
            result.list,
            seconds(result.took)
        );
        if let Some(line) = result.line {
            let _ = write!(out, r#" line="{line}""#);
        }
        let _ = match &result.report.failure {
            None => writeln!(out, "/>"),
            Some(failure) => writeln!(
                out,
                "><failure type=\"{}\" message=\"{}\">{}</failure></testcase>",
                failure.reason,
                escape(&failure.summary()),
                escape(&result.report.to_string())
            ),
        };
    }
    out.push_str("</testsuite>\n</testsuites>\n");
    out
}

fn seconds(duration: Duration) -> String {
    format!("{:.6}", duration.as_secs_f64())
}
