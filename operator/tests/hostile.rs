//! Objects that are designed to consume the operator's time. Each must be processed within ten
//! seconds; a quadratic or unbounded search takes minutes.

#![allow(clippy::unwrap_used)]

use oaat_api::text;
use oaat_api::validate::{FieldError, summary, suspended, validate, validate_type};
use oaat_api::windows::{Window, blackout, next};
use oaat_api::{BlackoutWindow, OaatGroup, OaatTypeSpec, Timestamp};
use oaat_operator::plan::plan_group;
use oaat_operator::pod::PodView;
use oaat_operator::run_now;
use oaat_operator::snapshot::SourceLists;
use oaat_operator::snapshot::TypeRead;
use oaat_operator::snapshot::{CurrentPod, GroupSnapshot};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

/// 2026-11-26.
const NOW: Timestamp = Timestamp(1_795_651_200_000);
const DAY: u64 = 24 * 3600;

fn group(spec: Value, annotations: Value) -> OaatGroup {
    let mut complete_spec = json!({ "oaatType": "t" });
    complete_spec
        .as_object_mut()
        .unwrap()
        .extend(spec.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": "g", "namespace": "n", "uid": "u", "generation": 1, "annotations": annotations },
        "spec": complete_spec, "status": {},
    }))
    .unwrap()
}

fn snapshot(group: OaatGroup, pods: Vec<PodView>) -> GroupSnapshot {
    let type_: OaatTypeSpec = serde_json::from_value(json!({ "type": "pod" })).unwrap();
    GroupSnapshot {
        now: NOW,
        items: group.spec.oaat_items.clone(),
        group,
        listing: SourceLists::default(),
        uid: "u".into(),
        pods,
        current: CurrentPod::None,
        deleted_while_running: false,
        terminating: false,
        type_: TypeRead::Valid(Arc::new(type_)),
        item_types: std::collections::BTreeMap::new(),
        leads: false,
        retry_floor: Duration::ZERO,
    }
}

/// Returns the message for an invalid spec, which must be bounded.
fn problems(spec: Value) -> String {
    let problems = validate(&group(spec, json!({})).spec).unwrap_err();
    assert!(problems.len() <= 20, "{}", problems.len());
    assert!(
        problems
            .iter()
            .all(|problem| problem.to_string().len() < 1000),
        "{problems:?}"
    );
    summary(&problems)
}

fn window(schedule: &str, duration: u64) -> Result<Window, FieldError> {
    let spec: BlackoutWindow =
        serde_json::from_value(json!({ "schedule": schedule, "duration": "1m" })).unwrap();
    Window::read(&spec, Duration::from_secs(duration))
}

fn windows(schedule: &str, duration: &str) -> Value {
    json!({ "blackoutWindows": vec![json!({ "schedule": schedule, "duration": duration }); 20] })
}

fn items(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("item {n}")).collect()
}

type Case = (&'static str, fn());

const CASES: [Case; 20] = [
    ("days that do not exist", || {
        for schedule in [
            "0 0 30 2 *",
            "0 0 31 4,6,9,11 *",
            "0 0 1-7 * +1#5",
            "0 0 30,31 2 +*/2",
            "* * 8-14 * +5#1",
            "0 0 29 2 +1#1",
            "0 0 15 * +0L",
        ] {
            let message = problems(windows(schedule, "1h"));
            assert!(message.contains("never occurs"), "{schedule}: {message}");
        }
    }),
    ("schedules with empty fields", || {
        for schedule in [
            ", 0 * * *",
            "0 , * * *",
            "0 0 , * *",
            "0 0 1 , *",
            "0 0 1 1 ,",
        ] {
            let window = window(schedule, 60);
            assert!(
                window.is_err() || schedule == "0 0 1 1 ,",
                "{schedule}: {window:?}"
            );
        }
    }),
    (
        "a day that occurs every 28 years, in every reconcile",
        || {
            let rare = window("0 0 29 2 +1", 60).unwrap();
            let mut all = vec![rare; 19];
            all.push(window("* * * * *", 61).unwrap());
            for minute in 0..100 {
                let at = NOW.plus(Duration::from_secs(60 * minute));
                assert!(blackout(&all, at).is_some_and(|blackout| blackout.endless));
                assert_eq!(next(&all[..19], at), None);
            }
        },
    ),
    ("windows of a year that overlap for centuries", || {
        let year = window("0 0 1 1 *", 366 * DAY).unwrap();
        let rare = window("0 0 29 2 +1", 366 * DAY).unwrap();
        let mut all = vec![rare; 19];
        all.push(year);
        for day in 0..100 {
            let at = NOW.plus(Duration::from_secs(DAY * day));
            assert!(blackout(&all, at).is_some_and(|blackout| blackout.endless));
        }
    }),
    ("long schedules", || {
        for schedule in [
            "0 ".repeat(500_000),
            format!("0{} 0 1 1 *", ",1".repeat(500_000)),
        ] {
            let message = problems(windows(&schedule, "1h"));
            assert!(message.contains("five fields"), "{message}");
        }
    }),
    ("long time zones", || {
        let zone = "Europe/".repeat(150_000);
        let window = json!({ "schedule": "0 0 * * *", "duration": "1h", "timeZone": zone });
        let message = problems(json!({ "blackoutWindows": [window] }));
        assert!(message.contains("…\" is an unknown time zone"), "{message}");
    }),
    ("long durations", || {
        for text in [
            "9".repeat(1 << 20),
            "1h".repeat(1 << 19),
            " ".repeat(1 << 20),
        ] {
            let message = problems(json!({ "frequency": text, "failureCoolOff": text }));
            assert!(message.contains("at most 100years"), "{message}");
        }
    }),
    ("invalid durations of 2,000 items", || {
        let options = |n| {
            (
                format!("{n}{}", "x".repeat(700)),
                json!({ "frequency": "often" }),
            )
        };
        let options: serde_json::Map<_, _> = (0..2000).map(options).collect();
        let message = problems(json!({ "itemOptions": options }));
        assert!(
            message.contains("…\"].frequency: \"often\" is not"),
            "{message}"
        );
    }),
    ("variables with the same name in 2,000 items", || {
        let name = "V".repeat(30);
        let env = vec![json!({ "name": name, "value": "" }); 20];
        let options = |n: usize| (n.to_string(), json!({ "env": env }));
        let options: serde_json::Map<_, _> = (0..2000).map(options).collect();
        let message = problems(json!({ "itemOptions": options }));
        assert!(message.contains("is listed twice"), "{message}");
    }),
    ("2,000 invalid items", || {
        for name in ["", "\u{7}", &"y".repeat(301), "twice"] {
            problems(json!({ "oaatItems": vec![name; 2000] }));
        }
    }),
    ("a request for 64,000 items", || {
        let names = vec!["a"; 64_000];
        let text = json!({ "token": "1", "items": names }).to_string();
        let group = group(
            json!({ "oaatItems": items(2000) }),
            json!({ run_now::ANNOTATION: text }),
        );
        match run_now::process(
            &group,
            &group.spec.oaat_items,
            &mut group.status.clone().unwrap(),
            NOW,
        ) {
            Some(run_now::RunNowUpdate::Invalid(message)) => {
                assert!(message.contains("fewer items"), "{message}")
            }
            other => panic!("{other:?}"),
        }
    }),
    (
        "the maximum number of items in a request, all unknown",
        || {
            let names: Vec<_> = (0..4000).map(|n| n.to_string()).collect();
            let text = json!({ "token": "1", "items": names }).to_string();
            let group = group(
                json!({ "oaatItems": items(2000) }),
                json!({ run_now::ANNOTATION: text }),
            );
            let mut snapshot = snapshot(group, Vec::new());
            for run in 0..20 {
                let valid = validate(&snapshot.group.spec);
                let plan = plan_group(&snapshot, &valid);
                assert_eq!(plan.status.items.len(), 2000);
                assert_eq!(
                    plan.events.len(),
                    usize::from(run == 0),
                    "{:?}",
                    plan.events
                );
                assert!(
                    plan.events
                        .iter()
                        .all(|event| event.message.ends_with("and 3990 more"))
                );
                snapshot.group.status = Some(plan.status);
            }
        },
    ),
    ("a deeply nested request", || {
        for text in ["[".repeat(32_000), r#"{"items":"#.repeat(3_000)] {
            let group = group(json!({}), json!({ run_now::ANNOTATION: text }));
            let update = run_now::process(
                &group,
                &group.spec.oaat_items,
                &mut group.status.clone().unwrap(),
                NOW,
            );
            assert!(
                matches!(update, Some(run_now::RunNowUpdate::Invalid(_))),
                "{update:?}"
            );
        }
    }),
    ("a pause annotation of 256 KiB", || {
        for (text, paused) in [
            (" ".repeat(256 << 10), false),
            ("no".repeat(128 << 10), true),
        ] {
            let group = group(json!({}), json!({ "pause_new_jobs": text }));
            assert_eq!(suspended(&group).is_some(), paused);
        }
    }),
    ("windows of the original operator", || {
        let time = |text: &str| json!({ "time": text });
        let legacy =
            |text: &str| json!({ "noStartItem": { "start": time(text), "end": time(text) } });
        let mut all = vec![legacy(&"9".repeat(10_000)); 50];
        all.extend(vec![legacy("22:00"); 50]);
        let plan = plan_group(
            &snapshot(group(json!({ "windows": all }), json!({})), Vec::new()),
            &Err(Vec::new()),
        );
        assert!(
            plan.events[0].message.contains("50 of its 100 windows"),
            "{:?}",
            plan.events
        );
    }),
    ("5,000 pods with the label of the group", || {
        let pod = |n: usize| PodView {
            name: format!("pod-{n}"),
            uid: n.to_string(),
            labelled: true,
            ..PodView::default()
        };
        let snapshot = snapshot(
            group(json!({ "oaatItems": ["a"] }), json!({})),
            (0..5000).map(pod).collect(),
        );
        let plan = plan_group(&snapshot, &validate(&snapshot.group.spec));
        let message = plan.status.message.unwrap();
        assert!(
            message.contains("(and 4999 more)") && message.len() < 500,
            "{message}"
        );
    }),
    ("a pod with 10,000 scheduling gates", || {
        let pod = PodView {
            other_gates: (0..10_000).map(|n| format!("example.com/{n}")).collect(),
            ..PodView::default()
        };
        let problem = pod.problem().unwrap();
        assert!(
            problem.ends_with("example.com/9, and 9990 more"),
            "{problem}"
        );
    }),
    ("invisible text", || {
        assert_eq!(text::clean(&"\u{200b}\n".repeat(1 << 20), 100), "");
        assert_eq!(
            text::list(vec!["\u{202e}"; 1 << 20], "", 9),
            "and 1048566 more"
        );
    }),
    ("types with invalid pod specs", || {
        let spec = json!({ "type": "x".repeat(1 << 20), "podspec": { "restartPolicy": vec!["y"; 100_000] } });
        let problems = validate_type(&serde_json::from_value(spec).unwrap());
        assert!(
            problems
                .iter()
                .all(|problem| problem.to_string().len() < 300),
            "{problems:?}"
        );
    }),
    ("a group of the maximum size with everything", || {
        let options = |name: &String| {
            (
                name.clone(),
                json!({ "frequency": "1h 30m", "failureCoolOff": "10m" }),
            )
        };
        let mut spec = windows("*/7 3 29 2 +1", "366d");
        spec["oaatItems"] = json!(items(2000));
        spec["itemOptions"] = items(2000).iter().map(options).collect();
        let snapshot = snapshot(
            group(
                spec,
                json!({ run_now::ANNOTATION: r#"{"token": "1", "items": "*"}"# }),
            ),
            Vec::new(),
        );
        for _ in 0..20 {
            let valid = validate(&snapshot.group.spec);
            let plan = plan_group(&snapshot, &valid);
            assert!(valid.is_ok_and(|valid| valid.items.len() == 2000));
            assert_eq!(plan.status.items.len(), 2000);
        }
    }),
];

#[test]
fn hostile_objects_are_processed_in_time() {
    for (name, case) in CASES {
        let (done, ended) = channel();
        let thread = std::thread::spawn(move || {
            case();
            let _ = done.send(());
        });
        // If the case panics, the sender is dropped without a message.
        let in_time = ended.recv_timeout(Duration::from_secs(10));
        let late = in_time == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        assert!(!late, "{name}: not finished within ten seconds");
        assert!(thread.join().is_ok(), "{name}");
    }
}
