//! Watches that end: whether they start again, and what the user sees.

use super::{Access, ClusterError, Session};
use crate::terminal::{escape_control, report};
use kube::runtime::watcher;
use std::time::Duration;

/// How long to wait before a lost watch starts again.
const RECONNECT: Duration = Duration::from_secs(1);
/// The statuses of responses that stay the same until a user acts.
const FATAL: [u16; 3] = [401, 403, 404];

/// Retries a watch, and reports only the first of several failures.
#[derive(Default)]
pub(crate) struct WatchRetries {
    reported: bool,
}

impl WatchRetries {
    /// Records that the watch works.
    pub fn recovered(&mut self) {
        self.reported = false;
    }

    /// Reports a failure, and waits before the watch starts again.
    ///
    /// # Errors
    /// Returns an error if another attempt is useless.
    pub async fn failed(
        &mut self,
        error: watcher::Error,
        access: Access,
        session: &Session,
    ) -> Result<(), ClusterError> {
        let cause = match watch_failure(error, access, session) {
            Some((cause, true)) => return Err(cause),
            Some((cause, false)) => Some(cause),
            None => None,
        };
        if let Some(cause) = cause
            && !self.reported
        {
            self.reported = true;
            report(&escape_control(&format!("warning: {cause}; trying again")));
        }
        tokio::time::sleep(RECONNECT).await;
        Ok(())
    }
}

/// Classifies the failure of a watch. Returns whether another attempt is useless until a user acts.
/// Returns `None` if the watch only starts again from a new list, which is not a loss.
pub(crate) fn watch_failure(
    error: watcher::Error,
    access: Access,
    session: &Session,
) -> Option<(ClusterError, bool)> {
    match error {
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => None,
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => {
            let is_fatal = is_fatal(&error);
            let cause = ClusterError::of_request(error, access, &session.server);
            Some((cause, is_fatal))
        }
    }
}

/// Returns whether a watch that failed with this error cannot start again until a user acts.
fn is_fatal(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => FATAL.contains(&status.code),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    #[test]
    fn only_missing_permissions_and_kinds_end_a_watch() {
        for (code, expected) in [
            (401, true),
            (403, true),
            (404, true),
            (410, false),
            (429, false),
            (500, false),
            (503, false),
        ] {
            let status = serde_json::json!({ "status": "Failure", "code": code });
            let status: Status = serde_json::from_value(status).unwrap();
            let error = kube::Error::Api(status.boxed());
            assert_eq!(is_fatal(&error), expected, "{code}");
        }
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert!(!is_fatal(&kube::Error::Service(refused.into())));
    }
}
