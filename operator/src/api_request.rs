//! Timeouts for requests to the API server, and the classification of their errors.

use crate::cluster::ClusterError;
use oaat_api::text;
use std::time::Duration;

/// The maximum time of a request.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Waits for the response to a request for at most 15 seconds.
///
/// # Errors
/// Returns an error if the request fails or times out; see [`classify_error`].
pub(crate) async fn with_timeout<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ClusterError> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(classify_error(error)),
        Err(_) => Err(ClusterError::Unavailable(format!(
            "no response within {} seconds",
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
        return ClusterError::NamespaceTerminating;
    }
    let message = text::clean(&status.message, text::MESSAGE);
    match status.code {
        // Any other 404 comes from a proxy in front of the API server, and says nothing about the
        // object.
        404 if status.reason == "NotFound" => ClusterError::NotFound,
        409 => ClusterError::Conflict(message),
        // The quota was just created, and its status is not known yet.
        403 if status.message.contains("status unknown for quota") => {
            ClusterError::Unavailable(message)
        }
        // An admission plugin has not read yet what it needs.
        403 if status.message.ends_with("not yet ready to handle request") => {
            ClusterError::Unavailable(message)
        }
        // The operator lacks a permission, for example because an API server that has just started
        // has not read the roles yet. This concerns the operator, never the object.
        403 if unauthorized(&status.message) => ClusterError::Unavailable(message),
        // The API server has no other sign for this.
        403 if status.message.contains("is forbidden: exceeded quota: ") => {
            ClusterError::QuotaExceeded {
                counts_finished_pods: message.contains("count/pods="),
                message,
            }
        }
        code @ (400 | 403 | 413 | 422) => ClusterError::Rejected { code, message },
        code => ClusterError::Unavailable(format!("{message} ({code})")),
    }
}

/// Returns whether a 403 comes from the authorizer. Its message names the user; the message of an
/// admission plugin names only the object.
fn unauthorized(message: &str) -> bool {
    message.contains("is forbidden: User \"") && message.contains("\" cannot ")
}
