mod hostile;

use super::*;
use crate::policy::simulate::CutShort;
use crate::policy::test_fixtures::default_policy;
use policy_host::{Item, Request};
use serde_json::json;
use std::path::Path;

const NOON: i64 = 1_767_268_800_000;
const MINUTE: i64 = 60_000;

fn sides() -> [Side; 2] {
    let host = Host::for_many_evaluations(Limits::default(), 8).unwrap();
    let load = |name| {
        let side = Side::load(&host, Path::new(name), None, "--settings", default_policy());
        side.unwrap()
    };
    [load("default"), load("backoff")]
}

/// Returns a request in which the policies differ if `fails`.
fn request(number: u64, group: &str, fails: bool) -> Request {
    let ago = |minutes: i64| Some(NOON - minutes * MINUTE);
    let item = |name: &str, last_failure, failures| Item {
        name: name.into(),
        frequency: Some(3_600_000),
        cool_off: 600_000,
        settings: None,
        startable: true,
        last_success: ago(120),
        last_failure,
        failures,
        runs: 9,
        last_duration: Some(60_000),
    };
    let failed = if fails { ago(12) } else { None };
    Request {
        namespace: "n".into(),
        group: group.into(),
        now: NOON + number as i64,
        seed: number,
        settings: "{}".into(),
        state: String::new(),
        items: vec![
            item("a", failed, if fails { 5 } else { 0 }),
            item("b", ago(130), 0),
        ],
        recent: Vec::new(),
        extra: "{}".into(),
    }
}

/// Writes requests in the form of records.
fn write(file: &Path, requests: &[Request]) {
    let record = |request: &Request| {
        let record = json!({
            "digest": "d", "contract": "1.0.0", "requestSha256": format!("{:064}", request.seed),
            "request": request, "fuel": 1, "answer": { "error": { "reason": "x", "message": "y" } },
        });
        record.to_string()
    };
    let lines: Vec<_> = requests.iter().map(record).collect();
    std::fs::write(file, lines.join("\n")).unwrap();
}

#[test]
fn result_does_not_depend_on_the_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<_> = (0..12)
        .map(|index| folder.path().join(index.to_string()))
        .collect();
    for (index, file) in (0..).zip(&files) {
        let requests = (0..8).map(|number| {
            let number: u64 = index * 8 + number;
            request(
                number,
                &format!("g{}", number % 5),
                number.is_multiple_of(3),
            )
        });
        write(file, &requests.collect::<Vec<_>>());
    }
    let sides = sides();
    let reports = [1, 2, 7].map(|threads| {
        let tally = work::compare_with(threads, &sides, &files, &[]).unwrap();
        assert_eq!((tally.counts.agree, tally.counts.differ), (64, 32));
        let comparison = Comparison::new(&sides, &tally, &files, 3_600_000);
        (report::json(&comparison), report::text(&comparison))
    });
    assert!(reports.iter().all(|report| *report == reports[0]));
    let groups = reports[0].0["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 5);
    assert_eq!(groups[0]["examples"].as_array().map(Vec::len), Some(3));
}

#[test]
fn more_groups_than_fit_are_counted_together() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let all = 2 * tally::MAX_GROUPS as u64;
    let requests = (0..all).map(|number| request(number, &format!("g{number:03}"), number == 150));
    write(&file, &requests.collect::<Vec<_>>());
    let (sides, files) = (sides(), [file]);
    let tally = work::compare(&sides, &files, &[]).unwrap();
    assert_eq!((tally.counts.agree, tally.counts.differ), (all - 1, 1));
    let comparison = Comparison::new(&sides, &tally, &files, 0);
    assert_eq!(comparison.groups.len(), MAX_GROUPS);
    let text = report::text(&comparison);
    assert!(
        text.contains("only 100 groups have their own counts"),
        "{text}"
    );
    assert_eq!(report::json(&comparison)["allGroups"], false);
}

#[test]
fn simulations_that_reach_the_decision_limit_together_agree() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    write(&file, &[request(1, "g", false)]);
    let (sides, files) = (sides(), [file]);
    let tally = work::compare(&sides, &files, &[]).unwrap();
    // Returns the exit code, the text, and whether the JSON says that the simulations agree, if A and
    // B end early for these reasons, and B ends later than A by this time.
    let ended_early = |reasons: [Option<CutShort>; 2], later: i64| {
        let mut comparison = Comparison::new(&sides, &tally, &files, 3_600_000);
        let simulation = comparison.groups[0].simulation.as_mut().unwrap();
        let simulation = simulation.as_mut().unwrap();
        for (side, reason) in simulation.sides.iter_mut().zip(reasons) {
            side.history.cut_short = reason;
        }
        simulation.sides[1].history.end += later;
        let json = report::json(&comparison)["groups"][0]["simulation"]["agrees"].clone();
        (comparison.exit_code(), report::text(&comparison), json)
    };
    let limit = || Some(CutShort::DecisionLimit(1_000_000));
    let agree = "A and B agree until 2026-01-01T13:00:00.001Z, when both simulations reach the limit of 1000000 decisions";
    let (code, text, json) = ended_early([limit(), limit()], 0);
    assert!(text.contains(agree), "{text}");
    assert!(!text.contains("ended early"), "{text}");
    assert_eq!((code, json), (ExitCode::SUCCESS, json!(true)));
    let other = || Some(CutShort::Other("canceled".into()));
    for (reasons, later, expected) in [
        ([limit(), limit()], 1, ExitCode::from(2)),
        ([other(), other()], 0, ExitCode::from(2)),
        ([limit(), other()], 0, ExitCode::from(2)),
        ([limit(), None], 0, ExitCode::FAILURE),
    ] {
        let (code, text, json) = ended_early(reasons, later);
        assert!(text.contains("A ended early at "), "{text}");
        assert_eq!((code, json), (expected, json!(false)), "{text}");
    }
}

#[test]
fn names_in_records_cannot_forge_lines() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let evil = "x\nagree 7\u{1b}[2J\u{202e}";
    let mut request = request(1, evil, true);
    request.items[1].name = evil.into();
    write(&file, &[request]);
    let (sides, files) = (sides(), [file]);
    let tally = work::compare(&sides, &files, &[]).unwrap();
    let text = report::text(&Comparison::new(&sides, &tally, &files, 3_600_000));
    let forged = |line: &str| line.trim_start().starts_with("agree 7");
    assert!(!text.lines().any(forged), "{text}");
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
}
