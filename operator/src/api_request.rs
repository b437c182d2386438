//! Bounds requests to the API server in time, and classifies their errors.

use crate::cluster::ClusterError;
use oaat_api::text;
use std::time::Duration;

/// The maximum time of a request.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Waits for a response of the API server, for a limited time.
///
/// # Errors
/// The class of the error ([`classify_error`]).
pub(crate) async fn with_timeout<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ClusterError> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(classify_error(error)),
        Err(_) => Err(ClusterError::Unavailable(format!(
            "no answer within {} seconds",
            TIMEOUT.as_secs()
        ))),
    }
}

/// Classifies an error of the API server.
pub(crate) fn classify_error(error: kube::Error) -> ClusterError {
    let kube::Error::Api(status) = error else {
        return ClusterError::Unavailable(text::clean(&error.to_string(), text::MESSAGE));
    };
    let causes = status
        .details
        .as_ref()
        .map(|d| d.causes.as_slice())
        .unwrap_or_default();
    if causes
        .iter()
        .any(|cause| cause.reason == "NamespaceTerminating")
    {
        return ClusterError::NamespaceEnds;
    }
    let message = text::clean(&status.message, text::MESSAGE);
    match status.code {
        // Any other 404 comes from something between us and the API server, and says nothing
        // about the object.
        404 if status.reason == "NotFound" => ClusterError::NotFound,
        409 => ClusterError::Conflict(message),
        // A quota that was made a moment ago: the server does not know yet.
        403 if status.message.contains("status unknown for quota") => {
            ClusterError::Unavailable(message)
        }
        // An admission plugin that has not yet seen what it judges by.
        403 if status.message.ends_with("not yet ready to handle request") => {
            ClusterError::Unavailable(message)
        }
        // The operator itself has not the right, as with an API server that has just been started
        // and knows no roles yet: that is about the operator and never about the object.
        403 if unauthorized(&status.message) => ClusterError::Unavailable(message),
        code @ (400 | 403 | 413 | 422) => ClusterError::Rejected { code, message },
        code => ClusterError::Unavailable(format!("{message} ({code})")),
    }
}

/// Whether a 403 comes from the authorizer: admission names the object, and not who asked.
fn unauthorized(message: &str) -> bool {
    message.contains("is forbidden: User \"") && message.contains("\" cannot ")
}
