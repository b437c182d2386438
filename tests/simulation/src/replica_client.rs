//! The requests of the operator's `Cluster` as messages. The history determines when each one
//! arrives, whether it arrives, and what happens to its response.

use k8s_openapi::api::core::v1::Pod;
use oaat_api::{ItemsKey, OaatGroup};
use oaat_operator::cluster::{Cluster, ClusterError, Freshness, GroupRead};
use oaat_operator::pod::PodView;
use oaat_operator::policy_source::{PolicyRead, PolicySource};
use oaat_operator::snapshot::SourceUpdate;
use oaat_operator::snapshot::TypeRead;
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
        /// Whether to include pods of the original operator. There are none here.
        historic: bool,
    },
    /// Read a pod.
    Pod(String),
    /// Read a pod's output.
    Output(String),
    /// Read the namespace.
    NamespaceTerminating,
    /// Write the group's status.
    WriteStatus {
        /// The resource version that the group must have.
        version: String,
        /// The merge patch.
        status: Value,
    },
    /// Create a pod.
    CreatePod(Box<Pod>),
    /// Remove a pod's gate.
    OpenGate {
        /// The pod's name.
        name: String,
        /// The pod's UID.
        uid: String,
    },
    /// Delete a pod.
    DeletePod {
        /// The pod's name.
        name: String,
        /// The pod's UID.
        uid: String,
        /// The resource version that the pod must have, if any.
        version: Option<String>,
    },
}

impl Verb {
    /// Returns whether the request changes an object.
    pub fn writes(&self) -> bool {
        !matches!(
            self,
            Self::Group
                | Self::Pods { .. }
                | Self::Pod(_)
                | Self::Output(_)
                | Self::NamespaceTerminating
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
            Self::NamespaceTerminating => f.write_str("read namespace"),
            Self::WriteStatus { version, status } => match status.get("current") {
                None => write!(f, "write at {version}"),
                Some(Value::Null) => write!(f, "write at {version}: no current run"),
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

/// The response of the server.
#[derive(Clone, Debug)]
pub enum Response {
    /// The response to [`Verb::Group`].
    Group(GroupRead),
    /// The response to [`Verb::Pods`].
    Pods(Vec<Pod>),
    /// The response to [`Verb::Pod`].
    Pod(Option<Box<Pod>>),
    /// The response to [`Verb::Output`].
    Output(String),
    /// The response to [`Verb::NamespaceTerminating`].
    Ends(bool),
    /// The response to [`Verb::WriteStatus`]: the new resource version, and the group.
    Written(String, Option<Box<OaatGroup>>),
    /// The response to [`Verb::CreatePod`].
    Created(Box<Pod>),
    /// The response to the other requests.
    Done,
}

/// The result of a request, as its sender receives it.
pub type RequestResult = Result<Response, ClusterError>;

/// The requests that a replica has sent and that have no response.
#[derive(Default)]
pub struct RequestQueue {
    next: u64,
    /// The requests that were not yet handed to the network.
    pub new: Vec<(u64, Verb)>,
    /// The number of requests without a response.
    pub unanswered: usize,
    replies: HashMap<u64, RequestResult>,
    /// The OaatType in the replica's watch cache.
    pub type_: Option<TypeRead>,
    /// The group after the replica's last write, and its resource version.
    written: Option<(String, OaatGroup)>,
    /// The resource version of the group in the replica's watch cache, if it is known.
    pub watched_version: Option<String>,
}

impl RequestQueue {
    /// Delivers the response to a request.
    pub fn answer(&mut self, call: u64, reply: RequestResult) {
        self.unanswered -= 1;
        self.replies.insert(call, reply);
    }
}

/// The client of one replica.
#[derive(Clone, Default)]
pub struct ReplicaClient(Arc<Mutex<RequestQueue>>);

impl ReplicaClient {
    /// Returns the replica's requests.
    pub fn requests(&self) -> MutexGuard<'_, RequestQueue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call(&self, verb: Verb) -> RequestResult {
        let mut call = None;
        poll_fn(|_| {
            let mut requests = self.requests();
            let Some(call) = call else {
                call = Some(requests.next);
                let request = (requests.next, verb.clone());
                requests.new.push(request);
                requests.next += 1;
                requests.unanswered += 1;
                return Poll::Pending;
            };
            match requests.replies.remove(&call) {
                Some(reply) => Poll::Ready(reply),
                None => Poll::Pending,
            }
        })
        .await
    }
}

fn unexpected_response<T>() -> Result<T, ClusterError> {
    Err(ClusterError::Unavailable(
        "the response has an unexpected type".into(),
    ))
}

impl Cluster for ReplicaClient {
    async fn group(&self, _: &str, _: &str) -> Result<GroupRead, ClusterError> {
        self.requests().written = None;
        match self.call(Verb::Group).await? {
            Response::Group(group) => Ok(group),
            _ => unexpected_response(),
        }
    }

    fn take_written_group(&self, _: &str, _: &str) -> Option<OaatGroup> {
        let mut requests = self.requests();
        let watched = requests.watched_version.clone()?;
        let (_, group) = requests
            .written
            .take_if(|(version, _)| *version == watched)?;
        Some(group)
    }

    async fn pods(&self, _: &str, _: &str, historic: bool) -> Result<Vec<PodView>, ClusterError> {
        match self.call(Verb::Pods { historic }).await? {
            Response::Pods(pods) => Ok(pods.iter().map(PodView::from).collect()),
            _ => unexpected_response(),
        }
    }

    async fn pod(&self, _: &str, name: &str) -> Result<Option<Pod>, ClusterError> {
        match self.call(Verb::Pod(name.into())).await? {
            Response::Pod(pod) => Ok(pod.map(|pod| *pod)),
            _ => unexpected_response(),
        }
    }

    async fn is_namespace_terminating(&self, _: &str) -> Result<bool, ClusterError> {
        match self.call(Verb::NamespaceTerminating).await? {
            Response::Ends(ends) => Ok(ends),
            _ => unexpected_response(),
        }
    }

    async fn oaat_type(&self, _: &str, _: &str, _: Freshness) -> Result<TypeRead, ClusterError> {
        Ok(self.requests().type_.clone().unwrap_or(TypeRead::Missing))
    }

    async fn policy(&self, _: &PolicySource) -> Result<PolicyRead, ClusterError> {
        Err(ClusterError::Unavailable(
            "groups in the simulation use the built-in policy".into(),
        ))
    }

    async fn items(&self, _: &str, _: &ItemsKey, _: bool) -> SourceUpdate {
        // The only source that a group here may have is a pod.
        SourceUpdate::Nothing
    }

    async fn output(&self, _: &str, pod: &str, _: &str) -> Result<String, ClusterError> {
        match self.call(Verb::Output(pod.into())).await? {
            Response::Output(text) => Ok(text),
            _ => unexpected_response(),
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
        self.requests().written = None;
        match self.call(Verb::WriteStatus { version, status }).await? {
            Response::Written(version, group) => {
                self.requests().written = group.map(|group| (version.clone(), *group));
                Ok(version)
            }
            _ => unexpected_response(),
        }
    }

    async fn create_pod(&self, _: &str, pod: &Value) -> Result<Pod, ClusterError> {
        let pod = serde_json::from_value(pod.clone())
            .map_err(|error| ClusterError::Unavailable(error.to_string()))?;
        match self.call(Verb::CreatePod(Box::new(pod))).await? {
            Response::Created(pod) => Ok(*pod),
            _ => unexpected_response(),
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
