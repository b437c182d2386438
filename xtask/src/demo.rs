//! `cargo xtask demo`: runs the quick start of the README.

use crate::{build, start, tools};
use anyhow::{Result, bail};
use control_plane::ControllerManager::NotRequired;
use std::process::ExitCode;
use xtask::DemoOptions;

/// Builds what the demo needs, and starts it.
pub fn run(options: &DemoOptions) -> Result<ExitCode> {
    let DemoOptions {
        context, policy, ..
    } = options;
    if let Some(file) = policy.as_ref().filter(|file| !file.is_file()) {
        bail!(
            "--policy {}: no such file; build one with: kubectl-oaat policy build",
            file.display()
        );
    }
    let mut programs = vec!["demo"];
    // The demo uses it to pack the policy.
    programs.extend(policy.is_some().then_some("kubectl-oaat"));
    let local = context.is_none().then_some(NotRequired);
    tools::build_with_control_plane(local, &build(&programs))?;
    start("debug", "demo")
}
