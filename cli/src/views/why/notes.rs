//! What else matters for the next start of an item.

use crate::views::count::counted;
use crate::views::duration::{ago, short};
use crate::views::late::Due;
use oaat_api::text::{self, clean};
use oaat_api::validate::ValidatedGroup;
use oaat_api::{OaatGroupStatus, Timestamp};
use std::time::Duration;

pub(super) fn notes(
    status: &OaatGroupStatus,
    valid: Option<&ValidatedGroup>,
    name: &str,
    ahead: Option<usize>,
    now: Timestamp,
) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(ahead) = ahead {
        notes.push(match ahead {
            0 => "a user requested to run it now".to_owned(),
            ahead => format!(
                "a user requested to run it now, after {}",
                counted(ahead, "other item")
            ),
        });
    }
    if let Some(item) = status.items.get(name) {
        let late = valid.and_then(|valid| Due::of(valid.rules(name), item).lateness(now));
        if let Some(late) = late {
            let late = short(Duration::from_secs(late.seconds));
            notes.push(format!("it is {late} late"));
        }
    }
    let mark = status.items.get(name).and_then(|item| item.marked.as_ref());
    if let Some(mark) = mark {
        let by = text::name(&mark.by);
        notes.push(format!(
            "its last success was marked {} by {by}",
            ago(mark.time, now)
        ));
    }
    let last = status.history.iter().find(|run| run.item == name);
    if let Some(run) = last {
        let message = run.message.as_ref().map(|message| format!(": {message}"));
        let note = format!(
            "its latest run, {}, ended {} with {} ({}{})",
            run.run,
            ago(run.finished, now),
            run.result,
            run.reason,
            message.unwrap_or_default()
        );
        notes.push(clean(&note, text::MESSAGE));
    }
    let decision = status.last_decision.as_ref();
    if let Some(why) = decision
        .filter(|d| d.item == name)
        .and_then(|d| d.why.as_ref())
    {
        notes.push(clean(
            &format!("the policy selected it last: {why}"),
            text::MESSAGE,
        ));
    }
    notes
}
