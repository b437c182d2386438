use super::*;

fn request(yaml: &str) -> Request {
    let given: Given = serde_norway::from_str(yaml).unwrap();
    given.request().unwrap()
}

fn item(yaml: &str) -> Item {
    request(&format!("items: [{{name: a, {yaml}}}]"))
        .items
        .remove(0)
}

#[test]
fn what_is_left_out_has_a_default() {
    let request = request("items: [a]");
    let expected = Request {
        namespace: "default".into(),
        group: "group".into(),
        now: NOW,
        seed: 0,
        settings: "{}".into(),
        state: String::new(),
        items: vec![Item {
            name: "a".into(),
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
        recent: vec![],
        extra: "{}".into(),
    };
    assert_eq!(request, expected);
    assert_eq!(crate::time::format_instant(NOW), "2026-01-01T12:00:00Z");
}

#[test]
fn failures_and_runs_follow_from_the_times() {
    for (yaml, failures, runs) in [
        ("held: true", 0, 0),
        ("lastSuccess: 2h ago", 0, 1),
        ("lastFailure: 2h ago", 1, 1),
        ("lastFailure: 2h ago, lastSuccess: 1h ago", 0, 2),
        ("lastFailure: 1h ago, lastSuccess: 2h ago", 1, 2),
        ("lastFailure: 1h ago, lastSuccess: 1h ago", 1, 2),
        ("lastFailure: 1h ago, failures: 5", 5, 5),
        ("lastFailure: 1h ago, failures: 5, runs: 9", 5, 9),
        ("lastFailure: 1h ago, failures: 0", 0, 1),
    ] {
        let item = item(yaml);
        assert_eq!((item.failures, item.runs), (failures, runs), "{yaml}");
    }
}

#[test]
fn an_item_has_its_own_before_that_of_all() {
    let request = request(
        "{frequency: once, coolOff: 10m, items: [a, {name: b, frequency: 30m, coolOff: 5m, \
         settings: {w: 3}, held: true, lastDuration: 30s}, {name: c, frequency: once}]}",
    );
    let [a, b, c] = request.items.as_slice() else {
        panic!("three items")
    };
    assert_eq!(
        (a.frequency, a.cool_off, a.startable),
        (None, 600_000, true)
    );
    assert_eq!(
        (b.frequency, b.cool_off, b.startable),
        (Some(1_800_000), 300_000, false)
    );
    assert_eq!(
        (b.settings.as_deref(), b.last_duration),
        (Some("{\"w\":3}"), Some(30_000))
    );
    assert_eq!(c.frequency, None);
}

#[test]
fn past_runs_name_their_item() {
    let request = request(
        "{items: [a, b], recent: [{item: b, started: 3h ago, finished: 2h ago, outcome: succeeded},
          {item: a, finished: 4h ago, outcome: failed, exitCode: 3},
          {item: a, finished: 5h ago, outcome: stopped}]}",
    );
    let hour = 3_600_000;
    let run = |item, started: i64, finished: i64, outcome, exit_code| Run {
        item,
        started: NOW - started * hour,
        finished: NOW - finished * hour,
        outcome,
        exit_code,
    };
    assert_eq!(
        request.recent,
        [
            run(1, 3, 2, Outcome::Succeeded, Some(0)),
            run(0, 4, 4, Outcome::Failed, Some(3)),
            run(0, 5, 5, Outcome::Stopped, None),
        ]
    );
}

#[test]
fn a_field_replaces_the_one_below() {
    let given = |yaml: &str| -> Given { serde_norway::from_str(yaml).unwrap() };
    let below = given("{settings: {a: 1}, state: x, items: [a, b], frequency: 1m}");
    let over = given("{settings: {b: 2}, items: [c]}").over(&below);
    let request = over.request().unwrap();
    assert_eq!(request.settings, "{\"b\":2}");
    assert_eq!(request.state, "x");
    assert_eq!(request.items.len(), 1);
    assert_eq!(request.items[0].frequency, Some(60_000));
}
