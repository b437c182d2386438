//! Every policy of the crate `hostile-policies` has its expected outcome.

use crate::common::{ALL, evaluate, host, limits, named, one_line};
use hostile_policies::{Expected, Hostile};
use policy_host::{EvalError, Host, Policy};
use std::io::Write;

/// Returns the outcome of a policy and the message for the user.
fn outcome(host: &Host, hostile: &Hostile) -> (Expected, String) {
    let policy = match host.load(&hostile.bytes, None) {
        Ok(policy) => policy,
        Err(error) => return (Expected::Load(error.reason()), format!("{error:#}")),
    };
    let settings = hostile.settings.unwrap_or("{}");
    if let Err(error) = policy.validate(settings, &[]).answer {
        return (Expected::Load("SettingsRejected"), format!("{error:#}"));
    }
    let first = evaluate(&policy, settings, "");
    let second = match &first.answer {
        // The operator stores the state when a run starts.
        Ok(decision) if decision.chosen().is_some() => evaluate(
            &policy,
            settings,
            decision.state.as_deref().unwrap_or_default(),
        ),
        _ => first,
    };
    match second.answer {
        Ok(decision) => (Expected::Legal, format!("{:?}", decision.choice)),
        Err(error) => (Expected::Evaluation(error.reason()), format!("{error:#}")),
    }
}

#[test]
fn hostile_policies_have_their_expected_outcomes() {
    let host = host();
    let mut wrong = Vec::new();
    // Not println!, because cargo shows its output only for failed tests.
    let mut out = std::io::stdout();
    for hostile in ALL.iter() {
        let (found, message) = outcome(&host, hostile);
        let name = hostile.name;
        let label = match found {
            Expected::Load(reason) | Expected::Evaluation(reason) => reason,
            Expected::Legal => "within the contract",
        };
        let shown = &message[..message.floor_char_boundary(100)];
        writeln!(out, "hostile {name:20} {label:19} {shown}").unwrap();
        assert!(one_line(&message), "{name}: {message:?}");
        assert!(message.len() < 2048, "{name}: {} bytes", message.len());
        if found != hostile.expected {
            wrong.push(format!(
                "{name} ({}): {:?} instead of {:?}: {message}",
                hostile.what, found, hostile.expected
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn policy_names_are_unique() {
    let mut names: Vec<_> = ALL.iter().map(|h| h.name).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn failed_policies_do_not_affect_others() {
    failures_do_not_affect_others(&host());
}

#[test]
fn failed_policies_leave_nothing_in_shared_memory() {
    let shared = Host::for_many_evaluations(limits(), 1);
    failures_do_not_affect_others(&shared.unwrap());
}

fn failures_do_not_affect_others(host: &Host) {
    let honest = host
        .load(&hostile_policies::honest().unwrap(), None)
        .unwrap();
    let before = evaluate(&honest, "{}", "");
    for name in ["grow", "recurse", "panic", "verdicts-many", "log-flood"] {
        let policy = host.load(&named(name).bytes, None).unwrap();
        let first = evaluate(&policy, "{}", "");
        assert!(first.answer.is_err(), "{name}");
        assert_eq!(evaluate(&policy, "{}", "").answer, first.answer, "{name}");
        let after = evaluate(&honest, "{}", "");
        assert_eq!((&after.answer, after.fuel), (&before.answer, before.fuel));
    }
}

#[test]
fn panic_message_is_reported_if_the_log_is_full() {
    let host = host();
    let answer = evaluate(
        &host.load(&named("panic-long").bytes, None).unwrap(),
        "{}",
        "",
    )
    .answer;
    assert!(matches!(answer, Err(EvalError::Trapped(crash)) if crash.message.contains("aaargh")));
}

#[test]
fn crash_has_a_bounded_backtrace() {
    let host = host();
    for (name, minimum) in [("unreachable", 1), ("panic", 1), ("recurse", 64)] {
        let policy = host.load(&named(name).bytes, None).unwrap();
        let Err(EvalError::Trapped(crash)) = evaluate(&policy, "{}", "").answer else {
            panic!("{name} did not crash");
        };
        let frames = crash.backtrace.frames();
        assert!((minimum..=64).contains(&frames.len()), "{name}: {frames:?}");
        let short = EvalError::Trapped(crash.clone()).to_string();
        let long = format!("{:#}", EvalError::Trapped(crash));
        assert!(long.starts_with(&format!("{short} in ")), "{long}");
    }
}

#[test]
fn host_and_policies_are_send_and_sync() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<Host>();
    shared::<Policy>();
}
