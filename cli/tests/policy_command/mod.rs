//! Runs `kubectl-oaat policy`, for the tests of its output and its exit status.

use std::process::Command;

/// The exit status and the output of a command.
pub struct Output {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs `kubectl-oaat policy`.
pub fn policy(args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-oaat"))
        .arg("policy")
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Output {
        code: output.status.code().unwrap_or(-1),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}
