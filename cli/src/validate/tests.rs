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
fn directory_expands_to_its_yaml_and_json_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let error = files_of(path).unwrap_err().to_string();
    assert!(
        error.ends_with("contains no .yaml, .yml, or .json file; subdirectories are not read"),
        "{error}"
    );
    for name in ["c.yml", "b.json", "a.yaml", ".yaml", "README.md", "yaml"] {
        std::fs::write(path.join(name), "").unwrap();
    }
    std::fs::create_dir(path.join("d.yaml")).unwrap();
    std::os::unix::fs::symlink("missing", path.join("link.yaml")).unwrap();
    let expected = [".yaml", "a.yaml", "b.json", "c.yml", "link.yaml"].map(|name| path.join(name));
    assert_eq!(files_of(path).unwrap(), expected);
    // A named file is read, whatever its extension.
    let file = path.join("README.md");
    assert_eq!(files_of(&file).unwrap(), [file]);
}

#[test]
fn valid_object_is_reported_in_one_line() {
    let report = group("{oaatType: t, oaatItems: [a]}");
    assert_eq!(report.lines, ["f.yaml: OaatGroup ns/g: ok"]);
    assert_eq!(report.status(), 0);
}

#[test]
fn all_problems_of_an_object_are_reported_by_field() {
    let report = group(
        "{frequency: 5, podRetention: ever, podHistoryLimit: -1, oaatItems: [a, a], sudo: true, \
         blackoutWindows: [{schedule: 0 25 * * *, duration: 1h}], itemOptions: {a b: {suspend: 1}}}",
    );
    let lines = report.lines.join("\n");
    for field in [
        "spec.oaatType: is missing",
        "spec.frequency: must be a string",
        "spec.podRetention: \"ever\" is invalid; podRetention must be a duration",
        "spec.podHistoryLimit: invalid value -1: must be 0 or more",
        "spec.oaatItems[1]: \"a\" is listed twice",
        "spec.sudo: unknown field \"sudo\"; use one of",
        "spec.blackoutWindows[0].schedule: \"0 25 * * *\"",
        "spec.itemOptions[\"a b\"].suspend: must be true or false",
    ] {
        assert!(
            lines.contains(&format!("f.yaml: OaatGroup ns/g: {field}")),
            "{field}: {lines}"
        );
    }
    assert_eq!((report.lines.len(), report.problems), (8, 8), "{lines}");
    assert_eq!(report.status(), 1);
}

#[test]
fn field_that_schema_and_operator_reject_is_reported_once() {
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
fn null_is_treated_as_absent() {
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
fn lists_are_expanded_and_other_kinds_are_skipped() {
    let report = report(&format!(
        "apiVersion: v1\nkind: List\nitems:\n- {{apiVersion: v1, kind: Secret, metadata: {{name: \"s\\n\"}}}}\n- {{{}}}\n",
        "apiVersion: kawaja.net/v1, kind: OaatGroup, metadata: {name: g}, spec: {oaatType: t}"
    ));
    assert_eq!(
        report.lines,
        [
            "f.yaml: Secret s\\u000a: skipped; the kind is neither OaatGroup nor OaatType",
            "f.yaml: OaatGroup g: ok",
        ]
    );
    assert_eq!(report.status(), 0);
}

#[test]
fn mistyped_kind_or_version_is_a_problem() {
    for (text, words) in [
        (
            "{apiVersion: kawaja.net/v2, kind: OaatGroup}",
            "apiVersion: \"kawaja.net/v2\" is not supported",
        ),
        ("{kind: OaatType}", "apiVersion: is missing"),
        (
            "{apiVersion: kawaja.net/v1, kind: OaatGroups}",
            "kind: \"OaatGroups\" is not a kind",
        ),
        ("{apiVersion: kawaja.net/v1}", "kind: \"\" is not a kind"),
        ("{a: b}", "kind: is missing"),
        ("just text", "not a Kubernetes object"),
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
            "did you mean \"spec\"?",
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
fn unreadable_files_and_files_without_oaat_objects_exit_with_2() {
    assert_eq!(report("").status(), 2);
    assert_eq!(report("{apiVersion: v1, kind: Secret}").status(), 2);
    let bad = report("a: [");
    assert_eq!(bad.status(), 2);
    assert!(
        bad.lines[0].starts_with("f.yaml: not valid YAML or JSON"),
        "{bad:?}"
    );
}

#[test]
fn unknown_pod_field_is_a_warning() {
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
        report.lines[0].contains("did you mean \"command\"?")
            && report.lines[0].ends_with("may have this field (warning)"),
        "{report:?}"
    );
    assert_eq!(report.lines[1], "f.yaml: OaatType t: ok");
}

#[test]
fn unread_item_settings_are_a_warning() {
    for (policy, is_read) in [
        ("null", false),
        ("{builtIn: default}", false),
        ("{builtIn: default, shadow: {builtIn: default}}", false),
        ("{builtIn: default, shadow: {builtIn: expression}}", true),
        ("{builtIn: default, shadow: {configMap: {name: p}}}", true),
        ("{builtIn: expression, shadow: {builtIn: default}}", true),
        ("{configMap: {name: p}}", true),
    ] {
        let report = group(&format!(
            "{{oaatType: t, oaatItems: [a, b, c], policy: {policy}, \
             itemOptions: {{a: {{settings: {{tier: 1}}}}, b: {{settings: {{}}}}, c: {{}}}}}}"
        ));
        let warning = "f.yaml: OaatGroup ns/g: spec.itemOptions: the built-in policy default ignores \
             the settings of a; remove these settings, or set spec.policy or spec.policy.shadow to a \
             policy that reads them (warning)";
        let expected = (!is_read).then_some(warning);
        let expected: Vec<_> = expected
            .into_iter()
            .chain(["f.yaml: OaatGroup ns/g: ok"])
            .collect();
        assert_eq!(report.lines, expected, "{policy}");
        assert_eq!(report.status(), 0, "{policy}");
    }
}

#[test]
fn validate_never_panics_on_random_specs() {
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
fn validate_never_panics_on_random_text() {
    use proptest::prelude::*;
    proptest!(ProptestConfig::with_cases(2000), |(text in "([-:?&*!|>'\"%@#,~<= \t\n]|[\\[\\]{}]|[a-c0-2]|---\n|: |- |é){0,60}")| {
        let mut report = Report::default();
        report.file("f", &text);
        prop_assert!(report.lines.iter().all(|line| !line.contains('\n')));
    });
}
