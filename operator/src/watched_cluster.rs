//! A cluster of which only the initial lists of the watches are known.
//!
//! A reconcile of a group on it determines whether a live reconcile would do anything. If the group
//! needs no change according to the lists, nothing has to be done until the watches report a change:
//! they continue where the lists end. Otherwise, the reconcile fails, and a live one must follow.

use crate::cluster::{Cluster, ClusterError, GroupRead};
use crate::pod::PodView;
use crate::policy_source::{PolicyRead, PolicySource};
use crate::snapshot::{SourceUpdate, TypeRead};
use k8s_openapi::api::core::v1::Pod;
use oaat_api::{ItemsKey, OaatGroup};
use serde_json::Value;

/// The cluster for a reconcile of one group.
pub struct WatchedCluster<C> {
    /// The cluster, for objects that do not belong to a single group.
    pub shared: C,
    /// The listed group.
    pub group: OaatGroup,
    /// The listed pods with the group's label.
    pub pods: Vec<PodView>,
}

/// The error of each request that the lists do not answer.
fn needs_request<T>() -> Result<T, ClusterError> {
    let reason = "the initial lists of the watches are not sufficient";
    Err(ClusterError::Unavailable(reason.into()))
}

impl<C: Cluster> Cluster for WatchedCluster<C> {
    async fn group(&self, _: &str, _: &str) -> Result<GroupRead, ClusterError> {
        Ok(GroupRead::Found(Box::new(self.group.clone())))
    }

    fn take_written_group(&self, _: &str, _: &str) -> Option<OaatGroup> {
        None
    }

    async fn pods(&self, _: &str, _: &str, _: bool) -> Result<Vec<PodView>, ClusterError> {
        Ok(self.pods.clone())
    }

    async fn pod(&self, _: &str, _: &str) -> Result<Option<Pod>, ClusterError> {
        needs_request()
    }

    async fn is_namespace_terminating(&self, _: &str) -> Result<bool, ClusterError> {
        needs_request()
    }

    async fn oaat_type(&self, namespace: &str, name: &str) -> Result<TypeRead, ClusterError> {
        self.shared.oaat_type(namespace, name).await
    }

    async fn policy(&self, source: &PolicySource) -> Result<PolicyRead, ClusterError> {
        self.shared.policy(source).await
    }

    async fn items(&self, namespace: &str, key: &ItemsKey, in_status: bool) -> SourceUpdate {
        self.shared.items(namespace, key, in_status).await
    }

    async fn output(&self, _: &str, _: &str, _: &str) -> Result<String, ClusterError> {
        needs_request()
    }

    async fn write_status(
        &self,
        _: &str,
        _: &str,
        _: &str,
        _: Value,
    ) -> Result<String, ClusterError> {
        needs_request()
    }

    async fn create_pod(&self, _: &str, _: &Value) -> Result<Pod, ClusterError> {
        needs_request()
    }

    async fn open_gate(&self, _: &str, _: &str, _: &str) -> Result<(), ClusterError> {
        needs_request()
    }

    async fn delete_pod(
        &self,
        _: &str,
        _: &str,
        _: &str,
        _: Option<&str>,
    ) -> Result<(), ClusterError> {
        needs_request()
    }
}
