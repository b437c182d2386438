//! The view of a group for `status`.

use super::condition::ConditionView;
use super::duration::{ago, from_now};
use super::item_state::state_at;
use super::late::{Due, Lateness};
use super::suspension::Suspension;
use super::{short, table};
use oaat_api::reasons::states;
use oaat_api::text;
use oaat_api::validate::{ItemRules, ValidatedGroup, validate};
use oaat_api::{ItemState, ItemStatus, OaatGroup, OaatGroupStatus, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The maximum length of a message in the table of all groups, in bytes.
const SHORT_MESSAGE: usize = 60;
/// The cell of a value that does not exist.
const NONE: &str = "-";

/// A group, with all its items.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GroupView {
    pub namespace: String,
    pub name: String,
    /// `status.state`; absent if the operator has not reconciled the group yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspended: Option<Suspension>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<RunView>,
    /// When the next item is due, if the operator knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// When a run last started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Timestamp>,
    /// The source of the policy that decided last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The condition `PolicyReady`, if it is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_problem: Option<ConditionView>,
    /// The condition `ShadowAgrees`, if the group has a shadow policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ConditionView>,
    pub items: Vec<ItemView>,
}

/// The run in progress.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunView {
    pub run: i64,
    pub item: String,
    pub pod: String,
    pub since: Timestamp,
}

/// An item.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemView {
    pub name: String,
    pub state: ItemState,
    /// Whether the item must succeed now, according to its frequency or schedule.
    pub due: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<Lateness>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Timestamp>,
    /// The number of failures since the last success.
    pub failures: i32,
    /// The longest of the last five successful runs, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl GroupView {
    pub fn of(group: &OaatGroup, now: Timestamp) -> Self {
        let status = group.status.clone().unwrap_or_default();
        let valid = validate(&group.spec).ok();
        let running = status.current.as_ref().map(|current| RunView {
            run: current.run,
            item: current.item.clone(),
            pod: current.pod_name.clone(),
            since: current.claimed,
        });
        let next = status.next.as_ref().and_then(|next| {
            // The operator writes a time here, but the schema allows any text.
            serde_json::from_value(serde_json::Value::String(next.clone())).ok()
        });
        Self {
            namespace: group.metadata.namespace.clone().unwrap_or_default(),
            name: group.metadata.name.clone().unwrap_or_default(),
            suspended: Suspension::of(group),
            running,
            next,
            last_run: status.last_run,
            policy: status.policy.as_ref().map(|policy| policy.source.clone()),
            policy_problem: ConditionView::policy_problem(group),
            shadow: ConditionView::shadow(group),
            items: items(group, &status, valid.as_ref(), now),
            state: status.state,
            message: status.message,
        }
    }

    /// Returns the number of items that must succeed now.
    pub fn due(&self) -> usize {
        self.items.iter().filter(|item| item.due).count()
    }

    /// Returns the lateness of the item that is most periods late.
    fn latest(&self) -> Option<Lateness> {
        let late = self.items.iter().filter_map(|item| item.late);
        late.max_by(|one, other| one.periods.total_cmp(&other.periods))
    }

    /// Returns what the table of all groups shows as the message.
    fn message(&self) -> String {
        match &self.suspended {
            Some(suspension) => suspension.describe(),
            None => self.message.clone().unwrap_or_default(),
        }
    }
}

fn items(
    group: &OaatGroup,
    status: &OaatGroupStatus,
    valid: Option<&ValidatedGroup>,
    now: Timestamp,
) -> Vec<ItemView> {
    // The operator may not have added the items of the spec to the status yet.
    let new = ItemStatus::default();
    let listed = group.spec.oaat_items.iter();
    let mut items: BTreeMap<&String, &ItemStatus> = listed.map(|name| (name, &new)).collect();
    items.extend(&status.items);
    let items = items.into_iter();
    let items = items.map(|(name, item)| {
        item_view(
            name,
            item,
            status,
            valid.map(|valid| valid.rules(name)),
            now,
        )
    });
    items.collect()
}

fn item_view(
    name: &str,
    item: &ItemStatus,
    status: &OaatGroupStatus,
    rules: Option<&ItemRules>,
    now: Timestamp,
) -> ItemView {
    let is_running = status.current.as_ref().is_some_and(|c| c.item == name);
    let may_be_due = item.missing_since.is_none() && !is_running;
    let due = rules
        .filter(|rules| may_be_due && !rules.suspended)
        .map(|rules| Due::of(rules, item));
    let state = match due {
        _ if is_running => ItemState::Running,
        Some(_) => state_at(item, now),
        None => item.state,
    };
    // What the status says about an earlier state no longer applies.
    let is_current = !is_running && state == item.state;
    ItemView {
        name: name.to_owned(),
        state,
        due: due.is_some_and(|due| due.is_due(now)),
        late: due.and_then(|due| due.lateness(now)),
        last_success: item.last_success,
        failures: item.failures.unwrap_or(0),
        longest_seconds: item.durations.iter().max().copied(),
        next: item.next.filter(|_| is_current),
        message: item.message.clone().filter(|_| is_current),
    }
}

/// An object that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnreadableGroup {
    pub namespace: String,
    pub name: String,
    pub problem: String,
}

/// Formats all groups as a table. `namespaces` adds their namespaces, and `wide` more columns.
pub(crate) fn summary(
    groups: &[GroupView],
    unreadable: &[UnreadableGroup],
    namespaces: bool,
    wide: bool,
    now: Timestamp,
) -> String {
    let mut header = vec!["NAME", "STATE", "RUNNING", "ITEMS", "DUE", "LATE", "NEXT"];
    if namespaces {
        header.insert(0, "NAMESPACE");
    }
    if wide {
        header.extend(["LAST RUN", "POLICY", "SHADOW"]);
    }
    header.push("MESSAGE");
    let limit = if wide { text::MESSAGE } else { SHORT_MESSAGE };
    let width = header.len();
    let rows = groups.iter().map(|group| {
        let mut row = Vec::new();
        if namespaces {
            row.push(group.namespace.clone());
        }
        row.push(group.name.clone());
        // A suspended group is shown as such even before the operator reconciles it.
        let suspended = group.suspended.as_ref().map(|_| states::SUSPENDED);
        row.push(cell(group.state.as_deref().or(suspended)));
        row.push(match &group.running {
            Some(run) => format!(
                "{} {}",
                text::clean(&run.item, 40),
                short(now.since(run.since))
            ),
            None => NONE.to_owned(),
        });
        row.push(group.items.len().to_string());
        row.push(group.due().to_string());
        row.push(
            group
                .latest()
                .map_or_else(|| NONE.to_owned(), |late| late.bar()),
        );
        row.push(
            group
                .next
                .map_or_else(|| NONE.to_owned(), |next| from_now(next, now)),
        );
        if wide {
            row.push(
                group
                    .last_run
                    .map_or_else(|| NONE.to_owned(), |last| ago(last, now)),
            );
            let policy = cell(group.policy.as_deref());
            row.push(match &group.policy_problem {
                Some(problem) => format!("{policy} ({})", problem.reason),
                None => policy,
            });
            let shadow = group.shadow.as_ref();
            row.push(cell(shadow.map(|shadow| shadow.reason.as_str())));
        }
        row.push(text::clean(&group.message(), limit));
        row
    });
    let mut rows: Vec<Vec<String>> = rows.collect();
    for group in unreadable {
        let mut row = vec![NONE.to_owned(); width];
        if namespaces {
            row[0].clone_from(&group.namespace);
        }
        row[usize::from(namespaces)].clone_from(&group.name);
        row[width - 1] = text::clean(&format!("cannot be decoded: {}", group.problem), limit);
        rows.push(row);
    }
    table(&header, rows)
}

fn cell(value: Option<&str>) -> String {
    value.map_or_else(|| NONE.to_owned(), text::name)
}

/// How much of a group to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    Normal,
    /// Also the longest run of each item, and messages in full.
    Wide,
}

/// Formats one group: its state, and a table of its items.
pub(crate) fn detail(group: &GroupView, detail: Detail, now: Timestamp) -> String {
    let mut lines = Vec::new();
    let state = group.state.as_deref().unwrap_or("not reconciled yet");
    let message = text::clean(group.message.as_deref().unwrap_or_default(), text::MESSAGE);
    lines.push(match message.as_str() {
        "" => format!("{} in {}: {state}", group.name, group.namespace),
        message => format!("{} in {}: {state}, {message}", group.name, group.namespace),
    });
    if let Some(suspension) = &group.suspended {
        lines.push(suspension.describe());
    }
    if let Some(run) = &group.running {
        lines.push(format!(
            "run {} of {} in pod {}, started {}",
            run.run,
            text::name(&run.item),
            text::name(&run.pod),
            ago(run.since, now)
        ));
    }
    if let Some(next) = group.next {
        lines.push(format!(
            "next item due {} ({})",
            from_now(next, now),
            next.seconds()
        ));
    }
    if let Some(problem) = &group.policy_problem {
        lines.push(format!("policy: {}", problem.describe()));
    }
    if let Some(shadow) = &group.shadow {
        lines.push(format!("shadow policy: {}", shadow.describe()));
    }
    let mut header = vec!["ITEM", "STATE", "LATE", "LAST SUCCESS", "FAILURES", "NEXT"];
    if detail == Detail::Wide {
        header.push("LONGEST RUN");
    }
    header.push("MESSAGE");
    let limit = match detail {
        Detail::Normal => SHORT_MESSAGE,
        Detail::Wide => text::MESSAGE,
    };
    let rows = group.items.iter().map(|item| {
        let late = match (&item.late, item.due, item.last_success) {
            (Some(late), ..) => late.bar(),
            (None, true, None) => "never succeeded".to_owned(),
            (None, ..) => NONE.to_owned(),
        };
        let mut row = vec![
            text::name(&item.name),
            item.state.to_string(),
            late,
            item.last_success
                .map_or_else(|| NONE.to_owned(), |at| ago(at, now)),
            item.failures.to_string(),
            item.next
                .map_or_else(|| NONE.to_owned(), |at| from_now(at, now)),
        ];
        if detail == Detail::Wide {
            let longest = item.longest_seconds.and_then(|s| u64::try_from(s).ok());
            let longest = longest.map(|seconds| short(Duration::from_secs(seconds)));
            row.push(longest.unwrap_or_else(|| NONE.to_owned()));
        }
        row.push(text::clean(
            item.message.as_deref().unwrap_or_default(),
            limit,
        ));
        row
    });
    let rows: Vec<_> = rows.collect();
    let mut out = format!("{}\n", lines.join("\n"));
    if rows.is_empty() {
        out.push_str("\nno items\n");
    } else {
        out.push('\n');
        out.push_str(&table(&header, rows));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::test_groups::{NOW, backup, rejecting, shadowed, time};
    use serde_json::json;

    #[test]
    fn all_groups_are_a_table_with_bars() {
        let mut suspended = backup();
        suspended.metadata.name = Some("nightly".into());
        suspended.spec.suspend = true;
        let annotations = [
            ("oaat.kawaja.net/suspension-reason", "disk\nis full"),
            ("oaat.kawaja.net/suspended-by", "alice"),
        ];
        suspended.metadata.annotations = Some(
            annotations
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
        );
        suspended.status = None;
        let groups = [backup(), suspended].map(|group| GroupView::of(&group, NOW));
        let unreadable = [UnreadableGroup {
            namespace: "media".into(),
            name: "bad".into(),
            problem: "spec.\u{1b}[31m".into(),
        }];
        let expected = "\
NAME      STATE       RUNNING     ITEMS   DUE   LATE             NEXT   MESSAGE
backup    Running     photos 5m   5       2     ███░░░░░░░ 15m   -      running photos
nightly   Suspended   -           5       4     -                -      suspended by alice: disk is full
bad       -           -           -       -     -                -      cannot be decoded: spec. [31m
";
        assert_eq!(summary(&groups, &unreadable, false, false, NOW), expected);
        let wide = summary(&groups[..1], &unreadable, true, true, NOW);
        let expected = "\
NAMESPACE   NAME     STATE     RUNNING     ITEMS   DUE   LATE             NEXT   LAST RUN   POLICY    SHADOW   MESSAGE
media       backup   Running   photos 5m   5       2     ███░░░░░░░ 15m   -      5m ago     default   -        running photos
media       bad      -         -           -       -     -                -      -          -         -        cannot be decoded: spec. [31m
";
        assert_eq!(wide, expected);
    }

    #[test]
    fn one_group_is_shown_with_its_items() {
        let view = GroupView::of(&backup(), NOW);
        let expected = "\
backup in media: Running, running photos
run 7 of photos in pod backup-photos-x, started 5m ago

ITEM     STATE     LATE              LAST SUCCESS   FAILURES   NEXT     MESSAGE
broken   Cooling   never succeeded   -              3          in 10m   failed 3 times since its last success (Error); cooling of…
late     Ready     ███░░░░░░░ 15m    1h15m ago      0          -
mail     Fresh     -                 30m ago        0          in 30m
off      Held      -                 -              0          -        suspended by itemOptions
photos   Running   -                 2h ago         0          -
";
        assert_eq!(detail(&view, Detail::Normal, NOW), expected);
        let wide = detail(&view, Detail::Wide, NOW);
        assert!(wide.contains("LONGEST RUN"), "{wide}");
        assert!(
            wide.contains("cooling off until 2026-03-02T12:10:00Z"),
            "{wide}"
        );
        assert!(wide.contains("1m30s"), "{wide}");
        let empty = GroupView {
            items: Vec::new(),
            running: None,
            state: None,
            message: None,
            next: Some(time("2026-03-02T12:20:00Z")),
            ..view
        };
        assert_eq!(
            detail(&empty, Detail::Normal, NOW),
            "backup in media: not reconciled yet\n\
             next item due in 20m (2026-03-02T12:20:00Z)\n\nno items\n"
        );
    }

    #[test]
    fn shadow_policy_is_shown_with_its_condition() {
        let view = GroupView::of(
            &shadowed("False", "Differs", "2 of 3 decisions agreed"),
            NOW,
        );
        let text = detail(&view, Detail::Normal, NOW);
        let expected = "\nshadow policy: Differs, 2 of 3 decisions agreed\n\nITEM ";
        assert!(text.contains(expected), "{text}");
        let row = summary(&[view], &[], false, true, NOW);
        assert!(row.contains("default   Differs   running photos"), "{row}");
    }

    #[test]
    fn policy_is_shown_with_its_problem() {
        let view = GroupView::of(&rejecting("unknown setting \"bas\""), NOW);
        let text = detail(&view, Detail::Normal, NOW);
        let expected = "\npolicy: SettingsRejected, unknown setting \"bas\"\n\nITEM ";
        assert!(text.contains(expected), "{text}");
        let row = summary(&[view], &[], false, true, NOW);
        assert!(row.contains("default (SettingsRejected)   -"), "{row}");
    }

    #[test]
    fn item_that_is_due_again_is_ready_although_nothing_decides() {
        let mut group = backup();
        let status = group.status.get_or_insert_default();
        status.current = None;
        let at = time("2026-03-02T12:30:30Z");
        let rows = |group: &OaatGroup| {
            let text = detail(&GroupView::of(group, at), Detail::Normal, at);
            let rows = text.lines().filter(|row| {
                ["broken", "mail", "off"]
                    .iter()
                    .any(|name| row.starts_with(name))
            });
            rows.map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        let expected = [
            "broken   Ready   never succeeded    -              3          -",
            "mail     Ready   █░░░░░░░░░ 30s     1h ago         0          -",
            "off      Held    -                  -              0          -      suspended by itemOptions",
        ];
        assert_eq!(rows(&group), expected);
        // The operator has not decided since the item was suspended.
        let off = group.status.as_mut().unwrap().items.get_mut("off").unwrap();
        (off.state, off.next, off.message) = (ItemState::Fresh, Some(NOW), None);
        assert!(rows(&group)[2].starts_with("off      Fresh "));
    }

    #[test]
    fn json_has_the_exact_values() {
        let json = serde_json::to_value(GroupView::of(&backup(), NOW)).unwrap();
        assert_eq!(json["running"]["run"], 7);
        assert_eq!(
            json["items"][1],
            json!({
                "name": "late", "state": "Ready", "due": true, "failures": 0,
                "late": { "seconds": 900, "periods": 0.25 },
                "lastSuccess": "2026-03-02T10:45:00Z",
            })
        );
    }
}
