use super::*;
use proptest::prelude::*;

const MINUTE: i64 = 60_000;

fn scenario(text: &str) -> Scenario {
    Scenario::parse(text).unwrap()
}

fn answer(choice: Choice) -> Evaluation<Decision> {
    let decision = Decision {
        choice,
        note: None,
        verdicts: vec![],
        state: None,
    };
    Evaluation {
        answer: Ok(decision),
        fuel: 10,
        log: vec![],
        log_dropped: 0,
    }
}

fn no_answer() -> Evaluation<Decision> {
    Evaluation {
        answer: Err(EvalError::PolicyError("no\nidea".into())),
        ..answer(Choice::Wait(None))
    }
}

/// The first item that is due and may be started.
fn first_due(request: &Request) -> Evaluation<Decision> {
    let due = |item: &policy_host::Item| {
        let due = |at| item.frequency.is_some_and(|f| request.now >= later(at, f));
        item.startable && item.last_success.is_none_or(due)
    };
    answer(match request.items.iter().position(due) {
        Some(index) => Choice::Run(index as u32),
        None => Choice::Wait(None),
    })
}

/// Minutes from the start at which it was asked.
fn asked(
    scenario: &Scenario,
    mut decide: impl FnMut(&Request) -> Evaluation<Decision>,
) -> Vec<f64> {
    let mut times = vec![];
    live(scenario, |request| {
        times.push((request.now - scenario.start) as f64 / MINUTE as f64);
        decide(request)
    });
    times
}

#[test]
fn a_run_becomes_history() {
    let s = scenario(
        "{length: 10m, items: [{name: a, duration: 1m}, {name: b, duration: 2m, fails: 1}]}",
    );
    let mut requests = vec![];
    let history = live(&s, |request| {
        requests.push(request.clone());
        answer(match requests.len() {
            1 | 3 => Choice::Run(0),
            2 => Choice::Run(1),
            _ => Choice::Wait(None),
        })
    });
    let at = |minutes| s.start + minutes * MINUTE;
    let [first, second, third, fourth] = &requests[..] else {
        panic!("asked {} times", requests.len())
    };
    assert_eq!(
        (first.now, first.items[0].runs, first.recent.len()),
        (at(0), 0, 0)
    );
    assert_eq!(second.now, at(1));
    assert_eq!(second.items[0].last_success, Some(at(1)));
    assert_eq!(second.items[0].last_duration, Some(60_000));
    let b = &third.items[1];
    assert_eq!((b.last_success, b.last_failure), (None, Some(at(3))));
    assert_eq!((b.failures, b.runs), (1, 1));
    let recent: Vec<_> = third.recent.iter().map(|r| (r.item, r.exit_code)).collect();
    assert_eq!(recent, [(1, Some(1)), (0, Some(0))]);
    assert_eq!(fourth.items[0].runs, 2);
    assert_eq!(history.runs.len(), 3);
    assert_eq!(
        (history.end, history.decisions, history.fuel),
        (at(10), 4, 40)
    );
}

#[test]
fn the_operators_rule_gives_each_run_its_seed() {
    // printf '1\0\0\0\0\0\0\0\1' | sha256sum
    assert_eq!(seed("1", 1), 0x42db_430b_5147_bb68);
    let s = scenario("{length: 5m, retryFloor: 0s, items: [{name: a, duration: 1m}]}");
    let mut seeds = vec![];
    live(&s, |request| {
        seeds.push(request.seed);
        // Asked again without a run: the same seed.
        match seeds.len() {
            2 => answer(Choice::Wait(Some(request.now + MINUTE))),
            _ => answer(Choice::Run(0)),
        }
    });
    assert_eq!(seeds[0], seed("1", 1));
    assert_eq!(seeds[1], seeds[2]);
    assert_ne!(seeds[0], seeds[1]);
}

#[test]
fn waits_are_brought_into_the_range() {
    let s = scenario("{length: 3days, items: [{name: a, duration: 1m}]}");
    let hours = |wait: fn(Instant) -> Option<Instant>| {
        asked(&s, |request| answer(Choice::Wait(wait(request.now))))
    };
    assert_eq!(hours(|_| None), [0.0, 1440.0, 2880.0]);
    assert_eq!(hours(|_| Some(Instant::MAX)), [0.0, 1440.0, 2880.0]);
    assert_eq!(hours(|now| Some(now + 36 * 60 * MINUTE)).len(), 3);
    assert_eq!(hours(|now| Some(now - 5)).len(), 3 * 24 * 3600);
    assert_eq!(hours(|_| Some(Instant::MIN)).len(), 3 * 24 * 3600);
    assert_eq!(hours(|now| Some(now + 90 * MINUTE)).len(), 48);
}

#[test]
fn an_item_is_held_for_the_retry_floor_and_then_asked_about() {
    let text = |frequency: &str, fails: u8| {
        scenario(&format!(
            "{{length: 10m, retryFloor: 5m, items: [{{name: a, duration: 1m, \
             frequency: {frequency}, fails: {fails}}}]}}"
        ))
    };
    // Failed, and succeeded with a long frequency: held until five minutes after the start.
    assert_eq!(asked(&text("1s", 1), first_due), [0.0, 1.0, 5.0, 6.0]);
    let startable_or_wait = |request: &Request| {
        answer(match request.items[0].startable {
            true => Choice::Run(0),
            false => Choice::Wait(None),
        })
    };
    assert_eq!(
        asked(&text("6m", 0), startable_or_wait),
        [0.0, 1.0, 5.0, 6.0]
    );
    assert_eq!(
        asked(&text("once", 0), startable_or_wait),
        [0.0, 1.0, 5.0, 6.0]
    );
    // Succeeded, and due sooner than the floor: not held.
    assert_eq!(asked(&text("1s", 0), startable_or_wait).len(), 10);
    // An item that rests anyway is not asked about for the sake of its hold; one that the policy
    // has put off is.
    let standing = |standing: Standing| {
        asked(&text("6m", 0), |request: &Request| {
            let mut evaluation = startable_or_wait(request);
            if let Ok(decision) = &mut evaluation.answer {
                decision.verdicts = vec![policy_host::Verdict {
                    standing,
                    until: None,
                    note: None,
                }];
            }
            evaluation
        })
    };
    assert_eq!(standing(Standing::Fresh), [0.0, 1.0]);
    assert_eq!(standing(Standing::Cooling), [0.0, 1.0]);
    assert_eq!(standing(Standing::Deferred), [0.0, 1.0, 5.0, 6.0]);
}

#[test]
fn an_error_is_followed_by_a_pause_and_many_in_a_row_end_it() {
    let s = scenario("{length: 1d, items: [{name: a, duration: 1m}]}");
    let history = live(&s, |_| no_answer());
    assert_eq!((history.errors, history.decisions), (20, 20));
    assert_eq!(history.end, s.start + 19 * MINUTE);
    let why = history.cut_short.unwrap();
    assert!(
        why.contains("20 times in a row") && why.contains("no idea"),
        "{why}"
    );

    let mut turn = 0;
    let history = live(&s, |_| {
        turn += 1;
        match turn % 20 {
            0 => answer(Choice::Wait(None)),
            _ => no_answer(),
        }
    });
    assert_eq!((history.cut_short, history.errors), (None, 19));
}

#[test]
fn a_choice_of_what_is_not_there_is_an_error() {
    let s = scenario("{length: 5m, items: [{name: a, duration: 1m}]}");
    assert_eq!(live(&s, |_| answer(Choice::Run(1))).errors, 5);
}

#[test]
fn decisions_are_bounded() {
    let s = scenario("{length: 100years, items: [{name: a, duration: 1m}]}");
    let history = live_within(&s, first_due, 1000);
    assert_eq!(history.decisions, 1000);
    assert!(history.cut_short.unwrap().contains("1000 times"));
    assert!(history.end < s.end);
}

#[test]
fn an_item_is_shown_from_when_it_joins() {
    let s = scenario(
        "{length: 1h, items: [{name: late, duration: 1m, joins: 30m}, \
         {name: a, duration: 1m, joins: 10m}]}",
    );
    let mut seen = vec![];
    live(&s, |request| {
        seen.push((
            (request.now - s.start) / MINUTE,
            request
                .items
                .iter()
                .map(|i| i.name.clone())
                .collect::<Vec<_>>()
                .join(" "),
            request
                .recent
                .iter()
                .map(|run| run.item)
                .collect::<Vec<_>>(),
        ));
        first_due(request)
    });
    let seen: Vec<_> = seen
        .iter()
        .map(|(at, names, recent)| (*at, names.as_str(), &recent[..]))
        .collect();
    assert_eq!(
        seen,
        [
            (10, "a", &[][..]),
            (11, "a", &[0]),
            (30, "late a", &[1]),
            (31, "late a", &[0, 1]),
        ]
    );
}

#[test]
fn state_is_handed_back_and_survives_a_wait() {
    let s = scenario("{length: 4m, retryFloor: 0s, items: [{name: a, duration: 1m}]}");
    let mut states = vec![];
    live(&s, |request| {
        states.push(request.state.clone());
        let mut evaluation = match states.len() {
            3 => answer(Choice::Wait(Some(request.now + MINUTE))),
            _ => answer(Choice::Run(0)),
        };
        if let Ok(decision) = &mut evaluation.answer {
            decision.state =
                [Some("one"), None, Some("lost")][(states.len() - 1).min(2)].map(Into::into);
        }
        evaluation
    });
    assert_eq!(states, ["", "one", "one", "one"]);
}

#[test]
fn runs_that_start_in_a_spell_fail_and_the_last_may_not_end() {
    let s = scenario(
        "{length: 5m30s, retryFloor: 0s, items: [{name: a, duration: 1m, frequency: 1ms, \
         failsBetween: [{from: 1m, to: 2m}, {from: 3m, to: 4m}]}]}",
    );
    let ends: Vec<_> = live(&s, |_| answer(Choice::Run(0)))
        .runs
        .iter()
        .map(|r| r.end)
        .collect();
    use End::*;
    assert_eq!(
        ends,
        [Succeeded, Failed, Succeeded, Failed, Succeeded, Unfinished]
    );
}

/// What a seed draws stays what it is: a change here changes every scenario's outcome.
#[test]
fn one_seed_is_one_history_on_every_machine() {
    let s = |seed: u64, more: &str| {
        scenario(&format!(
            "{{length: 1d, seed: {seed}, frequency: 2h, items: [{more}\
             {{name: a, duration: {{min: 1m, max: 1h}}, fails: 0.5}}]}}"
        ))
    };
    let drawn = |s: &Scenario| -> Vec<(i64, End)> {
        let runs = live(s, |request| {
            answer(
                match request
                    .items
                    .iter()
                    .position(|i| i.name == "a" && i.startable)
                {
                    Some(index) => Choice::Run(index as u32),
                    None => Choice::Wait(None),
                },
            )
        });
        runs.runs
            .iter()
            .take(4)
            .map(|r| (r.finished - r.started, r.end))
            .collect()
    };
    let one = drawn(&s(1, ""));
    assert_eq!(one, DRAWN);
    assert_ne!(one, drawn(&s(2, "")));
    // What befalls an item does not depend on the other items.
    assert_eq!(
        one,
        drawn(&s(1, "{name: b, duration: {min: 1s, max: 9s}},"))
    );
}

const DRAWN: [(i64, End); 4] = [
    (2_903_331, End::Failed),
    (950_361, End::Succeeded),
    (263_357, End::Failed),
    (1_426_653, End::Failed),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a policy answers, the operator's own rules hold.
    #[test]
    fn the_operators_rules_hold(
        answers in proptest::collection::vec((0_u32..6, -5_i64..200), 1..50),
        seed in 0_u64..1000,
        floor in 0_u64..20,
        frequency in 1_u64..30,
    ) {
        let s = scenario(&format!(
            "{{length: 12h, seed: {seed}, retryFloor: {floor}m, frequency: {frequency}m, items: [\
             {{name: a, duration: {{min: 0s, max: 9m}}, fails: 0.3, count: 3}}, \
             {{name: b, duration: 5m, frequency: once, joins: 3h}}]}}"
        ));
        let mut turn = 0;
        let mut last = s.start - 1;
        let mut decide = |request: &Request| {
            assert!(last <= request.now && request.now < s.end, "time goes on");
            last = request.now;
            assert!(request.recent.len() <= RECENT);
            assert!(request.recent.is_sorted_by_key(|run| -run.finished), "newest first");
            for (place, item) in request.items.iter().enumerate() {
                assert!(item.failures <= item.runs);
                let newest = request.recent.iter().find(|run| run.item as usize == place);
                assert!(newest.is_none_or(|run| match run.outcome {
                    Outcome::Succeeded => item.last_success == Some(run.finished) && item.failures == 0,
                    _ => item.last_failure == Some(run.finished) && item.failures > 0,
                }));
            }
            turn += 1;
            let (choice, wait) = answers[turn % answers.len()];
            match request.items.get(choice as usize) {
                Some(item) if item.startable => answer(Choice::Run(choice)),
                Some(_) => no_answer(),
                None => answer(Choice::Wait(Some(request.now + wait * 10_000))),
            }
        };
        let history = live_within(&s, &mut decide, 2000);
        for pair in history.runs.windows(2) {
            prop_assert!(pair[0].finished <= pair[1].started, "one at a time");
        }
        for (index, item) in s.items.iter().enumerate() {
            let runs: Vec<_> = history.runs.iter().filter(|run| run.item == index).collect();
            for pair in runs.windows(2) {
                let soon = item.frequency.is_some_and(|f| f < s.retry_floor);
                prop_assert!(
                    pair[1].started >= pair[0].started + s.retry_floor as i64
                        || pair[0].end == End::Succeeded && soon
                );
            }
            prop_assert!(runs.first().is_none_or(|run| run.started >= item.joins));
        }
    }
}
