//! The watches, and the reconciles of queued groups and types.

use crate::clock_watch::{self, ClockReading};
use crate::cluster::ClusterError;
use crate::controller_context::{Context, ControllerDeps, requeue_delay};
use crate::events;
use crate::group_ref::{GroupRef, WatchedGroup};
use crate::initial_plan;
use crate::item_sources::ConfigMapLists;
use crate::kube_cluster::{KubeCluster, WatchedType};
use crate::last_seen_pods::LastSeenPods;
use crate::legacy_pods::{self, LegacyPods};
use crate::metrics::{Metrics, ReconcileResultMetric, RunResultMetric};
use crate::oaat_type_controller::{self, OaatTypeReconciler};
use crate::pod::names;
use crate::policies::{PolicyCache, PolicySources};
use crate::policy_limiter::PolicyLimiter;
use crate::references::References;
use crate::shadow::Shadows;
use crate::triggers::{self, Triggers};
use crate::watched::{Watched, WatchedPod, watch_in_pages};
use crate::work_queue::{self, Requeue, Sources};
use futures::{FutureExt, Stream, StreamExt, future};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::controller::{Action, Config, ReconcileRequest, applier};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, reflector::store::Writer};
use kube::{Api, Client, Resource};
use oaat_api::Timestamp;
use oaat_api::reasons;
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::watch;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tracing::{error, info, warn};

/// The number of failures in a row after which the group gets an event, and retries no longer keep
/// their place in the queue. Groups that keep failing would otherwise delay the others.
const FAILURES_BEFORE_EVENT: u32 = 4;

/// Runs the controllers for one namespace, or for all, until `stop` turns true. Then finishes the
/// reconciles in progress.
pub async fn control(
    shared: ControllerDeps,
    namespace: Option<String>,
    stop: watch::Receiver<bool>,
) {
    let (groups, groups_writer) = reflector::store::<WatchedGroup>();
    let (types, types_writer) = reflector::store::<WatchedType>();
    let (group_queue, triggered) = mpsc::unbounded_channel();
    let (resume_queue, resumed) = mpsc::unbounded_channel();
    let (delayed_queue, delayed) = mpsc::unbounded_channel();
    let (type_queue, type_refs) = mpsc::unbounded_channel();
    let legacy_pods = LegacyPods::default();
    let context = context(
        &shared,
        groups,
        types.clone(),
        group_queue,
        resume_queue,
        legacy_pods.clone(),
    );
    let context = Arc::new(context);
    let triggers = context.triggers.clone();
    let scope = namespace.as_deref();
    let type_reconciler = Arc::new(OaatTypeReconciler {
        client: shared.client.clone(),
        cluster: context.cluster.clone(),
        served: shared.served.clone(),
        events: shared.events.clone(),
        tried: std::sync::Mutex::default(),
    });
    info!(
        namespace = scope.unwrap_or("(all)"),
        "watching groups, types, and pods"
    );
    let sources = Sources {
        triggered,
        resumed,
        delayed,
    };
    // On `stop`, the queues end, and the reconciles in progress finish. The watches are dropped.
    let reconciles = future::join(
        reconcile_groups(context.clone(), sources, stop.clone()),
        reconcile_types(type_reconciler, types.clone(), type_refs, stop),
    );
    let watches = watch_all(
        &shared,
        scope,
        (&triggers, &legacy_pods),
        (groups_writer, types_writer),
        &type_queue,
    );
    let watch_shards = shared.served.clone().on_change(|moved| {
        triggers.trigger_if(|group| moved(group.meta().uid.as_deref()));
        for type_ in types.state() {
            if moved(type_.meta().uid.as_deref()) {
                let _ = type_queue.send(ObjectRef::from_obj(type_.as_ref()));
            }
        }
    });
    let queue_groups =
        initial_plan::queue_listed_groups(context.clone(), namespace.clone(), delayed_queue);
    let watches = future::join3(watches, watch_shards, queue_groups);
    future::select(Box::pin(reconciles), Box::pin(watches)).await;
}

/// Returns what all reconciles of groups share. Triggered groups are sent to `group_queue`, and those
/// whose turn to evaluate their policy has come to `resume_queue`.
fn context(
    shared: &ControllerDeps,
    groups: Store<WatchedGroup>,
    types: Store<WatchedType>,
    group_queue: UnboundedSender<GroupRef>,
    resume_queue: UnboundedSender<GroupRef>,
    legacy_pods: LegacyPods,
) -> Context {
    let last_seen_pods = Arc::new(LastSeenPods::default());
    // A group must use its permit soon, so it does not queue behind the others again.
    let limiter = PolicyLimiter::new(shared.evaluations.clone(), resume_queue);
    let cache = Arc::new(PolicyCache::default());
    let (config_maps, compiler) = (shared.config_maps.clone(), shared.compiler.clone());
    let policies = PolicySources::new(config_maps.clone(), compiler, group_queue.clone());
    let policies = policies.with_kept(shared.kept.clone());
    let shadows = Shadows::new(
        config_maps.clone(),
        policies.clone(),
        shared.shadow_compiler.clone(),
        group_queue.clone(),
        shared.metrics.clone(),
    );
    let lists = ConfigMapLists::new(config_maps, group_queue.clone());
    let references = References::new(groups.clone(), policies, shadows.clone(), lists);
    let triggers = Triggers::new(
        group_queue,
        groups.clone(),
        last_seen_pods.clone(),
        cache.clone(),
        references.clone(),
    );
    let cluster = KubeCluster::new(
        shared.client.clone(),
        shared.reader.for_reconcile(),
        (groups.clone(), types),
        shared.caches.clone(),
        (references, legacy_pods),
        shared.metrics.clone(),
    );
    Context {
        cluster,
        shared: shared.clone(),
        last_seen_pods,
        policies: cache,
        triggers,
        groups,
        limiter,
        shadows,
        failures: Mutex::default(),
    }
}

/// Watches groups, types, pods, and the clocks.
async fn watch_all(
    shared: &ControllerDeps,
    scope: Option<&str>,
    (triggers, legacy_pods): (&Triggers, &LegacyPods),
    (groups, types): (Writer<WatchedGroup>, Writer<WatchedType>),
    type_queue: &UnboundedSender<ObjectRef<WatchedType>>,
) {
    let client = &shared.client;
    let selected = watcher::Config {
        label_selector: shared.group_selector.clone(),
        ..watcher::Config::default()
    };
    let metrics = &shared.metrics;
    let watch_groups = watch_metadata(metrics, api(client, scope), selected, groups, |event| {
        triggers.group(event);
    });
    let every_type = watcher::Config::default();
    let watch_types = watch_metadata(metrics, api(client, scope), every_type, types, |event| {
        triggers.oaat_type(event, type_queue);
    });
    let watch_pods = for_each_event(metrics, pods(client, scope, names::GROUP), |event| {
        triggers.pod(event);
    });
    let watch_listers = for_each_event(metrics, pods(client, scope, names::LISTER), |event| {
        triggers.lister(event);
    });
    let watch_legacy_pods = for_each_event(
        metrics,
        pods(client, scope, legacy_pods::SELECTOR),
        |event| {
            legacy_pods.observe(event);
        },
    );
    let watch_clocks = clock_watch::watch(clock_watch::INTERVAL, ClockReading::now, || {
        triggers.trigger_all();
    });
    let watch_pods = future::join3(watch_pods, watch_listers, watch_legacy_pods);
    future::join4(watch_groups, watch_types, watch_pods, watch_clocks).await;
}

/// Reconciles queued groups until `stop` turns true and the reconciles in progress have finished.
async fn reconcile_groups(context: Arc<Context>, sources: Sources, stop: watch::Receiver<bool>) {
    let first_list = async {
        // If the writer is dropped, the process stops as well.
        let _ = context.groups.wait_until_ready().await;
    };
    let reconcile = |group| reconcile(group, context.clone());
    let depth = context.shared.metrics.queue_depth.clone();
    work_queue::run(sources, first_list, stop, depth, reconcile).await;
}

/// Checks queued types until `stop` turns true and the checks in progress have finished.
async fn reconcile_types(
    reconciler: Arc<OaatTypeReconciler>,
    types: Store<WatchedType>,
    queued: mpsc::UnboundedReceiver<ObjectRef<WatchedType>>,
    stop: watch::Receiver<bool>,
) {
    applier(
        |type_, reconciler| oaat_type_controller::check(type_, reconciler).boxed(),
        |_, error: &ClusterError, _| {
            warn!(%error, "failed to check a type; retrying");
            Action::requeue(Duration::from_secs(2))
        },
        reconciler,
        types.clone(),
        type_requests(queued, stop.clone()),
        Config::default().concurrency(4),
    )
    .take_until(stopped_before_first_list(types, stop))
    .for_each(|_| future::ready(()))
    .await;
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Watches the metadata of objects, stores what triggers need, and forwards every event.
async fn watch_metadata<K>(
    metrics: &Metrics,
    api: Api<Watched<K>>,
    config: watcher::Config,
    writer: Writer<Watched<K>>,
    handle: impl FnMut(&Event<Watched<K>>),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let stream = watch_in_pages(config, move |config| watcher(api.clone(), config));
    let stream = stream
        .default_backoff()
        .modify(triggers::strip)
        .reflect(writer);
    for_each_event(metrics, stream, handle).await;
}

/// Watches pods with these labels.
fn pods(
    client: &Client,
    namespace: Option<&str>,
    labels: &str,
) -> impl Stream<Item = Result<Event<Pod>, watcher::Error>> + use<> {
    let api = api::<WatchedPod>(client, namespace);
    let config = watcher::Config::default().labels(labels);
    let pods = watch_in_pages(config, move |config| watcher(api.clone(), config));
    pods.default_backoff().map(|event| {
        event.map(|event| match event {
            Event::Apply(pod) => Event::Apply(pod.0),
            Event::Delete(pod) => Event::Delete(pod.0),
            Event::Init => Event::Init,
            Event::InitApply(pod) => Event::InitApply(pod.0),
            Event::InitDone => Event::InitDone,
        })
    })
}

/// Handles every event of a watch. Logs and counts its errors.
async fn for_each_event<K: Resource<DynamicType = ()>>(
    metrics: &Metrics,
    stream: impl Stream<Item = Result<Event<K>, watcher::Error>>,
    mut handle: impl FnMut(&Event<K>),
) {
    let kind = K::kind(&());
    let restarts = metrics.watch_restarts(&K::plural(&()));
    futures::pin_mut!(stream);
    while let Some(event) = stream.next().await {
        if event.is_err() {
            restarts.inc();
        }
        match event {
            Ok(event) => handle(&event),
            Err(
                watcher::Error::InitialListFailed(kube::Error::Api(status))
                | watcher::Error::WatchStartFailed(kube::Error::Api(status)),
            ) if status.code == 404 => {
                error!(
                    %kind,
                    "the CustomResourceDefinition of this kind is missing; install it with \
                     kubectl apply -f manifests/01-oaat-operator-crd.yaml"
                );
            }
            Err(error) => warn!(%kind, %error, "the watch was interrupted; restarting it"),
        }
    }
}

/// Returns the queue of types as a stream that ends when `stop` turns true.
fn type_requests(
    receiver: mpsc::UnboundedReceiver<ObjectRef<WatchedType>>,
    mut stop: watch::Receiver<bool>,
) -> impl Stream<Item = Result<ReconcileRequest<WatchedType>, Infallible>> {
    UnboundedReceiverStream::new(receiver)
        .map(|object| Ok(ReconcileRequest::from(object)))
        .take_until(async move {
            // If the sender is dropped, the process stops as well.
            let _ = stop.wait_for(|stop| *stop).await;
        })
}

/// Waits until `stop` turns true. Does not return if the first list has arrived by then. Before the
/// first list, no check is in progress, and the queue may stay blocked indefinitely.
async fn stopped_before_first_list(types: Store<WatchedType>, mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
    if types.wait_until_ready().now_or_never().is_some() {
        future::pending::<()>().await;
    }
}

/// Reconciles a group in a separate task. Does nothing if the group does not exist, is not
/// selected, or is served by another replica.
async fn reconcile(group: GroupRef, context: Arc<Context>) -> Requeue {
    let Some(watched) = context.groups.get(&group) else {
        context.shared.metrics.groups.remove(&group);
        return Requeue::OnTrigger;
    };
    let uid = watched.metadata.uid.as_deref();
    if !context.shared.served.contains(uid) {
        context.triggers.forget_references(&group, uid);
        context.shared.metrics.groups.remove(&group);
        return Requeue::OnTrigger;
    }
    // With separate tasks, reconciles of different groups use all cores.
    let result = tokio::spawn(reconcile_group(group.clone(), context.clone())).await;
    result.unwrap_or_else(|error| {
        let error = format!("the reconcile task failed: {error}");
        back_off(&group, &ClusterError::Unavailable(error), false, &context)
    })
}

/// Reconciles a group, counts and publishes the outcome, and returns when to reconcile it again.
async fn reconcile_group(group: GroupRef, context: Arc<Context>) -> Requeue {
    let shared = &context.shared;
    let (namespace, name) = (
        group.namespace.clone().unwrap_or_default(),
        group.name.clone(),
    );
    let cluster = context.cluster.for_reconcile();
    let reconciler = context.reconciler(&cluster, Some(&shared.decision_log));
    let began = Timestamp::now();
    let started = Instant::now();
    let outcome = match reconciler.reconcile(&namespace, &name).await {
        Ok(outcome) => outcome,
        Err(error) => {
            let failed = ReconcileResultMetric::Error;
            shared.metrics.reconcile(failed, started.elapsed());
            return back_off(&group, &error, false, &context);
        }
    };
    let result = if outcome.error.is_some() {
        ReconcileResultMetric::Error
    } else {
        ReconcileResultMetric::Ok
    };
    shared.metrics.reconcile(result, started.elapsed());
    for decision in &outcome.decisions {
        shared.metrics.decision(decision);
    }
    if let Some(took) = outcome.handover {
        shared.metrics.handover(took);
    }
    if let Some(version) = &outcome.written {
        context.triggers.record_own_write(&group, version);
    }
    context.record_sample(&group, outcome.sample);
    context.cluster.record_last_good(&group, outcome.last_good);
    if let Some(evaluation) = outcome.shadow {
        context
            .shadows
            .evaluate(&group, &shared.default, evaluation);
    }
    let run_started = outcome.runs.contains(&RunResultMetric::Started);
    for result in outcome.runs {
        shared.metrics.run(result);
    }
    for event in outcome.events {
        shared
            .events
            .publish(&namespace, &name, &outcome.uid, event);
    }
    if let Some(error) = outcome.error {
        return back_off(&group, &error, run_started, &context);
    }
    {
        let mut failures = context
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        failures.remove(&group);
        // A group that is deleted while it fails is not reconciled again.
        failures.retain(|group, _| context.groups.get(group).is_some());
    }
    let Some(at) = outcome.requeue_at else {
        return Requeue::OnTrigger;
    };
    // Another reconcile must complete this one.
    let incomplete = at <= began && !run_started;
    let delay = requeue_delay(at);
    if incomplete {
        Requeue::Resume(delay)
    } else {
        Requeue::After(delay)
    }
}

/// Requeues a group after a failed reconcile: exponential backoff with jitter, at most 37.5 s.
/// Unless the reconcile started a run, the first retries keep the group's place in the queue, so
/// that a short disturbance does not cost the group its turn.
fn back_off(
    group: &GroupRef,
    error: &ClusterError,
    run_started: bool,
    context: &Context,
) -> Requeue {
    let namespace = group.namespace.as_deref().unwrap_or_default();
    let name = &group.name;
    let failures = {
        let mut failures = context
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(group.clone()).or_insert(0);
        *count = count.saturating_add(1);
        *count
    };
    if failures == FAILURES_BEFORE_EVENT {
        let watched = context.groups.get(group);
        let uid = watched.and_then(|group| group.meta().uid.clone());
        let about = events::reference("OaatGroup", namespace, name, uid.as_deref());
        let message = format!("reconciling this group failed {failures} times in a row: {error}");
        let reason = reasons::events::RECONCILE_FAILED;
        context
            .shared
            .events
            .send(about, events::warning(reason, message));
    }
    let base = Duration::from_millis(100) * 2_u32.pow((failures - 1).min(9));
    let delay = base
        .min(Duration::from_secs(30))
        .mul_f64(rand::random_range(0.75..1.25));
    warn!(namespace, group = name, %error, failures, "failed to reconcile the group; retrying in {delay:?}");
    if run_started || failures >= FAILURES_BEFORE_EVENT {
        Requeue::After(delay)
    } else {
        Requeue::Resume(delay)
    }
}
