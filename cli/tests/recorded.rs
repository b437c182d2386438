//! The commands that read recorded decisions: `policy replay` and `policy compare`.

#![allow(clippy::unwrap_used)]

mod policy_command;

use policy_command::policy;
use policy_host::{DecisionRecord, Host, Item, Limits, Outcome, Policy, Request, Run};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

const NOON: i64 = 1_767_268_800_000;
const MINUTE: i64 = 60_000;

/// Compares two policies, and returns the exit status and the report as JSON.
fn compare(a: &str, b: &str, decisions: &str, more: &[&str]) -> (i32, Value) {
    let args = ["compare", a, b, "--decisions", decisions, "--output=json"];
    let output = policy(&[&args, more].concat());
    let report = serde_json::from_str(&output.out);
    (
        output.code,
        report.unwrap_or_else(|error| panic!("{error}: {} {}", output.out, output.err)),
    )
}

fn default_policy() -> &'static Policy {
    static POLICY: OnceLock<Policy> = OnceLock::new();
    POLICY.get_or_init(|| {
        let component = built_in_policies::component(oaat_api::BuiltInPolicy::Default);
        let host = Host::new(Limits::default()).unwrap();
        host.load(component, None).unwrap()
    })
}

/// An item with a frequency of an hour and a cool-off of ten minutes. Times are in minutes ago.
fn item(name: &str, last_success: Option<i64>, last_failure: Option<i64>, failures: u32) -> Item {
    let ago = |minutes: i64| NOON - minutes * MINUTE;
    Item {
        name: name.into(),
        frequency: Some(60 * MINUTE as u64),
        cool_off: 10 * MINUTE as u64,
        settings: None,
        startable: true,
        last_success: last_success.map(ago),
        last_failure: last_failure.map(ago),
        failures,
        runs: failures + 1,
        last_duration: Some(2 * MINUTE as u64),
    }
}

fn request(seed: u64, items: Vec<Item>) -> Request {
    Request {
        namespace: "home".into(),
        group: "backup".into(),
        now: NOON,
        seed,
        settings: "{}".into(),
        state: String::new(),
        items,
        recent: Vec::new(),
        extra: "{}".into(),
    }
}

/// Returns four requests. For the first two, `default` and `backoff` decide differently: the fifth
/// failure of `nas` was 12 minutes ago, which is after its cool-off of 10 minutes, but within its
/// backoff of 16 minutes.
fn requests() -> [Request; 4] {
    let nas = || item("nas", None, Some(12), 5);
    let mail = || item("mail", Some(10), None, 0);
    let photos = || item("photos", Some(120), None, 0);
    [
        request(1, vec![nas(), mail(), photos()]),
        request(2, vec![nas(), mail()]),
        request(3, vec![mail(), photos()]),
        request(4, vec![mail()]),
    ]
}

/// Returns the records of requests that the built-in policy decided.
fn records(requests: &[Request]) -> Vec<DecisionRecord> {
    let policy = default_policy();
    let record = |request| DecisionRecord::new(policy, request, &policy.evaluate(request));
    requests.iter().map(record).collect()
}

/// Writes a file with one record per line.
fn write(folder: &Path, name: &str, requests: &[Request]) -> String {
    let records = records(requests);
    let lines = records.iter().map(|of| serde_json::to_string(of).unwrap());
    let path = folder.join(name);
    std::fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    path.display().to_string()
}

#[test]
fn compare_finds_exactly_the_decisions_that_differ() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "decisions", &requests());
    let (code, report) = compare("default", "backoff", &file, &[]);
    assert_eq!(code, 1, "{report}");
    assert_eq!(
        report["decisions"],
        json!({ "agree": 2, "differ": 2, "bothFailed": 0, "interrupted": 0, "unreadable": 0 })
    );
    assert_eq!(
        report["differences"],
        json!({
            "startOtherItems": 1, "onlyAStarts": 1, "onlyBStarts": 0, "waitUntilOtherTimes": 0,
            "fail": 0, "standings": 2, "states": 0,
        })
    );
    let group = &report["groups"][0];
    assert_eq!(
        group["items"],
        json!([
            {
                "name": "nas", "onlyAStarts": 2, "onlyBStarts": 0,
                "standings": [{ "a": "ready", "b": "cooling", "count": 2 }],
            },
            { "name": "photos", "onlyAStarts": 0, "onlyBStarts": 1, "standings": [] },
        ])
    );
    let differences = [0, 1].map(|index| group["examples"][index]["difference"].as_str());
    assert_eq!(
        differences.map(Option::unwrap),
        [
            "would start \"photos\" instead of \"nas\"; would show \"nas\" as cooling instead of \
             ready",
            "would wait until 2026-01-01T12:04:00Z instead of starting \"nas\"; would show \"nas\" \
             as cooling instead of ready",
        ]
    );
    assert_eq!(group["examples"].as_array().map(Vec::len), Some(2));
    let fuel = |side: &str| report[side]["fuelMean"].as_u64();
    assert!(fuel("a") > Some(0) && fuel("b") > Some(0), "{report}");
}

#[test]
fn compare_agrees_if_the_policies_decide_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "decisions", &requests());
    // Without a backoff, `backoff` is the documented algorithm.
    let no_backoff = r#"{"base": "0s", "max": "0s"}"#;
    for (b, settings) in [("default", "{}"), ("backoff", no_backoff)] {
        let (code, report) = compare("default", b, &file, &["--settings-b", settings]);
        assert_eq!(code, 0, "{b}: {report}");
        assert_eq!(report["decisions"]["agree"], 4);
        assert_eq!(report["groups"][0]["items"], json!([]));
        assert_eq!(report["groups"][0]["simulation"]["agrees"], true);
    }
    // A decision that cannot be read was not compared.
    let records = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &records[..records.len() - 9]).unwrap();
    let output = policy(&["compare", "default", "default", "--decisions", &file]);
    assert_eq!(output.code, 2, "{}", output.err);
    let problem = format!("{file}:4: this decision cannot be read");
    assert!(output.out.contains(&problem), "{}", output.out);
}

#[test]
fn settings_are_validated_before_decisions_are_read() {
    let compare = |a: &str, b: &str, more: &[&str]| {
        policy(&[&["compare", a, b, "--decisions", "absent"], more].concat())
    };
    let rejected = compare("default", "backoff", &["--settings-b", r#"{"base": "-1"}"#]);
    assert_eq!(rejected.code, 1, "{}", rejected.err);
    for words in ["--settings-b: SettingsRejected", "-1"] {
        assert!(rejected.err.contains(words), "{words}: {}", rejected.err);
    }
    let not_an_object = compare("default", "backoff", &["--settings-a", "[]"]);
    assert_eq!(not_an_object.code, 2, "{}", not_an_object.err);
    assert!(
        not_an_object
            .err
            .contains("--settings-a: \"[]\" is not a JSON object"),
        "{}",
        not_an_object.err
    );
    let absent = compare("default", "backoff", &[]);
    assert_eq!(absent.code, 2, "{}", absent.err);
    assert!(absent.err.contains("absent"), "{}", absent.err);
}

#[test]
fn rejected_recorded_settings_are_a_difference() {
    let folder = tempfile::tempdir().unwrap();
    let mut requests = requests();
    for request in &mut requests {
        request.settings = r#"{"base":"1m"}"#.into();
    }
    let file = write(folder.path(), "decisions", &requests);
    let (code, report) = compare("default", "backoff", &file, &[]);
    assert_eq!(code, 1);
    assert_eq!(report["differences"]["fail"], 4, "{report}");
    let failure = &report["a"]["failures"][0];
    assert_eq!(
        (&failure["reason"], &failure["count"]),
        (&json!("SettingsRejected"), &json!(4))
    );
    let why = report["groups"][0]["notSimulated"].as_str().unwrap();
    assert!(
        why.starts_with("A makes no decision: SettingsRejected"),
        "{why}"
    );
    let text = policy(&["compare", "default", "backoff", "--decisions", &file]).out;
    let fix = "; use --settings-a to replace the recorded group settings (recorded item settings \
               cannot be replaced)\n";
    assert!(text.contains(fix), "{text}");
    let (_, report) = compare("default", "backoff", &file, &["--settings-a", "{}"]);
    assert_eq!(report["differences"]["fail"], 0, "{report}");
}

#[test]
fn decisions_on_which_both_policies_fail_do_not_count_as_agreement() {
    let folder = tempfile::tempdir().unwrap();
    let mut requests = requests();
    for request in &mut requests {
        request.settings = r#"{"base":"1m"}"#.into();
    }
    let file = write(folder.path(), "decisions", &requests);
    // The policies reject the same settings, with the same message.
    let (code, report) = compare("default", "default", &file, &[]);
    assert_eq!(code, 2, "{report}");
    let counts = json!({
        "agree": 0, "differ": 0, "bothFailed": 4, "interrupted": 0, "unreadable": 0,
    });
    assert_eq!(report["decisions"], counts);
    assert_eq!(report["groups"][0]["decisions"], counts);
    assert_eq!(report["differences"]["fail"], 0, "{report}");
    let text = policy(&["compare", "default", "default", "--decisions", &file]).out;
    for words in [
        "agree      0\ndiffer     0\nboth fail  4\n",
        "home/backup: 0 of 4 recorded decisions differ, and both policies fail on 4\n",
        "A made no decision 4 times; first error: SettingsRejected",
        "B made no decision 4 times; first error: SettingsRejected",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn both_policies_are_simulated_from_the_last_recorded_decision() {
    let folder = tempfile::tempdir().unwrap();
    let mut requests = requests();
    // In ten runs, `nas` failed nine times. All others succeeded.
    let runs = (0..20).map(|index| Run {
        item: if index < 10 { 0 } else { 2 },
        started: NOON - (index + 1) * 20 * MINUTE,
        finished: NOON - (index + 1) * 20 * MINUTE + 3 * MINUTE,
        outcome: if index < 9 {
            Outcome::Failed
        } else {
            Outcome::Succeeded
        },
        exit_code: None,
    });
    requests[0].recent = runs.collect();
    requests[0].now += 1;
    let file = write(folder.path(), "decisions", &requests);
    let svg = folder.path().join("both.svg").display().to_string();
    let (_, report) = compare(
        "default",
        "backoff",
        &file,
        &["--svg", &svg, "--length", "12h"],
    );
    let simulation = &report["groups"][0]["simulation"];
    assert_eq!(simulation["from"], "2026-01-01T12:00:00.001Z");
    assert_eq!(simulation["to"], "2026-01-02T00:00:00.001Z");
    let assumes = &simulation["assumptions"];
    assert!(
        assumes[0].as_str().unwrap().contains("(9 of 20 runs)"),
        "{assumes}"
    );
    assert!(
        assumes[2].as_str().unwrap().contains("1 item without"),
        "{assumes}"
    );
    let failed = |side: &str| simulation[side]["metrics"]["items"][0]["failed"].as_u64();
    assert!(failed("a") > failed("b"), "{simulation}");
    assert!(failed("b") > Some(0), "{simulation}");
    assert_eq!(simulation["agrees"], false);
    let picture = std::fs::read_to_string(svg).unwrap();
    roxmltree::Document::parse(&picture).unwrap();
    for words in [
        "A default and B backoff in home/backup",
        ">A nas<",
        ">B nas<",
    ] {
        assert!(picture.contains(words), "{words}");
    }
    // The table has the same numbers.
    let table = policy(&[
        "compare",
        "default",
        "backoff",
        "--decisions",
        &file,
        "--length=12h",
    ]);
    for words in [
        "4 recorded decisions, 2026-01-01T12:00:00Z to 2026-01-01T12:00:00.001Z",
        "home/backup: 2 of 4 recorded decisions differ",
        "differ, in one or more ways  2",
        "longest gap between successes",
        "B would start \"photos\" instead of \"nas\"",
        "assumes that each run takes the median time",
        "starved items",
    ] {
        assert!(table.out.contains(words), "{words}: {}", table.out);
    }
    // Without a simulation, there is nothing to draw.
    let args = [
        "compare",
        "default",
        "backoff",
        "--decisions",
        &file,
        "--length=0s",
    ];
    let output = policy(&[&args[..], &["--svg", "both.svg"]].concat());
    assert_eq!(output.code, 2);
    assert!(output.err.contains("--svg"), "{}", output.err);
    assert!(!policy(&args).out.contains("simulated"));
}

#[test]
fn groups_are_counted_separately_and_can_be_selected() {
    let folder = tempfile::tempdir().unwrap();
    let all = requests();
    let mut others = [all[0].clone(), all[2].clone()];
    for other in &mut others {
        other.group = "other".into();
    }
    // A directory in the form of --record-decisions, and a file with one record per line.
    let directory = folder.path().join("recorded");
    std::fs::create_dir(&directory).unwrap();
    for (index, request) in all.iter().enumerate() {
        write(
            &directory,
            &format!("{}-home-backup-0.json", 10 + index),
            std::slice::from_ref(request),
        );
    }
    let file = write(folder.path(), "others", &others);
    let directory = directory.display().to_string();
    let counts = |report: &Value| {
        let groups = report["groups"].as_array().unwrap().iter();
        let count = |group: &Value| {
            let counts = &group["decisions"];
            (
                group["group"].to_string(),
                counts["agree"].as_u64(),
                counts["differ"].as_u64(),
            )
        };
        groups.map(count).collect::<Vec<_>>()
    };
    let more = ["--decisions", &file];
    let (_, report) = compare("default", "backoff", &directory, &more);
    assert_eq!(
        counts(&report),
        [
            ("\"backup\"".into(), Some(2), Some(2)),
            ("\"other\"".into(), Some(1), Some(1))
        ]
    );
    let one = ["--group", "home/other"];
    let (_, report) = compare("default", "backoff", &directory, &[more, one].concat());
    assert_eq!(counts(&report), [("\"other\"".into(), Some(1), Some(1))]);
    let args = ["compare", "default", "backoff", "--decisions", &directory];
    let none = policy(&[&args, &one[..]].concat());
    assert_eq!(none.code, 2);
    assert!(none.err.contains("--group"), "{}", none.err);
    assert_eq!(policy(&[&args[..], &["--group", "x"]].concat()).code, 2);
}

#[test]
fn replay_repeats_decisions_or_shows_what_another_policy_would_change() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("recorded");
    std::fs::create_dir(&directory).unwrap();
    for (index, request) in requests().iter().enumerate() {
        write(
            &directory,
            &format!("{index}-home-backup-0.json"),
            std::slice::from_ref(request),
        );
    }
    let file = write(folder.path(), "more", &requests()[3..]);
    let directory = directory.display().to_string();
    // Exactly, with the policy that decided.
    for more in [
        &[][..],
        &["--policy", "default"],
        &["--policy", "default", "--policy", "backoff"],
    ] {
        let output = policy(&[&["replay", &directory, &file], more].concat());
        assert_eq!(output.code, 0, "{}", output.err);
        let total = "5 agree, 0 differ, 0 could not be replayed";
        assert!(output.out.contains(total), "{}", output.out);
    }
    let output = policy(&["replay", &directory, &file, "--policy", "backoff"]);
    assert_eq!(output.code, 1, "{}", output.err);
    for words in [
        "this policy would start \"photos\" instead of \"nas\"",
        "this policy would wait until 2026-01-01T12:04:00Z instead of starting \"nas\"",
        "unchanged: run \"photos\"",
        "3 agree, 2 differ, 0 could not be replayed",
    ] {
        assert!(output.out.contains(words), "{words}: {}", output.out);
    }
    // A policy that is not known.
    let unknown = std::fs::read_to_string(&file).unwrap();
    let unknown = unknown.replace(default_policy().digest(), &"0".repeat(64));
    std::fs::write(&file, unknown).unwrap();
    let output = policy(&["replay", &file]);
    assert_eq!(output.code, 2, "{}", output.err);
    assert!(
        output.out.contains("add this policy with --policy"),
        "{}",
        output.out
    );
}

#[test]
fn guide_compares_two_policies() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/change-a-policy.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let program = "$ kubectl-oaat policy ";
    let commands = guide.lines().filter_map(|line| line.strip_prefix(program));
    let commands: Vec<_> = commands
        .filter(|line| line.starts_with("compare "))
        .collect();
    assert_eq!(commands.len(), 2);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write(folder.path(), "operator.log", &requests());
    std::fs::create_dir(path("decisions")).unwrap();
    write(&path("decisions"), "1-home-backup-0.json", &requests()[..1]);
    let component = built_in_policies::component(oaat_api::BuiltInPolicy::Backoff);
    std::fs::write(path("my_policy.wasm"), component).unwrap();
    for command in commands {
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-oaat"))
            .arg("policy")
            .args(command.split(' '))
            .current_dir(folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{command}: {text}");
        assert!(
            text.contains("B would start \"photos\" instead of \"nas\""),
            "{text}"
        );
        assert!(
            text.contains("simulated from 2026-01-01T12:00:00Z for 1d"),
            "{text}"
        );
    }
    assert!(path("both.svg").exists());
}
