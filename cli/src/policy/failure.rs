//! The failures of policies. All commands report them in the same words and with the same exit status.

use policy_host::{EvalError, ItemSettings, Policy};

/// A policy that rejected its settings, or made no decision. This is a result, not a failure of the
/// command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyFailure {
    /// The policy rejected the settings, with a message.
    #[error("SettingsRejected: the policy rejected the settings: {0}")]
    Settings(String),
    /// The policy failed when it validated the settings.
    #[error("SettingsRejected: validating the settings failed: {0:#}")]
    Validation(EvalError),
    /// The policy made no decision.
    #[error("{}: {error:#}", .0.reason(), error = .0)]
    NoDecision(EvalError),
}

/// The reason for rejected settings, and for a failed validation.
const SETTINGS_REJECTED: &str = "SettingsRejected";

impl PolicyFailure {
    /// Returns the reason that the operator shows in conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Settings(_) | Self::Validation(_) => SETTINGS_REJECTED,
            Self::NoDecision(error) => error.reason(),
        }
    }

    /// Returns whether a deadline interrupted the policy, which depends on the machine.
    pub fn is_interruption(&self) -> bool {
        matches!(
            self,
            Self::Validation(EvalError::Deadline(_)) | Self::NoDecision(EvalError::Deadline(_))
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
    match policy.validate(settings, items).answer {
        Ok(()) => Ok(()),
        Err(EvalError::PolicyError(message)) => Err(PolicyFailure::Settings(message)),
        Err(error) => Err(PolicyFailure::Validation(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_start_with_the_reason_of_the_operator() {
        let crash = || EvalError::Trapped("why".into());
        for (failure, text) in [
            (
                PolicyFailure::Settings("no base".into()),
                "SettingsRejected: the policy rejected the settings: no base",
            ),
            (
                PolicyFailure::Validation(crash()),
                "SettingsRejected: validating the settings failed: the policy crashed: why",
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
