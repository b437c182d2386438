use super::*;
use crate::DEFAULT_POLICY;
use crate::api::{OnError, Timestamp};
use policy_host::{Host, Limits};
use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;

fn host() -> Host {
    Host::new(Limits::default()).unwrap()
}

fn default() -> Policy {
    host().load(DEFAULT_POLICY, None).unwrap()
}

/// The documented algorithm under another digest.
fn variant(name: u8) -> Policy {
    let wasm = [DEFAULT_POLICY, &[0, 2, 1, name]].concat();
    host().load(&wasm, None).unwrap()
}

fn hostile(host: &Host, name: &str) -> Policy {
    let all = hostile_policies::all().unwrap();
    let found = all.into_iter().find(|policy| policy.name == name);
    host.load(&found.unwrap().bytes, None).unwrap()
}

/// A group that names ConfigMap `mine`, with more in its policy.
fn group(more: Value) -> OaatGroup {
    let mut policy = json!({ "configMap": { "name": "mine" } });
    for (key, value) in more.as_object().into_iter().flatten() {
        policy[key] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": "g", "namespace": "n", "uid": "us" },
        "spec": { "oaatType": "t", "oaatItems": ["a", "b"], "policy": policy },
    }))
    .unwrap()
}

/// Reason and message of what is wrong, and the digest of what decides.
async fn ruled(adopted: &Adopted, group: &OaatGroup, read: PolicyRead) -> (String, String, String) {
    let (ruling, policy) = adopted.rule(group, Some(read), &default()).await;
    let (reason, message) = ruling
        .problem
        .map(|problem| (problem.reason.to_owned(), problem.message))
        .unwrap_or_default();
    let digest = policy.map(|policy| policy.digest().to_owned());
    assert_eq!(ruling.in_use.map(|in_use| in_use.digest), digest);
    (reason, message, digest.unwrap_or_default())
}

fn loaded(policy: &Policy) -> PolicyRead {
    PolicyRead::Loaded(policy.clone())
}

fn failed() -> PolicyRead {
    PolicyRead::Failed(Problem {
        reason: "Malformed",
        message: "it is empty".into(),
    })
}

#[tokio::test]
async fn the_last_good_one_decides_until_the_next_has_passed() {
    let (adopted, group) = (Adopted::default(), group(json!({})));
    let (one, two) = (variant(1), variant(2));
    let nobody = ruled(&adopted, &group, failed()).await;
    assert_eq!((nobody.0.as_str(), nobody.2.as_str()), ("Malformed", ""));
    assert_eq!(ruled(&adopted, &group, loaded(&one)).await.2, one.digest());
    let bad = ruled(&adopted, &group, failed()).await;
    assert_eq!(
        (bad.0.as_str(), bad.2.as_str()),
        ("Malformed", one.digest())
    );
    let loading = PolicyRead::Loading(Timestamp(0));
    let meanwhile = ruled(&adopted, &group, loading).await;
    assert_eq!(
        (meanwhile.0.as_str(), meanwhile.2.as_str()),
        ("", one.digest())
    );
    assert_eq!(ruled(&adopted, &group, loaded(&two)).await.2, two.digest());
}

#[tokio::test]
async fn a_group_that_is_gone_is_forgotten() {
    let (adopted, group) = (Adopted::default(), group(json!({})));
    ruled(&adopted, &group, loaded(&variant(1))).await;
    adopted.retain(&HashSet::from(["us".to_owned()]));
    assert_eq!(adopted.memory().len(), 1);
    adopted.retain(&HashSet::from(["them".to_owned()]));
    assert!(adopted.memory().is_empty());
    ruled(&adopted, &group, loaded(&variant(1))).await;
    adopted.forget("us");
    assert!(adopted.memory().is_empty());
}

#[tokio::test]
async fn a_pin_binds_the_last_good_one_as_well() {
    let adopted = Adopted::default();
    let (one, two) = (variant(1), variant(2));
    ruled(&adopted, &group(json!({})), loaded(&one)).await;
    let pinned = group(json!({ "sha256": two.digest() }));
    for read in [loaded(&one), failed()] {
        assert_eq!(ruled(&adopted, &pinned, read).await.2, "");
    }
    let pinned = group(json!({ "sha256": one.digest() }));
    let (reason, _, digest) = ruled(&adopted, &pinned, loaded(&two)).await;
    assert_eq!(
        (reason.as_str(), digest.as_str()),
        ("DigestMismatch", one.digest())
    );
}

#[tokio::test]
async fn settings_that_are_not_in_force_are_never_passed_over_in_silence() {
    let adopted = Adopted::default();
    // It accepts all settings.
    let policy = hostile(&host(), "settings-panic");
    let with = |settings: Value| group(json!({ "settings": settings }));
    let old = with(json!({ "a": 1 }));
    let new = with(json!({ "a": 2 }));
    ruled(&adopted, &old, loaded(&policy)).await;
    let pinned = {
        let mut group = new.clone();
        group.spec.policy.as_mut().unwrap().sha256 = Some(policy.digest().into());
        group
    };
    let cases = [
        (&new, failed(), "Malformed"),
        (&new, PolicyRead::Loading(Timestamp(0)), "Loading"),
        (&pinned, loaded(&variant(1)), "DigestMismatch"),
    ];
    for (group, read, expected) in cases {
        let (reason, message, digest) = ruled(&adopted, group, read).await;
        assert_eq!(
            (reason.as_str(), digest.as_str()),
            (expected, policy.digest())
        );
        assert!(message.contains("not in force"), "{message}");
    }
    // And not a word of it where they are the same.
    let (_, message, _) = ruled(&adopted, &old, failed()).await;
    assert!(!message.contains("not in force"), "{message}");
    let (ruling, _) = adopted.rule(&new, Some(failed()), &default()).await;
    assert_eq!(ruling.settings, r#"{"a":1}"#);
}

#[tokio::test]
async fn a_refusal_in_words_stays_and_one_by_the_clock_is_asked_again() {
    let (sender, mut queue) = unbounded_channel();
    let adopted = Adopted {
        first_wait: Duration::from_millis(20),
        ..Adopted::default()
    };
    adopted.send_to(sender);
    let group = group(json!({}));
    let again = |adopted: &Adopted| {
        let memory = adopted.memory();
        let refused = memory.get("us").and_then(|memory| memory.refused.as_ref());
        refused.and_then(|refused| refused.again)
    };
    let refused = hostile(&host(), "validate-err");
    for _ in 0..2 {
        let (reason, message, _) = ruled(&adopted, &group, loaded(&refused)).await;
        assert_eq!(reason, "SettingsRejected");
        assert!(!message.contains("tried again"), "{message}");
        assert_eq!(again(&adopted), None);
    }
    let slow = Host::new(Limits {
        fuel: u64::MAX / 2,
        deadline: Duration::from_millis(1),
        ..Limits::default()
    });
    let endless = hostile(&slow.unwrap(), "validate-loop");
    let (reason, message, _) = ruled(&adopted, &group, loaded(&endless)).await;
    assert_eq!(reason, "SettingsRejected");
    assert!(message.contains("tried again"), "{message}");
    let (at, next) = again(&adopted).unwrap();
    assert_eq!(next, Duration::from_millis(40));
    // Its group comes to be looked at again by itself, and the policy is asked then.
    let told = tokio::time::timeout(Duration::from_secs(60), queue.recv()).await;
    assert_eq!(told.unwrap().unwrap().name, "g");
    ruled(&adopted, &group, loaded(&endless)).await;
    let (later, next) = again(&adopted).unwrap();
    assert!(later > at);
    assert_eq!(next, Duration::from_millis(80));
}

#[tokio::test]
async fn a_group_without_a_policy_of_its_own_goes_by_the_default() {
    let adopted = Adopted::default();
    ruled(&adopted, &group(json!({})), loaded(&variant(1))).await;
    let mut plain = group(json!({}));
    plain.spec.policy = None;
    let (ruling, policy) = adopted.rule(&plain, None, &default()).await;
    assert_eq!((ruling.problem, ruling.on_error), (None, OnError::Hold));
    assert_eq!(policy.unwrap().digest(), default().digest());
    assert!(adopted.memory().is_empty());
}
