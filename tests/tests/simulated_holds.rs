//! The simulation of `policy simulate` requests a decision whenever the operator would.

#![allow(clippy::unwrap_used)]

use oaat_api::validate::validate;
use oaat_api::{OaatGroup, OnError, Timestamp};
use oaat_operator::plan::{AnsweredRequest, plan_decision, plan_group, policy_request};
use oaat_operator::policy_selection::PolicySelection;
use oaat_operator::snapshot::SourceLists;
use oaat_operator::snapshot::TypeRead;
use oaat_operator::snapshot::{CurrentPod, GroupSnapshot};
use policy_host::{Choice, Decision, Evaluation, Standing, Verdict};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_000_000_000);
const FLOOR: Duration = Duration::from_secs(100);

/// Returns whether the operator reconciles again when it stops holding an item of this standing.
fn looks(standing: Standing) -> bool {
    let group: OaatGroup = serde_json::from_value(json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": "g", "namespace": "n", "uid": "us", "generation": 1 },
        "spec": { "oaatType": "t", "oaatItems": ["a"] },
        // It failed just now, and is held because of that.
        "status": { "items": { "a": {
            "item": "a", "failures": 1,
            "lastStarted": Timestamp(NOW.0 - 1000), "lastFailure": Timestamp(NOW.0 - 500),
        } } },
    }))
    .unwrap();
    let type_ = serde_json::from_value(json!({ "type": "pod" })).unwrap();
    let snapshot = GroupSnapshot {
        now: NOW,
        items: group.spec.oaat_items.clone(),
        group,
        listing: SourceLists::default(),
        uid: "us".into(),
        pods: Vec::new(),
        current: CurrentPod::None,
        deleted_while_running: false,
        terminating: false,
        type_: TypeRead::Valid(Arc::new(type_)),
        item_types: std::collections::BTreeMap::new(),
        leads: false,
        retry_floor: FLOOR,
    };
    let valid = validate(&snapshot.group.spec);
    let mut plan = plan_group(&snapshot, &valid);
    let valid = valid.unwrap();
    let default = policy_host::Host::new(policy_host::Limits::default())
        .unwrap()
        .load(built_in_policies::DEFAULT_POLICY, None)
        .unwrap();
    let selection = PolicySelection {
        on_error: OnError::Hold,
        ..PolicySelection::built_in(&default, None)
    };
    let asked = policy_request(&snapshot, &valid, &plan, &selection);
    assert!(!asked.items[0].startable, "the item is not held");
    let decision = Decision {
        choice: Choice::Wait(None),
        note: None,
        verdicts: vec![Verdict {
            standing,
            until: None,
            note: None,
        }],
        state: None,
    };
    let asked = AnsweredRequest {
        policy: selection.in_use.clone().unwrap(),
        request: asked,
        request_sha256: "r".into(),
        evaluation: Evaluation {
            answer: Ok(decision),
            fuel: 1,
            log: Vec::new(),
            log_dropped: 0,
        },
    };
    plan_decision(&snapshot, &valid, &mut plan, &selection, &asked);
    let release = Timestamp(NOW.0 - 1000).plus(FLOOR);
    plan.requeue_at.is_some_and(|at| at <= release)
}

#[test]
fn simulated_holds_follow_the_operators_rule() {
    let all = [
        Standing::Ready,
        Standing::Fresh,
        Standing::Cooling,
        Standing::Deferred,
    ];
    for standing in all {
        assert_eq!(
            looks(standing),
            kubectl_oaat::policy::reevaluates_after_retry_floor(standing),
            "{standing:?}"
        );
    }
    assert!(kubectl_oaat::policy::reevaluates_after_retry_floor(
        Standing::Deferred
    ));
}
