//! One look at all sources of a group.

use super::http::{NO_IMAGE, pod_spec};
use super::lister::{Lister, UNWATCHED};
use super::merge::{definition, due, merge, retry};
use super::{Look, News, words};
use crate::cluster::Cluster;
use crate::decide::{CurrentPod, Observed};
use crate::pod::plain;
use oaat_api::validate::{ValidatedGroup, suspended, type_of};
use oaat_api::windows;
use oaat_api::{ItemSource, ItemsFrom, OaatGroup};
use serde_json::Value;
use std::time::Duration;

/// Looks at the sources of a group, if it has any, and puts their items in force: after this the
/// group as seen lists them like those of its spec.
///
/// A problem with a source is reported on the group and does not block anything else. `image` is
/// the operator's own image, which the pods that fetch lists from web servers run.
pub async fn look<C: Cluster>(
    cluster: &C,
    seen: &mut Observed,
    valid: Option<&ValidatedGroup>,
    image: Option<&str>,
) {
    let status = seen.group.status.as_ref();
    let known = status.map_or(&[][..], |status| &status.item_sources);
    if seen.group.spec.items_from.is_empty() && known.is_empty() {
        return;
    }
    let mut lister = lister(cluster, seen, valid);
    let mut looks: Vec<Look> = Vec::new();
    for (index, source) in seen.group.spec.items_from.iter().enumerate() {
        let known = known.iter().find(|known| known.name == source.name);
        let mut look = Look {
            name: source.name.clone(),
            source: words(source),
            definition: definition(source),
            ..Look::default()
        };
        if has_pod(source) {
            look.pod = known.and_then(|known| known.pod.clone());
        }
        // Of a spec that is wrong nothing new is read; what is in force stays so.
        if let Some(rules) = valid.and_then(|valid| valid.sources.get(index)).copied() {
            let due = due(known, &look.definition, rules, seen.now);
            if let Some(key) = &source.config_map {
                let in_status = known.is_some_and(|known| {
                    let definition_unchanged = known.definition == look.definition;
                    definition_unchanged && known.time.is_some() && known.problem.is_none()
                });
                look.news = cluster.items(place(&seen.group).0, key, in_status).await;
            } else if let Some(spec) = lister_spec(source, image) {
                lister.may_read = !looks
                    .iter()
                    .any(|look| look.pod_uid.is_some() || failed(look));
                look.pod = Some(lister.pod_name(&source.name));
                if seen.now < due {
                    look.again = Some(due);
                } else if pressing(seen) {
                    let shut = matches!(&seen.current, CurrentPod::Present(pod) if pod.gated);
                    // What has ended is recorded in this very cycle.
                    let wait = if shut { UNWATCHED } else { Duration::ZERO };
                    look.again = Some(seen.now.plus(wait));
                } else {
                    lister.look(&mut look, &spec, rules, known).await;
                }
            } else {
                look.news = News::Read(seen.now, Err(NO_IMAGE.into()));
            }
            if let News::Read(at, list) = &look.news {
                let next = at.plus(retry(rules, list.is_err()));
                look.again = Some(next.max(seen.now.plus(UNWATCHED)));
            }
        }
        looks.push(look);
    }
    let listed = &seen.group.spec.oaat_items;
    let (items, mut listing) = merge(listed, known, &looks);
    for source in left(known, &seen.group.spec.items_from) {
        // Its pod goes before what is known of it does.
        if !pressing(seen) && lister.removed(source).await {
            continue;
        }
        let again = seen.now.plus(UNWATCHED);
        listing.again = Some(listing.again.map_or(again, |other| other.min(again)));
        listing.sources.push(ItemSource {
            items: Vec::new(),
            problem: None,
            ..source.clone()
        });
    }
    seen.group.spec.oaat_items = items;
    seen.listing = listing;
}

/// Whether a pod prints the list of a source.
fn has_pod(source: &ItemsFrom) -> bool {
    source.container.is_some() || source.http.is_some()
}

/// Returns the spec of the pod that prints the list of a source. `None` if it needs the operator's
/// image, which is not set.
fn lister_spec(source: &ItemsFrom, image: Option<&str>) -> Option<Value> {
    match (&source.container, &source.http) {
        (Some(container), _) => Some(Value::Object(plain(&type_of(container)))),
        (_, Some(http)) => image.map(|image| pod_spec(http, image)),
        _ => None,
    }
}

/// What has a pod by the status, and none by the spec.
fn left<'a>(
    known: &'a [ItemSource],
    spec: &'a [ItemsFrom],
) -> impl Iterator<Item = &'a ItemSource> {
    known.iter().filter(|known| {
        let there = |source: &ItemsFrom| source.name == known.name && has_pod(source);
        known.pod.is_some() && !spec.iter().any(there)
    })
}

fn place(group: &OaatGroup) -> (&str, &str) {
    let meta = &group.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    (namespace, meta.name.as_deref().unwrap_or_default())
}

fn lister<'a, C: Cluster>(
    cluster: &'a C,
    seen: &'a Observed,
    valid: Option<&ValidatedGroup>,
) -> Lister<'a, C> {
    let (namespace, group) = place(&seen.group);
    let blackout = valid.and_then(|valid| windows::blackout(&valid.windows, seen.now));
    Lister {
        cluster,
        namespace,
        group,
        uid: &seen.uid,
        now: seen.now,
        held: match (suspended(&seen.group), blackout) {
            (Some(_), _) => Some("the group is suspended".into()),
            (None, Some(blackout)) => Some(blackout.to_string()),
            (None, None) => None,
        },
        may_read: true,
    }
}

/// A pod was read, or could not be.
fn failed(look: &Look) -> bool {
    matches!(look.news, News::Read(_, Err(_)))
}

/// Whether something is to be done about a run that shall not wait for a list.
fn pressing(seen: &Observed) -> bool {
    match &seen.current {
        CurrentPod::None => false,
        CurrentPod::Present(pod) => pod.terminal() || (pod.gated && pod.deletion.is_none()),
        CurrentPod::Absent(_) => true,
    }
}
