use super::*;
use crate::expect::{Answer, Expect};
use policy_host::{Request, Standing};

fn only(yaml: &str) -> (Request, Seeds, Expect) {
    match parse(yaml).unwrap().remove(0).check {
        Check::Select {
            request,
            seeds,
            expect,
        } => (*request, seeds, *expect),
        Check::Validate { .. } => panic!("a case of validate"),
    }
}

const ALL: &str = r#"
given:
  now: 2026-01-01T12:00:00Z
  frequency: 30m
  coolOff: 10m
  settings: {base: 1m, deep: {list: [1, 2.5, null]}}
cases:
  - name: everything
    given:
      state: "s"
      items: [a, {name: b, lastSuccess: 2h ago}]
    seeds: [1, 18446744073709551615]
    expect:
      run: [a, b]
      everyOneOf: [b]
      note: word
      state: null
      verdicts:
        a: ready
        b: {standing: cooling, until: in 10m, note: part}
validate:
  - name: bad factor
    settings: {factor: 0.5}
    items: {b: {weight: -1}}
    expect: {refused: factor}
  - name: nothing
    expect: accepted
"#;

#[test]
fn a_whole_file_is_read() {
    let (request, seeds, expect) = only(ALL);
    assert_eq!(
        request.settings,
        r#"{"base":"1m","deep":{"list":[1,2.5,null]}}"#
    );
    assert_eq!(request.state, "s");
    assert_eq!(request.items[1].frequency, Some(1_800_000));
    assert!(matches!(seeds, Seeds::List(list) if list == [1, u64::MAX]));
    assert_eq!(expect.answer, Answer::Run(vec![0, 1]));
    assert_eq!(expect.every_one_of, [1]);
    assert_eq!(expect.state, Some(None));
    assert_eq!(expect.verdicts[0].1.standing, Some(Standing::Ready));
    assert_eq!(
        expect.verdicts[1].1.until,
        Some(Some(request.now + 600_000))
    );

    let cases = parse(ALL).unwrap();
    let read: Vec<_> = cases
        .iter()
        .map(|case| (case.list(), case.name.as_str(), case.line(ALL)))
        .collect();
    assert_eq!(
        read,
        [
            ("cases", "everything", Some(8)),
            ("validate", "bad factor", Some(22)),
            ("validate", "nothing", Some(26)),
        ]
    );
    match &cases[1].check {
        Check::Validate {
            settings,
            items,
            expect,
        } => {
            assert_eq!(settings, r#"{"factor":0.5}"#);
            assert_eq!(items[0].settings, r#"{"weight":-1}"#);
            assert_eq!(*expect, Judgement::Refused("factor".into()));
        }
        Check::Select { .. } => panic!("a case of select"),
    }
}

#[test]
fn every_form_of_waiting_is_read() {
    for (text, answer) in [
        ("true", Answer::Wait(None)),
        ("none", Answer::Wait(Some(None))),
        ("in 1m", Answer::Wait(Some(Some(1_767_268_860_000)))),
        (
            "2026-01-01T12:01:00Z",
            Answer::Wait(Some(Some(1_767_268_860_000))),
        ),
    ] {
        let case =
            format!("cases: [{{name: n, given: {{items: [a]}}, expect: {{wait: '{text}'}}}}]");
        let case = case.replace("'true'", "true");
        assert_eq!(only(&case).2.answer, answer, "{text}");
    }
}

/// A case with these parts, whose `given` begins on line 3 and whose `expect` on line 4.
fn with(given: &str, expect: &str) -> String {
    format!("cases:\n  - name: n\n    given: {given}\n    expect: {expect}\n")
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let run = "{run: a}";
    let items = "{items: [a]}";
    for (yaml, line, said) in [
        // Fields and types.
        (
            with("{item: [a]}", run),
            3,
            "cases[0].given: unknown field `item`, expected one of `now`",
        ),
        (
            with("{items: [{name: a, last: 1h ago}]}", run),
            3,
            "cases[0].given.items[0]: unknown field `last`",
        ),
        (
            with("{items: [1]}", run),
            3,
            "cases[0].given.items[0]: invalid type: integer `1`, expected an item",
        ),
        (with("{items: [true]}", run), 3, "in quotes"),
        (
            with("{items: [{name: 1.5}]}", run),
            3,
            "cases[0].given.items[0].name: invalid type: floating point `1.5`, expected a name, which is text",
        ),
        (
            with("{items: [{name: ~}]}", run),
            3,
            "invalid type: unit value, expected a name",
        ),
        (
            with("{items: [{held: true}]}", run),
            3,
            "missing field `name`",
        ),
        (with("{items: [\"a\\nb\"]}", run), 3, "control character"),
        (with("{items: ['']}", run), 3, "0 characters"),
        (
            with("{items: [{name: a, lastSuccess: 2 hrs agoo}]}", run),
            3,
            "cases[0].given.items[0].lastSuccess: \"2 hrs agoo\" is no time",
        ),
        (
            with("{frequency: 30, items: [a]}", run),
            3,
            "cases[0].given.frequency: invalid type: integer `30`, expected a duration such as 30s",
        ),
        (
            with("{coolOff: soon, items: [a]}", run),
            3,
            "cases[0].given.coolOff: \"soon\" is no duration",
        ),
        (
            with("{settings: [1], items: [a]}", run),
            3,
            "cases[0].given.settings: invalid type: sequence, expected settings",
        ),
        (
            with("{settings: {a: [{b: .inf}]}, items: [a]}", run),
            3,
            "cases[0].given.settings: settings are JSON, which has no .nan",
        ),
        (
            with("{settings: {a: 1, a: 2}, items: [a]}", run),
            3,
            "duplicate entry with key \"a\"",
        ),
        (
            with("{items: [a], items: [b]}", run),
            3,
            "duplicate field `items`",
        ),
        // Requests that the operator could not send.
        (
            with("{}", run),
            3,
            "cases[0].given.items: there are 0 items",
        ),
        (
            with("{items: [a, b, {name: a}]}", run),
            3,
            "cases[0].given.items[2]: the name \"a\" is given twice",
        ),
        (
            with("{now: 2h ago, items: [a]}", run),
            3,
            "cases[0].given.now: this is what other times are counted from",
        ),
        (
            with("{seed: 1, items: [a]}", run),
            3,
            "cases[0].given.seed: a case is tried with several seeds",
        ),
        (
            with(
                "{items: [a], recent: [{item: c, finished: now, outcome: failed}]}",
                run,
            ),
            3,
            "cases[0].given.recent[0].item: there is no item \"c\"; the items are a",
        ),
        (
            with(
                "{items: [a], recent: [{item: a, started: now, finished: 1h ago, outcome: failed}]}",
                run,
            ),
            3,
            "cases[0].given.recent[0].started: this is later",
        ),
        (
            with(
                "{items: [a], recent: [{item: a, finished: now, outcome: ended}]}",
                run,
            ),
            3,
            "unknown variant `ended`, expected one of `succeeded`, `failed`, `stopped`",
        ),
        // Expectations.
        (
            with(items, "{}"),
            4,
            "cases[0].expect: write exactly one of `run`, `wait` and `error`",
        ),
        (with(items, "{run: a, wait: true}"), 4, "exactly one"),
        (
            with(items, "{run: c}"),
            4,
            "cases[0].expect.run: there is no item \"c\"",
        ),
        (
            with(items, "{run: []}"),
            4,
            "cases[0].expect.run: the list is empty",
        ),
        (
            with(items, "{run: [1]}"),
            4,
            "cases[0].expect.run[0]: invalid type: integer `1`, expected a name",
        ),
        (
            with(items, "{wait: false}"),
            4,
            "cases[0].expect.wait: false says nothing",
        ),
        (with(items, "{wait: 5}"), 4, "expected true for any wait"),
        (with(items, "{wait: later}"), 4, "or \"none\""),
        (
            with(items, "{error: x, note: y}"),
            4,
            "cases[0].expect.note: leave this out",
        ),
        (
            with(items, "{wait: true, everyOneOf: [a]}"),
            4,
            "cases[0].expect.everyOneOf: leave this out",
        ),
        (
            with(items, "{run: a, verdicts: {c: ready}}"),
            4,
            "cases[0].expect.verdicts.c: there is no item \"c\"",
        ),
        (
            with(items, "{run: a, verdicts: {a: redy}}"),
            4,
            "cases[0].expect.verdicts.a: \"redy\" is no standing; write ready, fresh",
        ),
        (
            with(items, "{run: a, verdicts: {a: ready, a: fresh}}"),
            4,
            "cases[0].expect.verdicts: \"a\" is given twice",
        ),
        (
            with(items, "{run: a, verdicts: {1: ready}}"),
            4,
            "expected a name",
        ),
        (
            with(items, "{run: a}\n    seeds: 0"),
            5,
            "cases[0].seeds: invalid value: integer `0`, expected a number of seeds from 1",
        ),
        (
            with(items, "{run: a}\n    seeds: []"),
            5,
            "the list is empty",
        ),
        (
            with(
                items,
                "{run: a}\n  - name: n\n    given: {items: [a]}\n    expect: {run: a}",
            ),
            5,
            "cases[1].name: another case is named \"n\"",
        ),
        (
            "validate: [{name: n, expect: refused}]".into(),
            1,
            "validate[0].expect: \"refused\" is no judgement; write accepted, or",
        ),
        // What comes from the top is told there.
        (
            "given:\n  items: [a, a]\ncases: [{name: n, expect: {run: a}}]".into(),
            2,
            "given.items[1]: the name \"a\" is given twice",
        ),
        ("given: {seed: 1}\ncases: []".into(), 1, "given.seed: "),
        // The text itself.
        ("cases: [\n".into(), 2, "did not find expected node content"),
        (
            "case: []".into(),
            1,
            "unknown field `case`, expected one of `given`, `cases`, `validate`",
        ),
    ] {
        let error = parse(&yaml).unwrap_err();
        let at = error.position.map(|(line, _)| line);
        assert!(error.message.contains(said), "{yaml}\n{error}");
        assert_eq!(at, Some(line), "{yaml}\n{error}");
    }
}

#[test]
fn a_file_without_a_case_is_none() {
    for yaml in [
        "",
        "# nothing\n",
        "cases: []",
        "given: {now: 2026-01-01T12:00:00Z}",
        "cases:\nvalidate:\n",
    ] {
        let error = parse(yaml).unwrap_err();
        assert!(
            error.message.contains("there is no case"),
            "{yaml}: {error}"
        );
    }
}
