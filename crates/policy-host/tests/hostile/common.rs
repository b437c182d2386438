//! A host, a request, and checks of the result.

use hostile_policies::Hostile;
use policy_host::{Decision, Evaluation, Host, Item, Limits, Policy, Request};
use std::sync::LazyLock;
use std::time::Duration;

/// Built once for all tests.
pub static ALL: LazyLock<Vec<Hostile>> = LazyLock::new(|| hostile_policies::all().unwrap());

/// Returns the hostile policy with this name.
pub fn named(name: &str) -> &'static Hostile {
    ALL.iter().find(|hostile| hostile.name == name).unwrap()
}

const NOW: i64 = 1_800_000_000_000;

/// Returns a request with three items: ready, just failed, and held. It differs from the trial
/// request.
pub fn request(settings: &str, state: &str) -> Request {
    let item = |name: &str, failed: bool, startable: bool| Item {
        name: name.into(),
        frequency: Some(60_000),
        cool_off: 1000,
        settings: None,
        startable,
        last_success: None,
        last_failure: failed.then_some(NOW - 1),
        failures: u32::from(failed),
        runs: u32::from(failed),
        last_duration: failed.then_some(10),
    };
    Request {
        namespace: "default".into(),
        group: "group".into(),
        now: NOW,
        seed: 7,
        settings: settings.into(),
        state: state.into(),
        items: vec![
            item("ready", false, true),
            item("failed", true, true),
            item("held", false, false),
        ],
        recent: vec![],
        extra: "{}".into(),
    }
}

pub fn limits() -> Limits {
    Limits {
        // Long enough for fuel to run out first, even on a busy machine.
        deadline: Duration::from_secs(3),
        ..Limits::default()
    }
}

pub fn host() -> Host {
    Host::new(limits()).unwrap()
}

/// Evaluates a policy and checks that the result satisfies the contract.
pub fn evaluate(policy: &Policy, settings: &str, state: &str) -> Evaluation<Decision> {
    let request = request(settings, state);
    let evaluation = policy.evaluate(&request);
    let log: usize = evaluation.log.iter().map(|line| line.text.len()).sum();
    assert!(evaluation.log.len() <= 64 && log <= 16 << 10);
    assert!(evaluation.log.iter().all(|line| one_line(&line.text)));
    if let Ok(decision) = &evaluation.answer {
        check_contract(&request, decision);
    }
    evaluation
}

fn check_contract(request: &Request, decision: &Decision) {
    if let Some(index) = decision.chosen() {
        assert!(request.items[index].startable);
    }
    assert!([0, request.items.len()].contains(&decision.verdicts.len()));
    assert!(
        decision
            .state
            .as_ref()
            .is_none_or(|state| state.len() <= 4096)
    );
    let notes = decision.verdicts.iter().map(|verdict| &verdict.note);
    for note in notes.chain([&decision.note]).flatten() {
        assert!(note.len() <= 256 && one_line(note), "{note:?}");
    }
}

pub fn one_line(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() || "\u{2028}\u{202e}\u{feff}".contains(c))
}
