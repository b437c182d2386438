use super::*;
use crate::policy_limiter::permits;
use crate::policy_source::{KeptPolicy, PolicyConfigMap};
use built_in_policies::DEFAULT_POLICY;
use oaat_api::{BuiltInPolicy, OnError, Timestamp};
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

/// Returns a group that uses the ConfigMap `mine`, with more fields in `spec.policy`.
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

/// Returns the reason and message of the problem, and the digest of the selected policy.
async fn select(
    cache: &PolicyCache,
    group: &OaatGroup,
    read: PolicyRead,
) -> (String, String, String) {
    let selected = cache
        .select(
            group,
            &group.spec.oaat_items,
            Some(read),
            &default(),
            &limiter(),
            None,
        )
        .await;
    let (selection, policy) = selected.unwrap();
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
    PolicyRead::Failed(PolicyProblem {
        reason: "Malformed",
        message: "it is empty".into(),
        rejected: None,
        transient: false,
    })
}

#[tokio::test]
async fn last_good_policy_decides_until_the_next_passes() {
    let (cache, group) = (PolicyCache::default(), group(json!({})));
    let (one, two) = (variant(1), variant(2));
    let first = select(&cache, &group, failed()).await;
    assert_eq!((first.0.as_str(), first.2.as_str()), ("Malformed", ""));
    assert_eq!(select(&cache, &group, loaded(&one)).await.2, one.digest());
    let bad = select(&cache, &group, failed()).await;
    assert_eq!(
        (bad.0.as_str(), bad.2.as_str()),
        ("Malformed", one.digest())
    );
    let loading = PolicyRead::Loading(Timestamp(0));
    let meanwhile = select(&cache, &group, loading).await;
    assert_eq!(
        (meanwhile.0.as_str(), meanwhile.2.as_str()),
        ("", one.digest())
    );
    assert_eq!(select(&cache, &group, loaded(&two)).await.2, two.digest());
}

#[tokio::test]
async fn available_policies_that_reject_the_settings_are_reported() {
    let host = host();
    let rejecting = hostile(&host, "validate-err");
    let one = variant(1);
    // After a restart, nothing is known about settings that a policy accepted before.
    let selected = async |read: PolicyRead, last_read: &Policy| {
        let last = LastGoodPolicy {
            name: "ConfigMap mine, key policy.wasm".into(),
            source: PolicySource::BuiltIn(BuiltInPolicy::Backoff),
            settings: None,
        };
        let group = group(json!({}));
        let items = &group.spec.oaat_items;
        let last_good = Some((last, loaded(last_read)));
        let (default, limiter, cache) = (default(), limiter(), PolicyCache::default());
        let selected = cache.select(&group, items, Some(read), &default, &limiter, last_good);
        selected.await.unwrap().0
    };
    let digest = rejecting.digest().to_owned();
    let selection = selected(failed(), &rejecting).await;
    assert_eq!(selection.rejected_by, std::slice::from_ref(&digest));
    let selection = selected(loaded(&rejecting), &rejecting).await;
    assert_eq!(selection.rejected_by, [digest]);
    let selection = selected(loaded(&rejecting), &one).await;
    assert_eq!(selection.in_use.unwrap().digest, one.digest());
}

/// A restart of the operator, with accepted settings of the policy backoff in the group's status.
struct Restart {
    accepted: AcceptedSettings,
    /// The value of the setting `base` in the spec.
    base: &'static str,
    read: PolicyRead,
    last: Policy,
    source: PolicySource,
}

impl Restart {
    /// Returns a restart with these accepted settings. The policy comes from its source if that is
    /// loaded, and from the copy otherwise.
    fn new(backoff: &Policy, settings: String, base: &'static str, read: PolicyRead) -> Self {
        let source = if matches!(read, PolicyRead::Loaded(_)) {
            PolicySource::ConfigMap(PolicyConfigMap {
                namespace: "n".into(),
                name: "mine".into(),
                key: "policy.wasm".into(),
            })
        } else {
            PolicySource::Kept(KeptPolicy {
                namespace: "n".into(),
                digest: backoff.digest().to_owned(),
            })
        };
        let accepted = AcceptedSettings {
            source: "ConfigMap mine, key policy.wasm".into(),
            digest: backoff.digest().to_owned(),
            settings,
            items: [("b", json!({ "base": "5s" })), ("c", json!({}))]
                .map(|(item, settings)| (item.to_owned(), settings.to_string()))
                .into(),
        };
        Self {
            accepted,
            base,
            read,
            last: backoff.clone(),
            source,
        }
    }

    /// Selects the policy of the group until a permit is available, and then once more without one.
    async fn select(self) -> PolicySelection {
        let group = group(json!({ "settings": { "base": self.base } }));
        let items = &group.spec.oaat_items;
        let (cache, limiter, default) = (PolicyCache::default(), limiter(), default());
        let last_good = || {
            let last = LastGoodPolicy {
                name: self.accepted.source.clone(),
                source: self.source.clone(),
                settings: Some(self.accepted.clone()),
            };
            [(last, loaded(&self.last))]
        };
        let select = async |limiter: &PolicyLimiter| {
            let read = Some(self.read.clone());
            let selected = cache.select(&group, items, read, &default, limiter, last_good());
            selected.await
        };
        let selection = loop {
            match select(&limiter).await {
                Some((selection, _)) => break selection,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        };
        // The results of all checks are cached.
        let none = PolicyLimiter::new(permits(), unbounded_channel().0);
        let other = ObjectRef::new("other").within("n");
        let _held = [none.acquire(&other), none.acquire(&other)];
        assert_eq!(select(&none).await.unwrap().0, selection);
        selection
    }
}

#[tokio::test]
async fn accepted_settings_stay_in_effect_after_a_restart() {
    let host = host();
    let component = built_in_policies::component(BuiltInPolicy::Backoff);
    let backoff = host.load(component, None).unwrap();
    let text = |base: &str| json!({ "base": base }).to_string();
    let restart = |settings: String, base: &'static str, read: PolicyRead| {
        Restart::new(&backoff, settings, base, read)
    };
    let selected = |selection: &PolicySelection| {
        let problem = selection.problem.as_ref().map(|problem| problem.reason);
        let decides = selection.in_use.is_some();
        let settings = decides.then(|| selection.settings.clone());
        (problem, settings, selection.restored)
    };
    let (good, old, bad) = ("1s", "2s", "soon");
    let too_large = json!({ "base": old, "x": " ".repeat(AcceptedSettings::MAX_SIZE) });
    let rejected = Some(SETTINGS_REJECTED);
    let malformed = Some("Malformed");
    let cases = [
        (
            restart(text(old), bad, loaded(&backoff)),
            (rejected, Some(old), false),
        ),
        (
            restart(text(old), bad, failed()),
            (malformed, Some(old), true),
        ),
        (
            restart(text(old), good, failed()),
            (malformed, Some(old), true),
        ),
        // The policy accepts the settings in the spec.
        (
            restart(text(old), good, loaded(&backoff)),
            (None, Some(good), false),
        ),
        // It accepts neither, or the status was edited.
        (
            restart(text(bad), bad, loaded(&backoff)),
            (rejected, None, false),
        ),
        (
            restart("soon".into(), bad, loaded(&backoff)),
            (rejected, None, false),
        ),
        (
            restart("[]".into(), bad, failed()),
            (malformed, None, false),
        ),
        (
            restart(too_large.to_string(), bad, failed()),
            (malformed, None, false),
        ),
        (
            restart(text(bad), good, failed()),
            (malformed, Some(good), true),
        ),
    ];
    for (restart, (problem, base, restored)) in cases {
        let given = restart.accepted.settings.clone();
        let selection = restart.select().await;
        let expected = (problem, base.map(text), restored);
        assert_eq!(selected(&selection), expected, "{given:.40}");
        let has_old = base == Some(old);
        let stored = selection.accepted_settings.map(|stored| stored.settings);
        assert_eq!(stored, has_old.then(|| text(old)), "{given:.40}");
        // An item that is not listed has no settings.
        let items: Vec<_> = selection.items.keys().collect();
        assert_eq!(
            items,
            if has_old { vec!["b"] } else { vec![] },
            "{given:.40}"
        );
        let knows = selection.rejected_by.contains(&backoff.digest().to_owned());
        assert_eq!(knows, base.is_none(), "{given:.40}");
    }
}

#[tokio::test]
async fn last_policy_that_decided_is_tried_if_the_one_with_accepted_settings_does_not_decide() {
    let (one, two) = (variant(1), variant(2));
    let rejecting = hostile(&host(), "validate-err");
    let (default, loading) = (default(), PolicyRead::Loading(Timestamp(0)));
    for (first, second, expected) in [
        (failed(), loaded(&two), Some(&two)),
        (loaded(&rejecting), loaded(&two), Some(&two)),
        (loaded(&one), loaded(&two), Some(&one)),
        (failed(), failed(), None),
        (loading, loaded(&two), None),
        (failed(), PolicyRead::Loading(Timestamp(0)), None),
    ] {
        let is_loading = |read: &PolicyRead| matches!(read, PolicyRead::Loading(_));
        let is_loading = is_loading(&first) || is_loading(&second);
        let (cache, group, limiter) = (PolicyCache::default(), group(json!({})), limiter());
        let last = |name: &str, settings: Option<&str>| LastGoodPolicy {
            name: name.into(),
            source: PolicySource::BuiltIn(BuiltInPolicy::Fair),
            settings: settings.map(|settings| AcceptedSettings {
                settings: settings.into(),
                ..AcceptedSettings::default()
            }),
        };
        let last_good = [
            (last("accepted", Some("{}")), first),
            (last("decided", None), second),
        ];
        let select = async || {
            let (items, read) = (&group.spec.oaat_items, Some(failed()));
            let last_good = last_good.clone();
            let selected = cache.select(&group, items, read, &default, &limiter, last_good);
            selected.await
        };
        let selection = loop {
            match select().await {
                Some((selection, _)) => break selection,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        };
        let digest = selection.in_use.map(|in_use| in_use.digest);
        assert_eq!(digest.as_deref(), expected.map(Policy::digest));
        assert_eq!(selection.loading.is_some(), is_loading);
        // Settings that are not those of the policy that decides are no longer in effect.
        assert_eq!(selection.accepted_settings, None);
    }
}

#[tokio::test]
async fn deleted_group_is_removed() {
    let (cache, group) = (PolicyCache::default(), group(json!({})));
    select(&cache, &group, loaded(&variant(1))).await;
    cache.retain(&HashSet::from(["us".to_owned()]));
    assert_eq!(cache.groups().len(), 1);
    cache.retain(&HashSet::from(["them".to_owned()]));
    assert!(cache.groups().is_empty());
    select(&cache, &group, loaded(&variant(1))).await;
    cache.remove_group("us");
    assert!(cache.groups().is_empty());
}

#[tokio::test]
async fn pin_applies_to_the_last_good_policy() {
    let cache = PolicyCache::default();
    let (one, two) = (variant(1), variant(2));
    select(&cache, &group(json!({})), loaded(&one)).await;
    let pinned = group(json!({ "sha256": two.digest() }));
    for read in [loaded(&one), failed()] {
        assert_eq!(select(&cache, &pinned, read).await.2, "");
    }
    let pinned = group(json!({ "sha256": one.digest() }));
    let (reason, _, digest) = select(&cache, &pinned, loaded(&two)).await;
    assert_eq!(
        (reason.as_str(), digest.as_str()),
        ("DigestMismatch", one.digest())
    );
}

#[tokio::test]
async fn settings_that_are_not_in_effect_are_reported() {
    let cache = PolicyCache::default();
    // This policy accepts all settings.
    let policy = hostile(&host(), "settings-panic");
    let with = |settings: Value| group(json!({ "settings": settings }));
    let old = with(json!({ "a": 1 }));
    let new = with(json!({ "a": 2 }));
    select(&cache, &old, loaded(&policy)).await;
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
        let (reason, message, digest) = select(&cache, group, read).await;
        assert_eq!(
            (reason.as_str(), digest.as_str()),
            (expected, policy.digest())
        );
        assert!(message.contains("not in effect"), "{message}");
    }
    // Unchanged settings are not mentioned.
    let (_, message, _) = select(&cache, &old, failed()).await;
    assert!(!message.contains("not in effect"), "{message}");
    let selected = cache
        .select(
            &new,
            &new.spec.oaat_items,
            Some(failed()),
            &default(),
            &limiter(),
            None,
        )
        .await;
    let (selection, _) = selected.unwrap();
    assert_eq!(selection.settings, r#"{"a":1}"#);
    let accepted = selection.accepted_settings.unwrap();
    assert_eq!(
        (accepted.settings.as_str(), accepted.digest.as_str()),
        (r#"{"a":1}"#, policy.digest())
    );
}

#[tokio::test]
async fn rejected_settings_are_cached_unless_the_deadline_was_missed() {
    let (cache, group) = (PolicyCache::default(), group(json!({})));
    let rejecting = hostile(&host(), "validate-err");
    let (reason, ..) = select(&cache, &group, loaded(&rejecting)).await;
    assert_eq!(reason, "SettingsRejected");
    assert!(cache.settings_are_checked(&group, &group.spec.oaat_items, Some(&loaded(&rejecting))));
    let slow = Host::new(Limits {
        fuel: u64::MAX / 2,
        deadline: Duration::from_millis(1),
        ..Limits::default()
    });
    let endless = hostile(&slow.unwrap(), "validate-loop");
    let read = Some(loaded(&endless));
    // The first check is interrupted earlier than the policy host would do, and is repeated.
    let (default, limiter) = (default(), limiter());
    let problem = loop {
        let items = &group.spec.oaat_items;
        let selected = cache.select(&group, items, read.clone(), &default, &limiter, None);
        match selected.await {
            Some((selection, _)) => break selection.problem.unwrap(),
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    assert_eq!(
        (problem.reason, problem.transient),
        ("SettingsRejected", true)
    );
    assert!(!cache.settings_are_checked(&group, &group.spec.oaat_items, Some(&loaded(&endless))));
}

#[tokio::test]
async fn rejections_by_all_policies_of_a_group_are_cached() {
    let group = group(json!({ "settings": { "a": 1 } }));
    let (cache, default, limiter) = (PolicyCache::default(), default(), limiter());
    let items = &group.spec.oaat_items;
    let last_good = [(2, Some(r#"{"b":1}"#)), (3, None), (4, None)].map(|(name, settings)| {
        let last = LastGoodPolicy {
            name: "fair".into(),
            source: PolicySource::BuiltIn(BuiltInPolicy::Fair),
            settings: settings.map(|settings| AcceptedSettings {
                settings: settings.into(),
                ..AcceptedSettings::default()
            }),
        };
        (last, loaded(&variant(name)))
    });
    let named = loaded(&variant(1));
    loop {
        let (read, last_good) = (Some(named.clone()), last_good.clone());
        let selected = cache.select(&group, items, read, &default, &limiter, last_good);
        if selected.await.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for read in last_good.iter().map(|(_, read)| read).chain([&named]) {
        assert!(cache.settings_are_checked(&group, items, Some(read)));
    }
}

#[tokio::test]
async fn rejections_are_recorded_until_the_policy_in_the_spec_is_accepted() {
    let with = |settings: Value| group(json!({ "settings": settings }));
    let (rejected, accepted) = (with(json!({ "a": 1 })), with(json!({})));
    let (cache, one, two) = (PolicyCache::default(), variant(1), variant(2));
    let is_recorded = || {
        let items = &rejected.spec.oaat_items;
        cache.settings_are_checked(&rejected, items, Some(&loaded(&one)))
    };
    let (reason, ..) = select(&cache, &rejected, loaded(&one)).await;
    assert_eq!(reason, SETTINGS_REJECTED);
    assert!(is_recorded());
    // With a last good policy, the one in the spec stays rejected.
    let last = LastGoodPolicy {
        name: "default".into(),
        source: PolicySource::BuiltIn(BuiltInPolicy::Default),
        settings: Some(AcceptedSettings {
            settings: "{}".into(),
            ..AcceptedSettings::default()
        }),
    };
    let last_good = Some((last, loaded(&two)));
    let (items, read) = (&rejected.spec.oaat_items, Some(loaded(&one)));
    let (default, limiter) = (default(), limiter());
    let selected = cache.select(&rejected, items, read, &default, &limiter, last_good);
    let (_, policy) = selected.await.unwrap();
    assert_eq!(policy.unwrap().digest(), two.digest());
    assert!(is_recorded());
    let (_, _, digest) = select(&cache, &accepted, loaded(&two)).await;
    assert_eq!(digest, two.digest());
    assert!(!is_recorded());
}

#[tokio::test]
async fn settings_check_waits_for_a_permit() {
    let (cache, group, limiter) = (PolicyCache::default(), group(json!({})), limiter());
    let policy = variant(1);
    let other = ObjectRef::new("other").within("n");
    let held = [limiter.acquire(&other), limiter.acquire(&other)];
    let read = Some(loaded(&policy));
    let selected = cache
        .select(
            &group,
            &group.spec.oaat_items,
            read,
            &default(),
            &limiter,
            None,
        )
        .await;
    assert!(selected.is_none());
    drop(held);
}

#[tokio::test]
async fn evicted_policy_no_longer_decides() {
    let (cache, group) = (PolicyCache::default(), group(json!({})));
    let policy = variant(1);
    assert_eq!(
        select(&cache, &group, loaded(&policy)).await.2,
        policy.digest()
    );
    drop(policy);
    let loading = PolicyRead::Loading(Timestamp(0));
    let selected = cache
        .select(
            &group,
            &group.spec.oaat_items,
            Some(loading),
            &default(),
            &limiter(),
            None,
        )
        .await;
    assert!(selected.unwrap().1.is_none());
}

#[tokio::test]
async fn accepted_settings_stay_in_effect_after_their_policy_was_evicted() {
    let (cache, default, limiter) = (PolicyCache::default(), default(), limiter());
    let component = built_in_policies::component(BuiltInPolicy::Backoff);
    let load = || host().load(component, None).unwrap();
    let with = |base: &str| group(json!({ "settings": { "base": base } }));
    select(&cache, &with("1s"), loaded(&load())).await;
    let (policy, group) = (load(), with("soon"));
    let selection = loop {
        let last = LastGoodPolicy {
            name: "ConfigMap mine, key policy.wasm".into(),
            source: PolicySource::from_group(&group).unwrap(),
            settings: None,
        };
        let last_good = Some((last, loaded(&policy)));
        let (items, read) = (&group.spec.oaat_items, Some(loaded(&policy)));
        let selected = cache.select(&group, items, read, &default, &limiter, last_good);
        match selected.await {
            Some((selection, _)) => break selection,
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    assert_eq!(selection.settings, r#"{"base":"1s"}"#);
    let problem = selection.problem.map(|problem| problem.reason);
    assert_eq!(problem, Some(SETTINGS_REJECTED));
}

#[tokio::test]
async fn group_without_a_policy_uses_the_default() {
    let cache = PolicyCache::default();
    select(&cache, &group(json!({})), loaded(&variant(1))).await;
    let mut plain = group(json!({}));
    plain.spec.policy = None;
    let selected = cache
        .select(
            &plain,
            &plain.spec.oaat_items,
            None,
            &default(),
            &limiter(),
            None,
        )
        .await;
    let (selection, policy) = selected.unwrap();
    assert_eq!(
        (selection.problem, selection.on_error),
        (None, OnError::Hold)
    );
    assert_eq!(policy.unwrap().digest(), default().digest());
    assert!(cache.groups().is_empty());
}
