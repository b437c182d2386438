//! Reads all sources of a group once.

use super::container::{Lister, UNWATCHED};
use super::http::{NO_IMAGE, pod_spec};
use super::merge::{definition, due, merge, read_interval};
use super::{SourceReading, describe};
use crate::cluster::Cluster;
use crate::pod::normalized_pod_spec;
use crate::snapshot::SourceUpdate;
use crate::snapshot::{CurrentPod, GroupSnapshot};
use oaat_api::validate::{ValidatedGroup, suspended, type_of};
use oaat_api::windows;
use oaat_api::{ItemSource, ItemsFrom, OaatGroup};
use serde_json::Value;
use std::time::Duration;

/// Reads the sources of a group, and merges their items into the snapshot.
///
/// A problem with a source is reported on the group and does not block anything else. `image` is
/// the operator's own image, which the pods that fetch lists from web servers run.
pub async fn read_item_sources<C: Cluster>(
    cluster: &C,
    snapshot: &mut GroupSnapshot,
    valid: Option<&ValidatedGroup>,
    image: Option<&str>,
) {
    let status = snapshot.group.status.as_ref();
    let known = status.map_or(&[][..], |status| &status.item_sources);
    if snapshot.group.spec.items_from.is_empty() && known.is_empty() {
        return;
    }
    let mut lister = lister(cluster, snapshot, valid);
    let mut readings: Vec<SourceReading> = Vec::new();
    for (index, source) in snapshot.group.spec.items_from.iter().enumerate() {
        let known = known.iter().find(|known| known.name == source.name);
        let mut reading = SourceReading {
            name: source.name.clone(),
            source: describe(source),
            definition: definition(source),
            ..SourceReading::default()
        };
        if has_pod(source) {
            reading.pod = known.and_then(|known| known.pod.clone());
        }
        // If the spec is invalid, no source is read and the last lists stay in effect.
        if let Some(rules) = valid.and_then(|valid| valid.sources.get(index)).copied() {
            let due = due(known, &reading.definition, rules, snapshot.now);
            if let Some(key) = &source.config_map {
                let in_status = known.is_some_and(|known| {
                    let definition_unchanged = known.definition == reading.definition;
                    definition_unchanged && known.time.is_some() && known.problem.is_none()
                });
                reading.update = cluster
                    .items(namespace_and_name(&snapshot.group).0, key, in_status)
                    .await;
            } else if let Some(spec) = lister_spec(source, image) {
                lister.may_read = !readings
                    .iter()
                    .any(|reading| reading.pod_uid.is_some() || failed(reading));
                reading.pod = Some(lister.pod_name(&source.name));
                if snapshot.now < due {
                    reading.requeue_at = Some(due);
                } else if run_needs_action(snapshot) {
                    let gated = matches!(&snapshot.current, CurrentPod::Present(pod) if pod.gated);
                    // A run that has ended is recorded in this reconcile, so the next one may read.
                    let wait = if gated { UNWATCHED } else { Duration::ZERO };
                    reading.requeue_at = Some(snapshot.now.plus(wait));
                } else {
                    lister.advance(&mut reading, &spec, rules, known).await;
                }
            } else {
                reading.update = SourceUpdate::Read(snapshot.now, Err(NO_IMAGE.into()));
            }
            if let SourceUpdate::Read(at, list) = &reading.update {
                let next = at.plus(read_interval(rules, list.is_err()));
                reading.requeue_at = Some(next.max(snapshot.now.plus(UNWATCHED)));
            }
        }
        readings.push(reading);
    }
    let listed = &snapshot.group.spec.oaat_items;
    let (items, mut listing) = merge(listed, known, &readings);
    for source in orphaned(known, &snapshot.group.spec.items_from) {
        // The status entry stays until the pod is gone, because it has the pod's name.
        if !run_needs_action(snapshot) && lister.removed(source).await {
            continue;
        }
        let retry_at = snapshot.now.plus(UNWATCHED);
        listing.requeue_at = Some(listing.requeue_at.map_or(retry_at, |at| at.min(retry_at)));
        listing.sources.push(ItemSource {
            items: Vec::new(),
            problem: None,
            ..source.clone()
        });
    }
    snapshot.items = items;
    snapshot.listing = listing;
}

/// Returns whether a pod prints the list of a source.
fn has_pod(source: &ItemsFrom) -> bool {
    source.container.is_some() || source.http.is_some()
}

/// Returns the spec of the pod that prints the list of a source. `None` if it needs the operator's
/// image, which is not set.
fn lister_spec(source: &ItemsFrom, image: Option<&str>) -> Option<Value> {
    match (&source.container, &source.http) {
        (Some(container), _) => Some(Value::Object(normalized_pod_spec(&type_of(container)))),
        (_, Some(http)) => image.map(|image| pod_spec(http, image)),
        _ => None,
    }
}

/// Returns the status entries that have a pod and whose source was removed from the spec, or no
/// longer needs a pod.
fn orphaned<'a>(
    known: &'a [ItemSource],
    spec: &'a [ItemsFrom],
) -> impl Iterator<Item = &'a ItemSource> {
    known.iter().filter(|known| {
        let needs_pod = |source: &ItemsFrom| source.name == known.name && has_pod(source);
        known.pod.is_some() && !spec.iter().any(needs_pod)
    })
}

fn namespace_and_name(group: &OaatGroup) -> (&str, &str) {
    let meta = &group.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    (namespace, meta.name.as_deref().unwrap_or_default())
}

fn lister<'a, C: Cluster>(
    cluster: &'a C,
    snapshot: &'a GroupSnapshot,
    valid: Option<&ValidatedGroup>,
) -> Lister<'a, C> {
    let (namespace, group) = namespace_and_name(&snapshot.group);
    let blackout = valid.and_then(|valid| windows::blackout(&valid.windows, snapshot.now));
    Lister {
        cluster,
        namespace,
        group,
        uid: &snapshot.uid,
        now: snapshot.now,
        hold: match (suspended(&snapshot.group), blackout) {
            (Some(_), _) => Some("the group is suspended".into()),
            (None, Some(blackout)) => Some(blackout.to_string()),
            (None, None) => None,
        },
        may_read: true,
    }
}

/// Returns whether reading the source failed.
fn failed(reading: &SourceReading) -> bool {
    matches!(reading.update, SourceUpdate::Read(_, Err(_)))
}

/// Returns whether the current run needs an action that must not wait for a list.
fn run_needs_action(snapshot: &GroupSnapshot) -> bool {
    match &snapshot.current {
        CurrentPod::None => false,
        CurrentPod::Present(pod) => pod.is_terminal() || (pod.gated && pod.deletion.is_none()),
        CurrentPod::Absent(_) => true,
    }
}
