//! `cargo xtask test`: runs the tests of a tier.

use crate::{cargo, finish, tools};
use anyhow::Result;
use control_plane::ControllerManager::Required;
use std::process::ExitCode;

/// The test targets that need no cluster and take seconds, in addition to the unit tests.
const QUICK: [&str; 5] = [
    "algorithm",
    "cases",
    "histories",
    "repository",
    "upgrade_crds",
];

/// Builds what the tests need, and runs them. `kubernetes` is the release of Kubernetes for the
/// end-to-end tests, and `arguments` are passed to cargo test.
pub fn run(quick: bool, kubernetes: Option<&str>, mut arguments: Vec<String>) -> Result<ExitCode> {
    let servers = kubernetes.map(tools::release_servers).transpose()?;
    if servers.is_some() {
        arguments.splice(0..0, ["--test".into(), "e2e".into()]);
    }
    let arguments = test_command(quick, &arguments);
    let mut build: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // Arguments after a second `--` are for the test programs.
    build.truncate(build.iter().position(|a| *a == "--").unwrap_or(build.len()));
    build.push("--no-run");
    let pinned = (!quick && servers.is_none()).then_some(Required);
    tools::build_with_control_plane(pinned, &build)?;
    if !quick {
        tools::helm()?;
        tools::monitoring()?;
        tools::browser();
        tools::c_tools();
    }
    let mut tests = cargo();
    // Omit the backtraces of errors that tests return: they show only the test runner.
    tests.args(&arguments).env("RUST_LIB_BACKTRACE", "0");
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        tests.env("RUST_TEST_THREADS", test_threads().to_string());
    }
    if quick {
        tests.env("OAAT_SEEDS", "300");
    }
    if let Some(servers) = servers {
        tests.env("KUBEBUILDER_ASSETS", servers);
    }
    finish(&mut tests)
}

/// Returns the number of tests to run at once. End-to-end tests mostly wait, so it is more than the
/// number of processors.
fn test_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    processors + processors.div_ceil(2)
}

/// Returns the arguments with which cargo runs the tests of a tier. `arguments` are those for cargo
/// test.
fn test_command(quick: bool, arguments: &[String]) -> Vec<String> {
    let of_packages = |argument: &String| {
        argument.starts_with("-p") || argument.split('=').next() == Some("--package")
    };
    let mut cargo_arguments = arguments.iter().take_while(|argument| *argument != "--");
    let names_packages = cargo_arguments.any(of_packages);
    let mut command = vec!["test".to_owned()];
    // With --workspace, cargo ignores -p. Without -p, the whole workspace is built, so that
    // dependencies have the same features in every tier and are not built again.
    if !names_packages {
        command.push("--workspace".into());
    }
    // Run all tests after a failure, because it says little about the others.
    command.push("--no-fail-fast".into());
    if quick {
        command.push("--lib".into());
    }
    if quick && !names_packages {
        // `--lib` would also run the operator's unit tests in this copy of the operator.
        command.extend(["--exclude", "oaat-operator-breakable"].map(Into::into));
        for target in QUICK {
            command.extend(["--test".into(), target.into()]);
        }
    }
    command.extend_from_slice(arguments);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(given: &[&str]) -> Vec<String> {
        given
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect()
    }

    #[test]
    fn named_packages_replace_the_workspace() {
        for given in [
            &["-p", "policy-default"][..],
            &["-ppolicy-default"],
            &["--package=policy-default"],
        ] {
            for all in [true, false].map(|quick| test_command(quick, &arguments(given))) {
                assert!(!all.contains(&"--workspace".to_owned()), "{all:?}");
                assert!(all.ends_with(&arguments(given)));
            }
        }
        for given in [&[][..], &["--test", "e2e"], &["--", "-p"]] {
            for all in [true, false].map(|quick| test_command(quick, &arguments(given))) {
                assert!(all.contains(&"--workspace".to_owned()), "{all:?}");
            }
        }
    }
}
