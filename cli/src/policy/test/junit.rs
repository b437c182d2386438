//! Reports in JUnit XML, which CI servers read.

use super::CaseResult;
use anyhow::Result;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

pub(super) fn write(file: &str, results: &[CaseResult]) -> Result<String> {
    let mut suite = TestSuite::new(file);
    for result in results {
        let status = match &result.report.failure {
            None => TestCaseStatus::success(),
            Some(failure) => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status
                    .set_type(failure.reason)
                    .set_message(failure.summary())
                    .set_description(result.report.to_string());
                status
            }
        };
        let mut case = TestCase::new(result.report.case.as_str(), status);
        case.set_classname(result.list).set_time(result.took);
        case.extra.insert("file".into(), file.into());
        if let Some(line) = result.line {
            case.extra.insert("line".into(), line.to_string().into());
        }
        suite.add_test_case(case);
    }
    suite.set_time(results.iter().map(|result| result.took).sum());
    let mut report = Report::new(file);
    report.add_test_suite(suite);
    Ok(report.to_string()?)
}
