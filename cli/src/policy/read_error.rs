//! Where a file is wrong, in the form that editors and terminals follow.

use policy_cases::ReadError;

/// The error with its file: `cases.yaml:4:7: …`.
pub(crate) fn of(file: &str, error: &ReadError) -> anyhow::Error {
    match error.position {
        Some((line, column)) => anyhow::anyhow!("{file}:{line}:{column}: {}", error.message),
        None => anyhow::anyhow!("{file}: {}", error.message),
    }
}
