//! The faults of policies, which all commands report in the same words and with the same exit status.

use policy_host::{EvalError, ItemSettings, Policy};

/// A policy that rejected its settings, or made no decision. This is a result, not a failure of the
/// command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
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

/// The reason of a policy that rejects or cannot validate its settings.
const SETTINGS_REJECTED: &str = "SettingsRejected";

impl Fault {
    /// Returns the reason of the operator, as in conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Settings(_) | Self::Validation(_) => SETTINGS_REJECTED,
            Self::NoDecision(error) => error.reason(),
        }
    }

    /// Reports whether a deadline interrupted the policy, which depends on the machine.
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
) -> Result<(), Fault> {
    match policy.validate(settings, items).answer {
        Ok(()) => Ok(()),
        Err(EvalError::PolicyError(message)) => Err(Fault::Settings(message)),
        Err(error) => Err(Fault::Validation(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_start_with_the_reason_of_the_operator() {
        let crash = || EvalError::Trapped("why".into());
        for (fault, text) in [
            (
                Fault::Settings("no base".into()),
                "SettingsRejected: the policy rejected the settings: no base",
            ),
            (
                Fault::Validation(crash()),
                "SettingsRejected: validating the settings failed: the policy crashed: why",
            ),
            (
                Fault::NoDecision(crash()),
                "Trapped: the policy crashed: why",
            ),
        ] {
            assert_eq!(fault.to_string(), text);
            assert!(text.starts_with(&format!("{}: ", fault.reason())));
        }
    }
}
