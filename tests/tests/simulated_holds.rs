//! The simulation of `policy simulate` asks again when the operator would.

use oaat_api::validate::validate;
use oaat_api::{OaatGroup, OnError, Timestamp};
use oaat_operator::cluster::TypeRead;
use oaat_operator::decide::{Answered, CurrentPod, Observed, Ruling, choose, request, settle};
use oaat_operator::items::Listing;
use policy_host::{Choice, Decision, Evaluation, Standing, Verdict};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_000_000_000);
const FLOOR: Duration = Duration::from_secs(100);

/// Whether the operator looks again when it stops holding an item of this standing.
fn looks(standing: Standing) -> bool {
    let group: OaatGroup = serde_json::from_value(json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": "g", "namespace": "n", "uid": "us", "generation": 1 },
        "spec": { "oaatType": "t", "oaatItems": ["a"] },
        // It failed just now, and is held for that.
        "status": { "items": { "a": {
            "item": "a", "failures": 1,
            "lastStarted": Timestamp(NOW.0 - 1000), "lastFailure": Timestamp(NOW.0 - 500),
        } } },
    }))
    .unwrap();
    let type_ = serde_json::from_value(json!({ "type": "pod" })).unwrap();
    let seen = Observed {
        now: NOW,
        group,
        listing: Listing::default(),
        uid: "us".into(),
        pods: Vec::new(),
        current: CurrentPod::None,
        deleted_alive: false,
        ends: false,
        type_: TypeRead::Valid(Arc::new(type_)),
        leads: false,
        retry_floor: FLOOR,
    };
    let valid = validate(&seen.group.spec);
    let mut plan = settle(&seen, &valid);
    let valid = valid.unwrap();
    let default = policy_host::Host::new(policy_host::Limits::default())
        .unwrap()
        .load(default_component::DEFAULT_POLICY, None)
        .unwrap();
    let ruling = Ruling {
        on_error: OnError::Hold,
        ..Ruling::by_default(&default, None)
    };
    let asked = request(&seen, &valid, &plan, &ruling);
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
    let asked = Answered {
        policy: ruling.in_use.clone().unwrap(),
        request: asked,
        request_sha256: "r".into(),
        evaluation: Evaluation {
            answer: Ok(decision),
            fuel: 1,
            log: Vec::new(),
            log_dropped: 0,
        },
    };
    choose(&seen, &valid, &mut plan, &ruling, asked);
    let release = Timestamp(NOW.0 - 1000).plus(FLOOR);
    plan.again.is_some_and(|again| again <= release)
}

#[test]
fn the_simulation_releases_holds_by_the_operators_own_rule() {
    let all = [
        Standing::Ready,
        Standing::Fresh,
        Standing::Cooling,
        Standing::Deferred,
    ];
    for standing in all {
        assert_eq!(
            looks(standing),
            kubectl_oaat::policy::awaits_release(standing),
            "{standing:?}"
        );
    }
    assert!(kubectl_oaat::policy::awaits_release(Standing::Deferred));
}
