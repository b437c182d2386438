//! The shadow policy of a group, as the condition `ShadowAgrees` describes it.

use oaat_api::reasons::shadow_agrees;
use oaat_api::text::{self, clean};
use oaat_api::{OaatGroup, condition};
use serde::Serialize;

/// The condition `ShadowAgrees` of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ShadowView {
    /// Whether the policies agree: `True`, `False`, or `Unknown`.
    pub status: String,
    pub reason: String,
    pub message: String,
}

impl ShadowView {
    /// Returns the condition of a group that has a shadow policy.
    pub fn of(group: &OaatGroup) -> Option<Self> {
        group.spec.policy.as_ref()?.shadow.as_ref()?;
        let conditions = &group.status.as_ref()?.conditions;
        let shown = condition(conditions, shadow_agrees::TYPE)?;
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
    pub(super) fn warning(&self) -> Option<&'static str> {
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
            let view = ShadowView::of(&shadowed(status, reason, "why")).unwrap();
            assert_eq!(view.describe(), format!("{reason}, why"));
            let warning = view.warning();
            assert_eq!(warning.is_some(), expected.is_some(), "{reason}");
            let words = expected.unwrap_or_default();
            assert!(warning.unwrap_or_default().contains(words), "{warning:?}");
        }
    }

    #[test]
    fn condition_of_a_removed_shadow_is_not_shown() {
        let mut group = shadowed("False", shadow_agrees::DIFFERS, "why");
        group.spec.policy.as_mut().unwrap().shadow = None;
        assert_eq!(ShadowView::of(&group), None);
        let evil = shadowed("False", shadow_agrees::DIFFERS, "two\nlines\u{1b}[2J");
        let shown = ShadowView::of(&evil).unwrap().describe();
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
}
