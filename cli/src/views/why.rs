//! Why an item does not run now, and when it may run next.

mod cause;
mod first_cause;
mod notes;
mod requested;
mod rule;

use super::condition::ConditionView;
use super::duration::from_now;
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
    pub shadow: Option<ConditionView>,
    /// The condition `PolicyReady`, if it is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_problem: Option<ConditionView>,
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
        Why {
            namespace: group.metadata.namespace.clone().unwrap_or_default(),
            group: group.metadata.name.clone().unwrap_or_default(),
            item: item.to_owned(),
            running: status.current.as_ref().is_some_and(|c| c.item == item),
            rule: cause.rule,
            because: clean(&cause.because, text::CONDITION),
            next: cause.next,
            notes: notes(
                status,
                self.valid.as_ref().ok(),
                item,
                self.ahead.get(item).copied(),
                *now,
            ),
            shadow: ConditionView::shadow(group),
            policy_problem: ConditionView::policy_problem(group),
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
        let policy = self.policy_problem.as_ref().map(|problem| &problem.reason);
        let policy = policy.map(|reason| format!("PolicyReady is False ({reason})"));
        let shadow = self.shadow.as_ref().and_then(ConditionView::shadow_warning);
        let group = &self.group;
        let warnings = policy.into_iter().chain(shadow.map(str::to_owned));
        lines.extend(
            warnings.map(|text| format!("  note:    {text}; see kubectl oaat status {group}")),
        );
        format!("{}\n", lines.join("\n"))
    }
}

#[cfg(test)]
mod tests;
