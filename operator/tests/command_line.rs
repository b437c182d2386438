//! The subcommands that only the operator itself runs.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

/// Runs the operator's binary without the variables that the operator sets in its pods.
fn oaat_operator(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_oaat-operator"))
        .args(arguments)
        .env_remove("OAAT_ITEMS_HTTP")
        .output()
        .unwrap()
}

#[test]
fn fetch_items_is_hidden_from_the_help() {
    let output = oaat_operator(&["--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", output.status);
    assert!(help.contains("run"), "{help}");
    assert!(!help.contains("fetch-items"), "{help}");
}

#[test]
fn fetch_items_fails_when_run_by_hand() {
    let output = oaat_operator(&["fetch-items"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.starts_with("OAAT_ITEMS_HTTP is not set"), "{error}");
    assert_eq!(output.stdout, b"");
}
