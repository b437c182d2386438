//! The alerts of the chart, and promtool, which evaluates their expressions.

use crate::chart;
use crate::process::output;
use anyhow::Result;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// An alert.
#[derive(Clone, Debug, Deserialize)]
pub struct Alert {
    /// Its name.
    #[serde(rename = "alert")]
    pub name: String,
    /// The PromQL expression whose result becomes the alerts.
    pub expr: String,
    /// Its labels, such as `severity`.
    pub labels: BTreeMap<String, String>,
    /// Its texts and the link to its runbook.
    pub annotations: BTreeMap<String, String>,
}

/// Returns the path of the rule file.
pub fn file() -> PathBuf {
    chart::folder().join("files/alerts.yaml")
}

/// Returns all alerts in the rule file.
///
/// # Errors
/// Returns an error if the file is not a rule file.
pub fn all() -> Result<Vec<Alert>> {
    #[derive(Deserialize)]
    struct File {
        groups: Vec<Group>,
    }
    #[derive(Deserialize)]
    struct Group {
        rules: Vec<Alert>,
    }
    let file: File = serde_norway::from_str(&fs::read_to_string(file())?)?;
    Ok(file.groups.into_iter().flat_map(|g| g.rules).collect())
}

/// Runs promtool, built if it is missing, and returns its output.
///
/// # Errors
/// Returns an error if promtool does not build, or if it fails. The error contains its output.
pub fn promtool<S: AsRef<OsStr>>(args: &[S]) -> Result<String> {
    let program = ::control_plane::ensure_promtool(&|line| eprintln!("promtool: {line}"))?;
    output(Command::new(&program).args(args))
}
