//! A cluster that answers reads of one group from the initial lists, and fails everything else.
//!
//! A reconcile of a group on it determines whether a live reconcile would do anything. If the group
//! needs no change according to the lists, nothing has to be done until the watches report a change:
//! they continue where the lists end. Otherwise, the reconcile fails, and a live one must follow.

use crate::cluster::{Cluster, ClusterError, Freshness, GroupRead};
use crate::pod::PodView;
use crate::policy_source::{PolicyRead, PolicySource};
use crate::snapshot::{SourceUpdate, TypeRead};
use k8s_openapi::api::core::v1::Pod;
use oaat_api::{ItemsKey, OaatGroup};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The cluster for a reconcile of one group.
pub struct ListedCluster<C> {
    /// The cluster, for objects that do not belong to a single group.
    live: C,
    /// The listed group, until it is read.
    group: Mutex<Option<Box<OaatGroup>>>,
    /// The listed pods with the group's label.
    pods: Vec<PodView>,
    refused: AtomicBool,
}

impl<C> ListedCluster<C> {
    /// Creates a cluster with a listed group, and its listed pods.
    pub fn new(live: C, group: OaatGroup, pods: Vec<PodView>) -> Self {
        Self {
            live,
            group: Mutex::new(Some(Box::new(group))),
            pods,
            refused: AtomicBool::new(false),
        }
    }

    /// Returns whether the reconcile needed a request that the lists cannot answer.
    pub fn has_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    fn refuse<T>(&self) -> Result<T, ClusterError> {
        self.refused.store(true, Ordering::Relaxed);
        let reason = "the initial lists of the watches are not sufficient";
        Err(ClusterError::Unavailable(reason.into()))
    }
}

impl<C: Cluster> Cluster for ListedCluster<C> {
    async fn group(&self, _: &str, _: &str) -> Result<GroupRead, ClusterError> {
        let group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        match { group }.take() {
            Some(group) => Ok(GroupRead::Found(group)),
            None => self.refuse(),
        }
    }

    fn take_written_group(&self, _: &str, _: &str) -> Option<OaatGroup> {
        None
    }

    async fn pods(&self, _: &str, _: &str, _: bool) -> Result<Vec<PodView>, ClusterError> {
        Ok(self.pods.clone())
    }

    async fn pod(&self, _: &str, _: &str) -> Result<Option<Pod>, ClusterError> {
        self.refuse()
    }

    async fn is_namespace_terminating(&self, _: &str) -> Result<bool, ClusterError> {
        self.refuse()
    }

    async fn oaat_type(
        &self,
        namespace: &str,
        name: &str,
        freshness: Freshness,
    ) -> Result<TypeRead, ClusterError> {
        self.live.oaat_type(namespace, name, freshness).await
    }

    async fn policy(&self, source: &PolicySource) -> Result<PolicyRead, ClusterError> {
        self.live.policy(source).await
    }

    fn last_good_policy(
        &self,
        namespace: &str,
        group: &str,
        source: &PolicySource,
    ) -> Option<PolicyRead> {
        self.live.last_good_policy(namespace, group, source)
    }

    async fn items(&self, namespace: &str, key: &ItemsKey, in_status: bool) -> SourceUpdate {
        self.live.items(namespace, key, in_status).await
    }

    async fn output(&self, _: &str, _: &str, _: &str) -> Result<String, ClusterError> {
        self.refuse()
    }

    async fn write_status(
        &self,
        _: &str,
        _: &str,
        _: &str,
        _: Value,
    ) -> Result<String, ClusterError> {
        self.refuse()
    }

    async fn create_pod(&self, _: &str, _: &Value) -> Result<Pod, ClusterError> {
        self.refuse()
    }

    async fn open_gate(&self, _: &str, _: &str, _: &str) -> Result<(), ClusterError> {
        self.refuse()
    }

    async fn delete_pod(
        &self,
        _: &str,
        _: &str,
        _: &str,
        _: Option<&str>,
    ) -> Result<(), ClusterError> {
        self.refuse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::tests::fake_cluster;
    use oaat_api::OaatGroupSpec;
    use serde_json::json;

    #[tokio::test]
    async fn reads_are_answered_from_the_lists_and_the_rest_is_refused() {
        let spec = json!({ "oaatType": "t" });
        let spec: OaatGroupSpec = serde_json::from_value(spec).unwrap();
        let group = OaatGroup::new("g", spec);
        let cluster = ListedCluster::new(fake_cluster(), group, vec![PodView::default()]);
        assert!(matches!(
            cluster.group("n", "g").await,
            Ok(GroupRead::Found(_))
        ));
        assert_eq!(
            cluster.pods("n", "g", true).await.map(|pods| pods.len()),
            Ok(1)
        );
        assert!(cluster.oaat_type("n", "t", Freshness::Cached).await.is_ok());
        assert!(!cluster.has_refused());
        assert!(cluster.pod("n", "p").await.is_err());
        assert!(cluster.has_refused());
    }
}
