//! Events. A separate task publishes them one after the other, so that a reconcile never waits for
//! one.

use crate::plan::PendingEvent;
use crate::pod::names;
use governor::clock::MonotonicClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use oaat_api::text;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

/// The maximum number of queued events. More are dropped; everything essential is in the status.
const MAX_QUEUED: usize = 4096;
/// The maximum number of queued events from one namespace.
const MAX_QUEUED_PER_NAMESPACE: usize = MAX_QUEUED / 8;
/// The number of events after which a new recorder is used. A recorder keeps each distinct event
/// for six minutes, and searches all of them whenever it publishes one.
const EVENTS_PER_RECORDER: usize = 200;
/// The maximum time to publish one event.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The number of events after which idle limiters are removed.
const EVENTS_BETWEEN_CLEANUPS: usize = 2000;
/// The burst limit of each kind of event on a group. After the burst, one event per minute is
/// published. A group that runs an item every second would otherwise fill etcd with events.
const GROUP_BURST: NonZeroU32 = NonZeroU32::new(25).unwrap();
/// The number of normal events on the groups of a namespace that are published per second.
const NAMESPACE_RATE: NonZeroU32 = NonZeroU32::new(20).unwrap();
/// The number of normal events on the groups of a namespace that are published in a burst.
const NAMESPACE_BURST: NonZeroU32 = NonZeroU32::new(500).unwrap();

/// The queue of events to publish. Cheap to clone.
#[derive(Clone)]
pub struct EventSink {
    queue: mpsc::Sender<(ObjectReference, Event)>,
    /// The number of queued events from each namespace.
    queued: Queued,
    limits: Arc<Limits>,
}

type KeyedLimiter<K> = RateLimiter<K, HashMapStateStore<K>, MonotonicClock>;

/// The kind of an event on a group. Each kind has its own limit, so that events about pods cannot use
/// up the limit of policy events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct EventKind {
    warning: bool,
    about_pod: bool,
}

impl From<&PendingEvent> for EventKind {
    fn from(event: &PendingEvent) -> Self {
        Self {
            warning: event.warning,
            about_pod: event.pod.is_some(),
        }
    }
}

/// The rate limits of events on groups.
struct Limits {
    /// The limits by the group's uid and the kind of event.
    groups: KeyedLimiter<(String, EventKind)>,
    /// The limits of normal events by namespace.
    namespaces: KeyedLimiter<String>,
    /// The number of events so far.
    checked: AtomicUsize,
}

impl Limits {
    fn new() -> Self {
        let group = Quota::per_minute(NonZeroU32::MIN).allow_burst(GROUP_BURST);
        let namespace = Quota::per_second(NAMESPACE_RATE).allow_burst(NAMESPACE_BURST);
        Self {
            groups: RateLimiter::hashmap_with_clock(group, MonotonicClock),
            namespaces: RateLimiter::hashmap_with_clock(namespace, MonotonicClock),
            checked: AtomicUsize::new(0),
        }
    }

    /// Returns whether an event on this group may be published now.
    fn allow(&self, namespace: &str, uid: &str, kind: EventKind) -> bool {
        let checked = self.checked.fetch_add(1, Ordering::Relaxed);
        if checked.is_multiple_of(EVENTS_BETWEEN_CLEANUPS) {
            self.groups.retain_recent();
            self.namespaces.retain_recent();
        }
        let group = self.groups.check_key(&(uid.to_owned(), kind));
        let namespace = || self.namespaces.check_key(&namespace.to_owned());
        group.is_ok() && (kind.warning || namespace().is_ok())
    }
}

type Queued = Arc<Mutex<HashMap<String, usize>>>;

fn lock(queued: &Queued) -> MutexGuard<'_, HashMap<String, usize>> {
    queued.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EventSink {
    /// Starts the task that publishes events. The task ends when all sinks are dropped and the
    /// queue is empty.
    pub fn start(client: Client, instance: Option<String>) -> (Self, tokio::task::JoinHandle<()>) {
        let (sender, mut receiver) = mpsc::channel::<(ObjectReference, Event)>(MAX_QUEUED);
        let reporter = Reporter {
            controller: names::OPERATOR.into(),
            instance,
        };
        let queued = Queued::default();
        let counts = queued.clone();
        let limits = Arc::new(Limits::new());
        let task = tokio::spawn(async move {
            let new = || Recorder::new(client.clone(), reporter.clone());
            let (mut recorder, mut published) = (new(), 0);
            while let Some((reference, event)) = receiver.recv().await {
                let namespace = reference.namespace.as_deref().unwrap_or_default();
                if let Entry::Occupied(mut count) = lock(&counts).entry(namespace.to_owned()) {
                    *count.get_mut() -= 1;
                    if *count.get() == 0 {
                        count.remove();
                    }
                }
                published += 1;
                if published % EVENTS_PER_RECORDER == 0 {
                    recorder = new();
                }
                let publish = recorder.publish(&event, &reference);
                match tokio::time::timeout(TIMEOUT, publish).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        debug!(%error, reason = event.reason, "failed to publish an event");
                    }
                    Err(_) => debug!(reason = event.reason, "publishing an event timed out"),
                }
            }
        });
        let queue = sender;
        let sink = Self {
            queue,
            queued,
            limits,
        };
        (sink, task)
    }

    /// Queues an event on an object. Drops it if the queue or the share of its namespace is full.
    pub fn send(&self, about: ObjectReference, event: Event) {
        let namespace = about.namespace.clone().unwrap_or_default();
        let mut queued = lock(&self.queued);
        let count = queued.entry(namespace.clone()).or_default();
        if *count >= MAX_QUEUED_PER_NAMESPACE || self.queue.try_send((about, event)).is_err() {
            warn!(namespace, "too many queued events; dropped one");
        } else {
            *count += 1;
        }
    }

    /// Logs an event of a reconcile. Queues it as an event on the group, unless there are too many.
    pub fn publish(&self, namespace: &str, group: &str, uid: &str, event: PendingEvent) {
        let message = text::clean(&event.message, text::EVENT);
        info!(namespace, group, reason = event.reason, "{message}");
        if !self.limits.allow(namespace, uid, (&event).into()) {
            debug!(namespace, group, reason = event.reason, "dropped an event");
            return;
        }
        let pod = event.pod.map(|pod| ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(namespace.into()),
            name: Some(pod.name),
            uid: Some(pod.uid),
            ..ObjectReference::default()
        });
        // The recorder merges events with the same action and keeps the first note. Conditions with the
        // same reason may have different messages.
        let action = event.action.map(|action| {
            let note = names::hash(&message, 8);
            format!("{action}-{note}")
        });
        let published = Event {
            type_: if event.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            // With the pod as secondary object, the recorder does not merge events of different
            // runs.
            secondary: pod,
            action: action.unwrap_or_else(|| event.reason.to_owned()),
            ..normal(event.reason, message)
        };
        self.send(
            reference("OaatGroup", namespace, group, Some(uid)),
            published,
        );
    }
}

/// Returns a warning without a secondary object.
pub fn warning(reason: &str, message: String) -> Event {
    Event {
        type_: EventType::Warning,
        ..normal(reason, message)
    }
}

fn normal(reason: &str, message: String) -> Event {
    Event {
        type_: EventType::Normal,
        reason: reason.into(),
        note: Some(text::clean(&message, text::EVENT)),
        action: reason.into(),
        secondary: None,
    }
}

/// Returns a reference to an OaatGroup or OaatType.
pub fn reference(kind: &str, namespace: &str, name: &str, uid: Option<&str>) -> ObjectReference {
    ObjectReference {
        api_version: Some("kawaja.net/v1".into()),
        kind: Some(kind.into()),
        namespace: Some(namespace.into()),
        name: Some(name.into()),
        uid: uid.map(Into::into),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::PodId;

    #[test]
    fn events_are_limited_by_group_and_by_namespace() {
        let limits = Limits::new();
        let allowed = |namespace: &str, uid: &str, kind, count| {
            let events = (0..count).filter(|_| limits.allow(namespace, uid, kind));
            events.count()
        };
        let mut event = PendingEvent {
            warning: false,
            reason: "Reason",
            action: None,
            message: "message".into(),
            pod: None,
        };
        let of_policy = EventKind::from(&event);
        event.pod = Some(PodId {
            name: "pod".into(),
            uid: "uid".into(),
            version: None,
        });
        let normal = EventKind::from(&event);
        event.warning = true;
        let warning = EventKind::from(&event);
        for kind in [normal, warning, of_policy] {
            assert_eq!(allowed("one", "busy", kind, 100), 25, "{kind:?}");
        }
        let all = |namespace: &str, kind| -> usize {
            let uids = (0..1000).map(|number| format!("{namespace}-{number}"));
            uids.map(|uid| allowed(namespace, &uid, kind, 1)).sum()
        };
        assert!(all("one", normal) < 1000);
        assert_eq!(all("one", warning), 1000);
        assert_eq!(allowed("two", "quiet", normal, 1), 1);
    }

    #[tokio::test]
    async fn namespace_fills_only_its_share_of_the_queue() {
        let (sink, _task) = EventSink::start(crate::client::silent(), None);
        let send = |namespace: &str| {
            let about = reference("OaatGroup", namespace, "group", None);
            sink.send(about, warning("Reason", "message".into()));
        };
        for _ in 0..2 * MAX_QUEUED_PER_NAMESPACE {
            send("busy");
        }
        send("quiet");
        let queued = lock(&sink.queued);
        let expected = (MAX_QUEUED_PER_NAMESPACE, 1);
        assert_eq!((queued["busy"], queued["quiet"]), expected);
    }
}
