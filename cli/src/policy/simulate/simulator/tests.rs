use super::*;
use crate::policy::test_fixtures::answer;
use proptest::prelude::*;

const MINUTE: i64 = 60_000;

fn scenario(text: &str) -> Scenario {
    Scenario::parse(text).unwrap()
}

fn simulate(scenario: &Scenario, decide: impl FnMut(&Request) -> Evaluation<Decision>) -> History {
    super::simulate(scenario, decide, |_| ())
}

fn policy_error() -> Evaluation<Decision> {
    Evaluation {
        answer: Err(EvalError::PolicyError("no\nidea".into())),
        ..answer(Choice::Wait(None))
    }
}

/// Chooses the first item that is due and startable.
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

/// Returns the times of the decisions, in minutes from the start.
fn decision_times(
    scenario: &Scenario,
    mut decide: impl FnMut(&Request) -> Evaluation<Decision>,
) -> Vec<f64> {
    let mut times = vec![];
    simulate(scenario, |request| {
        times.push((request.now - scenario.start) as f64 / MINUTE as f64);
        decide(request)
    });
    times
}

#[test]
fn simulate_adds_runs_to_the_request() {
    let s = scenario(
        "{length: 10m, items: [{name: a, duration: 1m}, {name: b, duration: 2m, fails: 1}]}",
    );
    let mut requests = vec![];
    let history = simulate(&s, |request| {
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
fn simulate_derives_seeds_as_the_operator_does() {
    // printf '1\0\0\0\0\0\0\0\1' | sha256sum
    assert_eq!(seed("1", 1), 0x42db_430b_5147_bb68);
    let s = scenario("{length: 5m, retryFloor: 0s, items: [{name: a, duration: 1m}]}");
    let mut seeds = vec![];
    simulate(&s, |request| {
        seeds.push(request.seed);
        // A wait does not change the seed.
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
fn simulate_clamps_waits() {
    let s = scenario("{length: 3days, items: [{name: a, duration: 1m}]}");
    let times = |wait: fn(Instant) -> Option<Instant>| {
        decision_times(&s, |request| answer(Choice::Wait(wait(request.now))))
    };
    assert_eq!(times(|_| None), [0.0, 1440.0, 2880.0]);
    assert_eq!(times(|_| Some(Instant::MAX)), [0.0, 1440.0, 2880.0]);
    assert_eq!(times(|now| Some(now + 36 * 60 * MINUTE)).len(), 3);
    assert_eq!(times(|now| Some(now - 5)).len(), 3 * 24 * 3600);
    assert_eq!(times(|_| Some(Instant::MIN)).len(), 3 * 24 * 3600);
    assert_eq!(times(|now| Some(now + 90 * MINUTE)).len(), 48);
}

#[test]
fn simulate_holds_items_for_the_retry_floor() {
    let text = |frequency: &str, fails: u8| {
        scenario(&format!(
            "{{length: 10m, retryFloor: 5m, items: [{{name: a, duration: 1m, \
             frequency: {frequency}, fails: {fails}}}]}}"
        ))
    };
    // Failed, or succeeded with a long frequency: held until five minutes after the start.
    assert_eq!(
        decision_times(&text("1s", 1), first_due),
        [0.0, 1.0, 5.0, 6.0]
    );
    let startable_or_wait = |request: &Request| {
        answer(if request.items[0].startable {
            Choice::Run(0)
        } else {
            Choice::Wait(None)
        })
    };
    assert_eq!(
        decision_times(&text("6m", 0), startable_or_wait),
        [0.0, 1.0, 5.0, 6.0]
    );
    assert_eq!(
        decision_times(&text("once", 0), startable_or_wait),
        [0.0, 1.0, 5.0, 6.0]
    );
    // Succeeded, and due sooner than the floor: not held.
    assert_eq!(decision_times(&text("1s", 0), startable_or_wait).len(), 10);
    // The end of the retry floor matters only for items that are ready or deferred.
    let times_with_standing = |standing: Standing| {
        decision_times(&text("6m", 0), |request: &Request| {
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
    assert_eq!(times_with_standing(Standing::Fresh), [0.0, 1.0]);
    assert_eq!(times_with_standing(Standing::Cooling), [0.0, 1.0]);
    assert_eq!(
        times_with_standing(Standing::Deferred),
        [0.0, 1.0, 5.0, 6.0]
    );
}

#[test]
fn simulate_pauses_after_an_error_and_stops_after_20_in_a_row() {
    let s = scenario("{length: 1d, items: [{name: a, duration: 1m}]}");
    let history = simulate(&s, |_| policy_error());
    assert_eq!((history.errors, history.decisions), (20, 20));
    assert_eq!(history.end, s.start + 19 * MINUTE);
    let why = history.cut_short.unwrap().to_string();
    assert!(
        why.contains("20 times in a row") && why.contains("no idea"),
        "{why}"
    );

    let mut turn = 0;
    let history = simulate(&s, |_| {
        turn += 1;
        match turn % 20 {
            0 => answer(Choice::Wait(None)),
            _ => policy_error(),
        }
    });
    assert_eq!((history.cut_short, history.errors), (None, 19));
}

#[test]
fn choice_out_of_range_is_an_error() {
    let s = scenario("{length: 5m, items: [{name: a, duration: 1m}]}");
    assert_eq!(simulate(&s, |_| answer(Choice::Run(1))).errors, 5);
}

#[test]
fn simulate_stops_for_a_reason_of_the_caller() {
    let s = scenario("{length: 1h, items: [{name: a, duration: 1m}]}");
    let stop = |now: Timestamp| (now.0 - s.start >= 3 * MINUTE).then(|| "canceled".to_owned());
    let history = simulate_until(&s, |_| answer(Choice::Run(0)), stop);
    assert_eq!(history.cut_short, Some(CutShort::Other("canceled".into())));
    assert_eq!(history.end, s.start + 3 * MINUTE);
    assert_eq!(history.decisions, 3);
}

#[test]
fn simulate_stops_at_the_limit_of_decisions() {
    let s = scenario("{length: 100years, items: [{name: a, duration: 1m}]}");
    let history = simulate_with_limit(&s, first_due, |_| None, 1000);
    assert_eq!(history.decisions, 1000);
    assert_eq!(history.cut_short, Some(CutShort::DecisionLimit(1000)));
    assert!(history.end < s.end);
}

#[test]
fn items_are_in_the_request_after_they_join() {
    let s = scenario(
        "{length: 1h, items: [{name: late, duration: 1m, joins: 30m}, \
         {name: a, duration: 1m, joins: 10m}]}",
    );
    let mut seen = vec![];
    simulate(&s, |request| {
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
fn state_is_passed_to_the_next_decision_and_survives_a_wait() {
    let s = scenario("{length: 4m, retryFloor: 0s, items: [{name: a, duration: 1m}]}");
    let mut states = vec![];
    simulate(&s, |request| {
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
fn runs_fail_in_fails_between_and_the_last_is_unfinished() {
    let s = scenario(
        "{length: 5m30s, retryFloor: 0s, items: [{name: a, duration: 1m, frequency: 1ms, \
         failsBetween: [{from: 1m, to: 2m}, {from: 3m, to: 4m}]}]}",
    );
    let outcomes: Vec<_> = simulate(&s, |_| answer(Choice::Run(0)))
        .runs
        .iter()
        .map(|r| r.outcome)
        .collect();
    use RunOutcome::*;
    assert_eq!(
        outcomes,
        [Succeeded, Failed, Succeeded, Failed, Succeeded, Unfinished]
    );
}

/// Pins the random numbers: a change here changes the result of every scenario.
#[test]
fn seed_gives_the_same_history_on_every_machine() {
    let s = |seed: u64, more: &str| {
        scenario(&format!(
            "{{length: 1d, seed: {seed}, frequency: 2h, items: [{more}\
             {{name: a, duration: {{min: 1m, max: 1h}}, fails: 0.5}}]}}"
        ))
    };
    let drawn = |s: &Scenario| -> Vec<(i64, RunOutcome)> {
        let runs = simulate(s, |request| {
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
            .map(|r| (r.finished - r.started, r.outcome))
            .collect()
    };
    let one = drawn(&s(1, ""));
    assert_eq!(one, DRAWN);
    assert_ne!(one, drawn(&s(2, "")));
    // The runs of an item do not depend on other items.
    assert_eq!(
        one,
        drawn(&s(1, "{name: b, duration: {min: 1s, max: 9s}},"))
    );
}

const DRAWN: [(i64, RunOutcome); 4] = [
    (2_903_331, RunOutcome::Failed),
    (950_361, RunOutcome::Succeeded),
    (263_357, RunOutcome::Failed),
    (1_426_653, RunOutcome::Failed),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn operator_rules_hold_for_any_policy(
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
            assert!(last <= request.now && request.now < s.end, "time advances");
            last = request.now;
            assert!(request.recent.len() <= RECENT);
            assert!(request.recent.is_sorted_by_key(|run| -run.finished), "newest first");
            for (index, item) in request.items.iter().enumerate() {
                assert!(item.failures <= item.runs);
                let newest = request.recent.iter().find(|run| run.item as usize == index);
                assert!(newest.is_none_or(|run| match run.outcome {
                    Outcome::Succeeded => item.last_success == Some(run.finished) && item.failures == 0,
                    _ => item.last_failure == Some(run.finished) && item.failures > 0,
                }));
            }
            turn += 1;
            let (choice, wait) = answers[turn % answers.len()];
            match request.items.get(choice as usize) {
                Some(item) if item.startable => answer(Choice::Run(choice)),
                Some(_) => policy_error(),
                None => answer(Choice::Wait(Some(request.now + wait * 10_000))),
            }
        };
        let history = simulate_with_limit(&s, &mut decide, |_| None, 2000);
        for pair in history.runs.windows(2) {
            prop_assert!(pair[0].finished <= pair[1].started, "one at a time");
        }
        for (index, item) in s.items.iter().enumerate() {
            let runs: Vec<_> = history.runs.iter().filter(|run| run.item == index).collect();
            for pair in runs.windows(2) {
                let exempt = item.frequency.is_some_and(|f| f < s.retry_floor);
                prop_assert!(
                    pair[1].started >= pair[0].started + s.retry_floor as i64
                        || pair[0].outcome == RunOutcome::Succeeded && exempt
                );
            }
            prop_assert!(runs.first().is_none_or(|run| run.started >= item.joins));
        }
    }
}
