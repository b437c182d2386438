//! What the page requests: changes of all groups, one group, its forecast, and actions.

use super::access::Access;
use super::live_groups::{Changes, LiveGroups};
use super::response::{ResponseBody, json};
use crate::cluster::{ClusterError, Session};
use crate::commands::{forecast, run, suspend};
use crate::terminal::escape_control;
use crate::views::GroupPage;
use futures::StreamExt;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use oaat_api::Timestamp;
use oaat_api::text::{self, clean};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

/// How long changes are collected before they are sent.
const COLLECT: Duration = Duration::from_millis(100);
/// How often something is sent, so that the page notices a dead connection.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The state of the server.
pub(super) struct Dashboard {
    pub access: Access,
    pub live: Arc<LiveGroups>,
    pub session: Session,
    /// The namespace of the groups; `None` for all.
    pub namespace: Option<String>,
    pub read_only: bool,
    /// The component of the built-in policy.
    pub built_in: Vec<u8>,
    /// Forecasts are simulated one after another.
    pub forecasts: Arc<Semaphore>,
}

/// Why a request failed, as a sentence for the user.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    #[serde(skip)]
    pub status: StatusCode,
    pub problem: String,
}

impl Problem {
    pub fn not_found() -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            problem: "page not found".to_owned(),
        }
    }

    pub fn response(&self) -> Response<ResponseBody> {
        json(self.status, self)
    }
}

impl From<ClusterError> for Problem {
    fn from(error: ClusterError) -> Self {
        let status = match error {
            ClusterError::Forbidden(_) => StatusCode::FORBIDDEN,
            ClusterError::GroupNotFound { .. }
            | ClusterError::ItemNotFound { .. }
            | ClusterError::NotInGroup { .. } => StatusCode::NOT_FOUND,
            ClusterError::Usage(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::BAD_GATEWAY,
        };
        Self {
            status,
            problem: escape_control(&error.to_string()),
        }
    }
}

/// What an event contains.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    /// Whether this is the first event, which contains all groups.
    all: bool,
    server: &'a str,
    namespace: Option<&'a str>,
    read_only: bool,
    #[serde(flatten)]
    changes: Changes,
}

/// The body of a request to run an item.
#[derive(Deserialize)]
struct RunRequest {
    item: String,
}

/// The body of a request to suspend a group.
#[derive(Deserialize)]
struct SuspendRequest {
    reason: String,
}

/// The answer to a successful action.
#[derive(Serialize)]
struct Done {
    message: String,
}

impl Dashboard {
    /// Returns a stream of server-sent events: first all groups, and then what changes.
    pub fn events(self: &Arc<Self>) -> Response<ResponseBody> {
        let start = (self.clone(), self.live.revisions(), 0);
        let events =
            futures::stream::unfold(start, |(dashboard, mut revisions, seen)| async move {
                let is_new = seen == 0 || until_changed(&mut revisions).await?;
                let (seen, event) = if is_new {
                    dashboard.event_since(seen)
                } else {
                    (seen, ": nothing has changed\n\n".to_owned())
                };
                let frame = Frame::data(Bytes::from(event));
                Some((Ok::<_, Infallible>(frame), (dashboard, revisions, seen)))
            });
        let body = StreamBody::new(events.boxed());
        let mut response = Response::new(body.boxed_unsync());
        let content_type = HeaderValue::from_static("text/event-stream");
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, content_type);
        response
    }

    /// Returns the latest revision, and the event with what has changed since an earlier one.
    fn event_since(&self, seen: u64) -> (u64, String) {
        let (revision, changes) = self.live.changes_since(seen);
        let event = Event {
            all: seen == 0,
            server: &self.session.server,
            namespace: self.namespace.as_deref(),
            read_only: self.read_only,
            changes,
        };
        // JSON has no line ends outside of strings, where they are escaped.
        let json = serde_json::to_string(&event).unwrap_or_default();
        (revision, format!("data: {json}\n\n"))
    }

    /// Returns a group with its items.
    pub fn group(&self, namespace: &str, name: &str) -> Result<Response<ResponseBody>, Problem> {
        let read = self.live.get(namespace, name);
        let read = read.ok_or_else(|| Problem {
            status: StatusCode::NOT_FOUND,
            problem: format!(
                "group {} does not exist in namespace {}",
                text::name(name),
                text::name(namespace)
            ),
        })?;
        match &read.group {
            Ok(group) => Ok(json(
                StatusCode::OK,
                &GroupPage::of(group, Timestamp::now()),
            )),
            Err(problem) => Err(ClusterError::Undecodable {
                name: name.to_owned(),
                problem: problem.clone(),
            }
            .into()),
        }
    }

    /// Returns the forecast of the next day of a group.
    pub async fn forecast(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Response<ResponseBody>, Problem> {
        let session = self.session_in(namespace)?;
        let day = forecast::next_day(&session, name, &self.built_in, &self.forecasts).await?;
        Ok(json(StatusCode::OK, &day))
    }

    /// Runs an item, or suspends or resumes a group.
    pub async fn act(
        &self,
        namespace: &str,
        name: &str,
        action: &str,
        body: &[u8],
    ) -> Result<Response<ResponseBody>, Problem> {
        if self.read_only {
            return Err(Problem {
                status: StatusCode::FORBIDDEN,
                problem: "the dashboard was started with --read-only".to_owned(),
            });
        }
        let session = self.session_in(namespace)?;
        let message = match action {
            "run" => {
                let RunRequest { item } = parse(body)?;
                run::run_item(&session, name, &item).await?;
                format!("Requested a run of {}.", text::name(&item))
            }
            "suspend" => {
                let SuspendRequest { reason } = parse(body)?;
                let reason = clean(&reason, text::PROBLEM);
                if reason.is_empty() {
                    let problem = "the reason must not be empty".to_owned();
                    return Err(ClusterError::Usage(problem).into());
                }
                let user = suspend::user(&session).await?;
                suspend::suspend_group(&session, name, &reason, &user).await?;
                format!("Suspended {}.", text::name(name))
            }
            "resume" if suspend::resume_group(&session, name).await? => {
                format!("Resumed {}.", text::name(name))
            }
            "resume" => format!("{} was not suspended.", text::name(name)),
            _ => return Err(Problem::not_found()),
        };
        Ok(json(StatusCode::OK, &Done { message }))
    }

    /// Returns the session for another namespace, if the page shows it.
    fn session_in(&self, namespace: &str) -> Result<Session, Problem> {
        let is_shown = self.namespace.as_deref().is_none_or(|own| own == namespace);
        if !is_shown {
            return Err(Problem::not_found());
        }
        let mut session = self.session.clone();
        session.namespace = namespace.to_owned();
        Ok(session)
    }
}

/// Waits for a change, and collects those that follow at once. Returns false if there is none for a
/// while, and `None` if there will be none.
async fn until_changed(revisions: &mut watch::Receiver<u64>) -> Option<bool> {
    match timeout(HEARTBEAT, revisions.changed()).await {
        Ok(changed) => {
            changed.ok()?;
            sleep(COLLECT).await;
            revisions.mark_unchanged();
            Some(true)
        }
        Err(_) => Some(false),
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let problem = clean(&error.to_string(), text::PROBLEM);
        ClusterError::Usage(format!("the request is invalid: {problem}")).into()
    })
}
