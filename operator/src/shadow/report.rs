//! The report about the shadow policy of a group, and the condition `ShadowAgrees` that shows it.

use crate::plan::{ShadowStatus, describe_policy};
use crate::policy_metrics::ShadowOutcome;
use crate::policy_source::PolicyProblem;
use oaat_api::reasons::shadow_agrees;
use oaat_api::text;
use oaat_api::{ConditionStatus, PolicyInUse, Timestamp};

/// The maximum length of the description of a difference, in bytes.
const MAX_DESCRIPTION: usize = 512;

/// A decision that the shadow policy would not have made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Disagreement {
    /// The time of the decision.
    pub at: Timestamp,
    /// The sha256 of the request.
    pub request_sha256: String,
    /// What the shadow policy would do: "would …".
    pub description: String,
}

/// Whether the shadow policy can be evaluated.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ShadowState {
    /// It is being loaded, or its settings have not been checked yet.
    Loading,
    /// It cannot be loaded, or rejects its settings.
    NotUsable(PolicyProblem),
    /// It is loaded, and accepts its settings.
    Usable(PolicyInUse),
}

/// The numbers of decisions since the report began, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    agreed: u64,
    differed: u64,
    failed: u64,
    skipped: u64,
}

/// The results of the shadow policy of a group since this process started or the policy changed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ShadowReport {
    /// Whether it can be evaluated.
    pub state: ShadowState,
    since: Timestamp,
    counts: Counts,
    latest: Option<Disagreement>,
}

impl ShadowReport {
    /// Creates a report without decisions.
    pub fn new(since: Timestamp) -> Self {
        Self {
            state: ShadowState::Loading,
            since,
            counts: Counts::default(),
            latest: None,
        }
    }

    /// Counts a decision. `disagreement` describes it, unless the policies agree.
    pub fn record(&mut self, outcome: ShadowOutcome, disagreement: Option<Disagreement>) {
        let count = match outcome {
            ShadowOutcome::Agrees => &mut self.counts.agreed,
            ShadowOutcome::Differs => &mut self.counts.differed,
            ShadowOutcome::Failed => &mut self.counts.failed,
            ShadowOutcome::Skipped => &mut self.counts.skipped,
        };
        *count = count.saturating_add(1);
        if let Some(mut disagreement) = disagreement {
            disagreement.description = text::clean(&disagreement.description, MAX_DESCRIPTION);
            self.latest = Some(disagreement);
        }
    }

    /// Returns whether a decision was compared.
    pub fn has_compared(&self) -> bool {
        let Counts {
            agreed,
            differed,
            failed,
            ..
        } = self.counts;
        agreed > 0 || differed > 0 || failed > 0
    }

    /// Returns the condition.
    pub fn condition(&self) -> ShadowStatus {
        use ConditionStatus::{False, True, Unknown};
        let (status, reason, message) = match &self.state {
            ShadowState::Loading => (
                Unknown,
                shadow_agrees::LOADING,
                "the shadow policy is being read and compiled".to_owned(),
            ),
            ShadowState::NotUsable(problem) => (
                Unknown,
                shadow_agrees::NOT_USABLE,
                format!(
                    "{}: {}; the shadow policy is not evaluated until this is fixed",
                    problem.reason, problem.message
                ),
            ),
            ShadowState::Usable(policy) => {
                let (status, reason) = match self.counts {
                    Counts { failed: 1.., .. } => (False, shadow_agrees::FAILED),
                    Counts { differed: 1.., .. } => (False, shadow_agrees::DIFFERS),
                    Counts { agreed: 1.., .. } => (True, shadow_agrees::AGREES),
                    Counts { .. } => (Unknown, shadow_agrees::NOT_COMPARED),
                };
                (status, reason, self.describe(policy))
            }
        };
        ShadowStatus {
            status,
            reason,
            message,
        }
    }

    fn describe(&self, policy: &PolicyInUse) -> String {
        let Counts {
            agreed,
            differed,
            failed,
            skipped,
        } = self.counts;
        let compared = agreed.saturating_add(differed).saturating_add(failed);
        let since = self.since.seconds();
        let mut message = if compared == 0 {
            format!("since {since}, no decision was compared")
        } else {
            format!("since {since}, {agreed} of {compared} decisions agreed")
        };
        let also = [(differed, "differed"), (failed, "failed")];
        for (count, what) in also.into_iter().filter(|(count, _)| *count > 0) {
            message.push_str(&format!(", {count} {what}"));
        }
        if skipped > 0 {
            message.push_str(&format!("; {skipped} skipped"));
        }
        if let Some(latest) = &self.latest {
            let request = latest.request_sha256.get(..12).unwrap_or_default();
            message.push_str(&format!(
                "; at {} (request {request}), it {}",
                latest.at, latest.description
            ));
        }
        format!("{message}; the shadow is {}", describe_policy(policy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usable() -> ShadowReport {
        ShadowReport {
            state: ShadowState::Usable(PolicyInUse {
                source: "ConfigMap new, key policy.wasm".into(),
                digest: "5ea1".into(),
                contract: "1.0.0".into(),
                instead_of: None,
            }),
            ..ShadowReport::new(Timestamp(0))
        }
    }

    fn disagreement(description: &str) -> Option<Disagreement> {
        Some(Disagreement {
            at: Timestamp(60_000),
            request_sha256: "0123456789abcdef".into(),
            description: description.into(),
        })
    }

    #[test]
    fn condition_follows_from_the_state_and_the_counts() {
        use ConditionStatus::{False, True, Unknown};
        let mut report = ShadowReport::new(Timestamp(0));
        let shows = |report: &ShadowReport| {
            let ShadowStatus { status, reason, .. } = report.condition();
            (status, reason)
        };
        assert_eq!(shows(&report), (Unknown, shadow_agrees::LOADING));
        report = usable();
        report.record(ShadowOutcome::Skipped, None);
        assert_eq!(shows(&report), (Unknown, shadow_agrees::NOT_COMPARED));
        for (outcome, expected) in [
            (ShadowOutcome::Agrees, (True, shadow_agrees::AGREES)),
            (ShadowOutcome::Differs, (False, shadow_agrees::DIFFERS)),
            // A difference is not forgotten.
            (ShadowOutcome::Agrees, (False, shadow_agrees::DIFFERS)),
            (ShadowOutcome::Failed, (False, shadow_agrees::FAILED)),
            (ShadowOutcome::Differs, (False, shadow_agrees::FAILED)),
        ] {
            report.record(outcome, None);
            assert_eq!(shows(&report), expected, "{outcome:?}");
        }
        let problem = PolicyProblem::new("SourceNotFound", "ConfigMap x".into());
        report.state = ShadowState::NotUsable(problem);
        assert_eq!(shows(&report), (Unknown, shadow_agrees::NOT_USABLE));
    }

    #[test]
    fn message_has_the_counts_and_the_latest_difference() {
        let mut report = usable();
        assert_eq!(
            report.condition().message,
            "since 1970-01-01T00:00:00Z, no decision was compared; the shadow is the policy from ConfigMap new, \
             key policy.wasm (contract 1.0.0, sha256 5ea1)"
        );
        report.record(ShadowOutcome::Agrees, None);
        report.record(ShadowOutcome::Skipped, None);
        report.record(ShadowOutcome::Failed, disagreement("would fail"));
        let differs = disagreement("would start \"b\" instead of \"a\"");
        report.record(ShadowOutcome::Differs, differs);
        assert_eq!(
            report.condition().message,
            "since 1970-01-01T00:00:00Z, 1 of 3 decisions agreed, 1 differed, 1 failed; 1 skipped; \
             at 1970-01-01T00:01:00Z (request 0123456789ab), it would start \"b\" instead of \"a\"; \
             the shadow is the policy from ConfigMap new, key policy.wasm (contract 1.0.0, sha256 5ea1)"
        );
    }

    #[test]
    fn description_of_a_difference_is_bounded() {
        let mut report = usable();
        report.record(ShadowOutcome::Differs, disagreement(&"x\n".repeat(9000)));
        let message = report.condition().message;
        assert!(message.len() < 1024 && !message.contains('\n'), "{message}");
    }
}
