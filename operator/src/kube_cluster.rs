//! The cluster as it is: every verb is one request to the API server.

use crate::api_request::{classify_error, with_timeout};
use crate::bounded_read::BoundedReader;
use crate::cluster::{Cluster, ClusterError, GroupRead, TypeRead};
use crate::item_sources::{MAX_TEXT, SourceUpdate};
use crate::metrics::Metrics;
use crate::pod::{PodView, names};
use crate::policies::{PolicyRead, Source};
use crate::references::References;
use crate::watched::{Watched, WatchedPod};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, LogParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{PartialObjectMeta, Request as ApiRequest};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use oaat_api::{ItemsKey, OaatGroup, OaatType, condition};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longest wait for a log: it comes by way of the pod's node, which may not answer, and the group
/// waits for it.
const LOG_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum number of pods with a group's label. A group keeps at most 10,000 finished pods.
const MAX_PODS: usize = 12_000;

/// The maximum size, as JSON, of a type that is cached between reconciles. Larger types are read
/// again for every start.
const KEPT_TYPE: usize = 64 << 10;
/// The maximum size of all cached types.
const KEPT_TYPES: usize = 4 << 20;

/// Metadata of types, as the watch delivers it.
pub type WatchedType = Watched<OaatType>;
type TypeRef = ObjectRef<WatchedType>;

/// The real cluster.
#[derive(Clone)]
pub struct KubeCluster {
    client: Client,
    reader: BoundedReader,
    types: Store<WatchedType>,
    kept: Arc<Mutex<KeptTypes>>,
    references: References,
    metrics: Arc<Metrics>,
}

impl KubeCluster {
    /// A cluster behind a client, whose own retries must be off. Policies and lists come from
    /// watches, and so does whether a type has changed; nothing that the guarantee rests on does.
    pub fn new(
        client: Client,
        reader: BoundedReader,
        types: Store<WatchedType>,
        references: References,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            reader,
            client,
            types,
            kept: Arc::default(),
            references,
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

    /// Reads single objects.
    pub fn reader(&self) -> &BoundedReader {
        &self.reader
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, KeptTypes> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a pod from JSON as it is, unknown fields included.
    ///
    /// # Errors
    /// As any verb.
    pub async fn post_pod(
        &self,
        namespace: &str,
        pod: &Value,
        trial: bool,
    ) -> Result<Pod, ClusterError> {
        let body = serde_json::to_vec(pod).map_err(|e| ClusterError::Unavailable(e.to_string()))?;
        let params = PostParams {
            dry_run: trial,
            field_manager: Some(names::OPERATOR.into()),
        };
        let mut request = ApiRequest::new(Pod::url_path(&(), Some(namespace)))
            .create(&params, body)
            .map_err(|e| ClusterError::Unavailable(e.to_string()))?;
        // Of a type a trial has told before.
        let lister = !pod["metadata"]["labels"][names::LISTER].is_null();
        if trial || lister {
            // A field that this API server does not know is a slip of the pen.
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
        match self.reader.object::<OaatGroup>(namespace, name).await {
            Ok(Ok(group)) => {
                self.references.note(&key, Some(&group));
                Ok(GroupRead::Found(Box::new(group)))
            }
            Ok(Err(undecodable)) => {
                self.references.note(&key, None);
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

    async fn pods(
        &self,
        namespace: &str,
        group: &str,
        historic: bool,
    ) -> Result<Vec<PodView>, ClusterError> {
        let mut views = Vec::new();
        let mut known = HashSet::new();
        let mut add = |pods: Vec<WatchedPod>| {
            let pods = pods.iter().map(|pod| PodView::from(&pod.0));
            views.extend(pods.filter(|pod| known.insert(pod.uid.clone())));
            match views.len() > MAX_PODS {
                true => Err(ClusterError::Unavailable(format!(
                    "more than {MAX_PODS} pods have the label of this group ({}); delete some of them",
                    names::GROUP
                ))),
                false => Ok(()),
            }
        };
        let selector = format!("{}={}", names::GROUP, names::group_label(group));
        self.reader.list(namespace, &selector, &mut add).await?;
        // A label value ends at 63 characters, so there are none of longer names.
        if historic && group.len() <= 63 {
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

    async fn namespace_ends(&self, namespace: &str) -> Result<bool, ClusterError> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        match with_timeout(api.get_metadata(namespace)).await {
            Ok(namespace) => Ok(namespace.metadata.deletion_timestamp.is_some()),
            Err(ClusterError::NotFound) => Ok(true),
            Err(other) => Err(other),
        }
    }

    async fn oaat_type(&self, namespace: &str, name: &str) -> Result<TypeRead, ClusterError> {
        let key = ObjectRef::new(name).within(namespace);
        let version = self
            .types
            .get(&key)
            .and_then(|type_| type_.resource_version());
        if let Some(version) = version
            && let Some(kept) = self.kept().get(&key, &version)
        {
            return Ok(kept);
        }
        match self.reader.object::<OaatType>(namespace, name).await {
            Ok(Ok(type_)) => {
                let read = usable(&type_);
                let version = type_.resource_version().unwrap_or_default();
                self.kept().keep(key, version, &read);
                Ok(read)
            }
            Ok(Err(undecodable)) => Ok(TypeRead::Invalid(format!(
                "this operator cannot read it: {}",
                undecodable.error
            ))),
            Err(ClusterError::NotFound) => Ok(TypeRead::Missing),
            Err(other) => Err(other),
        }
    }

    async fn policy(&self, source: &Source) -> Result<PolicyRead, ClusterError> {
        Ok(self.references.policies().read(source))
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
            Ok(answer) => answer.map_err(classify_error),
            Err(_) => Err(ClusterError::Unavailable(format!(
                "no answer within {} seconds",
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
        // Only metadata of the answer is of interest, so that a large group costs no
        // second decoding.
        let api: Api<Watched<OaatGroup>> = self.api(namespace);
        let patch = json!({
            "metadata": { "resourceVersion": resource_version },
            "status": status,
        });
        let params = PatchParams {
            field_manager: Some(names::OPERATOR.into()),
            ..PatchParams::default()
        };
        let written = with_timeout(api.patch_status(name, &params, &Patch::Merge(&patch))).await?;
        Ok(written.resource_version().unwrap_or_default())
    }

    async fn create_pod(&self, namespace: &str, pod: &Value) -> Result<Pod, ClusterError> {
        self.post_pod(namespace, pod, false).await
    }

    async fn open_gate(&self, namespace: &str, name: &str, uid: &str) -> Result<(), ClusterError> {
        let api: Api<PartialObjectMeta<Pod>> = self.api(namespace);
        // The uid makes the server refuse a pod of the same name that is another one;
        // gates are merged by name, so those of others stay.
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
            Err(ClusterError::Conflict(words)) => match self.pod(namespace, name).await? {
                Some(pod) if pod.metadata.uid.as_deref() == Some(uid) => {
                    Err(ClusterError::Unavailable(words))
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
            // Gone, or another pod by now.
            Ok(_) | Err(ClusterError::NotFound | ClusterError::Conflict(_)) => Ok(()),
            Err(other) => Err(other),
        }
    }
}

/// A cache of types, up to a total size.
#[derive(Default)]
struct KeptTypes {
    types: HashMap<TypeRef, KeptType>,
    size: usize,
}

struct KeptType {
    version: String,
    size: usize,
    read: TypeRead,
}

impl KeptTypes {
    /// Returns a type if this version of it is cached.
    fn get(&self, key: &TypeRef, version: &str) -> Option<TypeRead> {
        let kept = self.types.get(key)?;
        (kept.version == version).then(|| kept.read.clone())
    }

    /// Caches a type. Evicts others in no particular order to make room.
    fn keep(&mut self, key: TypeRef, version: String, read: &TypeRead) {
        self.remove(&key);
        let size = match read {
            TypeRead::Valid(spec) => {
                serde_json::to_vec(spec.as_ref()).map_or(usize::MAX, |json| json.len())
            }
            TypeRead::Invalid(message) => message.len(),
            TypeRead::Missing | TypeRead::Unchecked => 0,
        };
        if size > KEPT_TYPE {
            return;
        }
        // Small types have a cost, too.
        let size = size + 1024;
        while self.size + size > KEPT_TYPES
            && let Some(other) = self.types.keys().next().cloned()
        {
            self.remove(&other);
        }
        self.size += size;
        let read = read.clone();
        self.types.insert(
            key,
            KeptType {
                version,
                size,
                read,
            },
        );
    }

    fn remove(&mut self, key: &TypeRef) {
        if let Some(kept) = self.types.remove(key) {
            self.size -= kept.size;
        }
    }
}

/// Whether a type may be used, by what its own check said.
fn usable(type_: &OaatType) -> TypeRead {
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
    fn only_what_the_server_understood_and_refused_is_a_refusal() {
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
        // What a server says that has just been started, of itself.
        for words in [
            "pods is forbidden: User \"system:serviceaccount:o:o\" cannot create resource \
             \"pods\" in API group \"\" in the namespace \"n\"",
            "pods \"p\" is forbidden: not yet ready to handle request",
            "pods \"p\" is forbidden: status unknown for quota: q, resources: pods",
        ] {
            let early = status(json!({ "code": 403, "message": words }));
            assert!(matches!(early, ClusterError::Unavailable(_)), "{words}");
        }
        let words = "pods \"p\" is forbidden: exceeded quota: none, requested: pods=1";
        let quota = status(json!({ "code": 403, "message": words }));
        assert!(matches!(quota, ClusterError::Rejected { .. }));
        let proxy = status(json!({ "code": 404, "message": "no such page" }));
        assert!(matches!(proxy, ClusterError::Unavailable(_)));
        assert!(matches!(
            status(json!({ "code": 409 })),
            ClusterError::Conflict(_)
        ));
    }

    #[test]
    fn a_namespace_that_ends_is_no_refusal() {
        let error = status(json!({
            "code": 403, "reason": "Forbidden", "message": "forbidden",
            "details": { "causes": [{ "reason": "NamespaceTerminating", "message": "x", "field": "y" }] },
        }));
        assert_eq!(error, ClusterError::NamespaceEnds);
    }

    #[test]
    fn a_type_is_used_only_as_far_as_it_was_checked() {
        let type_ = |status: Value| -> TypeRead {
            let object = json!({
                "metadata": { "name": "t", "generation": 2 },
                "spec": { "type": "pod", "podspec": { "container": { "name": "a" } } },
                "status": status,
            });
            usable(&serde_json::from_value(object).unwrap_or_else(|e| panic!("{e}")))
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
