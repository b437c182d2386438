//! Reads everything that one cycle needs. No decisions but which reads are needed.

use crate::cluster::{Cluster, ClusterError, GroupRead};
use crate::item_sources::SourceLists;
use crate::last_seen_pods::LastSeenPods;
use crate::mutation::broken;
use crate::plan::{CurrentPod, GroupSnapshot};
use oaat_api::{Current, OaatGroupStatus, Timestamp};
use std::time::Duration;

/// What a cycle needs to know beside the cluster.
#[derive(Clone, Debug)]
pub struct ReconcileInputs {
    /// The time.
    pub now: Timestamp,
    /// Whether this replica holds a lease. Without an election none does: others may act as well.
    pub leads: bool,
    /// The least time between two starts of an item.
    pub retry_floor: Duration,
}

/// A group that is there, and what it could not be read as.
pub enum SnapshotRead {
    /// All there is to know.
    Found(Box<GroupSnapshot>),
    /// The group is gone.
    Gone,
    /// The group cannot be decoded.
    Undecodable {
        /// Why not.
        error: String,
        /// Its generation.
        generation: Option<i64>,
        /// For a write of its status.
        resource_version: String,
    },
}

/// Whether pods that the first implementation of these groups left behind may matter: they carry
/// another label. They do to a group that has not run yet, and for as long as something blocks it,
/// also where the state tells of something else that keeps it from starting.
fn historic(status: &OaatGroupStatus) -> bool {
    let state = status.state.as_deref().unwrap_or_default();
    status.run.is_none() || ["Blocked", "Suspended", "Blackout", "Invalid"].contains(&state)
}

/// Reads the group and **then** lists its pods. The order is part of the guarantee: a
/// pod that another replica claimed after our read makes our own claim fail, and one
/// that it claimed before is in the list.
pub async fn read_snapshot<C: Cluster>(
    cluster: &C,
    last_seen_pods: &LastSeenPods,
    inputs: &ReconcileInputs,
    namespace: &str,
    name: &str,
) -> Result<SnapshotRead, ClusterError> {
    let early = match broken!(ListBeforeRead) {
        true => Some(cluster.pods(namespace, name, false).await?),
        false => None,
    };
    let group = match cluster.group(namespace, name).await? {
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
    };
    let none = OaatGroupStatus::default();
    let status = group.status.as_ref().unwrap_or(&none);
    let historic = historic(status);
    let mut pods = match early {
        Some(early) => early,
        None if broken!(NoList) => Vec::new(),
        None => cluster.pods(namespace, name, historic).await?,
    };
    let unlisted = |current: &Current| !pods.iter().any(|pod| pod.uid == current.pod_uid);
    let listed = !historic && !broken!(NoList);
    if listed && status.current.as_ref().is_some_and(unlisted) {
        pods = cluster.pods(namespace, name, true).await?;
    }

    let sighting = |current: &Current| last_seen_pods.last(namespace, name, &current.pod_uid);
    let current = match &status.current {
        None => CurrentPod::None,
        Some(current) => match pods.iter().find(|pod| pod.uid == current.pod_uid) {
            Some(pod) => CurrentPod::Present(pod.clone()),
            // That a list does not show it proves nothing (its label may have been
            // taken away): only a read of its name does.
            None if broken!(AbsenceFromList) => CurrentPod::Absent(None),
            None => match cluster.pod(namespace, &current.pod_name).await? {
                Some(pod) if pod.metadata.uid.as_ref() == Some(&current.pod_uid) => {
                    CurrentPod::Present((&pod).into())
                }
                _ => CurrentPod::Absent(sighting(current).map(|seen| seen.last)),
            },
        },
    };
    // The watch may be down, and the node's clock wrong: this look may be all there is to tell that
    // it was to go before it ended.
    if let CurrentPod::Present(pod) = &current
        && pod.deletion.is_some()
        && !pod.terminal()
    {
        last_seen_pods.record(namespace, name, pod.clone());
    }
    let deleted_while_running = status.current.as_ref().and_then(sighting);
    let mut terminating = group.metadata.deletion_timestamp.is_some();
    // In a namespace that ends pods are deleted, and that is nobody's failure. Asked
    // for only where it could be taken for one, or where a gate was left shut.
    let suspicious = match &current {
        CurrentPod::None => false,
        CurrentPod::Present(pod) => pod.deletion.is_some() || pod.gated,
        CurrentPod::Absent(_) => true,
    };
    if !terminating && suspicious && !broken!(NamespaceUnasked) {
        terminating = cluster.namespace_ends(namespace).await?;
    }
    let type_ = cluster.oaat_type(namespace, &group.spec.oaat_type).await?;
    Ok(SnapshotRead::Found(Box::new(GroupSnapshot {
        now: inputs.now,
        uid: group.metadata.uid.clone().unwrap_or_default(),
        items: group.spec.oaat_items.clone(),
        group,
        listing: SourceLists::default(),
        pods,
        current,
        deleted_while_running: deleted_while_running.is_some_and(|seen| seen.deleted_while_running),
        terminating,
        type_,
        leads: inputs.leads,
        retry_floor: inputs.retry_floor,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::tests::script;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    /// A pod that is being deleted, and how it stands.
    fn going(phase: &str) -> Pod {
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
    fn pods_of_the_first_implementation_are_looked_for_as_long_as_one_may_block() {
        let of = |run, state: &str| {
            historic(&OaatGroupStatus {
                run,
                state: Some(state.into()),
                ..OaatGroupStatus::default()
            })
        };
        assert!(of(None, "Running"));
        for state in ["Blocked", "Suspended", "Blackout", "Invalid"] {
            assert!(of(Some(1), state), "{state}");
        }
        for state in ["Running", "Idle", "Waiting", "Complete"] {
            assert!(!of(Some(1), state), "{state}");
        }
    }

    #[tokio::test]
    async fn a_deletion_that_only_a_look_saw_is_remembered() {
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
            let mut cluster = script();
            cluster.there = (
                serde_json::from_value(status.clone()).unwrap(),
                vec![going(phase)],
            );
            match read_snapshot(&cluster, &last_seen_pods, &inputs, "n", "g").await {
                Ok(SnapshotRead::Found(seen)) => {
                    assert_eq!(seen.deleted_while_running, deleted_while_running)
                }
                _ => panic!("the group is there"),
            }
        }
    }
}
