//! The verbs of the operator's `Cluster`, as messages: the history decides when each arrives,
//! whether it does, and what becomes of the answer.

use k8s_openapi::api::core::v1::Pod;
use oaat_api::ItemsKey;
use oaat_operator::cluster::{Cluster, ClusterError, GroupRead, TypeRead};
use oaat_operator::item_sources::SourceUpdate;
use oaat_operator::pod::PodView;
use oaat_operator::policies::{PolicyRead, Source};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

/// A request.
#[derive(Clone, Debug)]
pub enum Verb {
    /// Read the group.
    Group,
    /// List its pods.
    Pods {
        /// Also those of the first implementation; there are none here.
        historic: bool,
    },
    /// Read a pod.
    Pod(String),
    /// Read what a pod has printed.
    Output(String),
    /// Read the namespace.
    NamespaceEnds,
    /// Write the group's status.
    WriteStatus {
        /// The resource version that the group must have.
        version: String,
        /// The merge patch.
        status: Value,
    },
    /// Create a pod.
    CreatePod(Box<Pod>),
    /// Open a pod's gate.
    OpenGate {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// Delete a pod.
    DeletePod {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
        /// Its resource version, if it matters.
        version: Option<String>,
    },
}

impl Verb {
    /// Whether it changes anything.
    pub fn writes(&self) -> bool {
        !matches!(
            self,
            Self::Group | Self::Pods { .. } | Self::Pod(_) | Self::Output(_) | Self::NamespaceEnds
        )
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group => f.write_str("read group"),
            Self::Pods { .. } => f.write_str("list pods"),
            Self::Pod(name) => write!(f, "read pod {name}"),
            Self::Output(name) => write!(f, "read output of {name}"),
            Self::NamespaceEnds => f.write_str("read namespace"),
            Self::WriteStatus { version, status } => match status.get("current") {
                None => write!(f, "write at {version}"),
                Some(Value::Null) => write!(f, "write at {version}: no run in progress"),
                Some(current) => {
                    let (run, uid) = (&current["run"], &current["podUid"]);
                    write!(f, "write at {version}: run {run} in {uid}")
                }
            },
            Self::CreatePod(pod) => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                write!(f, "create {name}")
            }
            Self::OpenGate { uid, .. } => write!(f, "open {uid}"),
            Self::DeletePod { uid, .. } => write!(f, "delete {uid}"),
        }
    }
}

/// What the server says.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Verb::Group`].
    Group(GroupRead),
    /// To [`Verb::Pods`].
    Pods(Vec<Pod>),
    /// To [`Verb::Pod`].
    Pod(Option<Box<Pod>>),
    /// To [`Verb::Output`].
    Output(String),
    /// To [`Verb::NamespaceEnds`].
    Ends(bool),
    /// To [`Verb::WriteStatus`]: the new resource version.
    Written(String),
    /// To [`Verb::CreatePod`].
    Created(Box<Pod>),
    /// To the others.
    Done,
}

/// The end of a request, as its sender sees it.
pub type Reply = Result<Answer, ClusterError>;

/// Requests that a replica has made and not yet had answered.
#[derive(Default)]
pub struct Mailbox {
    next: u64,
    /// Made since the last look.
    pub made: Vec<(u64, Verb)>,
    /// Made and not answered.
    pub open: usize,
    replies: HashMap<u64, Reply>,
    /// What the replica knows of the type, from its watch.
    pub type_: Option<TypeRead>,
}

impl Mailbox {
    /// Answers a request.
    pub fn answer(&mut self, call: u64, reply: Reply) {
        self.open -= 1;
        self.replies.insert(call, reply);
    }
}

/// The cluster as one replica reaches it.
#[derive(Clone, Default)]
pub struct Wire(Arc<Mutex<Mailbox>>);

impl Wire {
    /// The replica's requests.
    pub fn mailbox(&self) -> MutexGuard<'_, Mailbox> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call(&self, verb: Verb) -> Reply {
        let mut call = None;
        poll_fn(|_| {
            let mut mailbox = self.mailbox();
            let Some(call) = call else {
                call = Some(mailbox.next);
                let made = (mailbox.next, verb.clone());
                mailbox.made.push(made);
                mailbox.next += 1;
                mailbox.open += 1;
                return Poll::Pending;
            };
            match mailbox.replies.remove(&call) {
                Some(reply) => Poll::Ready(reply),
                None => Poll::Pending,
            }
        })
        .await
    }
}

fn odd<T>() -> Result<T, ClusterError> {
    Err(ClusterError::Unavailable(
        "an answer of another kind".into(),
    ))
}

impl Cluster for Wire {
    async fn group(&self, _: &str, _: &str) -> Result<GroupRead, ClusterError> {
        match self.call(Verb::Group).await? {
            Answer::Group(group) => Ok(group),
            _ => odd(),
        }
    }

    async fn pods(&self, _: &str, _: &str, historic: bool) -> Result<Vec<PodView>, ClusterError> {
        match self.call(Verb::Pods { historic }).await? {
            Answer::Pods(pods) => Ok(pods.iter().map(PodView::from).collect()),
            _ => odd(),
        }
    }

    async fn pod(&self, _: &str, name: &str) -> Result<Option<Pod>, ClusterError> {
        match self.call(Verb::Pod(name.into())).await? {
            Answer::Pod(pod) => Ok(pod.map(|pod| *pod)),
            _ => odd(),
        }
    }

    async fn namespace_ends(&self, _: &str) -> Result<bool, ClusterError> {
        match self.call(Verb::NamespaceEnds).await? {
            Answer::Ends(ends) => Ok(ends),
            _ => odd(),
        }
    }

    async fn oaat_type(&self, _: &str, _: &str) -> Result<TypeRead, ClusterError> {
        Ok(self.mailbox().type_.clone().unwrap_or(TypeRead::Missing))
    }

    async fn policy(&self, _: &Source) -> Result<PolicyRead, ClusterError> {
        Err(ClusterError::Unavailable("no group names a policy".into()))
    }

    async fn items(&self, _: &str, _: &ItemsKey, _: bool) -> SourceUpdate {
        // No group here has a source that is not a pod.
        SourceUpdate::Nothing
    }

    async fn output(&self, _: &str, pod: &str, _: &str) -> Result<String, ClusterError> {
        match self.call(Verb::Output(pod.into())).await? {
            Answer::Output(text) => Ok(text),
            _ => odd(),
        }
    }

    async fn write_status(
        &self,
        _: &str,
        _: &str,
        version: &str,
        status: Value,
    ) -> Result<String, ClusterError> {
        let version = version.to_owned();
        match self.call(Verb::WriteStatus { version, status }).await? {
            Answer::Written(version) => Ok(version),
            _ => odd(),
        }
    }

    async fn create_pod(&self, _: &str, pod: &Value) -> Result<Pod, ClusterError> {
        let pod = serde_json::from_value(pod.clone())
            .map_err(|error| ClusterError::Unavailable(error.to_string()))?;
        match self.call(Verb::CreatePod(Box::new(pod))).await? {
            Answer::Created(pod) => Ok(*pod),
            _ => odd(),
        }
    }

    async fn open_gate(&self, _: &str, name: &str, uid: &str) -> Result<(), ClusterError> {
        let (name, uid) = (name.to_owned(), uid.to_owned());
        self.call(Verb::OpenGate { name, uid }).await.map(|_| ())
    }

    async fn delete_pod(
        &self,
        _: &str,
        name: &str,
        uid: &str,
        version: Option<&str>,
    ) -> Result<(), ClusterError> {
        let verb = Verb::DeletePod {
            name: name.to_owned(),
            uid: uid.to_owned(),
            version: version.map(ToOwned::to_owned),
        };
        self.call(verb).await.map(|_| ())
    }
}
