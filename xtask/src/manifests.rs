//! The manifests of the operator: the CRDs, which the operator prints, and the manifests that are
//! rendered from the chart for users without Helm.

use crate::{build, built, root, tools};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// The name of the release and the namespace in the manifests.
const NAME: &str = "oaat-operator";

/// A manifest that is rendered from the chart.
struct Manifest {
    /// The path in `manifests/`.
    file: &'static str,
    /// The comment at the top.
    header: &'static str,
    /// The values that differ from the defaults of the chart.
    values: &'static [&'static str],
    /// The only template to render; all if `None`.
    template: Option<&'static str>,
}

const MANIFESTS: [Manifest; 5] = [
    Manifest {
        file: "02-oaat-operator-deployment.yaml",
        header: "\
# The operator: its namespace, its permissions, and its Deployment.
# Apply 01-oaat-operator-crd.yaml first.
",
        values: &[
            "createNamespace=true",
            "crds.install=false",
            "podDisruptionBudget.enabled=false",
            "replicas=1",
        ],
        template: None,
    },
    Manifest {
        file: "02-oaat-operator-namespaced.yaml",
        header: "\
# An alternative to 02-oaat-operator-deployment.yaml. The operator serves only the namespaces in this
# file, and has no permissions in any other. Apply 01-oaat-operator-crd.yaml first.
#
# The only namespace in this file is team-a. Replace its name everywhere, including in
# OAAT_NAMESPACES. For each additional namespace, add its name to OAAT_NAMESPACES (separated by
# commas), and add a Role and a RoleBinding like those of team-a. The namespaces must exist.
#
# To run another operator for other namespaces, copy the Deployment with another name and label, and
# set its OAAT_NAMESPACES. Each set of namespaces has its own Lease, so both operators are active.
#
# This file does not add groups and types to the roles view, edit, and admin. To do so, apply the
# ClusterRoles oaat-operator-view and oaat-operator-edit from 02. They give the operator no
# permissions.
",
        values: &[
            "createNamespace=true",
            "crds.install=false",
            "namespaces={team-a}",
            "podDisruptionBudget.enabled=false",
            "replicas=1",
        ],
        template: None,
    },
    Manifest {
        file: "03-oaat-operator-guard.yaml",
        header: "\
# Optional. This policy restricts what the operator's token can do, beyond what RBAC can express. It
# applies only to requests of the operator's service account. docs/security.md explains what it adds
# and what it cannot check. Apply this file and 02 of the same release, in any order. If you renamed
# the operator's namespace or service account, change the user name below.
",
        values: &["guard.enabled=true"],
        template: Some("templates/guard.yaml"),
    },
    Manifest {
        file: "priority-and-fairness.yaml",
        header: "\
# Optional: assigns the operator's requests to the priority level workload-high. Other service
# accounts use workload-low, so their requests do not delay the operator's. See docs/scaling.md. If
# the operator runs in another namespace, change the namespace of the subject.
",
        values: &["priorityAndFairness.enabled=true"],
        template: Some("templates/flowschema.yaml"),
    },
    Manifest {
        file: "sharding/statefulset.yaml",
        header: "\
# An alternative to the Deployment in 02-oaat-operator-deployment.yaml: three replicas that share
# the groups. Apply 01 and 02 first, and delete the Deployment. See docs/scaling.md.
#
# To change the number of shards, change both replicas and the number in args.
",
        values: &["shards=3"],
        template: Some("templates/workload.yaml"),
    },
];

/// The labels of the chart that do not apply to objects that kubectl manages.
const HELM_LABELS: [&str; 4] = [
    "app.kubernetes.io/instance: ",
    "app.kubernetes.io/managed-by: ",
    "app.kubernetes.io/version: ",
    "helm.sh/chart: ",
];

/// Writes all files, or checks that they are up to date.
pub fn run(check: bool) -> Result<ExitCode> {
    tools::build_with_control_plane(None, &build(&[]))?;
    let crds = output(
        Command::new(built("debug", "oaat-operator")).arg("crd"),
        "print the CRDs",
    )?;
    let crd_files = [
        "manifests/01-oaat-operator-crd.yaml",
        "charts/oaat-operator/files/crds.yaml",
    ];
    let helm = tools::helm()?.helm;
    let mut files: Vec<_> = crd_files.map(|file| (file.to_owned(), crds.clone())).into();
    for manifest in &MANIFESTS {
        let file = format!("manifests/{}", manifest.file);
        files.push((file, render(&helm, manifest)?));
    }
    let mut outdated = Vec::new();
    for (file, content) in files {
        let path = root().join(&file);
        if !check {
            std::fs::write(&path, content).with_context(|| path.display().to_string())?;
            println!("wrote {}", path.display());
        } else if std::fs::read_to_string(&path).unwrap_or_default() != content {
            outdated.push(file);
        }
    }
    if !outdated.is_empty() {
        bail!(
            "out of date: {}; run: cargo xtask manifests",
            outdated.join(", ")
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Renders a manifest from the chart.
fn render(helm: &Path, manifest: &Manifest) -> Result<String> {
    let mut command = Command::new(helm);
    command
        .current_dir(root())
        .args(["template", NAME, "charts/oaat-operator"])
        .args(["--namespace", NAME]);
    for value in manifest.values {
        command.args(["--set", value]);
    }
    if let Some(template) = manifest.template {
        command.args(["--show-only", template]);
    }
    let rendered = output(&mut command, "render the chart")?;
    Ok(format!(
        "# Generated by `cargo xtask manifests` from charts/oaat-operator.\n#\n{}{}",
        manifest.header,
        for_kubectl(&rendered)
    ))
}

/// Removes what is specific to Helm from rendered templates.
fn for_kubectl(rendered: &str) -> String {
    let rendered = rendered.strip_prefix("---\n").unwrap_or(rendered);
    rendered
        .lines()
        .filter(|line| {
            let source = line.starts_with("# Source: ");
            let label = line.trim_start();
            !source && !HELM_LABELS.iter().any(|name| label.starts_with(name))
        })
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// Runs a command and returns its output. Its errors are shown on the screen.
fn output(command: &mut Command, purpose: &str) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("failed to start {program}"))?;
    if !output.status.success() {
        bail!("failed to {purpose} with {program}");
    }
    String::from_utf8(output.stdout).with_context(|| format!("failed to read from {program}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rendered_manifests_have_no_labels_of_helm() {
        let rendered = "---\n# Source: chart/templates/a.yaml\n# A comment.\nlabels:\n  \
                        app.kubernetes.io/name: a\n  app.kubernetes.io/instance: a\n  \
                        helm.sh/chart: a-0.1.0\n---\n# Source: chart/templates/b.yaml\nb: 1\n";
        let expected = "# A comment.\nlabels:\n  app.kubernetes.io/name: a\n---\nb: 1\n";
        assert_eq!(for_kubectl(rendered), expected);
    }
}
