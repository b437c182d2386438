//! The cluster, as few verbs as one cycle needs. The cycle knows nothing else of it,
//! so that faults can be simulated behind this trait.

use crate::item_sources::SourceUpdate;
use crate::pod::PodView;
use crate::policies::{PolicyRead, Source};
use k8s_openapi::api::core::v1::Pod;
use oaat_api::{ItemsKey, OaatGroup, OaatTypeSpec};
use serde_json::Value;
use std::future::Future;
use std::sync::Arc;

/// Why a verb failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ClusterError {
    /// The object is not there (any more).
    #[error("not found")]
    NotFound,
    /// The object is not what it was when it was read.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The server understood and refused; asking again changes nothing by itself.
    #[error("refused ({code}): {message}")]
    Rejected {
        /// The HTTP status.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// The namespace is being deleted.
    #[error("the namespace is being deleted")]
    NamespaceEnds,
    /// Nobody's fault, and whether a write took effect is unknown: overload, a
    /// server's own error, a timeout, no connection.
    #[error("{0}")]
    Unavailable(String),
}

/// A group as read just now.
#[derive(Clone, Debug)]
pub enum GroupRead {
    /// There it is.
    Found(Box<OaatGroup>),
    /// There is none of this name.
    Gone,
    /// There is one that this release cannot decode.
    Undecodable {
        /// Why not.
        error: String,
        /// Its generation.
        generation: Option<i64>,
        /// For a write of its status.
        resource_version: String,
    },
}

/// What is known of a group's type.
#[derive(Clone, Debug, PartialEq)]
pub enum TypeRead {
    /// There is none of this name.
    Missing,
    /// It cannot be used, and why.
    Invalid(String),
    /// Its check has not come back yet.
    Unchecked,
    /// It can be used.
    Valid(Arc<OaatTypeSpec>),
}

/// What a cycle does to the cluster. Every write is tried once: whether one that
/// failed without an answer took effect is found out by looking.
pub trait Cluster: Send + Sync + 'static {
    /// Reads a group, live.
    fn group(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<GroupRead, ClusterError>> + Send;

    /// Lists all pods that carry the group's name label, live. With `historic` also
    /// those that the first implementation of these groups left behind.
    fn pods(
        &self,
        namespace: &str,
        group: &str,
        historic: bool,
    ) -> impl Future<Output = Result<Vec<PodView>, ClusterError>> + Send;

    /// Reads one pod, live. `None` when there is none of this name.
    fn pod(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<Pod>, ClusterError>> + Send;

    /// Whether the namespace is being deleted, or gone.
    fn namespace_ends(
        &self,
        namespace: &str,
    ) -> impl Future<Output = Result<bool, ClusterError>> + Send;

    /// The group's type.
    fn oaat_type(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<TypeRead, ClusterError>> + Send;

    /// The policy that a group names.
    fn policy(
        &self,
        source: &Source,
    ) -> impl Future<Output = Result<PolicyRead, ClusterError>> + Send;

    /// Returns the list of items in a ConfigMap. `in_status` is true if the group's status already
    /// holds the last list read.
    fn items(
        &self,
        namespace: &str,
        key: &ItemsKey,
        in_status: bool,
    ) -> impl Future<Output = SourceUpdate> + Send;

    /// What a container of a pod has printed, up to a little more than
    /// [`crate::item_sources::MAX_TEXT`] bytes.
    fn output(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> impl Future<Output = Result<String, ClusterError>> + Send;

    /// Merges `status` into the group's status if the group still has this resource
    /// version; gives the new one.
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

    /// Takes our gate from the pod of this name and uid. [`ClusterError::NotFound`]
    /// also when the name now belongs to another pod.
    fn open_gate(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> impl Future<Output = Result<(), ClusterError>> + Send;

    /// Asks for the graceful deletion of the pod of this name and uid, and of this resource
    /// version if one is given. No error when it is gone or changed already.
    fn delete_pod(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        version: Option<&str>,
    ) -> impl Future<Output = Result<(), ClusterError>> + Send;
}
