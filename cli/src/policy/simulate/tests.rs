use super::*;
use crate::policy::test_fixtures::default_policy;
use std::path::Path;

const DIR: &str = env!("CARGO_MANIFEST_DIR");

fn home_lab() -> (Scenario, History, Metrics) {
    let policy = crate::policy::component::load(Path::new("default"), default_policy())
        .unwrap()
        .policy;
    let scenario = Scenario::read(&Path::new(DIR).join("examples/home-lab.yaml")).unwrap();
    let history = validate_and_simulate(&policy, &scenario).unwrap();
    let metrics = Metrics::of(&scenario, &history);
    (scenario, history, metrics)
}

#[test]
fn home_lab_scenario_has_the_expected_timeline() {
    let (scenario, history, metrics) = home_lab();
    assert_eq!((history.cut_short.clone(), history.errors), (None, 0));
    assert_eq!(
        history,
        home_lab().1,
        "the same seed gives the same history"
    );
    let item = |name: &str| {
        let found = metrics.items.iter().find(|item| item.name == name);
        found.unwrap_or_else(|| panic!("no {name}"))
    };
    let (mail, nas, photos) = (item("mail"), item("nas"), item("photos-offsite"));
    assert!(
        (20..=28).contains(&mail.succeeded) && mail.failed == 0,
        "{mail:?}"
    );
    assert!(photos.failed > 0 && photos.succeeded >= 5, "{photos:?}");
    assert!(nas.failed >= 3, "it is retried while it is broken: {nas:?}");
    assert!(nas.longest_gap_ms > 36 * 3_600_000, "{nas:?}");
    assert!(!metrics.items.iter().any(|item| item.starved));

    let text = timeline::timeline(&scenario, &history, &metrics, 100);
    let rows: Vec<_> = text.lines().collect();
    assert!(rows.iter().all(|row| row.chars().count() <= 100), "{text}");
    assert!(rows[0].contains("|Fri 2 Jan"), "{text}");
    let nas = rows.iter().find(|row| row.starts_with("nas")).unwrap();
    assert!(nas.contains("x-") || nas.contains("xx"), "{text}");
    let laptop = rows.iter().find(|row| row.starts_with("laptop")).unwrap();
    assert!(
        laptop.starts_with(&format!("laptop{}", " ".repeat(30))),
        "{text}"
    );
    let tables = timeline::tables(&scenario, &history, &metrics);
    assert!(
        tables.contains("virtual-machine-2") && tables.contains("busy"),
        "{tables}"
    );
}

#[test]
fn wide_names_are_aligned_and_truncated_by_their_width() {
    let items =
        ["日本の写真", "ä", &"長".repeat(30)].map(|name| format!("{{name: {name}, duration: 1m}}"));
    let text = format!("{{length: 6h, items: [{}]}}", items.join(", "));
    let scenario = Scenario::parse(&text).unwrap();
    let policy = crate::policy::component::load(Path::new("default"), default_policy())
        .unwrap()
        .policy;
    let history = validate_and_simulate(&policy, &scenario).unwrap();
    let metrics = Metrics::of(&scenario, &history);
    for width in [60, 100] {
        let text = timeline::timeline(&scenario, &history, &metrics, width);
        let rows: Vec<_> = text.lines().skip(1).take(3).collect();
        // 11 wide characters and the ellipsis.
        assert!(
            rows[2].starts_with(&format!("{}…  ", "長".repeat(11))),
            "{text}"
        );
        for row in rows {
            assert_eq!(console::measure_text_width(row), width, "{text}");
        }
    }
}

#[test]
fn settings_rejected_by_the_policy_are_an_error() {
    let policy = crate::policy::component::load(Path::new("default"), default_policy())
        .unwrap()
        .policy;
    let text = "{length: 1h, settings: {a: 1}, items: [{name: a, duration: 1m}]}";
    let error = validate_and_simulate(&policy, &Scenario::parse(text).unwrap())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(
            "SettingsRejected: the policy rejects its settings: the built-in policy default takes no"
        ),
        "{error}"
    );
}

#[test]
fn run_writes_an_svg_and_a_json_report() {
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("week.svg");
    let args = Args {
        file: "default".into(),
        scenario: Path::new(DIR).join("examples/home-lab.yaml"),
        svg: Some(svg.clone()),
        output: Some(PolicyFormat::Json),
        width: None,
        seed: Some(7),
    };
    assert_eq!(run(&args, default_policy()).unwrap(), ExitCode::SUCCESS);
    let picture = std::fs::read_to_string(svg).unwrap();
    roxmltree::Document::parse(&picture).unwrap();
    assert!(picture.contains("seed 7"));

    let (scenario, history, metrics) = home_lab();
    let policy = crate::policy::component::load(Path::new("default"), default_policy())
        .unwrap()
        .policy;
    let report = report(&policy, &scenario, &history, &metrics);
    assert_eq!(
        report["runs"].as_array().map(Vec::len),
        Some(history.runs.len())
    );
    assert_eq!(report["metrics"]["items"][0]["name"], "mail");
    assert_eq!(report["runs"][0]["outcome"], "succeeded");
    assert_eq!(report["cutShort"], Value::Null);
}
