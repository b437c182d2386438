//! JUnit XML, as build servers read it.

use super::{Ran, failed};
use crate::policy::xml::escape;
use std::fmt::Write;
use std::time::Duration;

pub(super) fn write(file: &str, ran: &[Ran]) -> String {
    let took: Duration = ran.iter().map(|ran| ran.took).sum();
    let name = escape(file);
    let counts = format!(
        r#"name="{name}" tests="{}" failures="{}" errors="0" time="{}""#,
        ran.len(),
        failed(ran),
        seconds(took)
    );
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n<testsuite {counts} skipped=\"0\">\n"
    );
    for ran in ran {
        // Writing to a string does not fail.
        let _ = write!(
            out,
            r#"<testcase name="{}" classname="{}" file="{name}" time="{}""#,
            escape(&ran.report.case),
            ran.list,
            seconds(ran.took)
        );
        if let Some(line) = ran.line {
            let _ = write!(out, r#" line="{line}""#);
        }
        let _ = match &ran.report.failure {
            None => writeln!(out, "/>"),
            Some(failure) => writeln!(
                out,
                "><failure type=\"{}\" message=\"{}\">{}</failure></testcase>",
                failure.reason,
                escape(&failure.summary()),
                escape(&ran.report.to_string())
            ),
        };
    }
    out.push_str("</testsuite>\n</testsuites>\n");
    out
}

fn seconds(duration: Duration) -> String {
    format!("{:.6}", duration.as_secs_f64())
}
