//! What the checks find, and how to fix it. Pure.

mod clocks;
mod groups;
mod permissions;

pub(super) use clocks::{Clock, clocks, leader};
pub(super) use groups::groups;
pub(super) use permissions::{PERMISSIONS, Permission, permissions};

use crate::cluster::ClusterError;
use oaat_api::text;
use serde::Serialize;
use std::fmt;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) enum Finding {
    Ok,
    /// The check could not be made, or what it found may be intended.
    Warning,
    Failed,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        })
    }
}

/// A check.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Check {
    pub name: &'static str,
    pub finding: Finding,
    /// What the check found.
    pub cause: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Check {
    fn ok(name: &'static str, cause: impl Into<String>) -> Self {
        Self {
            name,
            finding: Finding::Ok,
            cause: cause.into(),
            fix: None,
        }
    }

    fn failed(name: &'static str, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            name,
            finding: Finding::Failed,
            cause: cause.into(),
            fix: Some(fix.into()),
        }
    }

    fn warning(name: &'static str, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            finding: Finding::Warning,
            ..Self::failed(name, cause, fix)
        }
    }

    /// Returns a check that could not be made, for example because a permission is missing.
    pub fn unknown(name: &'static str, error: &ClusterError) -> Self {
        let fix = "run this command as a user with that permission";
        match error {
            ClusterError::Forbidden(_) => Self::warning(name, format!("not checked: {error}"), fix),
            _ => Self::warning(
                name,
                format!("not checked: {error}"),
                "run this command again",
            ),
        }
    }
}

/// Formats checks as lines, each with its cause and its fix.
pub(super) fn text(checks: &[Check]) -> String {
    let lines = checks.iter().map(|check| {
        let fix = check
            .fix
            .as_ref()
            .map(|fix| format!("           fix: {fix}\n"));
        format!(
            "{:<8} {}: {}\n{}",
            check.finding.to_string(),
            check.name,
            check.cause,
            fix.unwrap_or_default()
        )
    });
    lines.collect()
}

/// Checks that both kinds exist.
pub(super) fn kinds(missing: &Result<Vec<&'static str>, ClusterError>) -> Check {
    match missing {
        Ok(missing) if missing.is_empty() => {
            Check::ok("CustomResourceDefinitions", "OaatGroup and OaatType exist")
        }
        Ok(missing) => Check::failed(
            "CustomResourceDefinitions",
            format!("the cluster does not have {}", missing.join(" and ")),
            "with the chart, set crds.install=true; with the manifests, kubectl apply -f \
             manifests/01-oaat-operator-crd.yaml",
        ),
        Err(error) => Check::unknown("CustomResourceDefinitions", error),
    }
}

/// The guards in a cluster.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// The names of the admission policies.
    pub names: Vec<String>,
    /// Whether one of them has a binding.
    pub is_bound: bool,
}

/// Checks that a guard and its binding exist.
pub(super) fn guard(found: &Result<Guard, ClusterError>) -> Check {
    const FIX: &str = "with the chart, set guard.enabled=true; with the manifests, kubectl apply -f \
                       manifests/03-oaat-operator-guard.yaml";
    let guard = match found {
        Ok(guard) => guard,
        Err(error) => return Check::unknown("guard", error),
    };
    let names = text::list(&guard.names, ", ", text::NAME);
    if guard.names.is_empty() {
        let cause = "the admission policy does not exist; it is optional";
        Check::warning("guard", cause, format!("if you want it: {FIX}"))
    } else if guard.is_bound {
        Check::ok("guard", format!("{names} and its binding exist"))
    } else {
        Check::failed("guard", format!("{names} has no binding"), FIX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guard_kinds_and_permissions_are_reported_with_their_fix() {
        let found_guard = |names: &[&str], is_bound| {
            let names = names.iter().map(ToString::to_string).collect();
            guard(&Ok(Guard { names, is_bound })).finding
        };
        assert_eq!(found_guard(&["prod-guard"], true), Finding::Ok);
        assert_eq!(found_guard(&["prod-guard"], false), Finding::Failed);
        assert_eq!(found_guard(&[], false), Finding::Warning);
        assert_eq!(kinds(&Ok(Vec::new())).finding, Finding::Ok);
        assert_eq!(permissions(&[]).finding, Finding::Ok);
        let missing = [Permission::new("patch", "kawaja.net", "oaatgroups", "run")];
        let checks = [kinds(&Ok(vec!["oaattypes"])), permissions(&missing)];
        let expected = "\
failed   CustomResourceDefinitions: the cluster does not have oaattypes
           fix: with the chart, set crds.install=true; with the manifests, kubectl apply -f \
manifests/01-oaat-operator-crd.yaml
warning  permissions: you do not have permission to patch oaatgroups (run)
           fix: if you need these commands, ask for the ClusterRole edit in the namespace
";
        assert_eq!(text(&checks), expected);
    }
}
