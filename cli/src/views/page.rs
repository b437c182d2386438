//! What the dashboard shows about groups. Texts are cleaned, except for the names of items, which
//! requests need unchanged.

use super::condition::ConditionView;
use super::group::{GroupView, ItemView};
use super::short;
use super::why::{Explainer, Rule};
use crate::cluster::{GroupRead, items_in_effect};
use oaat_api::reasons::states;
use oaat_api::text::{self, clean};
use oaat_api::{ItemState, OaatGroup, RunResult, Timestamp};
use serde::Serialize;
use std::collections::HashMap;

/// The state of a group that the operator has not reconciled yet.
const NOT_RECONCILED: &str = "New";
/// The state of a group that cannot be decoded.
const UNREADABLE: &str = "Unreadable";

/// A group in the list of all groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GroupRow {
    pub namespace: String,
    pub name: String,
    pub state: String,
    pub message: String,
    /// Who suspended the group and why, if it is suspended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspended: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<RunningRow>,
    /// When the next item is due, if the operator knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    pub items: usize,
    pub due: usize,
    /// The number of items that failed since their last success.
    pub failing: usize,
}

/// The run in progress.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunningRow {
    pub item: String,
    pub run: i64,
    pub pod: String,
    pub since: Timestamp,
}

impl GroupRow {
    pub fn of(read: &GroupRead, now: Timestamp) -> Self {
        match &read.group {
            Ok(group) => Self::of_view(&GroupView::of(group, now)),
            Err(problem) => Self {
                namespace: read.namespace.clone(),
                name: read.name.clone(),
                state: UNREADABLE.to_owned(),
                message: clean(&format!("cannot be decoded: {problem}"), text::MESSAGE),
                ..Self::default()
            },
        }
    }

    fn of_view(view: &GroupView) -> Self {
        // A suspended group is shown as such even before the operator reconciles it.
        let unreconciled = match view.suspended {
            Some(_) => states::SUSPENDED,
            None => NOT_RECONCILED,
        };
        Self {
            namespace: view.namespace.clone(),
            name: view.name.clone(),
            state: text::name(view.state.as_deref().unwrap_or(unreconciled)),
            message: clean(view.message.as_deref().unwrap_or_default(), text::MESSAGE),
            suspended: view.suspended.as_ref().map(|s| s.describe()),
            running: view.running.as_ref().map(|run| RunningRow {
                item: text::name(&run.item),
                run: run.run,
                pod: text::name(&run.pod),
                since: run.since,
            }),
            next: view.next,
            items: view.items.len(),
            due: view.due(),
            failing: view.items.iter().filter(|item| item.failures > 0).count(),
        }
    }
}

/// A group with its items.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GroupPage {
    #[serde(flatten)]
    pub row: GroupRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyRow>,
    /// The condition `ShadowAgrees` as one line, if the group has a shadow policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<String>,
    /// The conditions that are false.
    pub problems: Vec<String>,
    /// The items, failing ones first.
    #[serde(rename = "itemList")]
    pub items: Vec<ItemRow>,
}

/// The policy that decided last.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct PolicyRow {
    pub source: String,
    /// The sha256 of its component.
    pub digest: String,
    pub contract: String,
}

/// An item, and why it does not run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemRow {
    /// The exact name.
    pub name: String,
    /// The name as it is shown, if it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    pub state: ItemState,
    /// The number of failures since the last success.
    pub failures: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Timestamp>,
    /// When it may start, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// The rule that decides; absent if the item runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    pub because: String,
    pub notes: Vec<String>,
    /// The runs of the item that the group still stores, oldest first.
    pub runs: Vec<RunMark>,
}

/// A finished run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunMark {
    pub run: i64,
    pub result: RunResult,
    pub reason: String,
    pub finished: Timestamp,
    pub took: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

impl GroupPage {
    pub fn of(group: &OaatGroup, now: Timestamp) -> Self {
        let view = GroupView::of(group, now);
        let status = group.status.as_ref();
        let policy = status.and_then(|status| status.policy.as_ref());
        let conditions = status.iter().flat_map(|status| &status.conditions);
        let problems = conditions
            .filter(|condition| condition.status == "False")
            .filter(|condition| condition.type_.ends_with("Ready"))
            .map(|c| format!("{} is false: {}: {}", c.type_, c.reason, c.message));
        let mut runs = runs(group);
        let explainer = Explainer::new(group, &items_in_effect(group), now);
        let (failing, other): (Vec<_>, Vec<_>) =
            view.items.iter().partition(|item| item.failures > 0);
        let items = failing.into_iter().chain(other).map(|item| {
            let runs = runs.remove(item.name.as_str()).unwrap_or_default();
            item_row(item, &explainer, runs)
        });
        Self {
            row: GroupRow::of_view(&view),
            policy: policy.map(|policy| PolicyRow {
                source: text::name(&policy.source),
                digest: text::name(&policy.digest),
                contract: text::name(&policy.contract),
            }),
            shadow: ConditionView::shadow(group).map(|shadow| shadow.describe()),
            problems: problems.map(|text| clean(&text, text::MESSAGE)).collect(),
            items: items.collect(),
        }
    }
}

/// Returns the stored runs of each item, oldest first.
fn runs(group: &OaatGroup) -> HashMap<&str, Vec<RunMark>> {
    let mut runs: HashMap<&str, Vec<RunMark>> = HashMap::new();
    let history = group.status.iter().flat_map(|status| &status.history);
    for run in history.rev() {
        runs.entry(&run.item).or_default().push(RunMark {
            run: run.run,
            result: run.result,
            reason: text::name(&run.reason),
            finished: run.finished,
            took: short(run.finished.since(run.started)),
            exit_code: run.exit_code,
        });
    }
    runs
}

fn item_row(item: &ItemView, explainer: &Explainer, runs: Vec<RunMark>) -> ItemRow {
    let why = explainer.why(&item.name);
    let label = text::name(&item.name);
    ItemRow {
        label: (label != item.name).then_some(label),
        name: item.name.clone(),
        state: item.state,
        failures: item.failures,
        last_success: item.last_success,
        next: why.next.or(item.next).filter(|_| !why.running),
        rule: (why.rule != Rule::None).then(|| why.rule.to_string()),
        because: why.because,
        notes: why.notes,
        runs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::test_groups::{NOW, backup, shadowed, time};

    #[test]
    fn row_counts_due_and_failing_items() {
        let read = GroupRead {
            namespace: "media".into(),
            name: "backup".into(),
            group: Ok(backup()),
        };
        let row = GroupRow::of(&read, NOW);
        assert_eq!((row.items, row.due, row.failing), (5, 2, 1));
        assert_eq!(row.running.map(|run| run.item).as_deref(), Some("photos"));
        let unreadable = GroupRead {
            group: Err("spec\u{1b}[31m".into()),
            ..read
        };
        let row = GroupRow::of(&unreadable, NOW);
        assert_eq!(
            (row.state.as_str(), row.message.as_str()),
            ("Unreadable", "cannot be decoded: spec [31m")
        );
    }

    #[test]
    fn items_have_their_runs_and_the_rule_that_decides() {
        let mut group = backup();
        group.spec.oaat_items.push("a\u{202e}b".into());
        let page = GroupPage::of(&group, NOW);
        let item = |name: &str| {
            let mut items = page.items.iter();
            items.find(|item| item.name == name).unwrap()
        };
        let broken = item("broken");
        assert_eq!(page.items.first(), Some(broken), "failing items are first");
        assert_eq!(broken.rule.as_deref(), Some("failureCoolOff"));
        assert_eq!(broken.next, Some(time("2026-03-02T12:10:00Z")));
        let runs: Vec<_> = broken.runs.iter().map(|r| (r.run, r.exit_code)).collect();
        assert_eq!(runs, [(6, Some(2))]);
        assert_eq!((&item("photos").rule, item("photos").next), (&None, None));
        assert_eq!(item("a\u{202e}b").label.as_deref(), Some("ab"));
        assert_eq!(page.policy.as_ref().unwrap().digest, "d");
        assert_eq!(page.shadow, None);
        let page = GroupPage::of(&shadowed("False", "Differs", "1 of 2"), NOW);
        assert_eq!(page.shadow.as_deref(), Some("Differs, 1 of 2"));
    }
}
