//! What users do to the group, its pods, and its namespace.

use crate::event::Event;
use crate::history::History;
use crate::randomness::Fault;
use crate::simulated_cluster::{Change, SimulatedCluster, uid};
use k8s_openapi::api::core::v1::Pod;
use oaat_operator::pod::{PodView, names};
use oaat_operator::run_now;
use serde_json::{Value, json};

fn draw_pod(cluster: &SimulatedCluster, fault: &mut Fault) -> Option<String> {
    let count = cluster.pods.len() as u64;
    let nth = fault.draw(0..count.max(1)) as usize;
    cluster
        .pods
        .values()
        .nth(nth)
        .map(|pod| uid(pod).to_owned())
}

/// Deletes a pod.
pub fn delete_pod(history: &mut History<'_>, fault: &mut Fault) {
    if let Some(pod) = draw_pod(&history.cluster, fault) {
        history.trace(|| format!("a user deletes {pod}"));
        history.cluster.delete(&pod);
    }
}

/// Suspends the group for up to 20 seconds.
pub fn suspend_group(history: &mut History<'_>, fault: &mut Fault) {
    if let Some(group) = &mut history.cluster.group {
        group.object.spec.suspend = true;
        let lasts = fault.draw(0..20_000);
        history.schedule(lasts, Event::LiftRestrictions);
    }
    history.cluster.touch_group(Some(Change::Group));
}

/// Suspends an item for up to 20 seconds.
pub fn suspend_item(history: &mut History<'_>, fault: &mut Fault) {
    if let Some(group) = &mut history.cluster.group {
        let items = &group.object.spec.oaat_items;
        let nth = fault.draw(0..items.len() as u64) as usize;
        let options = serde_json::from_value(json!({ "suspend": true }));
        let options = options.map(|options| (items[nth].clone(), options));
        group.object.spec.item_options.extend(options);
        let lasts = fault.draw(0..20_000);
        history.schedule(lasts, Event::LiftRestrictions);
    }
    history.cluster.touch_group(Some(Change::Group));
}

/// Adds a blackout window that is open, whatever the replica's clock, and removes it after up to
/// 20 seconds.
pub fn open_blackout_window(history: &mut History<'_>, fault: &mut Fault) {
    if let Some(group) = &mut history.cluster.group {
        let running = ["Continue", "Stop"][fault.draw(0..2) as usize];
        let window = json!({ "schedule": "* * * * *", "duration": "1m", "running": running });
        group
            .object
            .spec
            .blackout_windows
            .extend(serde_json::from_value(window));
        let lasts = fault.draw(0..20_000);
        history.schedule(lasts, Event::LiftRestrictions);
    }
    history.cluster.touch_group(Some(Change::Group));
}

/// Changes the list that pods print.
pub fn change_item_list(cluster: &mut SimulatedCluster, fault: &mut Fault) {
    let names = ["a", "x", "y", "z"];
    let listed = names.iter().filter(|_| fault.draw(0..2) == 0);
    cluster.listed = listed.map(|name| (*name).to_owned()).collect();
}

/// Edits the status by hand: clears it, removes `current`, or sets the failure counts.
pub fn edit_status(cluster: &mut SimulatedCluster, fault: &mut Fault) {
    let Some(group) = &mut cluster.group else {
        return;
    };
    let uid = group.object.metadata.uid.clone().unwrap_or_default();
    match fault.draw(0..3) {
        0 => group.status = json!({}),
        1 => {
            if let Some(status) = group.status.as_object_mut() {
                status.remove("current");
            }
        }
        _ => {
            let items = group.status.get_mut("items");
            if let Some(items) = items.and_then(Value::as_object_mut) {
                items
                    .values_mut()
                    .for_each(|item| item["failures"] = json!(7));
            }
        }
    }
    cluster.oracle.status_edited(&uid, &cluster.truth);
    cluster.touch_group(None);
}

/// Deletes the group in the background, without its pods, or after its pods. It is created again
/// later.
pub fn delete_group(history: &mut History<'_>, fault: &mut Fault) {
    let cluster = &mut history.cluster;
    let Some(group) = &mut cluster.group else {
        return;
    };
    match fault.draw(0..3) {
        // In the background: the garbage collector deletes the pods later.
        0 => cluster.remove_group(),
        // Orphan the pods.
        1 => {
            let pods: Vec<String> = cluster.pods.values().map(|pod| uid(pod).into()).collect();
            for pod in pods {
                cluster.change_pod(&pod, |pod| pod.metadata.owner_references = None);
            }
            cluster.remove_group();
        }
        // In the foreground: after the pods.
        _ => {
            group.object.metadata.deletion_timestamp =
                Some(crate::simulated_cluster::time(cluster.now));
            cluster.touch_group(Some(Change::Group));
        }
    }
    let wait = fault.draw(0..3_000);
    history.schedule(wait, Event::Recreate);
}

/// Creates a pod with the group's label that does not belong to the operator.
pub fn create_foreign_pod(history: &mut History<'_>, fault: &mut Fault) {
    if history.cluster.namespace_ends.is_some() {
        return;
    }
    let name = format!("foreign-{}", fault.number);
    let pod = json!({
        "metadata": { "name": name, "labels": { names::GROUP: crate::simulated_cluster::GROUP } },
        "spec": { "containers": [] },
    });
    if let Ok(pod) = serde_json::from_value::<Pod>(pod) {
        history.cluster.put_pod(pod, true);
    }
}

/// Edits the items, the frequency, or the retention.
pub fn edit_spec(history: &mut History<'_>, fault: &mut Fault) {
    let Some(group) = &mut history.cluster.group else {
        return;
    };
    let spec = &mut group.object.spec;
    match fault.draw(0..3) {
        0 => spec.oaat_items = vec!["b".into(), "e".into()],
        1 => spec.frequency = Some("7s".into()),
        _ => spec.pod_history_limit = Some(0),
    }
    history.cluster.touch_group(Some(Change::Group));
}

/// Requests items to run now; one of them may be unknown.
pub fn request_run_now(cluster: &mut SimulatedCluster, fault: &mut Fault) {
    let Some(group) = &mut cluster.group else {
        return;
    };
    let items = &group.object.spec.oaat_items;
    let nth = fault.draw(0..items.len() as u64) as usize;
    let items = match fault.draw(0..3) {
        0 => json!("*"),
        _ => json!([items[nth], "nobody"]),
    };
    let request = json!({ "token": fault.number.to_string(), "items": items });
    let annotations = group.object.metadata.annotations.get_or_insert_default();
    annotations.insert(run_now::ANNOTATION.into(), request.to_string());
    cluster.touch_group(Some(Change::Group));
}

/// Removes everything that suspends the group or its items, all blackout windows, and the maximum
/// number of failures.
pub fn lift_restrictions(cluster: &mut SimulatedCluster) {
    if let Some(group) = &mut cluster.group {
        group.object.spec.suspend = false;
        group.object.spec.item_options.clear();
        group.object.spec.blackout_windows.clear();
        group.object.spec.max_failures = None;
        cluster.touch_group(Some(Change::Group));
    }
}

/// Removes the labels of the current pod.
pub fn remove_pod_label(cluster: &mut SimulatedCluster) {
    if let Some(pod) = cluster.current().map(ToOwned::to_owned) {
        cluster.change_pod(&pod, |pod| pod.metadata.labels = None);
    }
}

/// Deletes the namespace. Its objects are deleted after a while, in any order, and then the
/// namespace itself.
pub fn delete_namespace(history: &mut History<'_>) {
    history.trace(|| "the namespace is deleted".into());
    let now = history.cluster.now;
    history.cluster.namespace_ends.get_or_insert(now);
}

/// Deletes the pods of others that block the group.
pub fn delete_blocking_pods(cluster: &mut SimulatedCluster) {
    let group = cluster.group_uid();
    let views: Vec<_> = cluster.pods.values().map(PodView::from).collect();
    for pod in views {
        if pod.owner != group && !pod.is_terminal() {
            cluster.delete(&pod.uid);
        }
    }
}
