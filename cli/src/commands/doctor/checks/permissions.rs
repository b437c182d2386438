//! Which commands the user may use.

use super::Check;

/// A permission that commands need.
#[derive(Clone, Copy, Debug)]
pub(in crate::commands::doctor) struct Permission {
    pub verb: &'static str,
    pub group: &'static str,
    pub resource: &'static str,
    pub subresource: Option<&'static str>,
    /// The commands.
    pub used_by: &'static str,
}

impl Permission {
    pub const fn new(
        verb: &'static str,
        group: &'static str,
        resource: &'static str,
        used_by: &'static str,
    ) -> Self {
        Self {
            verb,
            group,
            resource,
            subresource: None,
            used_by,
        }
    }
}

/// What the commands need.
pub(in crate::commands::doctor) const PERMISSIONS: [Permission; 7] = [
    Permission::new(
        "list",
        "kawaja.net",
        "oaatgroups",
        "status, why, history, run, and logs",
    ),
    Permission::new(
        "watch",
        "kawaja.net",
        "oaatgroups",
        "status --watch and run --wait",
    ),
    Permission::new(
        "patch",
        "kawaja.net",
        "oaatgroups",
        "run, suspend, and resume",
    ),
    Permission::new("list", "", "pods", "logs"),
    Permission::new("get", "", "pods", "run --wait"),
    Permission {
        subresource: Some("log"),
        ..Permission::new("get", "", "pods", "logs and run --wait")
    },
    Permission::new(
        "get",
        "",
        "configmaps",
        "next and forecast of groups with their own policy",
    ),
];

/// Reports which commands the user may not use.
pub(in crate::commands::doctor) fn permissions(missing: &[Permission]) -> Check {
    if missing.is_empty() {
        return Check::ok("permissions", "you can use all commands");
    }
    let described = missing.iter().map(|permission| {
        let subresource = permission.subresource.map(|name| format!("/{name}"));
        format!(
            "{} {}{} ({})",
            permission.verb,
            permission.resource,
            subresource.unwrap_or_default(),
            permission.used_by
        )
    });
    let described: Vec<_> = described.collect();
    let needs_edit = missing.iter().any(|permission| permission.verb == "patch");
    let role = if needs_edit { "edit" } else { "view" };
    Check::warning(
        "permissions",
        format!("you do not have permission to {}", described.join("; ")),
        format!("if you need these commands, ask for the ClusterRole {role} in the namespace"),
    )
}
