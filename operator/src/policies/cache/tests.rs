use super::*;
use crate::policy_limiter::permits;
use default_component::DEFAULT_POLICY;
use oaat_api::{OnError, Timestamp};
use policy_host::{Host, Limits};
use serde_json::{Value, json};
use std::time::Duration;
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

fn limiter() -> PolicyLimiter {
    PolicyLimiter::new(permits(), unbounded_channel().0)
}

/// Reason and message of what is wrong, and the digest of what decides.
async fn ruled(
    cache: &PolicyCache,
    group: &OaatGroup,
    read: PolicyRead,
) -> (String, String, String) {
    let ruled = cache
        .select(
            group,
            &group.spec.oaat_items,
            Some(read),
            &default(),
            &limiter(),
        )
        .await;
    let (selection, policy) = ruled.unwrap();
    let (reason, message) = selection
        .problem
        .map(|problem| (problem.reason.to_owned(), problem.message))
        .unwrap_or_default();
    let digest = policy.map(|policy| policy.digest().to_owned());
    assert_eq!(selection.in_use.map(|in_use| in_use.digest), digest);
    (reason, message, digest.unwrap_or_default())
}

fn loaded(policy: &Policy) -> PolicyRead {
    PolicyRead::Loaded(policy.clone())
}

fn failed() -> PolicyRead {
    PolicyRead::Failed(Problem {
        reason: "Malformed",
        message: "it is empty".into(),
        rejected: None,
        passing: false,
    })
}

#[tokio::test]
async fn the_last_good_one_decides_until_the_next_has_passed() {
    let (cache, group) = (PolicyCache::default(), group(json!({})));
    let (one, two) = (variant(1), variant(2));
    let nobody = ruled(&cache, &group, failed()).await;
    assert_eq!((nobody.0.as_str(), nobody.2.as_str()), ("Malformed", ""));
    assert_eq!(ruled(&cache, &group, loaded(&one)).await.2, one.digest());
    let bad = ruled(&cache, &group, failed()).await;
    assert_eq!(
        (bad.0.as_str(), bad.2.as_str()),
        ("Malformed", one.digest())
    );
    let loading = PolicyRead::Loading(Timestamp(0));
    let meanwhile = ruled(&cache, &group, loading).await;
    assert_eq!(
        (meanwhile.0.as_str(), meanwhile.2.as_str()),
        ("", one.digest())
    );
    assert_eq!(ruled(&cache, &group, loaded(&two)).await.2, two.digest());
}

#[tokio::test]
async fn a_group_that_is_gone_is_forgotten() {
    let (cache, group) = (PolicyCache::default(), group(json!({})));
    ruled(&cache, &group, loaded(&variant(1))).await;
    cache.retain(&HashSet::from(["us".to_owned()]));
    assert_eq!(cache.memory().len(), 1);
    cache.retain(&HashSet::from(["them".to_owned()]));
    assert!(cache.memory().is_empty());
    ruled(&cache, &group, loaded(&variant(1))).await;
    cache.forget("us");
    assert!(cache.memory().is_empty());
}

#[tokio::test]
async fn a_pin_binds_the_last_good_one_as_well() {
    let cache = PolicyCache::default();
    let (one, two) = (variant(1), variant(2));
    ruled(&cache, &group(json!({})), loaded(&one)).await;
    let pinned = group(json!({ "sha256": two.digest() }));
    for read in [loaded(&one), failed()] {
        assert_eq!(ruled(&cache, &pinned, read).await.2, "");
    }
    let pinned = group(json!({ "sha256": one.digest() }));
    let (reason, _, digest) = ruled(&cache, &pinned, loaded(&two)).await;
    assert_eq!(
        (reason.as_str(), digest.as_str()),
        ("DigestMismatch", one.digest())
    );
}

#[tokio::test]
async fn settings_that_are_not_in_force_are_never_passed_over_in_silence() {
    let cache = PolicyCache::default();
    // It accepts all settings.
    let policy = hostile(&host(), "settings-panic");
    let with = |settings: Value| group(json!({ "settings": settings }));
    let old = with(json!({ "a": 1 }));
    let new = with(json!({ "a": 2 }));
    ruled(&cache, &old, loaded(&policy)).await;
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
        let (reason, message, digest) = ruled(&cache, group, read).await;
        assert_eq!(
            (reason.as_str(), digest.as_str()),
            (expected, policy.digest())
        );
        assert!(message.contains("not in force"), "{message}");
    }
    // And not a word of it where they are the same.
    let (_, message, _) = ruled(&cache, &old, failed()).await;
    assert!(!message.contains("not in force"), "{message}");
    let ruled = cache
        .select(
            &new,
            &new.spec.oaat_items,
            Some(failed()),
            &default(),
            &limiter(),
        )
        .await;
    let (selection, _) = ruled.unwrap();
    assert_eq!(selection.settings, r#"{"a":1}"#);
}

#[tokio::test]
async fn a_refusal_in_words_is_remembered_and_a_deadline_is_not() {
    let (cache, group) = (PolicyCache::default(), group(json!({})));
    let refused = hostile(&host(), "validate-err");
    let (reason, ..) = ruled(&cache, &group, loaded(&refused)).await;
    assert_eq!(reason, "SettingsRejected");
    assert!(cache.settled(&group, &group.spec.oaat_items, Some(&loaded(&refused))));
    let slow = Host::new(Limits {
        fuel: u64::MAX / 2,
        deadline: Duration::from_millis(1),
        ..Limits::default()
    });
    let endless = hostile(&slow.unwrap(), "validate-loop");
    let read = Some(loaded(&endless));
    let ruled = cache
        .select(&group, &group.spec.oaat_items, read, &default(), &limiter())
        .await;
    let problem = ruled.unwrap().0.problem.unwrap();
    assert_eq!(
        (problem.reason, problem.passing),
        ("SettingsRejected", true)
    );
    assert!(!cache.settled(&group, &group.spec.oaat_items, Some(&loaded(&endless))));
}

#[tokio::test]
async fn settings_wait_while_others_are_evaluated() {
    let (cache, group, limiter) = (PolicyCache::default(), group(json!({})), limiter());
    let policy = variant(1);
    let other = ObjectRef::new("other").within("n");
    let held = [limiter.acquire(&other), limiter.acquire(&other)];
    let read = Some(loaded(&policy));
    let ruled = cache
        .select(&group, &group.spec.oaat_items, read, &default(), &limiter)
        .await;
    assert!(ruled.is_none());
    drop(held);
}

#[tokio::test]
async fn a_policy_that_was_dropped_from_memory_decides_no_more() {
    let (cache, group) = (PolicyCache::default(), group(json!({})));
    let policy = variant(1);
    assert_eq!(
        ruled(&cache, &group, loaded(&policy)).await.2,
        policy.digest()
    );
    drop(policy);
    let loading = PolicyRead::Loading(Timestamp(0));
    let ruled = cache
        .select(
            &group,
            &group.spec.oaat_items,
            Some(loading),
            &default(),
            &limiter(),
        )
        .await;
    assert!(ruled.unwrap().1.is_none());
}

#[tokio::test]
async fn a_group_without_a_policy_of_its_own_goes_by_the_default() {
    let cache = PolicyCache::default();
    ruled(&cache, &group(json!({})), loaded(&variant(1))).await;
    let mut plain = group(json!({}));
    plain.spec.policy = None;
    let ruled = cache
        .select(&plain, &plain.spec.oaat_items, None, &default(), &limiter())
        .await;
    let (selection, policy) = ruled.unwrap();
    assert_eq!(
        (selection.problem, selection.on_error),
        (None, OnError::Hold)
    );
    assert_eq!(policy.unwrap().digest(), default().digest());
    assert!(cache.memory().is_empty());
}
