use super::*;
use crate::config_maps::ConfigMaps;
use crate::item_sources::ConfigMapLists;
use crate::pod::names;
use crate::policies::{Compiler, PolicySources};
use crate::policy_limiter::{self, PolicyLimiter};
use crate::policy_source::PolicyRead;
use crate::shadow::Shadows;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::{self, store::Writer};
use kube::runtime::watcher::Event;
use oaat_api::OaatGroup;
use policy_host::{Host, Limits};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Returns a group with a policy in a ConfigMap.
fn group(name: &str) -> OaatGroup {
    serde_json::from_value(json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": name, "namespace": "home", "uid": name, "resourceVersion": "1" },
        "spec": {
            "oaatType": "t", "oaatItems": ["a"],
            "policy": { "configMap": { "name": "mine" } },
        },
    }))
    .unwrap()
}

fn watched(group: &OaatGroup) -> WatchedGroup {
    let mut watched = Watched::from(group.metadata.clone());
    strip(&mut watched);
    watched
}

/// Returns references without any group.
fn no_references(groups: Store<WatchedGroup>, queue: UnboundedSender<GroupRef>) -> References {
    let host = Host::new(Limits::default()).unwrap();
    let config_maps = ConfigMaps::new(
        crate::client::silent(),
        prometheus_client::metrics::counter::Counter::default(),
    );
    let lists = ConfigMapLists::new(config_maps.clone(), queue.clone());
    let compiler = Compiler::new(move |bytes| host.load(bytes, None));
    let policies = PolicySources::new(config_maps.clone(), compiler.clone(), queue.clone());
    let metrics = Arc::default();
    let shadows = Shadows::new(config_maps, policies.clone(), compiler, queue, metrics);
    References::new(groups, policies, shadows, lists)
}

/// Triggers, the store of groups, and the triggered groups.
struct Fixture {
    groups: Writer<WatchedGroup>,
    triggered: UnboundedReceiver<GroupRef>,
    triggers: Triggers,
}

impl Fixture {
    fn new() -> Self {
        let (groups, writer) = reflector::store::<WatchedGroup>();
        let (queue, triggered) = unbounded_channel();
        let references = no_references(groups.clone(), queue.clone());
        Self {
            groups: writer,
            triggered,
            triggers: Triggers::new(queue, groups, Arc::default(), Arc::default(), references),
        }
    }

    /// Lists groups, each with its resource version.
    fn list_groups(&mut self, listed: &[(&str, &str)]) {
        let listed = listed.iter().map(|(name, version)| {
            let mut group = group(name);
            group.metadata.resource_version = Some((*version).into());
            Event::InitApply(watched(&group))
        });
        let events = std::iter::once(Event::Init).chain(listed);
        for event in events.chain([Event::InitDone]) {
            self.groups.apply_watcher_event(&event);
            self.triggers.group(&event);
        }
    }

    fn list_pods(&self, pods: &[Pod]) {
        let listed = pods.iter().map(|pod| Event::InitApply(pod.clone()));
        let events = std::iter::once(Event::Init).chain(listed);
        events
            .chain([Event::InitDone])
            .for_each(|event| self.triggers.pod(&event));
    }

    /// Returns the name of the next triggered group.
    fn next(&mut self) -> Option<String> {
        self.triggered.try_recv().ok().map(|group| group.name)
    }
}

/// Returns a pod with the label of a group.
fn pod(label: &str, group: &str, phase: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": group, "namespace": "home", "uid": group, "labels": { label: group },
        },
        "status": { "phase": phase },
    }))
    .unwrap()
}

#[tokio::test]
async fn groups_deleted_while_the_watch_was_down_are_forgotten() {
    let mut fixture = Fixture::new();
    let host = Host::new(Limits::default()).unwrap();
    let policy = host.load(built_in_policies::DEFAULT_POLICY, None).unwrap();
    let queue = fixture.triggers.queue.clone();
    let limiter = PolicyLimiter::new(policy_limiter::permits(), queue);
    fixture.list_groups(&[("stays", "1"), ("goes", "1")]);
    let Triggers {
        cache, references, ..
    } = fixture.triggers.clone();
    for name in ["stays", "goes"] {
        let group = group(name);
        references.record(&ObjectRef::from_obj(&watched(&group)), Some(&group));
        let read = Some(PolicyRead::Loaded(policy.clone()));
        cache
            .select(
                &group,
                &group.spec.oaat_items,
                read,
                &policy,
                &limiter,
                None,
            )
            .await;
    }
    fixture.list_groups(&[("stays", "1")]);
    assert_eq!(references.policies().users(), ["stays"]);
    let of_type = |name| references.of_type(Some("home"), name).len();
    assert_eq!((of_type("t"), of_type("u")), (1, 0));
    assert!(cache.knows("stays") && !cache.knows("goes"));
    assert_eq!(fixture.triggers.state().groups.len(), 1);
}

/// The initial lists trigger nothing, because the groups are planned from them afterwards. Relists
/// trigger the groups that changed while the watch was disconnected, or whose pods did.
#[tokio::test]
async fn relist_triggers_only_changed_groups() {
    let mut fixture = Fixture::new();
    let pod = |group: &str, phase: &str| pod(names::GROUP, group, phase);
    let (a, b, c) = (pod("a", "Running"), pod("b", "Running"), pod("c", "Failed"));
    fixture.list_groups(&[("a", "1"), ("b", "1"), ("c", "1")]);
    fixture.list_pods(&[a.clone(), b.clone(), c.clone()]);
    assert_eq!(fixture.next(), None);
    let timeout = Duration::from_secs(60);
    let mut pods = fixture.triggers.take_listed_pods(timeout).await.unwrap();
    assert_eq!(pods.take("home", "a").map(|pods| pods.len()), Some(1));
    assert_eq!(pods.take("home", "d").map(|pods| pods.len()), Some(0));

    fixture.list_pods(&[a.clone(), b.clone(), c]);
    assert_eq!(fixture.next(), None);
    // A list that is interrupted has seen only the change.
    fixture.triggers.pod(&Event::Init);
    let ended = Event::InitApply(pod("a", "Succeeded"));
    fixture.triggers.pod(&ended);
    assert_eq!(fixture.next().as_deref(), Some("a"));
    // A running pod is gone. So is one that had ended, which does not matter.
    fixture.list_pods(&[pod("a", "Succeeded")]);
    assert_eq!(fixture.next().as_deref(), Some("b"));
    assert_eq!(fixture.next(), None);

    fixture.list_groups(&[("a", "1"), ("b", "2"), ("new", "3")]);
    assert_eq!(fixture.next().as_deref(), Some("c"), "it is gone");
    assert_eq!(fixture.next().as_deref(), Some("b"));
    assert_eq!(fixture.next().as_deref(), Some("new"));
    assert_eq!(fixture.next(), None);
}

#[tokio::test]
async fn list_of_pods_that_is_repeated_before_the_plan_must_be_complete() {
    let mut fixture = Fixture::new();
    fixture.list_groups(&[]);
    fixture.list_pods(&[]);
    fixture.triggers.pod(&Event::Init);
    let timeout = Duration::from_millis(1);
    assert!(fixture.triggers.take_listed_pods(timeout).await.is_none());
}

#[tokio::test]
async fn missing_pod_triggers_a_group_whose_name_is_hashed_in_its_label() {
    let mut fixture = Fixture::new();
    let name = "long".repeat(20);
    // The pod is seen before the group.
    fixture.list_pods(&[pod(names::GROUP, &names::group_label(&name), "Running")]);
    let group = Event::Apply(watched(&group(&name)));
    fixture.groups.apply_watcher_event(&group);
    fixture.list_pods(&[]);
    assert_eq!(fixture.next(), Some(name));
}

#[tokio::test]
async fn missing_pods_that_print_lists_trigger_their_groups() {
    let mut fixture = Fixture::new();
    let running = Event::InitApply(pod(names::LISTER, "a", "Running"));
    for event in [Event::Init, running, Event::InitDone, Event::Init] {
        fixture.triggers.lister(&event);
    }
    assert_eq!(fixture.next(), None);
    fixture.triggers.lister(&Event::InitDone);
    assert_eq!(fixture.next().as_deref(), Some("a"));
}

#[tokio::test]
async fn changed_and_missing_types_trigger_the_groups_that_use_them() {
    let mut fixture = Fixture::new();
    let triggers = fixture.triggers.clone();
    let user = group("user");
    let key = ObjectRef::from_obj(&watched(&user));
    fixture
        .groups
        .apply_watcher_event(&Event::Apply(watched(&user)));
    triggers.references.record(&key, Some(&user));
    let (types, mut checked) = unbounded_channel();
    let type_ = |version: &str| {
        let metadata = json!({ "name": "t", "namespace": "home", "resourceVersion": version });
        let metadata: kube::api::ObjectMeta = serde_json::from_value(metadata).unwrap();
        Event::InitApply(Watched::from(metadata))
    };
    for (listed, expected) in [
        (Some("1"), true),
        (Some("1"), false),
        (Some("2"), true),
        (None, true),
        (None, false),
    ] {
        // The first list is interrupted.
        for _ in 0..2 {
            triggers.oaat_type(&Event::Init, &types);
            if let Some(version) = listed {
                triggers.oaat_type(&type_(version), &types);
            }
            // The store still contains the old types.
            assert!(checked.try_recv().is_err() && fixture.next().is_none());
        }
        triggers.oaat_type(&Event::InitDone, &types);
        assert_eq!(checked.try_recv().is_ok(), listed.is_some(), "{listed:?}");
        assert_eq!(fixture.next().is_some(), expected, "{listed:?}");
    }
}

#[tokio::test]
async fn late_initial_list_of_pods_triggers_their_groups() {
    let mut fixture = Fixture::new();
    fixture.list_groups(&[("a", "1")]);
    let timeout = Duration::from_millis(1);
    assert!(fixture.triggers.take_listed_pods(timeout).await.is_none());
    assert_eq!(fixture.next(), None);
    let late = Event::InitApply(pod(names::GROUP, "a", "Running"));
    fixture.triggers.pod(&late);
    assert_eq!(fixture.next().as_deref(), Some("a"));
}

#[tokio::test]
async fn group_deleted_while_it_was_read_has_no_references() {
    let references = Fixture::new().triggers.references;
    let group = group("gone");
    references.record(&ObjectRef::from_obj(&watched(&group)), Some(&group));
    assert!(references.policies().users().is_empty());
    assert!(references.of_type(Some("home"), "t").is_empty());
}

#[test]
fn strip_keeps_only_what_triggers_need() {
    let mut group = group("g");
    let annotate = |group: &mut OaatGroup, value: String| {
        let annotations = [(run_now::ANNOTATION, value), ("of-no-interest", "x".into())];
        let annotations = annotations.map(|(name, value)| (name.to_owned(), value));
        group.metadata.annotations = Some(annotations.into());
        watched(group).metadata.annotations.unwrap_or_default()
    };
    let before = annotate(&mut group, "x".repeat(200_000));
    let after = annotate(&mut group, "y".repeat(200_000));
    assert_ne!(before, after);
    assert_eq!(after.len(), 1);
    assert!(after.values().all(|value| value.len() <= 16), "{after:?}");
}
