//! Plans the existing groups after a start, from the initial lists of the watches.

use crate::cluster::ClusterError;
use crate::controller_context::{Context, requeue_delay};
use crate::group_ref::{GroupRef, WatchedGroup};
use crate::kube_cluster::KubeCluster;
use crate::listed_cluster::ListedCluster;
use crate::metrics::ReconcileResultMetric;
use crate::pod::PodView;
use crate::triggers::ListedPods;
use crate::work_queue::Requeue;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use oaat_api::OaatGroup;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

/// The maximum time to wait for the initial list of pods.
const INITIAL_LIST_TIMEOUT: Duration = Duration::from_secs(15);
/// The maximum time for planning all groups from the initial lists.
const PLAN_TIMEOUT: Duration = Duration::from_secs(45);

/// Queues all existing groups. If the initial lists show that a group has nothing to do, delays it
/// until something is due.
pub(crate) async fn queue_listed_groups(
    context: Arc<Context>,
    scope: Option<String>,
    delayed: mpsc::UnboundedSender<(GroupRef, Duration)>,
) {
    let Some(pods) = context
        .triggers
        .take_listed_pods(INITIAL_LIST_TIMEOUT)
        .await
    else {
        context.triggers.trigger_all();
        return;
    };
    // The listed types trigger the groups that are known to use them, so they must come first.
    let types = context.cluster.wait_for_types();
    let _ = tokio::time::timeout(INITIAL_LIST_TIMEOUT, types).await;
    let plan = plan_listed_groups(&context, scope.as_deref(), pods, &delayed);
    match tokio::time::timeout(PLAN_TIMEOUT, plan).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => warn!(%error, "failed to list the groups; reconciling each of them"),
        Err(_) => {
            info!("planning from the initial lists did not finish in time; reconciling each group")
        }
    }
    context.triggers.trigger_all();
}

async fn plan_listed_groups(
    context: &Arc<Context>,
    scope: Option<&str>,
    mut pods: ListedPods,
    delayed: &mpsc::UnboundedSender<(GroupRef, Duration)>,
) -> Result<(), ClusterError> {
    let reader = context.cluster.reader().for_reconcile();
    let cluster = context.cluster.with_reader(reader.clone());
    let plan_page = |page: Result<Vec<OaatGroup>, Vec<WatchedGroup>>| {
        let mut plans = Vec::new();
        match page {
            Ok(groups) => {
                for group in groups {
                    let name = group.name_any();
                    let namespace = group.namespace().unwrap_or_default();
                    let key = ObjectRef::new(&name).within(&namespace);
                    let pods = pods.take(&namespace, &name);
                    match pods.filter(|_| may_have_nothing_to_do(context, &key, &group)) {
                        Some(pods) => plans.push((key, group, pods)),
                        None => context.triggers.trigger(key),
                    }
                }
            }
            Err(groups) => {
                for group in &groups {
                    context.triggers.trigger(ObjectRef::from_obj(group));
                }
            }
        }
        let cluster = &cluster;
        async move {
            for (key, group, pods) in plans {
                let plan =
                    plan_from_lists(context.clone(), cluster.clone(), key.clone(), group, pods);
                // In a separate task, a panic affects only this group.
                match tokio::spawn(plan).await.ok().flatten() {
                    Some(Requeue::After(delay)) => {
                        let _ = delayed.send((key, delay));
                    }
                    Some(_) => {}
                    None => context.triggers.trigger(key),
                }
            }
        }
    };
    let selector = context.shared.group_selector.as_deref();
    reader.list_in_pages(scope, selector, plan_page).await
}

/// Returns whether planning a listed group from the lists may be sufficient. A group with a run in
/// progress, or without a status, always needs a live reconcile. The policy of a group in a ConfigMap may be slow, and shares the time of other
/// groups fairly only in reconciles from the queue.
fn may_have_nothing_to_do(context: &Context, key: &GroupRef, group: &OaatGroup) -> bool {
    let watched = context
        .groups
        .get(key)
        .and_then(|group| group.resource_version());
    let status = group.status.as_ref();
    let is_idle = status.is_some_and(|status| status.current.is_none());
    is_idle && group.spec.policy.is_none() && watched == group.resource_version()
}

/// Returns when something is due in a listed group, or `None` if it needs a reconcile now.
async fn plan_from_lists(
    context: Arc<Context>,
    cluster: KubeCluster,
    key: GroupRef,
    group: OaatGroup,
    pods: Vec<PodView>,
) -> Option<Requeue> {
    if !context
        .shared
        .served
        .contains(group.metadata.uid.as_deref())
    {
        return Some(Requeue::OnTrigger);
    }
    let (namespace, name) = (key.namespace.clone().unwrap_or_default(), &key.name);
    context.cluster.record_references(&key, &group);
    let cluster = ListedCluster::new(cluster, group, pods);
    let started = Instant::now();
    let reconciler = context.reconciler(&cluster, None);
    let outcome = reconciler.reconcile(&namespace, name).await.ok()?;
    if cluster.has_refused() || !outcome.events.is_empty() {
        debug!(
            namespace,
            group = name,
            "the initial lists are not sufficient"
        );
        return None;
    }
    context.record_sample(&key, outcome.sample);
    let metrics = &context.shared.metrics;
    metrics.reconcile(ReconcileResultMetric::Ok, started.elapsed());
    Some(match outcome.requeue_at {
        Some(at) => Requeue::After(requeue_delay(at)),
        None => Requeue::OnTrigger,
    })
}
