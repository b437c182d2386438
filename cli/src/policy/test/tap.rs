//! Reports in TAP (Test Anything Protocol), version 14, with YAML diagnostics.

use super::CaseResult;
use anyhow::Result;
use serde::Serialize;
use std::fmt::Write;

#[derive(Serialize)]
struct Diagnostics<'a> {
    message: String,
    severity: &'static str,
    reason: &'static str,
    at: At<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    also_at_seeds: &'a [u64],
    seeds_tried: usize,
    differences: Vec<Difference<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
}

#[derive(Serialize)]
struct At<'a> {
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
}

#[derive(Serialize)]
struct Difference<'a> {
    what: &'a str,
    expected: &'a str,
    found: &'a str,
}

pub(super) fn write(file: &str, results: &[CaseResult]) -> Result<String> {
    let mut out = format!("TAP version 14\n1..{}\n", results.len());
    for (index, result) in results.iter().enumerate() {
        let report = &result.report;
        let mark = if report.passed() { "ok" } else { "not ok" };
        writeln!(out, "{mark} {} - {}", index + 1, escape(&report.case))?;
        let Some(failure) = &report.failure else {
            continue;
        };
        let diagnostics = Diagnostics {
            message: failure.summary(),
            severity: "fail",
            reason: failure.reason,
            at: At {
                file,
                line: result.line,
            },
            seed: failure.seed,
            also_at_seeds: &failure.others,
            seeds_tried: report.tried,
            differences: failure
                .differences
                .iter()
                .map(|difference| Difference {
                    what: &difference.what,
                    expected: &difference.expected,
                    found: &difference.found,
                })
                .collect(),
            answer: failure.answer.as_ref().map(ToString::to_string),
        };
        let yaml = serde_norway::to_string(&diagnostics)?;
        writeln!(out, "  ---")?;
        for line in yaml.lines() {
            writeln!(out, "  {line}")?;
        }
        writeln!(out, "  ...")?;
    }
    Ok(out)
}

/// Escapes `#`, which starts a directive.
fn escape(name: &str) -> String {
    name.replace('\\', "\\\\").replace('#', "\\#")
}

#[cfg(test)]
mod tests {
    #[test]
    fn escape_prevents_directives_in_names() {
        assert_eq!(super::escape(r"a # SKIP \ b"), r"a \# SKIP \\ b");
    }
}
