//! Retries requests while the API server is busy, starting, or unreachable.

use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// How long and how often to retry a step.
pub struct Retry {
    timeout: Duration,
    /// After this time, the demo prints why it is waiting.
    report_after: Duration,
    interval: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            report_after: Duration::from_secs(5),
            interval: Duration::from_millis(500),
        }
    }
}

impl Retry {
    /// Retries a step until it succeeds, fails with a permanent error, or reaches the timeout. An error
    /// is temporary if the API server is busy, starting, or unreachable.
    pub async fn run<T>(self, mut step: impl AsyncFnMut() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let mut reported = false;
        loop {
            let error = match step().await {
                Err(error) if is_temporary(&error) => error,
                result => return result,
            };
            let elapsed = start.elapsed();
            if elapsed >= self.timeout {
                let seconds = self.timeout.as_secs();
                return Err(error)
                    .with_context(|| format!("the API server did not recover within {seconds} s"));
            }
            if elapsed >= self.report_after && !reported {
                let seconds = self.timeout.as_secs();
                println!("Waiting for the API server (timeout {seconds} s): {error:#}");
                reported = true;
            }
            tokio::time::sleep(self.interval).await;
        }
    }
}

/// Returns whether a request may succeed later. While a CRD initializes, the API server responds with
/// 429.
fn is_temporary(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| match cause.downcast_ref() {
        Some(kube::Error::Api(status)) => matches!(status.code, 429 | 500 | 502..=504),
        Some(kube::Error::Service(_) | kube::Error::HyperError(_)) => true,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    /// Runs a step that fails with these statuses, one after the other, and then succeeds. Returns the
    /// number of attempts, and the error if there is one.
    async fn attempts(statuses: &[u16], timeout: Duration) -> (usize, Option<String>) {
        let retry = Retry {
            timeout,
            report_after: Duration::ZERO,
            interval: Duration::ZERO,
        };
        let mut count = 0;
        let result = retry
            .run(async || {
                count += 1;
                match statuses.get(count - 1) {
                    None => Ok(()),
                    Some(code) => {
                        let status = Status::failure("storage is (re)initializing", "");
                        let error = kube::Error::Api(status.with_code(*code).boxed());
                        Err(error).context("failed to list the groups")
                    }
                }
            })
            .await;
        (count, result.err().map(|error| format!("{error:#}")))
    }

    #[tokio::test]
    async fn temporary_errors_are_retried_until_the_timeout() {
        const LONG: Duration = Duration::from_secs(600);
        assert_eq!(attempts(&[429, 503, 429], LONG).await, (4, None));
        for (statuses, timeout, expected) in [
            (&[429, 403, 429][..], LONG, 2),
            (&[429, 429], Duration::ZERO, 1),
        ] {
            let (count, error) = attempts(statuses, timeout).await;
            assert_eq!(count, expected);
            let error = error.unwrap_or_default();
            assert!(error.contains("failed to list the groups"), "{error}");
            let is_late = error.contains("the API server did not recover within 0 s");
            assert_eq!(is_late, timeout.is_zero(), "{error}");
        }
    }
}
