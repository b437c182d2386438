//! Watches, and the queue of groups to look at.

use crate::bounded_read::BoundedReader;
use crate::cluster::ClusterError;
use crate::config_maps::ConfigMaps;
use crate::decision_log::DecisionLog;
use crate::events::{self, EventSink};
use crate::fair_limiter::FairLimiter;
use crate::group_ref::{GroupRef, WatchedGroup};
use crate::item_sources::ConfigMapLists;
use crate::kube_cluster::{KubeCluster, WatchedType};
use crate::last_seen_pods::LastSeenPods;
use crate::metrics::Metrics;
use crate::oaat_type_controller::{self, OaatTypeReconciler};
use crate::pod::names;
use crate::policies::{Compiler, PolicyCache, Sources};
use crate::policy_limiter::PolicyLimiter;
use crate::reconciler::Reconciler;
use crate::references::References;
use crate::triggers::{self, Triggers};
use crate::watched::{Watched, WatchedPod, listed_in_parts};
use futures::{FutureExt, Stream, StreamExt, future};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::controller::{Action, Config, ReconcileRequest, applier};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, reflector::store::Writer};
use kube::{Api, Client, Resource, ResourceExt};
use oaat_api::Timestamp;
use policy_host::Policy;
use rand::RngExt;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tracing::{error, info, warn};

/// Groups that are looked at side by side. Each waits for the API server most of the
/// time; more of them only queue up there.
const CONCURRENCY: u16 = 32;

/// Reconciles that a namespace may have in progress when few places are left.
const SHARE: usize = 8;
/// The initial delay before a group that found no place is requeued. It grows with the number of
/// such groups, so that thousands of them do not keep the queue busy.
const SHARE_WAIT: Duration = Duration::from_millis(50);
/// The number of refused groups for which the delay grows by its initial value.
const SHARE_STEP: u32 = 32;

/// Failures of a group's cycles in a row after which its user should hear of them.
const NOTICEABLE: u32 = 4;

/// What the controllers of a process share.
#[derive(Clone)]
pub struct Shared {
    /// The API; its own retries are off.
    pub client: Client,
    /// The policy that decides where a group names none.
    pub default: Policy,
    /// Compiles those that groups name.
    pub compiler: Compiler,
    /// Limits evaluations of those policies.
    pub evaluations: FairLimiter,
    /// Reads individual objects.
    pub reader: BoundedReader,
    /// Reads ConfigMaps.
    pub config_maps: ConfigMaps,
    /// The operator's own image.
    pub image: Option<String>,
    /// Writes decisions down.
    pub recorder: DecisionLog,
    /// Where events go.
    pub events: EventSink,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// The least time between two starts of an item.
    pub retry_floor: Duration,
    /// Whether a lease is held. Without one other replicas may act as well.
    pub leads: bool,
}

struct Context {
    shared: Shared,
    cluster: KubeCluster,
    last_seen_pods: Arc<LastSeenPods>,
    policies: Arc<PolicyCache>,
    triggers: Triggers,
    groups: Store<WatchedGroup>,
    limiter: PolicyLimiter,
    failures: Mutex<HashMap<GroupRef, u32>>,
    /// Reconciles of each namespace.
    running: Mutex<HashMap<String, Running>>,
}

/// The reconciles of a namespace.
#[derive(Default)]
struct Running {
    in_progress: usize,
    /// Groups that found no place since the last reconcile began.
    refused: u32,
}

impl Context {
    fn running(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a reconcile, unless the namespace has more than its share while places are few: what
    /// its cycles wait for must not keep other namespaces waiting. Returns the delay before the
    /// group is requeued otherwise.
    fn enter(&self, namespace: &str) -> Result<(), Duration> {
        let mut running = self.running();
        let all: usize = running.values().map(|running| running.in_progress).sum();
        let own = running.entry(namespace.to_owned()).or_default();
        if own.in_progress >= SHARE && all >= usize::from(CONCURRENCY) - SHARE {
            own.refused = own.refused.saturating_add(1);
            return Err(SHARE_WAIT * (1 + own.refused / SHARE_STEP).min(100));
        }
        own.in_progress += 1;
        own.refused /= 2;
        Ok(())
    }

    fn leave(&self, namespace: &str) {
        let mut running = self.running();
        if let Some(own) = running.get_mut(namespace) {
            own.in_progress -= 1;
            if own.in_progress == 0 {
                running.remove(namespace);
            }
        }
    }
}

/// Runs the controllers for one namespace, or for all, until `stop` turns true; then
/// finishes the cycles in hand.
pub async fn control(shared: Shared, namespace: Option<String>, stop: watch::Receiver<bool>) {
    let client = shared.client.clone();
    let (groups, groups_writer) = reflector::store::<WatchedGroup>();
    let (types, types_writer) = reflector::store::<WatchedType>();
    let (group_queue, group_refs) = mpsc::unbounded_channel();
    let (type_queue, type_refs) = mpsc::unbounded_channel();
    let last_seen_pods = Arc::new(LastSeenPods::default());
    let limiter = PolicyLimiter::new(shared.evaluations.clone(), group_queue.clone());
    let cache = Arc::new(PolicyCache::default());
    let (config_maps, compiler) = (shared.config_maps.clone(), shared.compiler.clone());
    let policies = Sources::new(config_maps.clone(), compiler, group_queue.clone());
    let lists = ConfigMapLists::new(config_maps, group_queue.clone());
    let references = References::new(groups.clone(), policies, lists);
    let triggers = Triggers::new(
        group_queue.clone(),
        groups.clone(),
        last_seen_pods.clone(),
        cache.clone(),
        references.clone(),
    );
    let cluster = KubeCluster::new(
        client.clone(),
        shared.reader.for_reconcile(),
        types.clone(),
        references.clone(),
        shared.metrics.clone(),
    );

    let scope = namespace.as_deref();
    let watch_groups = {
        let triggers = triggers.clone();
        follow(api(&client, scope), groups_writer, move |event| {
            triggers.group(event);
        })
    };
    let watch_types = follow(
        api(&client, scope),
        types_writer,
        move |event: &Event<WatchedType>| {
            if let Event::Apply(type_) | Event::InitApply(type_) = event {
                let _ = type_queue.send(ObjectRef::from_obj(type_));
            }
            if let Event::Apply(type_) | Event::Delete(type_) = event {
                let users = references.of_type(type_.namespace().as_deref(), &type_.name_any());
                users.into_iter().for_each(|group| {
                    let _ = group_queue.send(group);
                });
            }
        },
    );
    let watch_pods = {
        let triggers = triggers.clone();
        each(pods(&client, scope, names::GROUP), move |event| {
            triggers.pod(event);
        })
    };
    let watch_listers = {
        let triggers = triggers.clone();
        each(pods(&client, scope, names::LISTER), move |event| {
            triggers.lister(event);
        })
    };

    let context = Arc::new(Context {
        cluster: cluster.clone(),
        shared: shared.clone(),
        last_seen_pods,
        policies: cache,
        triggers,
        groups: groups.clone(),
        limiter,
        failures: Mutex::default(),
        running: Mutex::default(),
    });
    let looks = applier(
        |group, context| reconcile(group, context).boxed(),
        back_off,
        context,
        groups.clone(),
        queue(group_refs, stop.clone()),
        Config::default().concurrency(CONCURRENCY),
    )
    .take_until(unlisted(groups, stop.clone()));
    let checker = Arc::new(OaatTypeReconciler {
        client,
        cluster,
        events: shared.events.clone(),
        tried: std::sync::Mutex::default(),
    });
    let checks = applier(
        |type_, checker| oaat_type_controller::check(type_, checker).boxed(),
        |_, error: &ClusterError, _| {
            warn!(%error, "a type could not be checked; trying again");
            Action::requeue(Duration::from_secs(2))
        },
        checker,
        types.clone(),
        queue(type_refs, stop.clone()),
        Config::default().concurrency(4),
    )
    .take_until(unlisted(types, stop));
    info!(
        namespace = scope.unwrap_or("(all)"),
        "watching groups, types and pods"
    );
    // The queues end when we stop, and the cycles in hand with them; the watches just
    // go away.
    let work = future::join(
        looks.for_each(|_| future::ready(())),
        checks.for_each(|_| future::ready(())),
    );
    let watches = future::join4(watch_groups, watch_types, watch_pods, watch_listers);
    future::select(Box::pin(work), Box::pin(watches)).await;
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
async fn follow<K>(
    api: Api<Watched<K>>,
    writer: Writer<Watched<K>>,
    each_event: impl FnMut(&Event<Watched<K>>),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let stream = listed_in_parts(watcher::Config::default(), move |config| {
        watcher(api.clone(), config)
    });
    let stream = stream
        .default_backoff()
        .modify(triggers::strip)
        .reflect(writer);
    each(stream, each_event).await;
}

/// Watches pods with a label.
fn pods(
    client: &Client,
    namespace: Option<&str>,
    label: &str,
) -> impl Stream<Item = Result<Event<Pod>, watcher::Error>> + use<> {
    let api = api::<WatchedPod>(client, namespace);
    let config = watcher::Config::default().labels(label);
    let pods = listed_in_parts(config, move |config| watcher(api.clone(), config));
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

async fn each<K: Resource<DynamicType = ()>>(
    stream: impl Stream<Item = Result<Event<K>, watcher::Error>>,
    mut each_event: impl FnMut(&Event<K>),
) {
    let kind = K::kind(&());
    futures::pin_mut!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => each_event(&event),
            Err(
                watcher::Error::InitialListFailed(kube::Error::Api(status))
                | watcher::Error::WatchStartFailed(kube::Error::Api(status)),
            ) if status.code == 404 => {
                error!(
                    %kind,
                    "the API server does not know this kind; install it with: \
                     kubectl apply -f manifests/01-oaat-operator-crd.yaml"
                );
            }
            Err(error) => warn!(%kind, %error, "the watch was interrupted; it is taken up again"),
        }
    }
}

/// A queue that ends when `stop` turns true.
fn queue<K: Resource<DynamicType = ()>>(
    receiver: mpsc::UnboundedReceiver<ObjectRef<K>>,
    mut stop: watch::Receiver<bool>,
) -> impl Stream<Item = Result<ReconcileRequest<K>, Infallible>> {
    UnboundedReceiverStream::new(receiver)
        .map(|object| Ok(ReconcileRequest::from(object)))
        .take_until(async move {
            // The sender going away means the same.
            let _ = stop.wait_for(|stop| *stop).await;
        })
}

/// Ready when `stop` turns true before the first list is there. Nothing is in hand then, and what
/// is queued is held until that list has come, which may be never.
async fn unlisted<K>(store: Store<K>, mut stop: watch::Receiver<bool>)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let _ = stop.wait_for(|stop| *stop).await;
    if store.wait_until_ready().now_or_never().is_some() {
        future::pending::<()>().await;
    }
}

async fn reconcile(
    group: Arc<WatchedGroup>,
    context: Arc<Context>,
) -> Result<Action, ClusterError> {
    let namespace = group.namespace().unwrap_or_default();
    if let Err(wait) = context.enter(&namespace) {
        return Ok(Action::requeue(wait));
    }
    // A task of its own: cycles of different groups then use all cores.
    let cycle = tokio::spawn(look(ObjectRef::from_obj(group.as_ref()), context.clone())).await;
    context.leave(&namespace);
    match cycle {
        Ok(result) => result,
        Err(error) => Err(ClusterError::Unavailable(format!(
            "the cycle broke off: {error}"
        ))),
    }
}

async fn look(group: GroupRef, context: Arc<Context>) -> Result<Action, ClusterError> {
    let shared = &context.shared;
    let (namespace, name) = (
        group.namespace.clone().unwrap_or_default(),
        group.name.clone(),
    );
    let cluster = context.cluster.for_reconcile();
    let reconciler = Reconciler {
        cluster: &cluster,
        last_seen_pods: &context.last_seen_pods,
        default: &shared.default,
        policies: &context.policies,
        limiter: &context.limiter,
        recorder: &shared.recorder,
        image: shared.image.as_deref(),
        leads: shared.leads,
        retry_floor: shared.retry_floor,
        nonce,
        now: Timestamp::now,
    };
    let started = Instant::now();
    let outcome = match reconciler.reconcile(&namespace, &name).await {
        Ok(outcome) => outcome,
        Err(error) => {
            shared.metrics.cycle("error", started.elapsed());
            return Err(error);
        }
    };
    let result = if outcome.error.is_some() {
        "error"
    } else {
        "ok"
    };
    shared.metrics.cycle(result, started.elapsed());
    if let Some(took) = outcome.decided_in {
        shared.metrics.decision(took);
    }
    if let Some(version) = &outcome.written {
        context.triggers.wrote(&group, version);
    }
    for note in outcome.events {
        if let "Started" | "Succeeded" | "Failed" | "Stopped" = note.reason {
            shared.metrics.run(note.reason);
        }
        shared.events.note(&namespace, &name, &outcome.uid, note);
    }
    if let Some(error) = outcome.error {
        return Err(error);
    }
    {
        let mut failures = context
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        failures.remove(&group);
        // A group that is deleted while it fails is not looked at again.
        failures.retain(|group, _| context.groups.get(group).is_some());
    }
    Ok(match outcome.requeue_at {
        Some(at) => {
            // A timer may fire a little before the clock that cycles read has come
            // there; the policy would then ask for another second.
            let wait = at.since(Timestamp::now()) + Duration::from_millis(3);
            Action::requeue(wait)
        }
        None => Action::await_change(),
    })
}

/// After an error: again soon, then ever more slowly, and not all groups at once.
fn back_off(group: Arc<WatchedGroup>, error: &ClusterError, context: Arc<Context>) -> Action {
    let key = ObjectRef::from_obj(group.as_ref());
    let (namespace, name) = (key.namespace.clone().unwrap_or_default(), key.name.clone());
    let failures = {
        let mut failures = context
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key).or_insert(0);
        *count = count.saturating_add(1);
        *count
    };
    if failures == NOTICEABLE {
        let uid = group.meta().uid.clone();
        let about = events::reference("OaatGroup", &namespace, &name, uid.as_deref());
        let words =
            format!("the group could not be looked after {failures} times in a row: {error}");
        context
            .shared
            .events
            .send(about, events::warning("CycleFailed", words));
    }
    let base = Duration::from_millis(100) * 2_u32.pow((failures - 1).min(9));
    let wait = base
        .min(Duration::from_secs(30))
        .mul_f64(rand::random_range(0.75..1.25));
    warn!(namespace, group = name, %error, failures, "the look at the group failed; again in {wait:?}");
    Action::requeue(wait)
}

/// Ten random characters of a to z and 0 to 9.
fn nonce() -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = rand::rng();
    (0..10)
        .map(|_| char::from(ALPHABET[random.random_range(0..36)]))
        .collect()
}
