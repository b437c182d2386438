use super::super::simulator::RunOutcome;
use super::*;
use proptest::prelude::*;

fn draw_scenario(text: &str, runs: impl Fn(&Scenario) -> Vec<Run>) -> String {
    draw_runs(&Scenario::parse(text).unwrap(), runs)
}

fn draw_runs(scenario: &Scenario, runs: impl Fn(&Scenario) -> Vec<Run>) -> String {
    let history = History {
        runs: runs(scenario),
        end: scenario.end,
        ..History::default()
    };
    let metrics = Metrics::of(scenario, &history);
    let (title, digest) = ("default in week.yaml".to_owned(), "0f".repeat(32));
    let heading = Heading::new(title, &digest, scenario, &history, &metrics);
    draw(&heading, scenario, &history, &metrics)
}

/// Returns `count` runs of each item, one after another, that fill the scenario.
fn back_to_back_runs(count: usize) -> impl Fn(&Scenario) -> Vec<Run> {
    move |s| {
        let all = count * s.items.len();
        let each = (s.end - s.start) / all.max(1) as i64;
        let run = |n: usize| Run {
            item: n % s.items.len(),
            started: s.start + n as i64 * each,
            finished: s.start + n as i64 * each + each * 9 / 10,
            outcome: if n.is_multiple_of(3) {
                RunOutcome::Failed
            } else {
                RunOutcome::Succeeded
            },
            note: None,
        };
        (0..all).map(run).collect()
    }
}

fn numbers(document: &roxmltree::Document, attribute: &str) -> Vec<f64> {
    let nodes = document.descendants();
    nodes
        .filter_map(|node| node.attribute(attribute)?.parse().ok())
        .collect()
}

#[test]
fn svg_has_title_bars_legend_and_footer() {
    let svg = draw_scenario(
        "{length: 2days, items: [{name: 'a <&\">', duration: 1h, frequency: 12h}, \
         {name: b, duration: 1h, joins: 1d}]}",
        |s| {
            let hour = 3_600_000;
            let run = |from: i64, to: i64, outcome| Run {
                item: 0,
                started: s.start + from * hour,
                finished: s.start + to * hour,
                outcome,
                note: None,
            };
            vec![
                run(1, 2, RunOutcome::Failed),
                run(3, 4, RunOutcome::Succeeded),
                run(46, 48, RunOutcome::Unfinished),
            ]
        },
    );
    let document = roxmltree::Document::parse(&svg).unwrap();
    let class = |class| {
        document
            .descendants()
            .filter(move |n| n.attribute("class") == Some(class))
    };
    // The legend has one of each.
    assert_eq!(class("failed").count(), 1 + 1);
    assert_eq!(class("succeeded").count(), 1 + 1);
    assert_eq!(class("unfinished").count(), 1 + 1);
    assert_eq!(class("both").count(), 0);
    assert_eq!(class("late").count(), 1 + 3);
    let words: Vec<_> = document.descendants().filter_map(|n| n.text()).collect();
    let has_text = |text: &str| words.iter().any(|word| word.contains(text));
    for text in [
        "default in week.yaml",
        &format!("sha256:{}", "0f".repeat(32)),
        "a <&\">: failed, 2026-01-01 01:00 to 2026-01-01 02:00 (1h)",
        "Thu 1 Jan",
        "starved: b was due for 1d but not started; its frequency is 1h",
        "prefers-color-scheme:dark",
    ] {
        assert!(has_text(text), "{text} is missing");
    }
    // The first run starts an hour after the left edge of two days.
    let bar = class("failed").nth(1).unwrap();
    let left = bar.attribute("x").unwrap().parse::<f64>().unwrap();
    assert!(
        (left - (LEFT + (RIGHT - LEFT) / 48.0)).abs() < 0.1,
        "{left}"
    );
}

#[test]
fn svg_size_is_bounded_for_many_items_and_runs() {
    for (items, runs, max_bytes) in [
        (1, 100_000, 400_000),
        (60, 3_000, 6_000_000),
        (2_000, 3, 4_000_000),
    ] {
        let text = format!("{{length: 7days, items: [{{name: a, duration: 1m, count: {items}}}]}}");
        let svg = draw_scenario(&text, back_to_back_runs(runs));
        assert!(
            svg.len() < max_bytes,
            "{items} items, {runs} runs: {} bytes",
            svg.len()
        );
        let document = roxmltree::Document::parse(&svg).unwrap();
        let height = numbers(&document, "height").into_iter().fold(0.0, f64::max);
        assert!(height <= TOP + 4_000.0 + 200.0, "{height}");
        let labels = document
            .descendants()
            .filter(|n| n.text().is_some_and(|t| t.starts_with("a-")));
        assert!(labels.count() >= items.min(100) / 2);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn svg_is_well_formed_for_any_name(name in "[^\\p{Cc}]{1,40}", count in 0_usize..40) {
        let text = "{length: 3h, items: [{name: a, duration: 1m}, {name: b, duration: 1m, count: 2}]}";
        let mut scenario = Scenario::parse(text).unwrap();
        scenario.items[0].name = name;
        scenario.items[1].name = "not in XML: \u{ffff}\u{1}".into();
        let svg = draw_runs(&scenario, back_to_back_runs(count));
        let document = roxmltree::Document::parse(&svg);
        prop_assert!(document.is_ok(), "{:?}", document.err());
        let document = document.unwrap();
        for attribute in ["width", "height"] {
            prop_assert!(numbers(&document, attribute).iter().all(|n| *n >= 0.0 && *n < 5_000.0));
        }
        for attribute in ["x", "x1", "x2"] {
            prop_assert!(numbers(&document, attribute).iter().all(|n| (0.0..=WIDTH).contains(n)));
        }
    }
}
