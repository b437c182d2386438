//! The conditions of a group as tools that follow kstatus, such as Flux, interpret them.

use super::super::update_progress;
use super::*;
use oaat_api::RejectedPolicy;
use oaat_api::reasons::{policy_ready, ready};
use std::collections::BTreeSet;

/// The result of kstatus for an object whose `observedGeneration` is current.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kstatus {
    Current,
    InProgress,
    Failed,
}

/// Computes the result as kstatus does for custom resources.
fn kstatus(status: &OaatGroupStatus) -> Kstatus {
    let is = |type_, value| {
        let found = condition(&status.conditions, type_);
        found.is_some_and(|c| c.status == value)
    };
    if is("Reconciling", "True") {
        Kstatus::InProgress
    } else if is("Stalled", "True") {
        Kstatus::Failed
    } else if is("Ready", "False") {
        Kstatus::InProgress
    } else {
        Kstatus::Current
    }
}

/// Returns a status in which `Ready` and `PolicyReady` have these reasons. If `rejected` is set, it
/// contains a rejected component.
fn status_with(reason: &str, policy: &str, rejected: bool) -> OaatGroupStatus {
    let mut status = OaatGroupStatus {
        rejected_policy: rejected.then(|| RejectedPolicy {
            sha256: "0".repeat(64),
            reason: policy.to_owned(),
            message: "why".to_owned(),
            operator: "1".to_owned(),
        }),
        ..OaatGroupStatus::default()
    };
    let snapshot = fixture(&[]);
    let is_true = ready::TRUE.contains(&reason);
    for (type_, value, reason) in [
        (ready::TYPE, is_true, reason),
        (policy_ready::TYPE, policy == policy_ready::READY, policy),
    ] {
        let new = (type_, value, reason, "why".to_owned());
        super::super::conditions::set_group_condition(&snapshot, &mut status, new);
    }
    update_progress(&snapshot, &mut status);
    status
}

/// Returns the values of the constants in a module of the reasons.
fn reasons_of(module: &str) -> BTreeSet<&'static str> {
    let text = include_str!("../../../../crates/oaat-api/src/reasons.rs");
    let text = text.split_once(&format!("pub mod {module} {{")).unwrap().1;
    let text = text.split_once("\n}").unwrap().0;
    let lines = text.lines().filter(|line| !line.contains("const TYPE:"));
    lines
        .filter_map(|line| line.split_once(": &str = \"")?.1.split('"').next())
        .collect()
}

#[test]
fn every_reason_has_a_result_of_kstatus() {
    use Kstatus::{Current, Failed, InProgress};
    let cases = [
        ("Ready", Current),
        ("NothingDue", Current),
        ("Complete", Current),
        ("Suspended", Current),
        ("Blackout", Current),
        ("NoItems", Current),
        ("SpecInvalid", Failed),
        ("Undecodable", Failed),
        ("TypeInvalid", Failed),
        ("ItemsGivenUp", Failed),
        ("TypeNotFound", InProgress),
        ("TypeNotChecked", InProgress),
        ("ForeignPod", InProgress),
        ("PodBeingRemoved", InProgress),
        ("CreateRejected", InProgress),
        ("CreateUnavailable", InProgress),
        ("QuotaExceeded", InProgress),
        ("PolicyNotReady", Failed),
    ];
    let reasons = BTreeSet::from(cases.map(|(reason, _)| reason));
    assert_eq!(reasons, reasons_of("ready"));
    for (reason, result) in cases {
        let status = status_with(reason, "Trapped", false);
        assert_eq!(kstatus(&status), result, "{reason}");
    }
}

#[test]
fn every_problem_of_a_policy_has_a_result_of_kstatus() {
    let may_pass = [
        "Loading",
        "SourceNotFound",
        "SourceUnreadable",
        "CompilerUnavailable",
        "Deadline",
    ];
    let reasons = reasons_of("policy_ready");
    for reason in reasons.into_iter().filter(|reason| *reason != "Ready") {
        let status = status_with("PolicyNotReady", reason, true);
        let expected = if may_pass.contains(&reason) {
            Kstatus::InProgress
        } else {
            Kstatus::Failed
        };
        assert_eq!(kstatus(&status), expected, "{reason}");
        // Another policy decides meanwhile.
        assert_eq!(
            kstatus(&status_with("Ready", reason, true)),
            Kstatus::Current
        );
    }
    // A compilation that timed out on a busy machine is repeated.
    let status = status_with("PolicyNotReady", "CompileTimeout", false);
    assert_eq!(kstatus(&status), Kstatus::InProgress);
}

#[test]
fn progress_conditions_are_removed_when_they_no_longer_apply() {
    let mut snapshot = fixture(&["a"]);
    snapshot.group.status = Some(status_with("PolicyNotReady", "Loading", false));
    let mut plan = decided(&snapshot, |_| Ok(wait(None)));
    update_progress(&snapshot, &mut plan.status);
    for type_ in ["Reconciling", "Stalled"] {
        assert_eq!(condition(&plan.status.conditions, type_), None);
    }
}

#[test]
fn nothing_due_stays_until_the_next_decision() {
    let mut snapshot = fixture(&["a"]);
    let waits = decided(&snapshot, |_| Ok(wait(None)));
    assert_eq!(ready(&waits), ("True".into(), "NothingDue".into()));
    snapshot.group.status = Some(waits.status.clone());
    assert_eq!(ready(&planned(&snapshot)), ready(&waits));
}

/// A decision may be deferred, for example because the limiter has no permit.
#[test]
fn missing_decision_stays_reported_until_the_next_decision() {
    let mut snapshot = fixture(&["a"]);
    let fails = decided(&snapshot, |_| Err(EvalError::Trapped("why".into())));
    assert_eq!(ready(&fails), ("False".into(), "PolicyNotReady".into()));
    snapshot.group.status = Some(fails.status.clone());
    let deferred = planned(&snapshot);
    assert_eq!(ready(&deferred), ready(&fails));
    let recovered = decided(&snapshot, |_| Ok(wait(None)));
    assert_eq!(ready(&recovered), ("True".into(), "NothingDue".into()));
}

#[test]
fn options_of_unknown_items_are_reported_once_the_lists_are_read() {
    let mut snapshot = fixture(&["a"]);
    let options = &mut snapshot.group.spec.item_options;
    options.insert("a".into(), oaat_api::ItemOptions::default());
    options.insert("true".into(), oaat_api::ItemOptions::default());
    let reported = |plan: &Plan| {
        let reported = plan.events.iter().map(|event| event.reason);
        reported
            .filter(|reason| *reason == "UnknownItemOptions")
            .count()
    };
    snapshot.listing.unread.push("list".into());
    assert_eq!(reported(&planned(&snapshot)), 0);
    snapshot.listing.unread.clear();
    let plan = planned(&snapshot);
    assert_eq!(reported(&plan), 1);
    let found = condition(&plan.status.conditions, "UnknownItemOptions");
    assert!(found.is_some_and(|c| c.message.contains("not items: true;")));
    snapshot.group.status = Some(plan.status);
    assert_eq!(reported(&planned(&snapshot)), 0, "only once");
}
