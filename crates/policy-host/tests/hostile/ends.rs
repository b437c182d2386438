//! Every policy of `tests/hostile` ends as that crate says it must.

use crate::common::{ALL, ask, host, named, one_line};
use hostile_policies::{Expected, Hostile};
use policy_host::{EvalError, Host, Policy};
use std::io::Write;

/// What comes of a policy, and the words that a user is told.
fn outcome(host: &Host, hostile: &Hostile) -> (Expected, String) {
    let policy = match host.load(&hostile.bytes, None) {
        Ok(policy) => policy,
        Err(error) => return (Expected::Load(error.reason()), error.to_string()),
    };
    let settings = hostile.settings.unwrap_or("{}");
    if let Err(error) = policy.validate(settings, &[]).answer {
        return (Expected::Load("SettingsRejected"), error.to_string());
    }
    let first = ask(&policy, settings, "");
    let second = match &first.answer {
        // As the operator does, once a run has started.
        Ok(decision) if decision.chosen().is_some() => ask(
            &policy,
            settings,
            decision.state.as_deref().unwrap_or_default(),
        ),
        _ => first,
    };
    match second.answer {
        Ok(decision) => (Expected::Legal, format!("{:?}", decision.choice)),
        Err(error) => (Expected::Evaluation(error.reason()), error.to_string()),
    }
}

#[test]
fn every_hostile_policy_ends_as_it_must() {
    let host = host();
    let mut wrong = Vec::new();
    // Not by println!, whose text cargo shows of failed tests only: this list is for everyone.
    let mut out = std::io::stdout();
    for hostile in ALL.iter() {
        let (ended, words) = outcome(&host, hostile);
        let name = hostile.name;
        let end = match ended {
            Expected::Load(reason) | Expected::Evaluation(reason) => reason,
            Expected::Legal => "within the contract",
        };
        let shown = &words[..words.floor_char_boundary(100)];
        writeln!(out, "hostile {name:20} {end:19} {shown}").unwrap();
        assert!(one_line(&words), "{name}: {words:?}");
        assert!(words.len() < 2048, "{name}: {} bytes", words.len());
        if ended != hostile.expected {
            wrong.push(format!(
                "{name} ({}): {:?} instead of {:?}: {words}",
                hostile.what, ended, hostile.expected
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = ALL.iter().map(|h| h.name).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn a_policy_that_ended_badly_leaves_nothing_behind() {
    let host = host();
    let honest = host
        .load(&hostile_policies::honest().unwrap(), None)
        .unwrap();
    let before = ask(&honest, "{}", "");
    for name in ["grow", "recurse", "panic", "verdicts-many", "log-flood"] {
        let policy = host.load(&named(name).bytes, None).unwrap();
        let first = ask(&policy, "{}", "");
        assert!(first.answer.is_err(), "{name}");
        assert_eq!(ask(&policy, "{}", "").answer, first.answer, "{name}");
        let after = ask(&honest, "{}", "");
        assert_eq!((&after.answer, after.fuel), (&before.answer, before.fuel));
    }
}

#[test]
fn what_a_panic_said_is_told_though_the_log_is_full() {
    let host = host();
    let answer = ask(
        &host.load(&named("panic-long").bytes, None).unwrap(),
        "{}",
        "",
    )
    .answer;
    assert!(matches!(answer, Err(EvalError::Trapped(words)) if words.contains("aaargh")));
}

#[test]
fn a_host_and_its_policies_go_to_other_threads() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<Host>();
    shared::<Policy>();
}
