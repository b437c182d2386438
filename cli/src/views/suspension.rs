//! Who suspended a group, and why. These annotations are for people; the operator ignores them.

use oaat_api::OaatGroup;
use oaat_api::text::{self, clean};
use oaat_api::validate::suspended;
use serde::Serialize;

/// The annotation with the reason of a suspension.
pub(crate) const SUSPENSION_REASON: &str = "oaat.kawaja.net/suspension-reason";
/// The annotation with the user who suspended the group, as the API server knows the user.
pub(crate) const SUSPENDED_BY: &str = "oaat.kawaja.net/suspended-by";

/// A suspension of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Suspension {
    /// Why the group is suspended, if the user gave a reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who suspended it, if `kubectl oaat suspend` was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl Suspension {
    /// Returns the suspension of a group, if it is suspended.
    pub fn of(group: &OaatGroup) -> Option<Self> {
        suspended(group)?;
        let annotation = |name: &str| {
            let value = group.metadata.annotations.as_ref()?.get(name)?;
            Some(clean(value, text::PROBLEM)).filter(|value| !value.is_empty())
        };
        Some(Self {
            reason: annotation(SUSPENSION_REASON),
            by: annotation(SUSPENDED_BY),
        })
    }

    /// Describes the suspension, such as `suspended by alice: disk is full`.
    pub fn describe(&self) -> String {
        let by = self.by.as_ref().map(|by| format!(" by {by}"));
        let reason = self.reason.as_ref().map(|reason| format!(": {reason}"));
        format!(
            "suspended{}{}",
            by.unwrap_or_default(),
            reason.unwrap_or_default()
        )
    }
}
