//! Partially decoded objects, and watches whose initial list is streamed or paged.

use crate::pod::names;
use crate::run_now;
use futures::{Stream, StreamExt, future};
use k8s_openapi::api::core::v1::{Container, Pod, PodSchedulingGate, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use kube::runtime::watcher::{self, Event};
use oaat_api::validate;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// The page size of paginated lists: at most 15 MiB if every object has the maximum size.
const PAGE: u32 = 10;

/// Metadata of an object of kind `K`. Nothing else is requested from the API server.
///
/// Managed fields are skipped without being decoded. They are nested as deeply as the object: the
/// API server accepts 10,000 levels in settings, but `serde_json` decodes at most 128. One such
/// object would fail the list of all objects.
#[derive(Clone, Debug)]
pub struct Watched<K> {
    /// The metadata.
    pub metadata: ObjectMeta,
    kind: PhantomData<fn() -> K>,
}

impl<K> From<ObjectMeta> for Watched<K> {
    fn from(metadata: ObjectMeta) -> Self {
        Self {
            metadata,
            kind: PhantomData,
        }
    }
}

impl<'de, K> Deserialize<'de> for Watched<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Object {
            #[serde(default)]
            metadata: Metadata,
        }

        let Object { metadata } = Object::deserialize(deserializer)?;
        Ok(Self::from(ObjectMeta::from(metadata)))
    }
}

/// Metadata without managed fields.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    generation: Option<i64>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    #[serde(deserialize_with = "known")]
    labels: Option<BTreeMap<String, String>>,
    #[serde(deserialize_with = "known")]
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

/// The labels and annotations that the operator reads. Others are skipped: a tenant may write any
/// number of them.
const KNOWN: [&str; 10] = [
    names::GROUP,
    names::ITEM,
    names::COMPLETION_CONTAINERS,
    names::RUN,
    names::LISTER,
    names::DEFINITION,
    names::ORIGINAL_ITEM,
    names::ORIGINAL_GROUP,
    run_now::ANNOTATION,
    validate::PAUSED,
];

/// Decodes the labels or annotations in [`KNOWN`].
fn known<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    struct Map;

    impl<'de> Visitor<'de> for Map {
        type Value = Option<BTreeMap<String, String>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of strings")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = BTreeMap::new();
            while let Some(key) = map.next_key::<String>()? {
                if KNOWN.contains(&key.as_str()) {
                    entries.insert(key, map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(Some(entries))
        }
    }

    deserializer.deserialize_any(Map)
}

impl From<Metadata> for ObjectMeta {
    fn from(metadata: Metadata) -> Self {
        Self {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            generation: metadata.generation,
            resource_version: metadata.resource_version,
            creation_timestamp: metadata.creation_timestamp,
            deletion_timestamp: metadata.deletion_timestamp,
            deletion_grace_period_seconds: metadata.deletion_grace_period_seconds,
            labels: metadata.labels,
            annotations: metadata.annotations,
            owner_references: metadata.owner_references,
            ..Self::default()
        }
    }
}

/// The maximum number of native sidecars of a pod that are decoded.
const MAX_SIDECARS: usize = 50;

/// The part of a pod that the operator reads: known labels and annotations, its node, its deadline,
/// scheduling gates, the names of its native sidecars, and the status.
///
/// A decoded container takes many times its size as JSON. Managed fields have times that clients
/// may set: one that is beyond the year 9999 would make the list of all pods fail.
#[derive(Clone, Debug)]
pub struct WatchedPod(pub Pod);

impl<'de> Deserialize<'de> for WatchedPod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Object {
            #[serde(default)]
            metadata: Metadata,
            spec: Option<Spec>,
            status: Option<PodStatus>,
        }

        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Spec {
            node_name: Option<String>,
            scheduling_gates: Option<Vec<PodSchedulingGate>>,
            active_deadline_seconds: Option<i64>,
            #[serde(default)]
            init_containers: Vec<InitContainer>,
        }

        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct InitContainer {
            #[serde(default)]
            name: String,
            restart_policy: Option<String>,
        }

        fn sidecars(containers: Vec<InitContainer>) -> Vec<Container> {
            let containers = containers.into_iter();
            let sidecars = containers.filter(|c| c.restart_policy.as_deref() == Some("Always"));
            let sidecars = sidecars.take(MAX_SIDECARS);
            let sidecars = sidecars.map(|container| Container {
                name: container.name,
                restart_policy: container.restart_policy,
                ..Container::default()
            });
            sidecars.collect()
        }

        let object = Object::deserialize(deserializer)?;
        Ok(Self(Pod {
            metadata: object.metadata.into(),
            spec: object.spec.map(|spec| PodSpec {
                node_name: spec.node_name,
                scheduling_gates: spec.scheduling_gates,
                active_deadline_seconds: spec.active_deadline_seconds,
                init_containers: Some(sidecars(spec.init_containers)),
                ..PodSpec::default()
            }),
            status: object.status,
        }))
    }
}

impl Resource for WatchedPod {
    type DynamicType = ();
    type Scope = <Pod as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        Pod::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Pod::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Pod::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.0.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0.metadata
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Watched<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn metadata_api() -> bool {
        true
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Starts a watch that streams its initial list, so only one object is in memory at a time. If the
/// API server does not support streaming lists (by default 1.30, 1.31, and 1.33), small pages are
/// requested instead.
pub(crate) fn watch_in_pages<K, S>(
    config: watcher::Config,
    start: impl Fn(watcher::Config) -> S,
) -> impl Stream<Item = Result<Event<K>, watcher::Error>>
where
    S: Stream<Item = Result<Event<K>, watcher::Error>>,
{
    let paged = start(config.clone().page_size(PAGE));
    let unsupported = |event: &Result<Event<K>, watcher::Error>| {
        matches!(event, Err(watcher::Error::WatchStartFailed(kube::Error::Api(status)))
            if [400, 422].contains(&status.code))
    };
    start(config.streaming_lists())
        .take_while(move |event| future::ready(!unsupported(event)))
        .chain(paged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::{ContainerKind, PodView};
    use kube::ResourceExt;
    use kube::core::ObjectList;
    use oaat_api::OaatGroup;

    #[test]
    fn undecodable_time_does_not_fail_the_list_of_pods() {
        let list = r#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[
            {"metadata":{"name":"p","labels":{"a":"b","oaat.kawaja.net/group":"g"},"annotations":null,
                "managedFields":[{"time":"10000-01-01T23:58:59Z"}]},
             "spec":{"containers":[{"name":"c"}],"schedulingGates":[{"name":"x"}]},
             "status":{"phase":"Running"}}]}"#;
        let list: ObjectList<WatchedPod> = serde_json::from_str(list).unwrap();
        let pod = &list.items[0].0;
        assert_eq!(pod.name_any(), "p");
        let labels: Vec<_> = pod.labels().iter().collect();
        assert_eq!(labels, [(&names::GROUP.to_owned(), &"g".to_owned())]);
        let spec = pod.spec.as_ref().unwrap();
        assert!(spec.containers.is_empty());
        assert_eq!(spec.scheduling_gates.as_ref().unwrap()[0].name, "x");
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        assert_eq!(phase, Some("Running"));
    }

    /// The view of a pod must not depend on how the pod was read.
    #[test]
    fn watched_pod_has_all_that_a_view_needs() {
        let whole = r#"{"metadata":{"name":"p","uid":"u","resourceVersion":"5",
                "creationTimestamp":"2026-01-01T00:00:00Z","deletionGracePeriodSeconds":30,
                "deletionTimestamp":"2026-01-01T00:05:00Z",
                "labels":{"oaat.kawaja.net/group":"g","oaat.kawaja.net/run":"3"},
                "annotations":{"oaat.kawaja.net/item":"a",
                    "oaat.kawaja.net/completion-containers":"main,other"},
                "ownerReferences":[{"apiVersion":"kawaja.net/v1","kind":"OaatGroup","name":"g",
                    "uid":"us","controller":true}]},
            "spec":{"nodeName":"n","activeDeadlineSeconds":60,
                "schedulingGates":[{"name":"oaat.kawaja.net/claim"},{"name":"queue"}],
                "initContainers":[{"name":"first"},{"name":"mesh","restartPolicy":"Always"}],
                "containers":[{"name":"main"}]},
            "status":{"phase":"Running","reason":"r","message":"m",
                "startTime":"2026-01-01T00:00:01Z",
                "conditions":[{"type":"DisruptionTarget","status":"True","reason":"Drained",
                    "lastTransitionTime":"2026-01-01T00:01:00Z"}],
                "initContainerStatuses":[
                    {"name":"first","ready":true,"restartCount":0,"image":"","imageID":"",
                        "state":{"terminated":{"exitCode":0}}},
                    {"name":"mesh","ready":true,"restartCount":0,"image":"","imageID":"",
                        "state":{"running":{}}}],
                "containerStatuses":[{"name":"main","ready":false,"restartCount":0,"image":"",
                    "imageID":"","state":{"waiting":{"reason":"ErrImagePull"}}}]}}"#;
        let watched: WatchedPod = serde_json::from_str(whole).unwrap();
        let whole: Pod = serde_json::from_str(whole).unwrap();
        let view = PodView::from(&whole);
        assert_eq!(PodView::from(&watched.0), view);
        assert!(view.has_deadline && !view.completion_containers.is_empty());
        assert_eq!(view.containers[1].kind, ContainerKind::Sidecar);
    }

    #[test]
    fn deeply_nested_managed_fields_do_not_fail_the_list() {
        let deep = format!("{}1{}", r#"{"f:a":"#.repeat(9_000), "}".repeat(9_000));
        let object = |name: &str, fields: &str| {
            format!(
                r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{{"name":"{name}",
                "generation":3,"managedFields":[{{"fieldsV1":{fields}}}]}}}}"#
            )
        };
        let list = format!(
            r#"{{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{{}},"items":[{},{}]}}"#,
            object("deep", &deep),
            object("flat", "{}")
        );
        let list: ObjectList<Watched<OaatGroup>> = serde_json::from_str(&list).unwrap();
        let read = list.items.iter();
        let read: Vec<_> = read
            .map(|group| (group.name_any(), group.metadata.generation))
            .collect();
        assert_eq!(read, [("deep".into(), Some(3)), ("flat".into(), Some(3))]);
    }
}
