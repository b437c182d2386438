//! `policy compare` with policies that misbehave, as A and as B.

#![allow(clippy::unwrap_used)]

use policy_host::{DecisionRecord, Host, Item, Limits, Request};
use std::path::Path;
use std::process::Command;

/// The exit status and the output of a command.
struct Output {
    code: Option<i32>,
    out: String,
    err: String,
}

const NOW: i64 = 1_767_268_800_000;

/// Writes the record of a decision about an item that is due.
fn write_decision(file: &Path) {
    let request = Request {
        namespace: "home".into(),
        group: "backup".into(),
        now: NOW,
        seed: 1,
        settings: "{}".into(),
        state: String::new(),
        items: vec![Item {
            name: "photos".into(),
            frequency: Some(3_600_000),
            cool_off: 0,
            settings: None,
            startable: true,
            last_success: None,
            last_failure: None,
            failures: 0,
            runs: 0,
            last_duration: None,
        }],
        recent: Vec::new(),
        extra: "{}".into(),
    };
    let host = Host::new(Limits::default()).unwrap();
    let policy = host.load(built_in_policies::DEFAULT_POLICY, None).unwrap();
    let record = DecisionRecord::new(&policy, &request, &policy.evaluate(&request));
    std::fs::write(file, serde_json::to_string(&record).unwrap()).unwrap();
}

/// Compares two policies in a process with at most 256 MiB of data in addition to the sandboxes.
fn compare(a: &str, b: &str, decisions: &Path) -> Output {
    let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get().max(2));
    // Each thread may use the memories of one sandbox.
    let kibibytes = (256 << 10) + threads * (Limits::default().memory >> 10);
    let script = format!("ulimit -d {kibibytes}; exec \"$@\"");
    let output = Command::new("sh")
        .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_kubectl-oaat")])
        .args(["policy", "compare", a, b, "--length=1h", "--decisions"])
        .arg(decisions)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Output {
        code: output.status.code(),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

#[test]
fn hostile_policies_are_contained() {
    let folder = tempfile::tempdir().unwrap();
    let decisions = folder.path().join("decisions");
    write_decision(&decisions);
    let all = hostile_policies::all().unwrap();
    for (name, code, words) in [
        (
            "load-outside",
            1,
            "made no decision 1 time; first error: Trapped: the policy crashed: ",
        ),
        (
            "recurse",
            1,
            "made no decision 1 time; first error: Trapped: the policy crashed: ",
        ),
        (
            "grow",
            1,
            "made no decision 1 time; first error: OutOfMemory: the policy exceeded",
        ),
        (
            "index-max",
            1,
            "made no decision 1 time; first error: BadAnswer: the policy's answer",
        ),
        (
            "!grow",
            1,
            "the operator rejects this component: ProbeFailed: ",
        ),
        (
            "import-wasi",
            1,
            "the operator rejects this component: ForbiddenImport: ",
        ),
    ] {
        let hostile = all.iter().find(|hostile| hostile.name == name).unwrap();
        let file = folder.path().join(name).display().to_string();
        std::fs::write(&file, &hostile.bytes).unwrap();
        for (a, b) in [(file.as_str(), "default"), ("default", file.as_str())] {
            let output = compare(a, b, &decisions);
            let text = format!("{}{}", output.out, output.err);
            assert_eq!(output.code, Some(code), "{name}: {text}");
            assert!(text.contains(words), "{name}: {text}");
            assert!(output.err.lines().count() <= 1, "{name}: {text}");
        }
        // If both are the same, no decision can be compared.
        let output = compare(&file, &file, &decisions);
        let code = if output.out.is_empty() { 1 } else { 2 };
        assert_eq!(
            output.code,
            Some(code),
            "{name}: {}{}",
            output.out,
            output.err
        );
    }
}
