//! Errors with a file, line, and column, in the form that editors and terminals link to.

use policy_cases::ReadError;

/// Prefixes an error with its file and position: `cases.yaml:4:7: …`.
pub(crate) fn in_file(file: &str, error: &ReadError) -> anyhow::Error {
    match error.position {
        Some((line, column)) => anyhow::anyhow!("{file}:{line}:{column}: {}", error.message),
        None => anyhow::anyhow!("{file}: {}", error.message),
    }
}
