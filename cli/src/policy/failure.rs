//! The failures of policies. All commands report them in the same words and with the same exit status.

use oaat_api::reasons::policy_ready::SETTINGS_REJECTED;
use policy_host::{EvalError, ItemSettings, Policy};

/// A policy that rejected its settings, or made no decision. This is a result, not a failure of the
/// command.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum PolicyFailure {
    /// The policy rejected the settings, or failed when it validated them.
    #[error("{SETTINGS_REJECTED}: {}", .0.settings_problem())]
    Settings(EvalError),
    /// The policy made no decision.
    #[error("{}: {error:#}", .0.reason(), error = .0)]
    NoDecision(EvalError),
}

impl PolicyFailure {
    /// Returns the reason that the operator shows in conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Settings(_) => SETTINGS_REJECTED,
            Self::NoDecision(error) => error.reason(),
        }
    }

    /// Returns whether a deadline interrupted the policy, which depends on the machine.
    pub fn is_interruption(&self) -> bool {
        matches!(
            self,
            Self::Settings(EvalError::Deadline(_)) | Self::NoDecision(EvalError::Deadline(_))
        )
    }
}

/// Validates settings. The operator does not evaluate a policy with settings that the policy
/// rejects.
pub(crate) fn validate(
    policy: &Policy,
    settings: &str,
    items: &[ItemSettings],
) -> Result<(), PolicyFailure> {
    let validation = policy.validate(settings, items);
    validation.answer.map_err(PolicyFailure::Settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_start_with_the_reason_of_the_operator() {
        let crash = || EvalError::Trapped("why".into());
        for (failure, text) in [
            (
                PolicyFailure::Settings(EvalError::PolicyError("no base".into())),
                "SettingsRejected: the policy rejects its settings: no base",
            ),
            (
                PolicyFailure::Settings(crash()),
                "SettingsRejected: failed to check the settings: the policy crashed: why",
            ),
            (
                PolicyFailure::NoDecision(crash()),
                "Trapped: the policy crashed: why",
            ),
        ] {
            assert_eq!(failure.to_string(), text);
            assert!(text.starts_with(&format!("{}: ", failure.reason())));
        }
    }
}
