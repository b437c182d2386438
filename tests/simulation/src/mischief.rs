//! What goes wrong beside the network: processes, clocks, and people.

use crate::chance::Fault;
use crate::event::Event;
use crate::history::History;
use crate::world::{Change, World, uid};
use k8s_openapi::api::core::v1::Pod;
use oaat_operator::cluster::TypeRead;
use oaat_operator::pod::{PodView, names};
use oaat_operator::run_now;
use serde_json::{Value, json};

/// One thing goes wrong.
pub fn happens(history: &mut History<'_>, mut fault: Fault) {
    let replica = fault.within(0..history.replicas.len() as u64) as usize;
    let number = fault.number;
    let kind = history.faults.of_mischief(&mut fault);
    history.tell(|| format!("fault {number}: mischief {kind}"));
    // Who takes a running pod's label away and then makes the group forget the pod hides it
    // for good: that is told in docs/guarantees.md, and left out here.
    let hidden = history
        .world
        .pods
        .values()
        .any(|pod| pod.metadata.labels.is_none() && !PodView::from(pod).terminal());
    match kind {
        12 | 13 | 18 if hidden => {}
        0..=3 => {
            let down = fault.within(0..20_000);
            if history.replicas[replica].alive {
                history.crash(replica, down);
            }
        }
        4 => history.pause(replica, fault),
        5 => {
            // Minutes, as a machine without time synchronisation has them.
            let clock = fault.within(0..1_200_000) as i64 - 600_000;
            history.replicas[replica].clock = clock;
        }
        6 => history.world.node_clock = fault.within(0..1_200_000) as i64 - 600_000,
        7 | 8 => {
            let life = history.replicas[replica].life;
            history.replicas[replica].deaf = true;
            let down = fault.within(0..30_000);
            history.at(down, Event::Relist(replica, life));
        }
        9..=11 => {
            if let Some(pod) = any_pod(&history.world, &mut fault) {
                history.tell(|| format!("somebody deletes {pod}"));
                history.world.delete(&pod);
            }
        }
        12 => wipe(&mut history.world, &mut fault),
        13 => delete_group(history, &mut fault),
        14 => foreigner(history, &mut fault),
        15 => {
            history.replicas[replica].wire.mailbox().type_ = Some(TypeRead::Missing);
            let down = fault.within(0..10_000);
            history.at(down, Event::Type(replica));
        }
        16 => respecify(history, &mut fault),
        17 => relabel(&mut history.world),
        18 => delete_namespace(history),
        20 => {
            if let Some(group) = &mut history.world.group {
                group.object.spec.suspend = true;
                let lasts = fault.within(0..20_000);
                history.at(lasts, Event::Resumed);
            }
            history.world.touch_group(Some(Change::Group));
        }
        21 => {
            if let Some(group) = &mut history.world.group {
                let items = &group.object.spec.oaat_items;
                let nth = fault.within(0..items.len() as u64) as usize;
                let options = serde_json::from_value(json!({ "suspend": true }));
                let options = options.map(|options| (items[nth].clone(), options));
                group.object.spec.item_options.extend(options);
                let lasts = fault.within(0..20_000);
                history.at(lasts, Event::Resumed);
            }
            history.world.touch_group(Some(Change::Group));
        }
        22 => ask(&mut history.world, &mut fault),
        23 => {
            if let Some(group) = &mut history.world.group {
                let running = ["Continue", "Stop"][fault.within(0..2) as usize];
                // Open whatever a replica's clock says, until it is taken away.
                let window =
                    json!({ "schedule": "* * * * *", "duration": "1m", "running": running });
                group
                    .object
                    .spec
                    .blackout_windows
                    .extend(serde_json::from_value(window));
                let lasts = fault.within(0..20_000);
                history.at(lasts, Event::Resumed);
            }
            history.world.touch_group(Some(Change::Group));
        }
        24 => {
            let names = ["a", "x", "y", "z"];
            let listed = names.iter().filter(|_| fault.within(0..2) == 0);
            history.world.listed = listed.map(|name| (*name).to_owned()).collect();
        }
        // All at a time, as when the machine goes that they are on.
        _ => {
            let down = fault.within(0..20_000);
            for replica in 0..history.replicas.len() {
                if history.replicas[replica].alive {
                    history.crash(replica, down);
                }
            }
        }
    }
}

fn any_pod(world: &World, fault: &mut Fault) -> Option<String> {
    let count = world.pods.len() as u64;
    let nth = fault.within(0..count.max(1)) as usize;
    world.pods.values().nth(nth).map(|pod| uid(pod).to_owned())
}

/// Somebody edits the status by hand.
fn wipe(world: &mut World, fault: &mut Fault) {
    let Some(group) = &mut world.group else {
        return;
    };
    let uid = group.object.metadata.uid.clone().unwrap_or_default();
    match fault.within(0..3) {
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
    world.oracle.wiped(&uid, &world.truth);
    world.touch_group(None);
}

fn delete_group(history: &mut History<'_>, fault: &mut Fault) {
    let world = &mut history.world;
    let Some(group) = &mut world.group else {
        return;
    };
    match fault.within(0..3) {
        // In the background: the pods go later.
        0 => world.remove_group(),
        // Without its pods.
        1 => {
            let pods: Vec<String> = world.pods.values().map(|pod| uid(pod).into()).collect();
            for pod in pods {
                world.change_pod(&pod, |pod| pod.metadata.owner_references = None);
            }
            world.remove_group();
        }
        // After its pods.
        _ => {
            group.object.metadata.deletion_timestamp = Some(crate::world::time(world.now));
            world.touch_group(Some(Change::Group));
        }
    }
    let down = fault.within(0..3_000);
    history.at(down, Event::Recreate);
}

/// A pod with the group's label that no operator made.
fn foreigner(history: &mut History<'_>, fault: &mut Fault) {
    if history.world.namespace_ends.is_some() {
        return;
    }
    let name = format!("foreign-{}", fault.number);
    let pod = json!({
        "metadata": { "name": name, "labels": { names::GROUP: crate::world::GROUP } },
        "spec": { "containers": [] },
    });
    if let Ok(pod) = serde_json::from_value::<Pod>(pod) {
        history.world.put_pod(pod, true);
    }
}

fn respecify(history: &mut History<'_>, fault: &mut Fault) {
    let Some(group) = &mut history.world.group else {
        return;
    };
    let spec = &mut group.object.spec;
    match fault.within(0..3) {
        0 => spec.oaat_items = vec!["b".into(), "e".into()],
        1 => spec.frequency = Some("7s".into()),
        _ => spec.pod_history_limit = Some(0),
    }
    history.world.touch_group(Some(Change::Group));
}

/// Somebody asks for items to be run now.
fn ask(world: &mut World, fault: &mut Fault) {
    let Some(group) = &mut world.group else {
        return;
    };
    let items = &group.object.spec.oaat_items;
    let nth = fault.within(0..items.len() as u64) as usize;
    let items = match fault.within(0..3) {
        0 => json!("*"),
        _ => json!([items[nth], "nobody"]),
    };
    let request = json!({ "token": fault.number.to_string(), "items": items });
    let annotations = group.object.metadata.annotations.get_or_insert_default();
    annotations.insert(run_now::ANNOTATION.into(), request.to_string());
    world.touch_group(Some(Change::Group));
}

/// What was suspended or blacked out goes on.
pub fn resume(world: &mut World) {
    if let Some(group) = &mut world.group {
        group.object.spec.suspend = false;
        group.object.spec.item_options.clear();
        group.object.spec.blackout_windows.clear();
        world.touch_group(Some(Change::Group));
    }
}

/// Somebody takes the label of the pod of the run in progress away.
fn relabel(world: &mut World) {
    if let Some(pod) = world.current().map(ToOwned::to_owned) {
        world.change_pod(&pod, |pod| pod.metadata.labels = None);
    }
}

/// Somebody deletes the namespace. What is in it goes after a while, in no special order, and
/// then the namespace itself.
fn delete_namespace(history: &mut History<'_>) {
    history.tell(|| "the namespace is deleted".into());
    let now = history.world.now;
    history.world.namespace_ends.get_or_insert(now);
}

/// The garbage collector: pods go after their group, and a group that waits for its pods
/// after them. And the namespace controller.
pub fn collect(history: &mut History<'_>) {
    let world = &mut history.world;
    let (group, ends) = match &world.group {
        Some(group) => (
            world.group_uid(),
            group.object.metadata.deletion_timestamp.is_some(),
        ),
        None => (None, false),
    };
    let namespace_ends = world.namespace_ends.is_some();
    let mut left = false;
    let mut going = Vec::new();
    for pod in world.pods.values() {
        let owner = pod.metadata.owner_references.iter().flatten().next();
        let owner = owner.map(|owner| &owner.uid);
        let its = owner.is_some() && owner == group.as_ref();
        left |= its;
        if namespace_ends || owner.is_some() && (!its || ends) {
            going.push(uid(pod).to_owned());
        }
    }
    for pod in going {
        match namespace_ends {
            true => world.delete_with_namespace(&pod),
            false => world.delete(&pod),
        }
    }
    if ends && !left {
        world.remove_group();
    }
    if let Some(since) = world.namespace_ends {
        // Custom objects go after pods as often as before them.
        let late = since.is_multiple_of(2) && !world.pods.is_empty();
        if world.group.is_some() && world.now > since + 2_000 && !late {
            world.remove_group();
        }
        if world.pods.is_empty() && world.group.is_none() {
            world.namespace_ends = None;
            history.at(1_000, Event::Recreate);
        }
    }
}

/// A person reads what the group says is in its way, and deletes it.
pub fn tidy(world: &mut World) {
    let group = world.group_uid();
    let views: Vec<_> = world.pods.values().map(PodView::from).collect();
    for pod in views {
        if pod.owner != group && !pod.terminal() {
            world.delete(&pod.uid);
        }
    }
}
