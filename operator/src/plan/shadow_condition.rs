//! The condition `ShadowAgrees` and its events.

use super::PendingEvent;
use super::conditions::set_group_condition;
use crate::snapshot::GroupSnapshot;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use oaat_api::reasons::{events, shadow_agrees};
use oaat_api::text;
use oaat_api::{ConditionStatus, OaatGroupStatus, condition};
use serde_json::Value;

/// The condition `ShadowAgrees` in the next status.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ShadowCondition {
    /// The condition is removed.
    #[default]
    Absent,
    /// The current condition stays.
    Unchanged,
    /// The condition is set to this content.
    Is(ShadowStatus),
}

/// The content of the condition `ShadowAgrees`.
#[derive(Clone, Debug, PartialEq)]
pub struct ShadowStatus {
    /// Whether the shadow policy agrees.
    pub status: ConditionStatus,
    /// A reason from [`shadow_agrees`].
    pub reason: &'static str,
    /// A sentence that a user can act on.
    pub message: String,
}

/// The part of the condition whose change requires a status write: the reason, and the message about
/// a problem. The counts are not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShadowSummary {
    reason: String,
    problem: Option<String>,
}

impl ShadowSummary {
    fn new(reason: &str, message: &str) -> Self {
        let is_problem = reason == shadow_agrees::NOT_USABLE;
        Self {
            reason: reason.to_owned(),
            // Cleaned in the same way as the message of the condition.
            problem: is_problem.then(|| text::clean(message, text::CONDITION)),
        }
    }

    /// Returns the summary of the condition in a status, if there is one.
    pub fn from_conditions(conditions: &[Condition]) -> Option<Self> {
        let shown = condition(conditions, shadow_agrees::TYPE)?;
        Some(Self::new(&shown.reason, &shown.message))
    }
}

impl From<&ShadowStatus> for ShadowSummary {
    fn from(status: &ShadowStatus) -> Self {
        Self::new(status.reason, &status.message)
    }
}

/// Sets or removes the condition `ShadowAgrees`.
pub fn set_shadow_condition(
    snapshot: &GroupSnapshot,
    status: &mut OaatGroupStatus,
    shadow: &ShadowCondition,
) {
    match shadow {
        ShadowCondition::Absent => status.conditions.retain(|c| c.type_ != shadow_agrees::TYPE),
        ShadowCondition::Unchanged => {}
        ShadowCondition::Is(ShadowStatus {
            status: agrees,
            reason,
            message,
        }) => {
            let condition = (shadow_agrees::TYPE, *agrees, *reason, message.clone());
            set_group_condition(snapshot, status, condition);
        }
    }
}

/// Returns whether a patch from the status `old` to `new` changes only the counts in the condition
/// `ShadowAgrees`. Such a patch is not written.
pub fn only_updates_shadow_counts(
    patch: &Value,
    old: Option<&OaatGroupStatus>,
    new: &OaatGroupStatus,
) -> bool {
    let fields = patch
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.keys());
    let (Some(old), true) = (old, fields.eq(["conditions"])) else {
        return false;
    };
    let others = |status: &OaatGroupStatus| -> Vec<Condition> {
        let conditions = status.conditions.iter();
        let others = conditions.filter(|c| c.type_ != shadow_agrees::TYPE);
        others.cloned().collect()
    };
    let shown = |status: &OaatGroupStatus| ShadowSummary::from_conditions(&status.conditions);
    shown(old) == shown(new) && others(old) == others(new)
}

/// Returns the event about a change of the condition `ShadowAgrees`, if there is one. `before` are
/// the conditions before the change.
pub fn shadow_event(before: &[Condition], after: &ShadowCondition) -> Option<PendingEvent> {
    let ShadowCondition::Is(after) = after else {
        return None;
    };
    let before = condition(before, shadow_agrees::TYPE);
    let before = before.map_or(shadow_agrees::LOADING, |before| &before.reason);
    let was_usable = ![shadow_agrees::LOADING, shadow_agrees::NOT_USABLE].contains(&before);
    let (warning, reason) = match after.reason {
        shadow_agrees::LOADING => return None,
        shadow_agrees::NOT_USABLE if before == shadow_agrees::NOT_USABLE => return None,
        shadow_agrees::NOT_USABLE => (true, events::SHADOW_NOT_USABLE),
        _ if was_usable => return None,
        _ => (false, events::SHADOW_LOADED),
    };
    Some(PendingEvent {
        warning,
        reason,
        message: after.message.clone(),
        pod: None,
        action: Some(after.reason.to_owned()),
    })
}
