//! Errors of requests to a cluster, each in one sentence.

use super::response_limit::{EventTooLarge, MAX_RESPONSE};
use http_body_util::LengthLimitError;
use oaat_api::run_now;
use oaat_api::text::{self, clean};
use policy_cases::Similar;
use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

/// The status of a response to a user without valid credentials.
const UNAUTHORIZED: u16 = 401;
/// The status of a response to a user without the permission.
const FORBIDDEN: u16 = 403;
/// The status of a response about something that does not exist.
const NOT_FOUND: u16 = 404;
/// The lowest status of a response that does not blame the request.
const SERVER_ERROR: u16 = 500;

/// A kind of request, for the error if it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// The verb in RBAC, such as `list`.
    pub verb: &'static str,
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The resource, such as `pods` or `pods/log`.
    pub resource: &'static str,
    /// The namespace, or `None` for all namespaces and for resources without a namespace.
    pub namespace: Option<String>,
}

impl Access {
    /// Returns an access to OaatGroups.
    pub fn groups(verb: &'static str, namespace: Option<&str>) -> Self {
        Self::new(verb, "kawaja.net", "oaatgroups", namespace)
    }

    pub fn new(
        verb: &'static str,
        group: &'static str,
        resource: &'static str,
        namespace: Option<&str>,
    ) -> Self {
        Self {
            verb,
            group,
            resource,
            namespace: namespace.map(str::to_owned),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (resource, subresource) = match self.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource)),
            None => (self.resource, None),
        };
        write!(f, "{} {resource}", self.verb)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if let Some(subresource) = subresource {
            write!(f, "/{subresource}")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace:?}"),
            None => f.write_str(" in all namespaces"),
        }
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    /// There is no usable kubeconfig.
    #[error("no cluster is configured ({0}); set KUBECONFIG, or use --kubeconfig or --context")]
    NoCluster(String),
    /// The API server does not respond.
    #[error("failed to reach the API server {server}: {cause}; check the address and the network")]
    Unreachable { server: String, cause: String },
    /// The API server did not respond in time.
    #[error(
        "the API server did not respond within {}; use a longer --request-timeout",
        humantime::format_duration(*.0)
    )]
    Timeout(Duration),
    /// The credentials are not valid.
    #[error("the API server rejected your credentials; log in again, or use another --context")]
    Unauthorized,
    /// The user may not do this.
    #[error("you do not have permission to {0}; ask a cluster administrator for it")]
    Forbidden(Access),
    /// The CustomResourceDefinitions are missing.
    #[error(
        "the cluster does not have the kind OaatGroup of kawaja.net/v1; install the chart, or apply \
         manifests/01-oaat-operator-crd.yaml"
    )]
    NotInstalled,
    /// There is no such group.
    #[error("the group {} does not exist in namespace {namespace:?}{similar}", text::name(.name))]
    GroupNotFound {
        name: String,
        namespace: String,
        similar: Similar,
    },
    /// No group has this item.
    #[error(
        "no group in namespace {namespace:?} has the item {}{undecodable}{similar}",
        text::name(.item)
    )]
    ItemNotFound {
        item: String,
        namespace: String,
        undecodable: UndecodableGroups,
        similar: Similar,
    },
    /// The given group does not have this item.
    #[error("group {} has no item {}{similar}", text::name(.group), text::name(.item))]
    NotInGroup {
        item: String,
        group: String,
        similar: Similar,
    },
    /// Several groups have this item.
    #[error(
        "the item {} is in several groups ({}); choose one with --group",
        text::name(.item),
        text::list(.groups, ", ", text::NAME)
    )]
    AmbiguousItem { item: String, groups: Vec<String> },
    /// The group cannot be decoded.
    #[error(
        "the group {} cannot be decoded: {problem}; correct it, or use a newer kubectl-oaat",
        text::name(.name)
    )]
    Undecodable { name: String, problem: String },
    /// Another error of the API server. `code` is the HTTP status; `None` if the response of a
    /// successful request cannot be decoded.
    #[error("failed to {access}: {problem}")]
    Rejected {
        access: Access,
        code: Option<u16>,
        problem: String,
    },
    /// A request to run items failed, and it is unknown whether it took effect.
    #[error(
        "{cause}; the request may be in effect, so read the annotation {} of the group {} before \
         you run this again",
        run_now::ANNOTATION,
        text::name(.group)
    )]
    Unconfirmed {
        group: String,
        cause: Box<ClusterError>,
    },
    /// A conflict, after several attempts.
    #[error("the group {} changes too often to be updated; try again", text::name(.0))]
    Conflict(String),
    /// The connection was lost while a log was read.
    #[error("the log is incomplete, because the connection was lost: {0}")]
    IncompleteLog(String),
    /// The output could not be written.
    #[error("failed to write the output: {0}")]
    Output(#[from] std::io::Error),
    /// What the user asked for is not possible.
    #[error("{0}")]
    Usage(String),
}

impl ClusterError {
    /// Classifies the error of a request.
    pub fn of_request(error: kube::Error, access: Access, server: &str) -> Self {
        let status = match error {
            kube::Error::Api(status) => status,
            kube::Error::SerdeError(problem) => {
                let problem = format!("the response cannot be decoded: {problem}");
                return Self::rejected(access, None, &problem);
            }
            kube::Error::Service(problem) if problem.is::<LengthLimitError>() => {
                return Self::too_large(access, "the response");
            }
            kube::Error::ReadEvents(problem) if is_event_too_large(&problem) => {
                return Self::too_large(access, "a watch event");
            }
            other => {
                return Self::Unreachable {
                    server: server.to_owned(),
                    cause: innermost(&other),
                };
            }
        };
        // A 404 about a missing object names it. One about a missing resource does not.
        let names_object = status
            .details
            .as_ref()
            .is_some_and(|details| !details.name.is_empty());
        match status.code {
            UNAUTHORIZED => Self::Unauthorized,
            FORBIDDEN if status.reason == "Forbidden" && !names_quota(&access) => {
                Self::Forbidden(access)
            }
            NOT_FOUND if access.group == "kawaja.net" && !names_object => Self::NotInstalled,
            // A proxy may respond without a body.
            code if status.message.is_empty() => {
                let problem = format!("the API server responded with HTTP status {code}");
                Self::rejected(access, Some(code), &problem)
            }
            code => Self::rejected(access, Some(code), &status.message),
        }
    }

    /// Returns whether the reader of the output has closed the pipe.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == ErrorKind::BrokenPipe)
    }

    /// Returns whether an object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::Rejected {
                code: Some(NOT_FOUND),
                ..
            }
        )
    }

    /// Returns whether a write may have taken effect although it failed, because the response was
    /// lost, late, or written by a proxy.
    pub fn may_have_taken_effect(&self) -> bool {
        match self {
            Self::Timeout(_) | Self::Unreachable { .. } => true,
            Self::Rejected { code, .. } => code.is_none_or(|code| code >= SERVER_ERROR),
            _ => false,
        }
    }

    /// Returns the error for a part of a response that exceeds the limit.
    fn too_large(access: Access, what: &str) -> Self {
        let limit = MAX_RESPONSE >> 20;
        let problem = format!("{what} is larger than {limit} MiB; reduce the size of the objects");
        Self::rejected(access, None, &problem)
    }

    /// Returns an error with a message of the API server.
    fn rejected(access: Access, code: Option<u16>, problem: &str) -> Self {
        Self::Rejected {
            access,
            code,
            problem: clean(problem, text::MESSAGE),
        }
    }
}

/// Returns whether a watch failed because an event exceeds the limit.
fn is_event_too_large(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(kube::Error::Service(problem)) if problem.is::<EventTooLarge>())
}

/// Returns whether a 403 may be about a quota instead of a permission. Only creating an object of the
/// core group can exceed a quota.
fn names_quota(access: &Access) -> bool {
    access.verb == "create" && access.group.is_empty()
}

/// Returns the innermost cause, which is the most specific one.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    clean(&cause.to_string(), text::PROBLEM)
}

/// Groups that cannot be decoded, so that their items are unknown.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct UndecodableGroups(pub Vec<String>);

impl fmt::Display for UndecodableGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        let names = text::list(&self.0, ", ", text::NAME);
        write!(f, ", but these groups cannot be decoded: {names}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn api_error(code: u16, reason: &str, name: &str) -> kube::Error {
        let status = serde_json::json!({
            "status": "Failure", "code": code, "reason": reason, "message": "no\u{1b}[31m",
            "details": { "name": name },
        });
        let status: Status = serde_json::from_value(status).unwrap();
        kube::Error::Api(status.boxed())
    }

    #[test]
    fn response_becomes_one_sentence_that_names_the_fix() {
        for (code, reason, name, verb, expected) in [
            (
                401,
                "Unauthorized",
                "",
                "list",
                "the API server rejected your credentials; log in again, or use another --context",
            ),
            (
                403,
                "Forbidden",
                "backup",
                "patch",
                "you do not have permission to patch oaatgroups.kawaja.net in namespace \"a\"; ask \
                 a cluster administrator for it",
            ),
            (
                404,
                "NotFound",
                "",
                "list",
                "the cluster does not have the kind OaatGroup of kawaja.net/v1; install the chart, or \
                 apply manifests/01-oaat-operator-crd.yaml",
            ),
            (
                409,
                "Conflict",
                "backup",
                "patch",
                "failed to patch oaatgroups.kawaja.net in namespace \"a\": no [31m",
            ),
        ] {
            let access = Access::groups(verb, Some("a"));
            let error = ClusterError::of_request(api_error(code, reason, name), access, "server");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn response_without_a_message_is_described_by_its_status() {
        let status = Status::failure("", "Failed to parse error data").with_code(502);
        let error = kube::Error::Api(status.boxed());
        let error = ClusterError::of_request(error, Access::groups("watch", None), "server");
        assert_eq!(
            error.to_string(),
            "failed to watch oaatgroups.kawaja.net in all namespaces: the API server responded with \
             HTTP status 502"
        );
    }

    #[test]
    fn write_without_a_definite_response_may_have_taken_effect() {
        let response = |code: u16| {
            let error = api_error(code, "Reason", "backup");
            ClusterError::of_request(error, Access::groups("patch", Some("a")), "server")
        };
        for (error, expected) in [
            (ClusterError::Timeout(Duration::from_secs(1)), true),
            (response(504), true),
            (response(500), true),
            (response(422), false),
            (response(403), false),
        ] {
            assert_eq!(error.may_have_taken_effect(), expected, "{error}");
        }
        let unconfirmed = ClusterError::Unconfirmed {
            group: "backup".into(),
            cause: Box::new(ClusterError::Timeout(Duration::from_secs(30))),
        };
        assert_eq!(
            unconfirmed.to_string(),
            "the API server did not respond within 30s; use a longer --request-timeout; the \
             request may be in effect, so read the annotation oaat.kawaja.net/run-now of the group \
             backup before you run this again"
        );
    }
}
