//! The conditions that describe the policy of a group and its shadow policy.

use oaat_api::reasons::{policy_ready, shadow_agrees};
use oaat_api::text::{self, clean};
use oaat_api::{OaatGroup, condition};
use serde::Serialize;

/// A condition of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ConditionView {
    /// `True`, `False`, or `Unknown`.
    pub status: String,
    pub reason: String,
    pub message: String,
}

impl ConditionView {
    /// Returns the condition `ShadowAgrees` of a group that has a shadow policy.
    pub fn shadow(group: &OaatGroup) -> Option<Self> {
        group.spec.policy.as_ref()?.shadow.as_ref()?;
        Self::of(group, shadow_agrees::TYPE)
    }

    /// Returns the condition `PolicyReady` if it is false.
    pub fn policy_problem(group: &OaatGroup) -> Option<Self> {
        Self::of(group, policy_ready::TYPE).filter(|shown| shown.status == "False")
    }

    fn of(group: &OaatGroup, type_: &str) -> Option<Self> {
        let shown = condition(&group.status.as_ref()?.conditions, type_)?;
        Some(Self {
            status: text::name(&shown.status),
            reason: text::name(&shown.reason),
            message: clean(&shown.message, text::CONDITION),
        })
    }

    /// Formats the condition as one line.
    pub fn describe(&self) -> String {
        format!("{}, {}", self.reason, self.message)
    }

    /// Returns what the user should look at: a difference, or a problem with the shadow policy.
    pub(super) fn shadow_warning(&self) -> Option<&'static str> {
        match self.reason.as_str() {
            shadow_agrees::DIFFERS => Some("the shadow policy would have decided differently"),
            shadow_agrees::FAILED => Some("the shadow policy failed to decide"),
            shadow_agrees::NOT_USABLE => Some("the shadow policy cannot be used"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::test_groups::shadowed;

    #[test]
    fn only_differences_and_problems_are_warnings() {
        for (status, reason, expected) in [
            ("True", shadow_agrees::AGREES, None),
            ("Unknown", shadow_agrees::NOT_COMPARED, None),
            ("Unknown", shadow_agrees::LOADING, None),
            // A reason of a later release.
            ("False", "Unheard", None),
            ("False", shadow_agrees::DIFFERS, Some("decided differently")),
            ("False", shadow_agrees::FAILED, Some("failed to decide")),
            ("Unknown", shadow_agrees::NOT_USABLE, Some("cannot be used")),
        ] {
            let view = ConditionView::shadow(&shadowed(status, reason, "why")).unwrap();
            assert_eq!(view.describe(), format!("{reason}, why"));
            let warning = view.shadow_warning();
            assert_eq!(warning.is_some(), expected.is_some(), "{reason}");
            let words = expected.unwrap_or_default();
            assert!(warning.unwrap_or_default().contains(words), "{warning:?}");
        }
    }

    #[test]
    fn condition_of_a_removed_shadow_is_not_shown() {
        let mut group = shadowed("False", shadow_agrees::DIFFERS, "why");
        group.spec.policy.as_mut().unwrap().shadow = None;
        assert_eq!(ConditionView::shadow(&group), None);
        let evil = shadowed("False", shadow_agrees::DIFFERS, "two\nlines\u{1b}[2J");
        let shown = ConditionView::shadow(&evil).unwrap().describe();
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
}
