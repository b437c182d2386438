//! The Kubernetes cluster, through the API server.

use crate::api_request::{classify_error, with_timeout};
use crate::bounded_read::{BoundedReader, decoded_size};
use crate::cluster::{Cluster, ClusterError, Freshness, GroupRead};
use crate::group_ref::{GroupRef, WatchedGroup};
use crate::item_sources::MAX_TEXT;
use crate::legacy_pods::LegacyPods;
use crate::metrics::Metrics;
use crate::object_cache::ObjectCache;
use crate::pod::{PodView, names};
use crate::policy_source::{LastGoodPolicy, PolicyRead, PolicySource};
use crate::references::References;
use crate::snapshot::SourceUpdate;
use crate::snapshot::TypeRead;
use crate::watched::{Watched, WatchedPod};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, LogParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{PartialObjectMeta, Request as ApiRequest};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use oaat_api::{ItemsKey, OaatGroup, OaatType, condition};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The maximum time to read a log. The reconcile waits for the log, and the pod's node, which
/// serves it, may not respond.
const LOG_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum number of pods with a group's label. A group keeps at most 10,000 finished pods, and the
/// latest failed one of each of 2,000 items.
const MAX_PODS: usize = 14_000;

/// The maximum size, as JSON, of a type that is cached between reconciles. Larger types are read
/// again for every start.
const MAX_CACHED_TYPE_SIZE: usize = 64 << 10;
/// The maximum size of all cached types.
const MAX_CACHED_TYPES_TOTAL: usize = 4 << 20;

/// The maximum decoded size of a group that is kept after a write: one of about 300 items. Larger
/// groups are read again.
const MAX_WRITTEN_GROUP_SIZE: usize = 1 << 20;
/// The maximum decoded size of all groups that are kept after writes.
const MAX_WRITTEN_GROUPS_TOTAL: usize = 16 << 20;

/// The metadata of a type, as the watch stores it.
pub type WatchedType = Watched<OaatType>;
type TypeRef = ObjectRef<WatchedType>;

/// The objects that are kept in memory, for all namespaces. Cheap to clone.
#[derive(Clone)]
pub struct ObjectCaches {
    types: Arc<Mutex<ObjectCache<TypeRef, TypeRead>>>,
    /// The groups with a current run, as this replica last wrote them.
    written_groups: Arc<Mutex<ObjectCache<GroupRef, OaatGroup>>>,
}

impl Default for ObjectCaches {
    fn default() -> Self {
        let types = ObjectCache::new(MAX_CACHED_TYPE_SIZE, MAX_CACHED_TYPES_TOTAL);
        let written_groups = ObjectCache::new(MAX_WRITTEN_GROUP_SIZE, MAX_WRITTEN_GROUPS_TOTAL);
        Self {
            types: Arc::new(Mutex::new(types)),
            written_groups: Arc::new(Mutex::new(written_groups)),
        }
    }
}

/// A Kubernetes cluster. Cheap to clone.
#[derive(Clone)]
pub struct KubeCluster {
    client: Client,
    reader: BoundedReader,
    groups: Store<WatchedGroup>,
    types: Store<WatchedType>,
    caches: ObjectCaches,
    references: References,
    legacy_pods: LegacyPods,
    metrics: Arc<Metrics>,
}

impl KubeCluster {
    /// Creates a cluster from a client, which must not retry requests itself. Policies, lists, and
    /// changes of groups and types come from watches. Nothing that the guarantee depends on comes
    /// from a watch.
    pub fn new(
        client: Client,
        reader: BoundedReader,
        (groups, types): (Store<WatchedGroup>, Store<WatchedType>),
        caches: ObjectCaches,
        (references, legacy_pods): (References, LegacyPods),
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            reader,
            client,
            groups,
            types,
            caches,
            references,
            legacy_pods,
            metrics,
        }
    }

    /// Returns the cluster for one reconcile. Dropping it releases the memory permit for what was
    /// read.
    pub fn for_reconcile(&self) -> Self {
        Self {
            reader: self.reader.for_reconcile(),
            ..self.clone()
        }
    }

    /// Returns the cluster for reconciles that share what this reader holds.
    pub fn with_reader(&self, reader: BoundedReader) -> Self {
        Self {
            reader,
            ..self.clone()
        }
    }

    /// Waits for the first list of types.
    pub async fn wait_for_types(&self) {
        // If the writer is dropped, the process stops as well.
        let _ = self.types.wait_until_ready().await;
    }

    /// Records the objects that a group refers to.
    pub fn record_references(&self, key: &GroupRef, group: &OaatGroup) {
        self.references.record(key, Some(group));
    }

    /// Records the last good policies of a group, so that the operator keeps copies of those that are
    /// not built in.
    pub fn record_last_good(&self, key: &GroupRef, policies: Vec<LastGoodPolicy>) {
        self.references.policies().record_last_good(key, policies);
    }

    /// Returns the reader of individual objects.
    pub fn reader(&self) -> &BoundedReader {
        &self.reader
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn cached_types(&self) -> MutexGuard<'_, ObjectCache<TypeRef, TypeRead>> {
        let cache = self.caches.types.lock();
        cache.unwrap_or_else(PoisonError::into_inner)
    }

    fn written_groups(&self) -> MutexGuard<'_, ObjectCache<GroupRef, OaatGroup>> {
        let cache = self.caches.written_groups.lock();
        cache.unwrap_or_else(PoisonError::into_inner)
    }

    /// Caches the group in the response to a status write if it has a current run. Returns its
    /// resource version.
    fn cache_written_group(&self, key: GroupRef, response: &str) -> serde_json::Result<String> {
        let size = decoded_size(response.as_bytes());
        if size <= MAX_WRITTEN_GROUP_SIZE
            && let Ok(mut group) = serde_json::from_str::<OaatGroup>(response)
        {
            let version = group.resource_version().unwrap_or_default();
            // Pods that list items are created without a comparison of versions.
            let lists = !group.spec.items_from.is_empty();
            let is_running = group.status.as_ref().is_some_and(|s| s.current.is_some());
            if is_running && !lists {
                group.metadata.managed_fields = None;
                self.written_groups()
                    .insert(key, version.clone(), size, group);
            }
            return Ok(version);
        }
        // Only the metadata is decoded, because the group may be large.
        let group: WatchedGroup = serde_json::from_str(response)?;
        Ok(group.resource_version().unwrap_or_default())
    }

    /// Creates a pod from unchanged JSON, including unknown fields. With `dry_run`, the API server
    /// only validates it.
    ///
    /// # Errors
    /// Returns an error if the request fails or is rejected.
    pub async fn post_pod(
        &self,
        namespace: &str,
        pod: &Value,
        dry_run: bool,
    ) -> Result<Pod, ClusterError> {
        let body = serde_json::to_vec(pod).map_err(|e| ClusterError::Unavailable(e.to_string()))?;
        let params = PostParams {
            dry_run,
            field_manager: Some(names::OPERATOR.into()),
        };
        let mut request = ApiRequest::new(Pod::url_path(&(), Some(namespace)))
            .create(&params, body)
            .map_err(|e| ClusterError::Unavailable(e.to_string()))?;
        // The pods of types were validated strictly in a dry run before.
        let lister = !pod["metadata"]["labels"][names::LISTER].is_null();
        if dry_run || lister {
            // A field that the API server does not know is probably a typo.
            let uri = format!("{}&fieldValidation=Strict", request.uri());
            *request.uri_mut() = uri
                .parse()
                .map_err(|e| ClusterError::Unavailable(format!("{uri}: {e}")))?;
        }
        with_timeout(self.client.request(request)).await
    }
}

impl Cluster for KubeCluster {
    async fn group(&self, namespace: &str, name: &str) -> Result<GroupRead, ClusterError> {
        let key = ObjectRef::new(name).within(namespace);
        self.written_groups().remove(&key);
        match self.reader.object::<OaatGroup>(namespace, name).await {
            Ok(Ok(group)) => {
                self.references.record(&key, Some(&group));
                Ok(GroupRead::Found(Box::new(group)))
            }
            Ok(Err(undecodable)) => {
                self.references.record(&key, None);
                self.metrics.undecodable.inc();
                let metadata = undecodable.metadata;
                Ok(GroupRead::Undecodable {
                    error: undecodable.error,
                    generation: metadata.generation,
                    resource_version: metadata.resource_version.unwrap_or_default(),
                })
            }
            Err(ClusterError::NotFound) => Ok(GroupRead::Gone),
            Err(other) => Err(other),
        }
    }

    fn take_written_group(&self, namespace: &str, name: &str) -> Option<OaatGroup> {
        let key = ObjectRef::new(name).within(namespace);
        let watched = self.groups.get(&key)?.resource_version()?;
        let group = self.written_groups().take(&key, &watched)?;
        self.references.record(&key, Some(&group));
        Some(group)
    }

    async fn pods(
        &self,
        namespace: &str,
        group: &str,
        historic: bool,
    ) -> Result<Vec<PodView>, ClusterError> {
        let mut views = Vec::new();
        let mut uids = HashSet::new();
        let mut add = |pods: Vec<WatchedPod>| {
            let pods = pods.iter().map(|pod| PodView::from(&pod.0));
            views.extend(pods.filter(|pod| uids.insert(pod.uid.clone())));
            if views.len() > MAX_PODS {
                return Err(ClusterError::Unavailable(format!(
                    "more than {MAX_PODS} pods have the label of this group ({}); delete some of them",
                    names::GROUP
                )));
            }
            Ok(())
        };
        let selector = format!("{}={}", names::GROUP, names::group_label(group));
        self.reader.list(namespace, &selector, &mut add).await?;
        if historic && self.legacy_pods.may_exist(namespace, group) {
            let selector = format!("app=oaat-operator,parent-name={group}");
            self.reader.list(namespace, &selector, &mut add).await?;
        }
        Ok(views)
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, ClusterError> {
        match self.reader.object::<WatchedPod>(namespace, name).await {
            Ok(Ok(pod)) => Ok(Some(pod.0)),
            Ok(Err(undecodable)) => Err(ClusterError::Unavailable(undecodable.error)),
            Err(ClusterError::NotFound) => Ok(None),
            Err(other) => Err(other),
        }
    }

    async fn is_namespace_terminating(&self, namespace: &str) -> Result<bool, ClusterError> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        match with_timeout(api.get_metadata(namespace)).await {
            Ok(namespace) => Ok(namespace.metadata.deletion_timestamp.is_some()),
            Err(ClusterError::NotFound) => Ok(true),
            Err(other) => Err(other),
        }
    }

    async fn oaat_type(
        &self,
        namespace: &str,
        name: &str,
        freshness: Freshness,
    ) -> Result<TypeRead, ClusterError> {
        let key = ObjectRef::new(name).within(namespace);
        let version = self
            .types
            .get(&key)
            .and_then(|type_| type_.resource_version());
        if let Some(version) = version.filter(|_| freshness == Freshness::Cached)
            && let Some(cached) = self.cached_types().get(&key, &version)
        {
            return Ok(cached);
        }
        match self.reader.object::<OaatType>(namespace, name).await {
            Ok(Ok(type_)) => {
                let read = checked_type(&type_);
                let version = type_.resource_version().unwrap_or_default();
                let size = size_of_type(&read);
                self.cached_types().insert(key, version, size, read.clone());
                Ok(read)
            }
            Ok(Err(undecodable)) => Ok(TypeRead::Invalid(format!(
                "this version of the operator cannot decode it: {}",
                undecodable.error
            ))),
            Err(ClusterError::NotFound) => Ok(TypeRead::Missing),
            Err(other) => Err(other),
        }
    }

    async fn policy(&self, source: &PolicySource) -> Result<PolicyRead, ClusterError> {
        Ok(self.references.policies().read(source))
    }

    fn last_good_policy(
        &self,
        namespace: &str,
        group: &str,
        source: &PolicySource,
    ) -> Option<PolicyRead> {
        let group = ObjectRef::new(group).within(namespace);
        self.references.policies().read_last_good(&group, source)
    }

    async fn items(&self, namespace: &str, key: &ItemsKey, in_status: bool) -> SourceUpdate {
        self.references.lists().read(namespace, key, in_status)
    }

    async fn output(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<String, ClusterError> {
        let api: Api<Pod> = self.api(namespace);
        let params = LogParams {
            container: Some(container.to_owned()),
            limit_bytes: i64::try_from(MAX_TEXT + 1).ok(),
            ..LogParams::default()
        };
        match tokio::time::timeout(LOG_TIMEOUT, api.logs(pod, &params)).await {
            Ok(response) => response.map_err(classify_error),
            Err(_) => Err(ClusterError::Unavailable(format!(
                "no response within {} seconds",
                LOG_TIMEOUT.as_secs()
            ))),
        }
    }

    async fn write_status(
        &self,
        namespace: &str,
        name: &str,
        resource_version: &str,
        status: Value,
    ) -> Result<String, ClusterError> {
        let patch = json!({
            "metadata": { "resourceVersion": resource_version },
            "status": status,
        });
        let params = PatchParams {
            field_manager: Some(names::OPERATOR.into()),
            ..PatchParams::default()
        };
        let unavailable = |error: String| ClusterError::Unavailable(error);
        let request = ApiRequest::new(OaatGroup::url_path(&(), Some(namespace)))
            .patch_subresource("status", name, &params, &Patch::Merge(&patch))
            .map_err(|error| unavailable(error.to_string()))?;
        let key = ObjectRef::new(name).within(namespace);
        // If the write fails, the group must be read.
        self.written_groups().remove(&key);
        let response = with_timeout(self.client.request_text(request)).await?;
        self.cache_written_group(key, &response)
            .map_err(|error| unavailable(error.to_string()))
    }

    async fn create_pod(&self, namespace: &str, pod: &Value) -> Result<Pod, ClusterError> {
        self.post_pod(namespace, pod, false).await
    }

    async fn open_gate(&self, namespace: &str, name: &str, uid: &str) -> Result<(), ClusterError> {
        let api: Api<PartialObjectMeta<Pod>> = self.api(namespace);
        // Because of the uid, the API server rejects the patch for another pod with the same name.
        // Gates are merged by name, so other gates stay.
        let patch = json!({
            "metadata": { "uid": uid },
            "spec": { "schedulingGates": [{ "name": names::GATE, "$patch": "delete" }] },
        });
        let params = PatchParams {
            field_manager: Some(names::OPERATOR.into()),
            ..PatchParams::default()
        };
        match with_timeout(api.patch(name, &params, &Patch::Strategic(&patch))).await {
            Ok(_) => Ok(()),
            Err(ClusterError::Conflict(message)) => match self.pod(namespace, name).await? {
                Some(pod) if pod.metadata.uid.as_deref() == Some(uid) => {
                    Err(ClusterError::Unavailable(message))
                }
                _ => Err(ClusterError::NotFound),
            },
            Err(other) => Err(other),
        }
    }

    async fn delete_pod(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        version: Option<&str>,
    ) -> Result<(), ClusterError> {
        let api: Api<Pod> = self.api(namespace);
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.into()),
                resource_version: version.map(Into::into),
            }),
            ..DeleteParams::default()
        };
        match with_timeout(api.delete(name, &params)).await {
            // The pod is gone or has changed, or another pod has its name now.
            Ok(_) | Err(ClusterError::NotFound | ClusterError::Conflict(_)) => Ok(()),
            Err(other) => Err(other),
        }
    }
}

/// Returns the size of a type as JSON, in bytes.
fn size_of_type(read: &TypeRead) -> usize {
    match read {
        TypeRead::Valid(spec) => {
            serde_json::to_vec(spec.as_ref()).map_or(usize::MAX, |json| json.len())
        }
        TypeRead::Invalid(message) => message.len(),
        TypeRead::Missing | TypeRead::Unchecked => 0,
    }
}

/// Returns a type if its condition `Valid` allows its use.
fn checked_type(type_: &OaatType) -> TypeRead {
    let problems = oaat_api::validate::validate_type(&type_.spec);
    if !problems.is_empty() {
        return TypeRead::Invalid(oaat_api::validate::summary(&problems));
    }
    let conditions = type_
        .status
        .as_ref()
        .map(|s| s.conditions.as_slice())
        .unwrap_or_default();
    match condition(conditions, "Valid") {
        Some(valid) if valid.observed_generation == type_.metadata.generation => {
            if valid.status == "True" {
                TypeRead::Valid(Arc::new(type_.spec.clone()))
            } else {
                TypeRead::Invalid(valid.message.clone())
            }
        }
        _ => TypeRead::Unchecked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> ClusterError {
        let status = serde_json::from_value(value).unwrap_or_else(|e| panic!("{e}"));
        classify_error(kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn errors_are_rejections_only_if_the_server_understood_the_request() {
        for code in [400, 403, 413, 422] {
            let error = status(json!({ "code": code, "message": "no" }));
            assert!(matches!(error, ClusterError::Rejected { .. }), "{code}");
        }
        for code in [401, 408, 429, 500, 502, 503, 504] {
            let error = status(json!({ "code": code, "message": "later" }));
            assert!(matches!(error, ClusterError::Unavailable(_)), "{code}");
        }
        assert_eq!(
            status(json!({ "code": 404, "reason": "NotFound" })),
            ClusterError::NotFound
        );
        // Messages of an API server that has just started.
        for message in [
            "pods is forbidden: User \"system:serviceaccount:o:o\" cannot create resource \
             \"pods\" in API group \"\" in the namespace \"n\"",
            "pods \"p\" is forbidden: not yet ready to handle request",
            "pods \"p\" is forbidden: status unknown for quota: q, resources: pods",
        ] {
            let early = status(json!({ "code": 403, "message": message }));
            assert!(matches!(early, ClusterError::Unavailable(_)), "{message}");
        }
        let message = "pods \"p\" is forbidden: exceeded quota: none, requested: pods=1";
        let quota = status(json!({ "code": 403, "message": message }));
        assert_eq!(
            quota,
            ClusterError::QuotaExceeded {
                message: message.into(),
                counts_finished_pods: false,
            }
        );
        let message = "pods \"p\" is forbidden: exceeded quota: q, requested: count/pods=1";
        let quota = status(json!({ "code": 403, "message": message }));
        assert!(matches!(
            quota,
            ClusterError::QuotaExceeded {
                counts_finished_pods: true,
                ..
            }
        ));
        let proxy = status(json!({ "code": 404, "message": "no such page" }));
        assert!(matches!(proxy, ClusterError::Unavailable(_)));
        assert!(matches!(
            status(json!({ "code": 409 })),
            ClusterError::Conflict(_)
        ));
    }

    #[test]
    fn terminating_namespace_is_not_a_rejection() {
        let error = status(json!({
            "code": 403, "reason": "Forbidden", "message": "forbidden",
            "details": { "causes": [{ "reason": "NamespaceTerminating", "message": "x", "field": "y" }] },
        }));
        assert_eq!(error, ClusterError::NamespaceTerminating);
    }

    #[test]
    fn type_is_used_only_after_its_current_generation_was_checked() {
        let type_ = |status: Value| -> TypeRead {
            let object = json!({
                "metadata": { "name": "t", "generation": 2 },
                "spec": { "type": "pod", "podspec": { "container": { "name": "a" } } },
                "status": status,
            });
            checked_type(&serde_json::from_value(object).unwrap_or_else(|e| panic!("{e}")))
        };
        let valid = |status: &str, generation: i64| {
            json!({ "conditions": [{
                "type": "Valid", "status": status, "reason": "R", "message": "why",
                "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": generation,
            }] })
        };
        assert!(matches!(type_(valid("True", 2)), TypeRead::Valid(_)));
        assert_eq!(type_(valid("True", 1)), TypeRead::Unchecked);
        assert_eq!(type_(valid("False", 2)), TypeRead::Invalid("why".into()));
        assert_eq!(type_(json!({})), TypeRead::Unchecked);
    }
}
