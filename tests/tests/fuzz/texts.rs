//! Lists, JSON paths, schedules, durations, and time zones.

use crate::runner::fuzz;
use hostile_policies::{Text, mutated_text, soup};
use oaat_api::json_path::JsonPath;
use oaat_api::validate::{MAX_BYTES, MAX_ITEM, MAX_ITEMS, validate};
use oaat_api::windows;
use oaat_api::{BlackoutWindow, OaatGroupSpec, Timestamp};
use oaat_operator::item_sources::{at_path, list};
use proptest::prelude::*;
use serde_json::json;

/// The maximum length of a rejection, in bytes. It quotes an item, escaped.
const WORDS: usize = 8 << 10;

type Outcome = Result<(), TestCaseError>;

fn refused<T>(answer: &Result<T, String>) -> Outcome {
    if let Err(words) = answer {
        prop_assert!(!words.is_empty() && words.len() < WORDS, "{words}");
    }
    Ok(())
}

/// Checks that each handwritten text is accepted or rejected as expected.
fn each(kind: &str, texts: &[Text], refuses: impl Fn(&str) -> bool) {
    let wrong = texts.iter().filter(|text| {
        let refused = refuses(&text.text);
        text.refused.is_some_and(|wanted| wanted != refused)
    });
    let wrong: Vec<_> = wrong.map(|text| (text.name, text.refused)).collect();
    assert!(
        wrong.is_empty(),
        "{kind} that must be rejected (true) or accepted (false): {wrong:?}"
    );
}

/// Returns the shorter texts, because mutations of a megabyte are mostly that megabyte.
fn short(texts: Vec<Text>) -> Vec<String> {
    let texts = texts.into_iter().map(|text| text.text);
    texts.filter(|text| text.len() <= 100_000).collect()
}

fn is_list(answer: &Result<Vec<String>, String>) -> Outcome {
    refused(answer)?;
    if let Ok(names) = answer {
        let bytes: usize = names.iter().map(String::len).sum();
        prop_assert!(names.len() <= MAX_ITEMS && bytes <= MAX_BYTES);
        for name in names {
            let length = name.chars().count();
            prop_assert!((1..=MAX_ITEM).contains(&length) && !name.chars().any(char::is_control));
        }
    }
    Ok(())
}

#[test]
fn handwritten_lists() {
    each("lists", &hostile_policies::lists(), |text| {
        list(text).is_err()
    });
}

#[test]
fn lists() {
    const PIECES: &[&str] = &[
        "- ", "-", "\n", "[", "]", "{", "}", ",", ": ", "? ", "&a ", "*a", "<<: ", "!!str ", "!x ",
        "|\n", ">\n", "---\n", "...\n", "\"", "'", "\\", "\\u0041", "\\ud800", "# ", "%", "\t",
        "\r\n", "  ", "\u{feff}", "\0", "\u{2028}", "a", "1", "null", "yes", "é",
    ];
    let strategy = prop_oneof![
        2 => mutated_text(short(hostile_policies::lists())),
        2 => soup(PIECES, 60),
        1 => soup(PIECES, 60).prop_map(|text| format!("- {text}")),
        1 => soup(PIECES, 60).prop_map(|text| format!("[{text}]")),
        1 => ".*",
    ];
    fuzz("lists", 3_000, &strategy, |text| is_list(&list(&text)));
}

#[test]
fn handwritten_paths() {
    each("paths", &hostile_policies::paths(), |text| {
        text.parse::<JsonPath>().is_err()
    });
}

#[test]
fn paths() {
    const PIECES: &[&str] = &[
        "$",
        ".",
        "..",
        "[",
        "]",
        "*",
        "[*]",
        "['a']",
        "[\"a\"]",
        "['",
        "']",
        "\"",
        "'",
        "\\",
        "\\'",
        "\\u0041",
        "\\ud800",
        "[0]",
        "[-1]",
        ".a",
        ".items",
        "?",
        "@",
        "(",
        ")",
        "length(",
        "match(",
        "==",
        "&&",
        "!",
        ",",
        ":",
        " ",
        "9",
        "99999999999999999999",
        "é",
        "\u{202e}",
        "\0",
    ];
    let answer =
        json!({ "items": [{ "name": "x", "a": ["y"] }, { "name": "z" }], "a": ["b"] }).to_string();
    let answers = prop_oneof![
        2 => Just(answer.clone()),
        1 => mutated_text(vec![answer, "[".repeat(200) + &"]".repeat(200), "1e999".into()]),
    ];
    let strategy = prop_oneof![
        1 => mutated_text(short(hostile_policies::paths())),
        2 => soup(PIECES, 20),
        2 => soup(PIECES, 20).prop_map(|text| format!("$.items[*]{text}")),
    ];
    fuzz(
        "paths",
        3_000,
        &(strategy, answers),
        |(text, answer)| match text.parse::<JsonPath>() {
            Ok(path) => is_list(&at_path(&answer, &path)),
            Err(error) => refused::<JsonPath>(&Err(error)),
        },
    );
}

fn window(schedule: &str, duration: &str, zone: Option<&str>) -> OaatGroupSpec {
    let window = json!({ "schedule": schedule, "duration": duration, "timeZone": zone });
    let window: BlackoutWindow = serde_json::from_value(window).unwrap();
    let spec = json!({ "oaatType": "t", "oaatItems": ["a"] });
    OaatGroupSpec {
        blackout_windows: vec![window],
        ..serde_json::from_value(spec).unwrap()
    }
}

/// Returns whether a window is rejected, after computing when it is open.
fn window_refused(schedule: &str, duration: &str, zone: Option<&str>) -> bool {
    match validate(&window(schedule, duration, zone)) {
        Ok(valid) => {
            for now in [0, 1_800_000_000_000, 4_102_444_799_999] {
                let _ = windows::blackout(&valid.windows, Timestamp(now));
                let _ = windows::next(&valid.windows, Timestamp(now));
            }
            false
        }
        Err(problems) => {
            assert!(
                problems.iter().all(|error| error.to_string().len() < WORDS),
                "{problems:?}"
            );
            true
        }
    }
}

#[test]
fn handwritten_schedules_durations_and_time_zones() {
    each("schedules", &hostile_policies::schedules(), |text| {
        window_refused(text, "1h", None)
    });
    each("time zones", &hostile_policies::time_zones(), |text| {
        window_refused("0 0 * * *", "1h", Some(text))
    });
    each("durations", &hostile_policies::durations(), |text| {
        let mut spec = window("0 0 * * *", "1h", None);
        spec.frequency = Some(text.to_owned());
        validate(&spec).is_err()
    });
}

#[test]
fn schedules() {
    const FIELDS: &[&str] = &[
        "*", "0", "1", "30", "31", "2", "29", "59", "23", "12", "7", "-", "/", ",", "L", "W", "#",
        "?", "LW", "5#5", "FEB", "mon", " ", " ", " ", "+", "99",
    ];
    const DURATIONS: &[&str] = &[
        "1",
        "9",
        "999999999",
        "h",
        "s",
        "ms",
        "m",
        "days",
        "years",
        " ",
        "-",
        ".",
        "e",
    ];
    let zones = short(hostile_policies::time_zones());
    let strategy = (
        prop_oneof![
            mutated_text(short(hostile_policies::schedules())),
            soup(FIELDS, 25),
            proptest::collection::vec(soup(&FIELDS[..22], 4), 5)
                .prop_map(|fields| fields.join(" ")),
        ],
        prop_oneof![2 => Just("1h".to_owned()), 1 => soup(DURATIONS, 6), 1 => mutated_text(short(hostile_policies::durations()))],
        prop_oneof![3 => Just(None), 1 => mutated_text(zones).prop_map(Some)],
    );
    fuzz("schedules", 400, &strategy, |(schedule, duration, zone)| {
        window_refused(&schedule, &duration, zone.as_deref());
        Ok(())
    });
}
