use super::*;

fn request(yaml: &str) -> Request {
    let given: RawRequest = serde_norway::from_str(yaml).unwrap();
    given.request().unwrap()
}

fn item(yaml: &str) -> Item {
    request(&format!("items: [{{name: a, {yaml}}}]"))
        .items
        .remove(0)
}

#[test]
fn absent_fields_have_defaults() {
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
fn failures_and_runs_are_derived_from_the_times() {
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
fn values_of_an_item_override_those_of_the_request() {
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
fn recent_runs_refer_to_items_by_name() {
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
fn fields_override_the_defaults() {
    let given = |yaml: &str| -> RawRequest { serde_norway::from_str(yaml).unwrap() };
    let defaults = given("{settings: {a: 1}, state: x, items: [a, b], frequency: 1m}");
    let raw = given("{settings: {b: 2}, items: [c]}").with_defaults(&defaults);
    let request = raw.request().unwrap();
    assert_eq!(request.settings, "{\"b\":2}");
    assert_eq!(request.state, "x");
    assert_eq!(request.items.len(), 1);
    assert_eq!(request.items[0].frequency, Some(60_000));
}
