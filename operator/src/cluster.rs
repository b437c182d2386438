//! The requests that a reconcile makes to the cluster. It uses the cluster only through this trait,
//! so that the simulation can inject faults.

use crate::pod::PodView;
use crate::policy_source::{PolicyRead, PolicySource};
use crate::snapshot::{SourceUpdate, TypeRead};
use k8s_openapi::api::core::v1::Pod;
use oaat_api::{ItemsKey, OaatGroup};
use serde_json::Value;
use std::future::Future;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ClusterError {
    /// The object does not exist.
    #[error("not found")]
    NotFound,
    /// The object has changed since it was read.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The API server understood the request and rejected it. A retry alone does not help.
    #[error("rejected ({code}): {message}")]
    Rejected {
        /// The HTTP status code.
        code: u16,
        /// The API server's message.
        message: String,
    },
    /// A ResourceQuota leaves no room for the object. This may change at any time.
    #[error("{message}")]
    QuotaExceeded {
        /// The API server's message, which names the quota.
        message: String,
        /// Whether the quota counts finished pods too, so that deleting one makes room.
        counts_finished_pods: bool,
    },
    /// The namespace is being deleted.
    #[error("the namespace is being deleted")]
    NamespaceTerminating,
    /// The API server is overloaded, has an internal error, or cannot be reached, or the request
    /// timed out. Whether a write took effect is unknown.
    #[error("{0}")]
    Unavailable(String),
}

/// Where a read of a type may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The cache, if it has the version that the watch delivered last.
    Cached,
    /// The API server, because the watch may lag.
    Live,
}

/// The result of a live read of a group.
#[derive(Clone, Debug)]
pub enum GroupRead {
    /// The group exists.
    Found(Box<OaatGroup>),
    /// The group does not exist.
    Gone,
    /// The group exists, but this release cannot decode it.
    Undecodable {
        /// The error, which names the field.
        error: String,
        /// The generation of the group.
        generation: Option<i64>,
        /// The resource version, for a write of the status.
        resource_version: String,
    },
}

/// The requests of a reconcile. Every write is attempted once. If a write fails without a response,
/// the next read shows whether it took effect.
pub trait Cluster: Send + Sync + 'static {
    /// Reads a group, live.
    fn group(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<GroupRead, ClusterError>> + Send;

    /// Returns the group from the response to this replica's latest status write, once, if the group
    /// has a current run, the watch shows that version, and the group was not read since. Like the
    /// result of any read, it may be out of date.
    fn take_written_group(&self, namespace: &str, name: &str) -> Option<OaatGroup>;

    /// Lists all pods with the group's label, live. With `historic`, also lists pods that the
    /// original operator created.
    fn pods(
        &self,
        namespace: &str,
        group: &str,
        historic: bool,
    ) -> impl Future<Output = Result<Vec<PodView>, ClusterError>> + Send;

    /// Reads one pod, live. Returns `None` if it does not exist.
    fn pod(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<Pod>, ClusterError>> + Send;

    /// Returns whether the namespace is being deleted or gone.
    fn is_namespace_terminating(
        &self,
        namespace: &str,
    ) -> impl Future<Output = Result<bool, ClusterError>> + Send;

    /// Returns a type.
    fn oaat_type(
        &self,
        namespace: &str,
        name: &str,
        freshness: Freshness,
    ) -> impl Future<Output = Result<TypeRead, ClusterError>> + Send;

    /// Returns the policy that a group refers to.
    fn policy(
        &self,
        source: &PolicySource,
    ) -> impl Future<Output = Result<PolicyRead, ClusterError>> + Send;

    /// Returns the last good policy of a group: a built-in policy, or the copy that the operator
    /// keeps. Returns `None` if it keeps none.
    fn last_good_policy(
        &self,
        _namespace: &str,
        _group: &str,
        _source: &PolicySource,
    ) -> Option<PolicyRead> {
        None
    }

    /// Returns the list of items in a ConfigMap. `in_status` is true if the group's status already
    /// holds the last list read.
    fn items(
        &self,
        namespace: &str,
        key: &ItemsKey,
        in_status: bool,
    ) -> impl Future<Output = SourceUpdate> + Send;

    /// Reads the log of a container, up to one byte more than [`crate::item_sources::MAX_TEXT`].
    fn output(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> impl Future<Output = Result<String, ClusterError>> + Send;

    /// Merges `status` into the group's status if the group still has this resource version.
    /// Returns the new resource version.
    fn write_status(
        &self,
        namespace: &str,
        name: &str,
        resource_version: &str,
        status: Value,
    ) -> impl Future<Output = Result<String, ClusterError>> + Send;

    /// Creates a pod.
    fn create_pod(
        &self,
        namespace: &str,
        pod: &Value,
    ) -> impl Future<Output = Result<Pod, ClusterError>> + Send;

    /// Removes the operator's gate from the pod with this name and uid. Returns
    /// [`ClusterError::NotFound`] also if the name now belongs to another pod.
    fn open_gate(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> impl Future<Output = Result<(), ClusterError>> + Send;

    /// Requests the graceful deletion of the pod with this name and uid, and with this resource
    /// version if one is given. Succeeds also if the pod is already gone or has changed.
    fn delete_pod(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        version: Option<&str>,
    ) -> impl Future<Output = Result<(), ClusterError>> + Send;
}
