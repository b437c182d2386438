//! The garbage collector and the namespace controller.

use crate::event::Event;
use crate::history::History;
use crate::simulated_cluster::uid;

/// Runs the garbage collector and the namespace controller once. Pods are deleted after their
/// group, except that a group in foreground deletion is deleted after its pods.
pub fn run(history: &mut History<'_>) {
    let cluster = &mut history.cluster;
    let (group, terminating) = match &cluster.group {
        Some(group) => (
            cluster.group_uid(),
            group.object.metadata.deletion_timestamp.is_some(),
        ),
        None => (None, false),
    };
    let namespace_ends = cluster.namespace_ends.is_some();
    let mut has_pods = false;
    let mut to_delete = Vec::new();
    for pod in cluster.pods.values() {
        let owner = pod.metadata.owner_references.iter().flatten().next();
        let owner = owner.map(|owner| &owner.uid);
        let owned = owner.is_some() && owner == group.as_ref();
        has_pods |= owned;
        if namespace_ends || owner.is_some() && (!owned || terminating) {
            to_delete.push(uid(pod).to_owned());
        }
    }
    for pod in to_delete {
        if namespace_ends {
            cluster.delete_with_namespace(&pod);
        } else {
            cluster.delete(&pod);
        }
    }
    if terminating && !has_pods {
        cluster.remove_group();
    }
    if let Some(since) = cluster.namespace_ends {
        // Custom resources are deleted before the pods in one half of the histories, and after
        // them in the other.
        let late = since.is_multiple_of(2) && !cluster.pods.is_empty();
        if cluster.group.is_some() && cluster.now > since + 2_000 && !late {
            cluster.remove_group();
        }
        if cluster.pods.is_empty() && cluster.group.is_none() {
            cluster.namespace_ends = None;
            history.schedule(1_000, Event::Recreate);
        }
    }
}
