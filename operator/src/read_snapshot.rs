//! Reads everything that one reconcile needs. Decides only which reads are necessary.

use crate::cluster::{Cluster, ClusterError, Freshness, GroupRead};
use crate::last_seen_pods::LastSeenPods;
use crate::mutation::broken;
use crate::pod::PodView;
use crate::run_now;
use crate::snapshot::SourceLists;
use crate::snapshot::{CurrentPod, GroupSnapshot, ItemType};
use oaat_api::reasons::states;
use oaat_api::validate::MAX_ITEM_TYPES;
use oaat_api::{CurrentRun, OaatGroupStatus, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// The inputs of a reconcile other than the cluster.
#[derive(Clone, Debug)]
pub struct ReconcileInputs {
    /// The current time.
    pub now: Timestamp,
    /// Whether this replica holds the lease. Always false without an election, because other
    /// replicas may act as well.
    pub leads: bool,
    /// The minimum time between two starts of an item.
    pub retry_floor: Duration,
}

/// The result of reading a group and its pods.
pub enum SnapshotRead {
    /// The snapshot of the group.
    Found(Box<GroupSnapshot>),
    /// The group does not exist.
    Gone,
    /// The group cannot be decoded.
    Undecodable {
        /// Why the group cannot be decoded.
        error: String,
        /// The generation of the group.
        generation: Option<i64>,
        /// The resource version, for a write of the status.
        resource_version: String,
    },
}

/// Returns whether pods of the original operator may matter. They have another label.
///
/// They matter to a group that has not run yet, and while a pod blocks a group. Some states hide
/// whether a pod blocks the group, because they are reported first.
fn may_have_legacy_pods(status: &OaatGroupStatus) -> bool {
    let state = status.state.as_deref().unwrap_or_default();
    let may_be_blocked = [
        states::BLOCKED,
        states::SUSPENDED,
        states::BLACKOUT,
        states::INVALID,
    ];
    status.run.is_none() || may_be_blocked.contains(&state)
}

/// Reads the group and **then** lists its pods. The order is part of the guarantee: if another
/// replica claims a pod after this read, the claim of this replica fails; if it claimed the pod
/// before, the pod is in the list. The response to this replica's latest status write also counts as
/// a read of the group.
///
/// # Errors
/// Returns the error of the first read that fails.
pub async fn read_snapshot<C: Cluster>(
    cluster: &C,
    last_seen_pods: &LastSeenPods,
    inputs: &ReconcileInputs,
    namespace: &str,
    name: &str,
) -> Result<SnapshotRead, ClusterError> {
    let early = if broken!(ListBeforeRead) {
        Some(cluster.pods(namespace, name, false).await?)
    } else {
        None
    };
    let group = match cluster.take_written_group(namespace, name) {
        Some(group) => group,
        None => match cluster.group(namespace, name).await? {
            GroupRead::Found(group) => *group,
            GroupRead::Gone => return Ok(SnapshotRead::Gone),
            GroupRead::Undecodable {
                error,
                generation,
                resource_version,
            } => {
                return Ok(SnapshotRead::Undecodable {
                    error,
                    generation,
                    resource_version,
                });
            }
        },
    };
    let none = OaatGroupStatus::default();
    let status = group.status.as_ref().unwrap_or(&none);
    let pods = list_pods(cluster, namespace, name, status, early).await?;
    let current = match &status.current {
        Some(current) => {
            find_current_pod(cluster, last_seen_pods, &pods, (namespace, name), current).await?
        }
        None => CurrentPod::None,
    };
    let last_seen = |current: &CurrentRun| last_seen_pods.get(namespace, name, &current.pod_uid);
    let last_seen = status.current.as_ref().and_then(last_seen);
    let deleted_while_running = last_seen.is_some_and(|seen| seen.deleted_while_running);
    let mut terminating = group.metadata.deletion_timestamp.is_some();
    // In a namespace that is being deleted, pods are deleted too, which is not a failure. The
    // namespace is read only if the pod could be taken for a failure, or if its gate is closed.
    let namespace_matters = match &current {
        CurrentPod::None => false,
        CurrentPod::Present(pod) => pod.deletion.is_some() || pod.gated,
        CurrentPod::Absent(_) => true,
    };
    if !terminating && namespace_matters && !broken!(NamespaceUnasked) {
        terminating = cluster.is_namespace_terminating(namespace).await?;
    }
    // The watch may not have delivered a change to a type that the user made before the request.
    let freshness = if run_now::is_processed(&group) {
        Freshness::Cached
    } else {
        Freshness::Live
    };
    let type_name = &group.spec.oaat_type;
    let type_ = cluster.oaat_type(namespace, type_name, freshness).await?;
    let mut item_types = BTreeMap::new();
    for name in group.spec.item_types().into_iter().take(MAX_ITEM_TYPES) {
        let read = cluster.oaat_type(namespace, name, freshness).await?;
        item_types.insert(name.to_owned(), ItemType::new(read));
    }
    Ok(SnapshotRead::Found(Box::new(GroupSnapshot {
        now: inputs.now,
        uid: group.metadata.uid.clone().unwrap_or_default(),
        items: group.spec.oaat_items.clone(),
        group,
        listing: SourceLists::default(),
        pods,
        current,
        deleted_while_running,
        terminating,
        type_,
        item_types,
        leads: inputs.leads,
        retry_floor: inputs.retry_floor,
    })))
}

/// Lists the pods of the group. Returns `early` instead if a mutation listed the pods before the group
/// was read.
async fn list_pods<C: Cluster>(
    cluster: &C,
    namespace: &str,
    name: &str,
    status: &OaatGroupStatus,
    early: Option<Vec<PodView>>,
) -> Result<Vec<PodView>, ClusterError> {
    let with_legacy = may_have_legacy_pods(status);
    let pods = match early {
        Some(early) => early,
        None if broken!(NoList) => Vec::new(),
        None => cluster.pods(namespace, name, with_legacy).await?,
    };
    let unlisted = |current: &CurrentRun| !pods.iter().any(|pod| pod.uid == current.pod_uid);
    let without_legacy = !with_legacy && !broken!(NoList);
    if without_legacy && status.current.as_ref().is_some_and(unlisted) {
        return cluster.pods(namespace, name, true).await;
    }
    Ok(pods)
}

/// Finds the pod of the current run of a group.
async fn find_current_pod<C: Cluster>(
    cluster: &C,
    last_seen_pods: &LastSeenPods,
    pods: &[PodView],
    (namespace, group): (&str, &str),
    current: &CurrentRun,
) -> Result<CurrentPod, ClusterError> {
    let found = match pods.iter().find(|pod| pod.uid == current.pod_uid) {
        Some(pod) => CurrentPod::Present(pod.clone()),
        // A pod may be missing from the list because its label was removed. Only a read of its name
        // proves that it is gone.
        None if broken!(AbsenceFromList) => CurrentPod::Absent(None),
        None => match cluster.pod(namespace, &current.pod_name).await? {
            Some(pod) if pod.metadata.uid.as_ref() == Some(&current.pod_uid) => {
                CurrentPod::Present((&pod).into())
            }
            _ => {
                let seen = last_seen_pods.get(namespace, group, &current.pod_uid);
                CurrentPod::Absent(seen.map(|seen| seen.last))
            }
        },
    };
    // The watch may be down and the node's clock may be wrong. Then only this read shows that the
    // pod was being deleted before it ended.
    if let CurrentPod::Present(pod) = &found
        && pod.deletion.is_some()
        && !pod.is_terminal()
    {
        last_seen_pods.record(namespace, group, pod.clone());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::tests::fake_cluster;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    /// Returns a pod in this phase that is being deleted.
    fn deleting(phase: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "p", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:30Z",
                "deletionGracePeriodSeconds": 30,
            },
            "spec": { "containers": [] },
            "status": { "phase": phase },
        }))
        .unwrap()
    }

    #[test]
    fn legacy_pods_are_listed_while_one_may_block_the_group() {
        let may_have = |run, state: &str| {
            may_have_legacy_pods(&OaatGroupStatus {
                run,
                state: Some(state.into()),
                ..OaatGroupStatus::default()
            })
        };
        assert!(may_have(None, "Running"));
        for state in ["Blocked", "Suspended", "Blackout", "Invalid"] {
            assert!(may_have(Some(1), state), "{state}");
        }
        for state in ["Running", "Idle", "Waiting", "Complete"] {
            assert!(!may_have(Some(1), state), "{state}");
        }
    }

    #[tokio::test]
    async fn deletion_that_only_a_read_saw_is_recorded() {
        let last_seen_pods = LastSeenPods::default();
        let inputs = ReconcileInputs {
            now: Timestamp(0),
            leads: true,
            retry_floor: Duration::ZERO,
        };
        let status = json!({ "run": 1, "current": {
            "run": 1, "item": "a", "podName": "p", "podUid": "u", "claimed": "2026-01-01T00:00:00Z",
        } });
        for (phase, deleted_while_running) in
            [("Succeeded", false), ("Running", true), ("Succeeded", true)]
        {
            let mut cluster = fake_cluster();
            cluster.status = serde_json::from_value(status.clone()).unwrap();
            cluster.pods = vec![deleting(phase)];
            match read_snapshot(&cluster, &last_seen_pods, &inputs, "n", "g").await {
                Ok(SnapshotRead::Found(snapshot)) => {
                    assert_eq!(snapshot.deleted_while_running, deleted_while_running)
                }
                _ => panic!("the group exists"),
            }
        }
    }
}
