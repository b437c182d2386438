//! Shell completion and man pages.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

fn oaat(args: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_kubectl-oaat");
    Command::new(binary).args(args).output().unwrap()
}

#[test]
fn completion_of_each_shell_knows_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = oaat(&["completion", shell]);
        assert!(output.status.success(), "{shell}");
        let script = String::from_utf8(output.stdout).unwrap();
        for word in [
            "status",
            "why",
            "suspend",
            "dashboard",
            "all-namespaces",
            "request-timeout",
        ] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn each_command_has_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    let output = oaat(&["man", &folder.path().display().to_string()]);
    assert!(output.status.success(), "{output:?}");
    let pages = std::fs::read_dir(folder.path()).unwrap();
    let pages: Vec<_> = pages
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in [
        "",
        "-status",
        "-why",
        "-run",
        "-dashboard",
        "-policy-simulate",
    ] {
        let page = format!("kubectl-oaat{name}.1");
        assert!(pages.contains(&page), "{page}: {pages:?}");
    }
    let run = std::fs::read_to_string(folder.path().join("kubectl-oaat-run.1")).unwrap();
    assert!(run.contains("exits with 75"), "{run}");
}

#[test]
fn commands_that_print_json_take_the_same_option() {
    for command in ["run", "simulate", "bench", "compare"] {
        let output = oaat(&["policy", command, "--help"]);
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains("-o, --output <OUTPUT>"), "{command}: {help}");
        assert!(help.contains("json"), "{command}: {help}");
        assert!(!help.contains("--json"), "{command}: {help}");
    }
}

#[test]
fn policy_new_lists_only_supported_languages() {
    let output = oaat(&["policy", "new", "--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("- c:    C, without"), "{help}");
    assert!(!help.contains("Go"), "{help}");
}

#[test]
fn errors_of_the_command_line_do_not_need_a_cluster() {
    for (args, words) in [
        (&["suspend", "g"][..], "--reason"),
        (&["run", "a", "--timeout", "1s"], "--wait"),
        (&["status", "g", "-A"], "cannot be used with"),
        (&["status", "-o", "xml"], "json, yaml, wide"),
    ] {
        let output = oaat(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(words), "{args:?}: {error}");
    }
}
