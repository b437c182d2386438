//! The message of a group in which an item runs.

use crate::policy_selection::BUILT_IN;
use oaat_api::text;
use oaat_api::validate::ValidatedGroup;
use oaat_api::{ItemState, ItemStatus, LastDecision, OaatGroupStatus};

/// Returns the message of a group in which an item runs. `decision` is the decision that started
/// the run, if the status contains it.
pub(super) fn describe_run(
    status: &OaatGroupStatus,
    valid: Option<&ValidatedGroup>,
    item: &str,
    decision: Option<&LastDecision>,
) -> String {
    let name = text::name(item);
    let Some(decision) = decision else {
        return format!("running {name}");
    };
    // Only the built-in policy is known to return verdicts. A requested run has no digest.
    let by_built_in = status.policy.as_ref().is_some_and(|policy| {
        policy.source == BUILT_IN && decision.digest.as_ref() == Some(&policy.digest)
    });
    let valid = valid.filter(|_| by_built_in);
    let hint = valid.and_then(|valid| starvation_hint(status, valid, item));
    match (hint, &decision.why) {
        (Some(hint), _) => format!("running {name}; {hint}"),
        (None, Some(why)) => format!("running {name} ({why})"),
        (None, None) => format!("running {name}"),
    }
}

/// Returns a hint if an item that has never succeeded runs before items that are due again.
///
/// The built-in policy documents that order, so this repeats with each failure. A cool-off lets the
/// other items run.
pub(super) fn starvation_hint(
    status: &OaatGroupStatus,
    valid: &ValidatedGroup,
    name: &str,
) -> Option<String> {
    let item = status.items.get(name)?;
    let failures = item.failures.unwrap_or(0);
    if item.last_success.is_some() || failures <= 0 || !valid.rules(name).cool_off.is_zero() {
        return None;
    }
    let is_due = |(name, item): &(&String, &ItemStatus)| {
        let state = matches!(item.state, ItemState::Ready | ItemState::Held);
        let may_start = item.missing_since.is_none() && !valid.rules(name).suspended;
        state && may_start && item.last_success.is_some()
    };
    let due = status.items.iter().filter(is_due).count();
    let noun = if failures == 1 { "failure" } else { "failures" };
    (due > 0).then(|| {
        format!(
            "{} has never succeeded ({failures} {noun}) and runs before all items that are due \
             again (currently {due}); set failureCoolOff so that they can run between its attempts",
            text::name(name)
        )
    })
}
