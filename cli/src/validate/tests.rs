use super::*;

fn report(text: &str) -> Report {
    let mut report = Report::default();
    report.file("f.yaml", text);
    report
}

const GROUP: &str =
    "apiVersion: kawaja.net/v1\nkind: OaatGroup\nmetadata: {name: g, namespace: ns}\n";

fn group(spec: &str) -> Report {
    report(&format!("{GROUP}spec: {spec}\n"))
}

#[test]
fn one_line_for_each_object_that_is_right() {
    let report = group("{oaatType: t, oaatItems: [a]}");
    assert_eq!(report.lines, ["f.yaml: OaatGroup ns/g: ok"]);
    assert_eq!(report.status(), 0);
}

#[test]
fn all_problems_of_an_object_are_told_at_once_by_their_fields() {
    let report = group(
        "{frequency: 5, podRetention: ever, podHistoryLimit: -1, oaatItems: [a, a], sudo: true, \
         blackoutWindows: [{schedule: 0 25 * * *, duration: 1h}], itemOptions: {a b: {suspend: 1}}}",
    );
    let told = report.lines.join("\n");
    for field in [
        "spec.oaatType: is missing",
        "spec.frequency: must be a string",
        "spec.podRetention: is \"ever\"; podRetention must be a duration",
        "spec.podHistoryLimit: is -1; it must be 0",
        "spec.oaatItems[1]: \"a\" is there twice",
        "spec.sudo: unknown field \"sudo\"; there",
        "spec.blackoutWindows[0].schedule: blackoutWindows[0].schedule is \"0 25 * * *\"",
        "spec.itemOptions[\"a b\"].suspend: must be true or false",
    ] {
        assert!(
            told.contains(&format!("f.yaml: OaatGroup ns/g: {field}")),
            "{field}: {told}"
        );
    }
    assert_eq!((report.lines.len(), report.problems), (8, 8), "{told}");
    assert_eq!(report.status(), 1);
}

#[test]
fn what_the_schema_and_the_operator_both_refuse_is_told_once() {
    for spec in [
        "{oaatType: t, frequency: banana}",
        "{oaatType: t, oaatItems: ['']}",
        "{oaatType: t, itemOptions: {'x \" y': {env: [{name: OAAT_ITEM}]}}}",
        "{oaatType: t, blackoutWindows: [{schedule: 0 0 * * *, duration: 0s}]}",
        "{oaatType: t, podHistoryLimit: -5}",
        "{oaatType: t, policy: {}}",
    ] {
        let report = group(spec);
        assert_eq!(report.problems, 1, "{spec}: {:#?}", report.lines);
    }
}

#[test]
fn null_is_as_if_it_were_not_there() {
    let report = group(
        "{oaatType: t, oaatItems: null, frequency: null, suspend: null, itemOptions: {a: null}}",
    );
    assert_eq!(report.lines, ["f.yaml: OaatGroup ns/g: ok"]);
    let report = group("{oaatType: null}");
    assert!(
        report.lines[0].contains("spec.oaatType: is missing"),
        "{:?}",
        report.lines
    );
}

#[test]
fn lists_are_unpacked_and_other_kinds_are_passed_over() {
    let report = report(&format!(
        "apiVersion: v1\nkind: List\nitems:\n- {{apiVersion: v1, kind: Secret, metadata: {{name: \"s\\n\"}}}}\n- {{{}}}\n",
        "apiVersion: kawaja.net/v1, kind: OaatGroup, metadata: {name: g}, spec: {oaatType: t}"
    ));
    assert_eq!(
        report.lines,
        [
            "f.yaml: Secret s\\u000a: passed over, as it is of another kind than OaatGroup and OaatType",
            "f.yaml: OaatGroup g: ok",
        ]
    );
    assert_eq!(report.status(), 0);
}

#[test]
fn what_is_no_object_of_ours_by_a_slip_is_a_problem() {
    for (text, words) in [
        (
            "{apiVersion: kawaja.net/v2, kind: OaatGroup}",
            "apiVersion: is \"kawaja.net/v2\"",
        ),
        ("{kind: OaatType}", "apiVersion: is missing"),
        (
            "{apiVersion: kawaja.net/v1, kind: OaatGroups}",
            "kind: is \"OaatGroups\"",
        ),
        ("{apiVersion: kawaja.net/v1}", "kind: is \"\""),
        ("{a: b}", "kind: is missing"),
        ("just text", "no object of Kubernetes"),
        (
            "{apiVersion: kawaja.net/v1, kind: OaatGroup, metadata: {name: g}}",
            "spec: is missing",
        ),
        (
            "{apiVersion: kawaja.net/v1, kind: OaatGroup, metadata: {name: g}, spec: 5}",
            "spec: must be a map",
        ),
        (
            "{apiVersion: kawaja.net/v1, kind: OaatType, metadata: {name: g}, sepc: {}}",
            "there is \"spec\"",
        ),
    ] {
        let report = report(text);
        assert!(
            report.lines.join("\n").contains(words),
            "{text}: {:?}",
            report.lines
        );
        assert_eq!(report.status(), 1, "{text}");
    }
}

#[test]
fn files_that_cannot_be_read_or_have_nothing_of_ours_are_another_status() {
    assert_eq!(report("").status(), 2);
    assert_eq!(report("{apiVersion: v1, kind: Secret}").status(), 2);
    let bad = report("a: [");
    assert_eq!(bad.status(), 2);
    assert!(
        bad.lines[0].starts_with("f.yaml: is neither YAML nor JSON"),
        "{bad:?}"
    );
}

#[test]
fn a_field_of_a_pod_that_is_not_known_here_is_told_and_is_no_problem() {
    let report = report(
        "{apiVersion: kawaja.net/v1, kind: OaatType, metadata: {name: t}, spec: {type: pod, podspec: \
         {container: {name: main, comand: [x]}}}}",
    );
    assert_eq!(report.status(), 0);
    assert!(
        report.lines[0].contains("spec.podspec.container.comand: unknown field"),
        "{report:?}"
    );
    assert!(
        report.lines[0].contains("there is \"command\""),
        "{report:?}"
    );
    assert_eq!(report.lines[1], "f.yaml: OaatType t: ok");
}

#[test]
fn whatever_is_in_a_file_there_is_no_panic() {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    let keys = [
        "oaatType",
        "oaatItems",
        "itemOptions",
        "env",
        "name",
        "policy",
        "configMap",
        "blackoutWindows",
        "schedule",
        "duration",
        "podspec",
        "container",
        "containers",
        "podMetadata",
        "labels",
        "frequency",
    ];
    let value = leaf.prop_recursive(5, 40, 4, move |inner| {
        let key = prop_oneof![
            prop::sample::select(keys.to_vec()).prop_map(str::to_owned),
            ".{0,4}"
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    proptest!(|(spec in value, group in any::<bool>())| {
        let kind = if group { "OaatGroup" } else { "OaatType" };
        let mut report = Report::default();
        let name = serde_json::json!({"name": "x"});
        report.file("f", &serde_json::json!({
            "apiVersion": "kawaja.net/v1", "kind": kind, "metadata": name, "spec": spec,
        }).to_string());
        prop_assert!(report.objects == 1 && !report.lines.is_empty());
    });
}

#[test]
fn whatever_a_file_is_there_is_no_panic() {
    use proptest::prelude::*;
    proptest!(ProptestConfig::with_cases(2000), |(text in "([-:?&*!|>'\"%@#,~<= \t\n]|[\\[\\]{}]|[a-c0-2]|---\n|: |- |é){0,60}")| {
        let mut report = Report::default();
        report.file("f", &text);
        prop_assert!(report.lines.iter().all(|line| !line.contains('\n')));
    });
}
