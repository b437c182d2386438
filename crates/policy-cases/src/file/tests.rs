use super::*;
use crate::expect::{Answer, Expect};
use policy_host::{Request, Standing};

fn parse_one(yaml: &str) -> (Request, Seeds, Expect) {
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
      fuel: {max: 9000}
validate:
  - name: bad factor
    settings: {factor: 0.5}
    items: {b: {weight: -1}}
    expect: {rejected: factor}
  - name: nothing
    expect: accepted
"#;

#[test]
fn parse_reads_all_fields() {
    let (request, seeds, expect) = parse_one(ALL);
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

    assert_eq!(expect.max_fuel, Some(9_000));

    let cases = parse(ALL).unwrap();
    let parsed: Vec<_> = cases
        .iter()
        .map(|case| (case.list(), case.name.as_str(), case.line(ALL)))
        .collect();
    assert_eq!(
        parsed,
        [
            ("cases", "everything", Some(8)),
            ("validate", "bad factor", Some(23)),
            ("validate", "nothing", Some(27)),
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
            assert_eq!(*expect, ExpectedValidation::Rejected("factor".into()));
        }
        Check::Select { .. } => panic!("a case of select"),
    }
}

#[test]
fn parse_reads_all_forms_of_wait() {
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
        assert_eq!(parse_one(&case).2.answer, answer, "{text}");
    }
}

/// Returns a case with `given` on line 3 and `expect` on line 4.
fn case_yaml(given: &str, expect: &str) -> String {
    format!("cases:\n  - name: n\n    given: {given}\n    expect: {expect}\n")
}

#[test]
fn parse_errors_name_the_path_the_line_and_the_fix() {
    let run = "{run: a}";
    let items = "{items: [a]}";
    for (yaml, line, expected) in [
        // Fields and types
        (
            case_yaml("{item: [a]}", run),
            3,
            "cases[0].given: unknown field `item`, expected one of `now`",
        ),
        (
            case_yaml("{items: [{name: a, last: 1h ago}]}", run),
            3,
            "cases[0].given.items[0]: unknown field `last`",
        ),
        (
            case_yaml("{items: [1]}", run),
            3,
            "cases[0].given.items[0]: invalid type: integer `1`, expected an item",
        ),
        (case_yaml("{items: [true]}", run), 3, "in quotes"),
        (
            case_yaml("{items: [{name: 1.5}]}", run),
            3,
            "cases[0].given.items[0].name: invalid type: floating point `1.5`, expected a name, which is a string",
        ),
        (
            case_yaml("{items: [{name: ~}]}", run),
            3,
            "invalid type: unit value, expected a name",
        ),
        (
            case_yaml("{items: [{held: true}]}", run),
            3,
            "missing field `name`",
        ),
        (
            case_yaml("{items: [\"a\\nb\"]}", run),
            3,
            "control character",
        ),
        (case_yaml("{items: ['']}", run), 3, "0 characters"),
        (
            case_yaml("{items: [{name: a, lastSuccess: 2 hrs agoo}]}", run),
            3,
            "cases[0].given.items[0].lastSuccess: \"2 hrs agoo\" is not a time",
        ),
        (
            case_yaml("{frequency: 30, items: [a]}", run),
            3,
            "cases[0].given.frequency: invalid type: integer `30`, expected a duration such as 30s",
        ),
        (
            case_yaml("{coolOff: soon, items: [a]}", run),
            3,
            "cases[0].given.coolOff: \"soon\" is not a duration",
        ),
        (
            case_yaml("{settings: [1], items: [a]}", run),
            3,
            "cases[0].given.settings: invalid type: sequence, expected settings",
        ),
        (
            case_yaml("{settings: {a: [{b: .inf}]}, items: [a]}", run),
            3,
            "cases[0].given.settings.a[0].b: settings are JSON, which has no .nan",
        ),
        (
            case_yaml("{settings: {a: !foo [1]}, items: [a]}", run),
            3,
            "cases[0].given.settings.a: settings are JSON, which has no YAML tags; remove the tag",
        ),
        (
            case_yaml("{settings: !foo {a: 1}, items: [a]}", run),
            3,
            "cases[0].given.settings: settings are JSON, which has no YAML tags; remove the tag",
        ),
        (
            case_yaml("{settings: {a: {[1, 2]: 3}}, items: [a]}", run),
            3,
            "cases[0].given.settings.a: invalid type: sequence, expected a string",
        ),
        (
            case_yaml("{settings: {a: [1, {b: 1, b: 2}]}, items: [a]}", run),
            3,
            "cases[0].given.settings.a[1]: \"b\" is listed twice",
        ),
        (
            case_yaml("{settings: {a: 1, a: 2}, items: [a]}", run),
            3,
            "cases[0].given.settings: \"a\" is listed twice; remove one of them",
        ),
        (
            case_yaml("{items: [a], items: [b]}", run),
            3,
            "duplicate field `items`",
        ),
        // Requests that the operator would not send
        (
            case_yaml("{}", run),
            3,
            "cases[0].given.items: the list has 0 items",
        ),
        (
            case_yaml("{items: [a, b, {name: a}]}", run),
            3,
            "cases[0].given.items[2]: \"a\" is the name of another item",
        ),
        (
            case_yaml("{now: 2h ago, items: [a]}", run),
            3,
            "cases[0].given.now: a relative time is not allowed here",
        ),
        (
            case_yaml("{seed: 1, items: [a]}", run),
            3,
            "cases[0].given.seed: `seed` is not allowed in a case",
        ),
        (
            case_yaml(
                "{items: [a], recent: [{item: c, finished: now, outcome: failed}]}",
                run,
            ),
            3,
            "cases[0].given.recent[0].item: \"c\" is not an item; the items are a",
        ),
        (
            case_yaml(
                "{items: [a], recent: [{item: a, started: now, finished: 1h ago, outcome: failed}]}",
                run,
            ),
            3,
            "cases[0].given.recent[0].started: later than",
        ),
        (
            case_yaml(
                "{items: [a], recent: [{item: a, finished: now, outcome: ended}]}",
                run,
            ),
            3,
            "unknown variant `ended`, expected one of `succeeded`, `failed`, `stopped`",
        ),
        // Expectations
        (
            case_yaml(items, "{}"),
            4,
            "cases[0].expect: set exactly one of `run`, `wait`, and `error`",
        ),
        (case_yaml(items, "{run: a, wait: true}"), 4, "exactly one"),
        (
            case_yaml(items, "{run: c}"),
            4,
            "cases[0].expect.run: \"c\" is not an item",
        ),
        (
            case_yaml(items, "{run: []}"),
            4,
            "cases[0].expect.run: the list is empty",
        ),
        (
            case_yaml(items, "{run: [1]}"),
            4,
            "cases[0].expect.run[0]: invalid type: integer `1`, expected a name",
        ),
        (
            case_yaml(items, "{wait: false}"),
            4,
            "cases[0].expect.wait: false is not supported",
        ),
        (
            case_yaml(items, "{wait: 5}"),
            4,
            "expected true for any wait",
        ),
        (case_yaml(items, "{wait: later}"), 4, "or \"none\""),
        (
            case_yaml(items, "{error: x, note: y}"),
            4,
            "cases[0].expect.note: an error has no note",
        ),
        (
            case_yaml(items, "{wait: true, everyOneOf: [a]}"),
            4,
            "cases[0].expect.everyOneOf: `everyOneOf` requires `run`",
        ),
        (
            case_yaml(items, "{run: a, verdicts: {c: ready}}"),
            4,
            "cases[0].expect.verdicts.c: \"c\" is not an item",
        ),
        (
            case_yaml(items, "{run: a, verdicts: {a: redy}}"),
            4,
            "cases[0].expect.verdicts.a: \"redy\" is not a standing; use ready, fresh",
        ),
        (
            case_yaml(items, "{run: a, verdicts: {a: ready, a: fresh}}"),
            4,
            "cases[0].expect.verdicts: \"a\" is listed twice",
        ),
        (
            case_yaml(items, "{run: a, verdicts: {1: ready}}"),
            4,
            "expected a name",
        ),
        (
            case_yaml(items, "{run: a}\n    seeds: 0"),
            5,
            "cases[0].seeds: invalid value: integer `0`, expected a number of seeds from 1",
        ),
        (
            case_yaml(items, "{run: a}\n    seeds: []"),
            5,
            "the list is empty",
        ),
        (
            case_yaml(
                items,
                "{run: a}\n  - name: n\n    given: {items: [a]}\n    expect: {run: a}",
            ),
            5,
            "cases[1].name: \"n\" is the name of another case",
        ),
        (
            "validate: [{name: n, expect: rejected}]".into(),
            1,
            "validate[0].expect: \"rejected\" is not an expectation; use accepted, or",
        ),
        // Errors in the defaults are located in the defaults
        (
            "given:\n  items: [a, a]\ncases: [{name: n, expect: {run: a}}]".into(),
            2,
            "given.items[1]: \"a\" is the name of another item",
        ),
        ("given: {seed: 1}\ncases: []".into(), 1, "given.seed: "),
        // Syntax
        ("cases: [\n".into(), 2, "did not find expected node content"),
        (
            "case: []".into(),
            1,
            "unknown field `case`, expected one of `given`, `cases`, `validate`",
        ),
    ] {
        let error = parse(&yaml).unwrap_err();
        let at = error.position.map(|(line, _)| line);
        assert!(error.message.contains(expected), "{yaml}\n{error}");
        assert_eq!(at, Some(line), "{yaml}\n{error}");
    }
}

#[test]
fn unknown_name_errors_suggest_similar_names() {
    let items = "{items: [photos, mail]}";
    for (yaml, expected) in [
        ("case: []".to_owned(), "; did you mean cases?"),
        (
            case_yaml("{item: [a]}", "{run: a}"),
            "`recent`; did you mean items?",
        ),
        (
            case_yaml("{items: [{name: a, lastsucess: 1h ago}]}", "{run: a}"),
            "; did you mean lastSuccess?",
        ),
        (
            case_yaml(
                "{items: [a], recent: [{item: a, finished: now, outcome: suceeded}]}",
                "{run: a}",
            ),
            "`stopped`; did you mean succeeded?",
        ),
        (
            case_yaml(
                "{items: [a], recent: [{item: b, finished: now, outcome: failed}]}",
                "{run: a}",
            ),
            "\"b\" is not an item; the items are a",
        ),
        (
            case_yaml(items, "{run: photo}"),
            "expect.run: \"photo\" is not an item; did you mean photos?",
        ),
        (
            case_yaml(items, "{wait: true, verdict: {}}"),
            "; did you mean verdicts?",
        ),
        (
            case_yaml(items, "{wait: true, verdicts: {mail: redy}}"),
            "; did you mean ready?",
        ),
        (
            case_yaml(items, "{wait: true, fuel: {maximum: 1}}"),
            "unknown field `maximum`, expected `max`",
        ),
        (
            "validate: [{name: n, expect: {reject: x}}]".to_owned(),
            "; did you mean rejected?",
        ),
    ] {
        let error = parse(&yaml).unwrap_err();
        assert!(error.message.ends_with(expected), "{yaml}\n{error}");
    }
}

#[test]
fn type_errors_show_an_example() {
    for (yaml, example) in [
        (
            "[]".to_owned(),
            "{cases: [{name: one item, expect: {run: photos}}]}",
        ),
        (
            "cases: [a]".into(),
            "{name: one item, expect: {run: photos}}",
        ),
        (
            "validate: [a]".into(),
            "{name: no settings, expect: accepted}",
        ),
        (case_yaml("a", "{run: a}"), "{items: [photos]}"),
        (case_yaml("{items: [a]}", "a"), "{run: photos}"),
        (
            case_yaml("{items: [a]}", "{run: a, fuel: 5}"),
            "{max: 20000}",
        ),
        (
            case_yaml("{items: [a], recent: [a]}", "{run: a}"),
            "{item: photos, finished: now, outcome: failed}",
        ),
    ] {
        let error = parse(&yaml).unwrap_err();
        assert!(error.message.ends_with(example), "{yaml}\n{error}");
    }
}

#[test]
fn file_without_cases_is_an_error() {
    for yaml in [
        "",
        "# nothing\n",
        "cases: []",
        "given: {now: 2026-01-01T12:00:00Z}",
        "cases:\nvalidate:\n",
    ] {
        let error = parse(yaml).unwrap_err();
        assert!(
            error.message.contains("the file has no cases"),
            "{yaml}: {error}"
        );
    }
}
