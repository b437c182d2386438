//! Why an item does not run now, and when it may run next.

mod cause;
mod first_cause;
mod notes;
mod requested;
mod rule;

use super::duration::from_now;
use super::policy_in_effect::{OLD_SETTINGS, accepted_settings};
use super::shadow::ShadowView;
use notes::notes;
use oaat_api::text::{self, clean};
use oaat_api::validate::{ValidatedGroup, summary, validate};
use oaat_api::{OaatGroup, OaatGroupStatus, Timestamp};
use requested::ahead;
pub(crate) use rule::Rule;
use serde::Serialize;
use std::collections::HashMap;

/// Why an item does not run now.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Why {
    pub namespace: String,
    pub group: String,
    pub item: String,
    pub running: bool,
    pub rule: Rule,
    /// A sentence without its end.
    pub because: String,
    /// When the item may start, or when its state changes, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// More that matters for the next start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The condition `ShadowAgrees`, if the group has a shadow policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowView>,
}

/// Explains why an item does not run now. `listed` contains the items in effect.
pub(crate) fn why(group: &OaatGroup, listed: &[String], item: &str, now: Timestamp) -> Why {
    Explainer::new(group, listed, now).why(item)
}

/// Explains the items of a group. What their explanations share is computed once.
pub(crate) struct Explainer<'a> {
    group: &'a OaatGroup,
    status: OaatGroupStatus,
    /// The validated spec, or what is wrong with it.
    valid: Result<ValidatedGroup, String>,
    /// The items that are requested to run now, each with the number of items that may start before
    /// it.
    ahead: HashMap<String, usize>,
    now: Timestamp,
}

impl<'a> Explainer<'a> {
    /// `listed` contains the items in effect.
    pub fn new(group: &'a OaatGroup, listed: &[String], now: Timestamp) -> Self {
        let status = group.status.clone().unwrap_or_default();
        let valid = validate(&group.spec).map_err(|errors| summary(&errors));
        Self {
            ahead: ahead(group, &status, listed, valid.as_ref().ok()),
            group,
            status,
            valid,
            now,
        }
    }

    /// Explains why an item does not run now.
    pub fn why(&self, item: &str) -> Why {
        let Self {
            group, status, now, ..
        } = self;
        let cause = self.cause(item);
        let valid = self.valid.as_ref().ok();
        let ahead = self.ahead.get(item).copied();
        let mut notes = notes(status, valid, item, ahead, *now);
        if accepted_settings(group).is_some() {
            notes.push(OLD_SETTINGS.to_owned());
        }
        Why {
            namespace: group.metadata.namespace.clone().unwrap_or_default(),
            group: group.metadata.name.clone().unwrap_or_default(),
            item: item.to_owned(),
            running: status.current.as_ref().is_some_and(|c| c.item == item),
            rule: cause.rule,
            because: clean(&cause.because, text::CONDITION),
            next: cause.next,
            notes,
            shadow: ShadowView::of(group),
        }
    }
}

impl Why {
    /// Formats the explanation for the terminal.
    pub fn text(&self, now: Timestamp) -> String {
        let name = text::name(&self.item);
        let state = if self.running { "runs" } else { "does not run" };
        let mut lines = vec![
            format!(
                "{name} in group {} of namespace {} {state}",
                self.group, self.namespace
            ),
            format!("  because: {}", self.because),
        ];
        if self.rule != Rule::None {
            lines.push(format!("  rule:    {}", self.rule));
        }
        if let Some(next) = self.next {
            let what = if self.running { "ends:   " } else { "next:   " };
            lines.push(format!(
                "  {what} {} ({})",
                from_now(next, now),
                next.seconds()
            ));
        }
        lines.extend(self.notes.iter().map(|note| format!("  note:    {note}")));
        if let Some(warning) = self.shadow.as_ref().and_then(ShadowView::warning) {
            let group = &self.group;
            lines.push(format!(
                "  note:    {warning}; see kubectl oaat status {group}"
            ));
        }
        format!("{}\n", lines.join("\n"))
    }
}

#[cfg(test)]
mod tests;
