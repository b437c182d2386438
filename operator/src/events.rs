//! Events, off the path of the cycle: they are told one after the other by a task of
//! their own, and a cycle never waits for one.

use crate::plan::PendingEvent;
use crate::pod::names;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use oaat_api::text;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

/// Events that may wait to be told. Beyond that they are dropped: they are news, and
/// what must be known is in the status.
const BACKLOG: usize = 4096;
/// The maximum number of queued events from one namespace.
const SHARE: usize = BACKLOG / 8;
/// The number of events after which a new recorder is used. A recorder keeps each distinct event for
/// six minutes.
const RECORDED: usize = 2000;
/// Longest wait for an answer about one.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(15);

/// Where events go.
#[derive(Clone)]
pub struct EventSink {
    queue: mpsc::Sender<(ObjectReference, Event)>,
    /// The number of queued events from each namespace.
    queued: Queued,
}

type Queued = Arc<Mutex<HashMap<String, usize>>>;

fn lock(queued: &Queued) -> MutexGuard<'_, HashMap<String, usize>> {
    queued.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EventSink {
    /// Starts the task that tells them. It ends, once all is told, with the last sink.
    pub fn start(client: Client, instance: Option<String>) -> (Self, tokio::task::JoinHandle<()>) {
        let (sender, mut receiver) = mpsc::channel::<(ObjectReference, Event)>(BACKLOG);
        let reporter = Reporter {
            controller: names::OPERATOR.into(),
            instance,
        };
        let queued = Queued::default();
        let counts = queued.clone();
        let task = tokio::spawn(async move {
            let new = || Recorder::new(client.clone(), reporter.clone());
            let (mut recorder, mut recorded) = (new(), 0);
            while let Some((reference, event)) = receiver.recv().await {
                let namespace = reference.namespace.as_deref().unwrap_or_default();
                if let Entry::Occupied(mut count) = lock(&counts).entry(namespace.to_owned()) {
                    *count.get_mut() -= 1;
                    if *count.get() == 0 {
                        count.remove();
                    }
                }
                recorded += 1;
                if recorded % RECORDED == 0 {
                    recorder = new();
                }
                let told = tokio::time::timeout(PATIENCE, recorder.publish(&event, &reference));
                match told.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        debug!(%error, reason = event.reason, "an event was not accepted");
                    }
                    Err(_) => debug!(reason = event.reason, "no answer about an event"),
                }
            }
        });
        let queue = sender;
        (Self { queue, queued }, task)
    }

    /// Tells an event about an object.
    pub fn send(&self, about: ObjectReference, event: Event) {
        let namespace = about.namespace.clone().unwrap_or_default();
        let mut queued = lock(&self.queued);
        let count = queued.entry(namespace.clone()).or_default();
        if *count >= SHARE || self.queue.try_send((about, event)).is_err() {
            warn!(namespace, "too many events at once; one was dropped");
        } else {
            *count += 1;
        }
    }

    /// Publishes a note of a reconcile as a log line and as an event on the group.
    pub fn note(&self, namespace: &str, group: &str, uid: &str, note: PendingEvent) {
        let message = text::clean(&note.message, text::EVENT);
        info!(namespace, group, reason = note.reason, "{message}");
        let pod = note.pod.map(|pod| ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(namespace.into()),
            name: Some(pod.name),
            uid: Some(pod.uid),
            ..ObjectReference::default()
        });
        let event = Event {
            type_: if note.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            // The pod as secondary object keeps the recorder from folding the events of
            // different runs into one.
            secondary: pod,
            ..plain(note.reason, message)
        };
        self.send(reference("OaatGroup", namespace, group, Some(uid)), event);
    }
}

/// A warning without a secondary object.
pub fn warning(reason: &str, message: String) -> Event {
    Event {
        type_: EventType::Warning,
        ..plain(reason, message)
    }
}

fn plain(reason: &str, message: String) -> Event {
    Event {
        type_: EventType::Normal,
        reason: reason.into(),
        note: Some(text::clean(&message, text::EVENT)),
        action: reason.into(),
        secondary: None,
    }
}

/// A reference to an object of ours.
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

    #[tokio::test]
    async fn a_namespace_fills_only_its_share_of_the_queue() {
        let (sink, _task) = EventSink::start(crate::client::silent(), None);
        let send = |namespace: &str| {
            let about = reference("OaatGroup", namespace, "group", None);
            sink.send(about, warning("Reason", "message".into()));
        };
        for _ in 0..2 * SHARE {
            send("busy");
        }
        send("quiet");
        let queued = lock(&sink.queued);
        assert_eq!((queued["busy"], queued["quiet"]), (SHARE, 1));
    }
}
