use super::*;
use crate::views::test_groups::{NOW, backup, group, rejecting, shadowed, time};
use oaat_api::run_now;
use serde_json::json;

fn explain(group: &OaatGroup, item: &str) -> (Rule, String, Option<String>) {
    let listed = group.spec.oaat_items.clone();
    let why = why(group, &listed, item, NOW);
    (why.rule, why.because, why.next.map(|at| at.to_string()))
}

#[test]
fn each_item_has_one_rule_and_the_time_at_which_it_ends() {
    for (item, rule, because, next) in [
        (
            "photos",
            Rule::None,
            "run 7 in pod backup-photos-x started 5m ago",
            None,
        ),
        (
            "mail",
            Rule::Frequency,
            "it succeeded 30m ago (2026-03-02T11:30:00Z), and its frequency is 1h",
            Some("2026-03-02T12:30:00Z"),
        ),
        (
            "late",
            Rule::OneAtATime,
            "it is due, but photos runs (run 7, started 5m ago), and a group runs one item at \
             a time",
            None,
        ),
        (
            "broken",
            Rule::FailureCoolOff,
            "failed 3 times since its last success (Error); cooling off until \
             2026-03-02T12:10:00Z",
            Some("2026-03-02T12:10:00Z"),
        ),
        ("off", Rule::ItemSuspended, "itemOptions suspends it", None),
    ] {
        let expected = (rule, because.to_owned(), next.map(str::to_owned));
        assert_eq!(explain(&backup(), item), expected, "{item}");
    }
}

#[test]
fn causes_of_the_group_come_first() {
    let mut suspended = backup();
    suspended.spec.suspend = true;
    suspended.metadata.annotations =
        Some([(crate::views::SUSPENDED_BY.to_owned(), "alice".to_owned())].into());
    let windows = json!({ "oaatType": "t", "oaatItems": ["a"], "blackoutWindows": [
        { "name": "office", "schedule": "0 8 * * *", "duration": "10h" }
    ] });
    let spec = json!({ "oaatType": "t", "oaatItems": ["a"] });
    let status = json!({ "items": { "a": {} } });
    let not_found = json!({ "items": { "a": {} }, "conditions": [{
        "type": "Ready", "status": "False", "reason": "TypeNotFound",
        "message": "OaatType \"t\" does not exist", "lastTransitionTime": "2026-03-02T11:00:00Z",
    }] });
    let bad = json!({ "oaatType": "t", "oaatItems": ["a"], "frequency": "often" });
    let missing = json!({ "items": { "a": { "missingSince": "2026-03-02T11:00:00Z" } } });
    for (group, item, rule, words, next) in [
        (
            suspended,
            "mail",
            Rule::GroupSuspended,
            "the group is suspended by alice; spec.suspend is true",
            None,
        ),
        (
            group(&windows, &status),
            "a",
            Rule::BlackoutWindows,
            "blackout until 2026-03-02T18:00:00Z (window office)",
            Some("2026-03-02T18:00:00Z"),
        ),
        (
            group(&spec, &not_found),
            "a",
            Rule::GroupNotReady,
            "TypeNotFound: OaatType \"t\" does not exist",
            None,
        ),
        (
            group(&bad, &status),
            "a",
            Rule::SpecInvalid,
            "spec.frequency",
            None,
        ),
        (
            group(&spec, &missing),
            "a",
            Rule::ItemsFrom,
            "its source has not listed it since 2026-03-02T11:00:00Z",
            None,
        ),
        (group(&spec, &status), "a", Rule::Policy, "it is due", None),
        (
            group(&spec, &json!({})),
            "a",
            Rule::NotReconciled,
            "has not reconciled",
            None,
        ),
    ] {
        let (actual, because, at) = explain(&group, item);
        assert_eq!((actual, at.as_deref()), (rule, next), "{because}");
        assert!(because.contains(words), "{because}");
    }
}

#[test]
fn states_of_the_items_decide_after_the_group() {
    let spec = json!({ "oaatType": "t", "oaatItems": ["a"], "schedule": { "cron": "0 2 * * *" } });
    let once = json!({ "oaatType": "t", "oaatItems": ["a"], "eachOnce": true });
    let item = |item: serde_json::Value, policy: &str| {
        json!({ "items": { "a": item }, "policy": {
            "source": policy, "digest": "d", "contract": "1.0.0",
        } })
    };
    let success = json!({ "state": "Fresh", "lastSuccess": "2026-03-02T03:00:00Z" });
    let deferred = json!({ "state": "Deferred", "message": "deferred: not on Mondays" });
    let held = json!({
        "state": "Held", "message": "held by the retry floor", "next": "2026-03-02T12:00:05Z",
    });
    let gave_up = json!({ "state": "GivenUp", "message": "failed 3 times; gave up" });
    let passed = json!({ "state": "Cooling", "next": "2026-03-02T11:59:00Z" });
    for (spec, status, rule, next) in [
        (
            &spec,
            item(success.clone(), "default"),
            Rule::Schedule,
            Some("2026-03-03T02:00:00Z"),
        ),
        (
            &spec,
            item(success.clone(), "backoff/policy.wasm"),
            Rule::Policy,
            Some("2026-03-03T02:00:00Z"),
        ),
        (&once, item(success, "default"), Rule::EachOnce, None),
        (&spec, item(deferred, "own"), Rule::Policy, None),
        (
            &spec,
            item(held, "default"),
            Rule::Hold,
            Some("2026-03-02T12:00:05Z"),
        ),
        (&spec, item(gave_up, "default"), Rule::MaxFailures, None),
        (&spec, item(passed, "default"), Rule::Policy, None),
    ] {
        let (actual, because, at) = explain(&group(spec, &status), "a");
        assert_eq!((actual, at.as_deref()), (rule, next), "{because}");
    }
}

#[test]
fn requested_item_waits_only_for_what_also_holds_requests() {
    let spec = json!({ "oaatType": "t", "oaatItems": ["a", "b"], "maxFailures": 1 });
    let suspended = json!({ "oaatType": "t", "oaatItems": ["a"], "suspend": true });
    let off = json!({
        "oaatType": "t", "oaatItems": ["a"], "itemOptions": { "a": { "suspend": true } },
    });
    let fits = json!({ "oaatType": "t", "oaatItems": ["a"], "blackoutWindows": [
        { "schedule": "0 13 * * *", "duration": "10h", "startIfFits": true }
    ] });
    let item = |item: serde_json::Value| json!({ "items": { "a": item, "b": {} } });
    let not_ready = |reason: &str| {
        json!({ "items": { "a": {}, "b": {} }, "conditions": [{
            "type": "Ready", "status": "False", "reason": reason, "message": "why",
            "lastTransitionTime": "2026-03-02T11:00:00Z",
        }] })
    };
    let rejected = |until: &str| {
        json!({ "items": { "a": {} }, "rejected": {
            "count": 1, "until": until, "message": "exceeded quota", "quota": true,
            "items": ["a"],
        } })
    };
    for (spec, status, rule, next) in [
        (
            &spec,
            item(json!({ "state": "GivenUp" })),
            Rule::RunNow,
            None,
        ),
        (
            &spec,
            item(json!({ "state": "Cooling", "next": "2026-03-02T13:00:00Z" })),
            Rule::RunNow,
            None,
        ),
        (
            &spec,
            item(json!({ "state": "Fresh", "lastSuccess": "2026-03-02T11:59:00Z" })),
            Rule::RunNow,
            None,
        ),
        (
            &spec,
            item(json!({ "state": "Cooling", "lastStarted": "2026-03-02T11:59:55Z" })),
            Rule::Hold,
            Some("2026-03-02T12:00:05Z"),
        ),
        (&spec, item(json!({ "state": "Held" })), Rule::Hold, None),
        (&spec, not_ready("PolicyNotReady"), Rule::RunNow, None),
        (&spec, not_ready("QuotaExceeded"), Rule::RunNow, None),
        (&spec, not_ready("ForeignPod"), Rule::GroupNotReady, None),
        (
            &spec,
            rejected("2026-03-02T12:01:00Z"),
            Rule::GroupNotReady,
            Some("2026-03-02T12:01:00Z"),
        ),
        (&spec, rejected("2026-03-02T11:59:59Z"), Rule::Hold, None),
        (&suspended, item(json!({})), Rule::GroupSuspended, None),
        (&off, item(json!({})), Rule::ItemSuspended, None),
        (
            &fits,
            item(json!({ "durations": [3601] })),
            Rule::BlackoutWindows,
            Some("2026-03-02T23:00:00Z"),
        ),
        (
            &fits,
            item(json!({ "durations": [3600] })),
            Rule::RunNow,
            None,
        ),
    ] {
        let mut group = group(spec, &status);
        let request = r#"{"token": "t", "items": ["a"]}"#;
        group.metadata.annotations =
            Some([(run_now::ANNOTATION.to_owned(), request.to_owned())].into());
        let (actual, because, at) = explain(&group, "a");
        assert_eq!((actual, at.as_deref()), (rule, next), "{because} {status}");
    }
}

#[test]
fn items_held_by_a_quota_or_given_up_do_not_explain_other_items() {
    let spec = json!({ "oaatType": "t", "oaatItems": ["due", "fresh", "cooling", "gaveUp"] });
    for (reason, rejected_until, due) in [
        ("QuotaExceeded", "2026-03-02T11:59:00Z", Rule::Policy),
        ("QuotaExceeded", "2026-03-02T12:01:00Z", Rule::GroupNotReady),
        ("ItemsGivenUp", "2026-03-02T11:59:00Z", Rule::Policy),
    ] {
        let status = json!({
            "items": {
                "due": {},
                "fresh": { "state": "Fresh", "lastSuccess": "2026-03-02T11:30:00Z" },
                "cooling": { "state": "Cooling", "next": "2026-03-02T12:10:00Z" },
                "gaveUp": { "state": "GivenUp" },
            },
            "rejected": {
                "count": 1, "until": rejected_until, "message": "exceeded quota",
                "quota": true, "items": ["other"],
            },
            "conditions": [{
                "type": "Ready", "status": "False", "reason": reason, "message": "why",
                "lastTransitionTime": "2026-03-02T11:00:00Z",
            }],
        });
        let group = group(&spec, &status);
        let rules = ["due", "fresh", "cooling", "gaveUp"].map(|item| explain(&group, item).0);
        let own = [Rule::Frequency, Rule::FailureCoolOff, Rule::MaxFailures];
        assert_eq!(rules, [due, own[0], own[1], own[2]], "{reason}");
    }
}

#[test]
fn explanation_is_a_few_lines_for_the_terminal() {
    let mut group = backup();
    let request = r#"{"token": "t", "items": ["late", "broken"]}"#;
    group.metadata.annotations =
        Some([(run_now::ANNOTATION.to_owned(), request.to_owned())].into());
    let status = group.status.as_mut().unwrap();
    let run_now = json!({ "token": "t", "time": "2026-03-02T11:58:00Z" });
    status.run_now = Some(serde_json::from_value(run_now).unwrap());
    let listed = group.spec.oaat_items.clone();
    let expected = "\
broken in group backup of namespace media does not run
  because: photos runs (run 7, started 5m ago), and a group runs one item at a time
  rule:    one item at a time
  note:    a user requested to run it now, after 1 other item
  note:    its latest run, 6, ended 10m ago with Failed (Error: no space [31m left)
";
    assert_eq!(why(&group, &listed, "broken", NOW).text(NOW), expected);
    let late = why(&group, &listed, "late", NOW).text(NOW);
    assert!(late.contains("note:    it is 15m late"), "{late}");
    assert!(
        late.contains("note:    a user requested to run it now\n"),
        "{late}"
    );
    let status = group.status.as_mut().unwrap();
    status.items.get_mut("photos").unwrap().durations = vec![600];
    let running = why(&group, &listed, "photos", NOW);
    assert_eq!(running.next, Some(time("2026-03-02T12:05:00Z")));
    assert!(running.text(NOW).contains("ends:    in 5m"), "{running:?}");
    let mark = json!({ "time": "2026-03-02T11:58:00Z", "by": "alice" });
    let status = group.status.as_mut().unwrap();
    let mail = status.items.get_mut("mail").unwrap();
    mail.marked = Some(serde_json::from_value(mark).unwrap());
    let mail = why(&group, &listed, "mail", NOW).text(NOW);
    assert!(
        mail.contains("note:    its last success was marked 2m ago by alice"),
        "{mail}"
    );
}

#[test]
fn shadow_policy_is_noted_if_it_differs_or_has_a_problem() {
    for (status, reason, expected) in [
        ("True", "Agrees", None),
        ("Unknown", "NotCompared", None),
        (
            "False",
            "Differs",
            Some("the shadow policy would have decided differently"),
        ),
        (
            "False",
            "Failed",
            Some("the shadow policy failed to decide"),
        ),
        (
            "Unknown",
            "NotUsable",
            Some("the shadow policy cannot be used"),
        ),
    ] {
        let group = shadowed(status, reason, "details");
        let why = why(&group, &group.spec.oaat_items, "mail", NOW);
        let text = why.text(NOW);
        let lines: Vec<_> = text
            .lines()
            .filter(|line| line.contains("shadow"))
            .collect();
        let expected: Vec<_> = expected
            .map(|words| format!("  note:    {words}; see kubectl oaat status backup"))
            .into_iter()
            .collect();
        assert_eq!(lines, expected, "{text}");
        let json = serde_json::to_value(&why).unwrap();
        let shown = json!({ "status": status, "reason": reason, "message": "details" });
        assert_eq!(json["shadow"], shown);
    }
}

#[test]
fn problem_of_the_policy_is_noted() {
    let group = rejecting("unknown setting \"bas\"");
    let why = why(&group, &group.spec.oaat_items, "mail", NOW);
    let text = why.text(NOW);
    let note = "  note:    PolicyReady is False (SettingsRejected); \
                see kubectl oaat status backup\n";
    assert!(text.ends_with(note), "{text}");
    let json = serde_json::to_value(&why).unwrap();
    assert_eq!(json["policyProblem"]["message"], "unknown setting \"bas\"");
    let mut ready = group;
    ready.status.as_mut().unwrap().conditions[0].status = "True".into();
    let text = super::why(&ready, &ready.spec.oaat_items, "mail", NOW).text(NOW);
    assert!(!text.contains("PolicyReady"), "{text}");
}
