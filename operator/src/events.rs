//! Events, off the path of the cycle: they are told one after the other by a task of
//! their own, and a cycle never waits for one.

use crate::decide::Note;
use crate::pod::names;
use crate::text;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

/// Events that may wait to be told. Beyond that they are dropped: they are news, and
/// what must be known is in the status.
const BACKLOG: usize = 4096;
/// Longest wait for an answer about one.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(15);

/// Where events go.
#[derive(Clone)]
pub struct EventSink(mpsc::Sender<(ObjectReference, Event)>);

impl EventSink {
    /// Starts the task that tells them. It ends, once all is told, with the last sink.
    pub fn start(client: Client, instance: Option<String>) -> (Self, tokio::task::JoinHandle<()>) {
        let (sender, mut receiver) = mpsc::channel::<(ObjectReference, Event)>(BACKLOG);
        let reporter = Reporter {
            controller: names::OPERATOR.into(),
            instance,
        };
        let recorder = Recorder::new(client, reporter);
        let task = tokio::spawn(async move {
            while let Some((reference, event)) = receiver.recv().await {
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
        (Self(sender), task)
    }

    /// Tells an event about an object.
    pub fn send(&self, about: ObjectReference, event: Event) {
        if self.0.try_send((about, event)).is_err() {
            warn!("too many events at once; one was dropped");
        }
    }

    /// Publishes a note of a reconcile as a log line and as an event on the group.
    pub fn note(&self, namespace: &str, group: &str, uid: &str, note: Note) {
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
