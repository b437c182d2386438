//! Items that give up after `maxFailures` failures in a row.

use super::Plan;
use crate::mutation::broken;
use crate::pod::names;
use crate::snapshot::{GroupSnapshot, TypeRead, type_hash};
use oaat_api::reasons::events;
use oaat_api::text;
use oaat_api::validate::{ItemRules, Recurrence, ValidatedGroup};
use oaat_api::{Attempts, ItemOptions, ItemState, ItemStatus};

/// Returns whether an item has failed as often in a row as its rules allow.
pub(super) fn has_given_up(rules: &ItemRules, item: &ItemStatus) -> bool {
    let attempts = item.attempts.as_ref();
    let ignored_failures = attempts.map_or(0, |attempts| attempts.ignored_failures);
    let counted = item.failures.unwrap_or(0).saturating_sub(ignored_failures);
    rules.max_failures.is_some_and(|max| counted >= max) && !broken!(NoGiveUp)
}

/// Returns the hash of everything whose change gives an item new attempts. `type_` is the hash of its
/// OaatType.
fn definition(type_: &str, options: Option<&ItemOptions>) -> String {
    let options = options.map(|options| ItemOptions {
        max_failures: None,
        ..options.clone()
    });
    let text = serde_json::to_string(&(type_, options.unwrap_or_default())).unwrap_or_default();
    names::hash(&text, 6)
}

/// Updates which failures count, and the state of the items that gave up.
pub(super) fn update(snapshot: &GroupSnapshot, valid: Option<&ValidatedGroup>, plan: &mut Plan) {
    let Some(valid) = valid else { return };
    let mut gave_up = Vec::new();
    let mut group_type = None;
    for name in &snapshot.items {
        let rules = valid.rules(name);
        let Some(item) = plan.status.items.get_mut(name) else {
            continue;
        };
        let failures = item.failures.unwrap_or(0);
        if rules.max_failures.is_none() || failures == 0 {
            item.attempts = None;
        } else if let (type_name, TypeRead::Valid(type_)) = snapshot.type_of(name) {
            let type_ = match snapshot.item_types.get(type_name) {
                Some(item_type) => &item_type.hash,
                None => group_type.get_or_insert_with(|| type_hash(type_)),
            };
            let definition = definition(type_, snapshot.group.spec.item_options.get(name));
            let before = item.attempts.as_ref();
            if before.is_none_or(|before| before.definition != definition) {
                // Without an earlier definition, all failures happened under this one.
                let ignored_failures = before.map_or(0, |_| failures);
                item.attempts = Some(Attempts {
                    definition,
                    ignored_failures,
                });
            }
        }
        let succeeded = rules.recurrence == Recurrence::Once && item.last_success.is_some();
        let given_up = has_given_up(rules, item) && !rules.suspended && !succeeded;
        if given_up && !matches!(item.state, ItemState::GivenUp | ItemState::Running) {
            item.state = ItemState::GivenUp;
            item.next = None;
            gave_up.push(format!("{} after {failures} failures", text::name(name)));
        } else if !given_up && item.state == ItemState::GivenUp {
            item.state = ItemState::Ready;
        }
    }
    if !gave_up.is_empty() {
        let items = text::list(gave_up, ", ", text::NAME);
        let message = format!(
            "these items gave up: {items}; fix the cause, and then run the item with kubectl oaat run or \
             the annotation oaat.kawaja.net/run-now, or change its options or its OaatType"
        );
        plan.event(true, events::GIVEN_UP, message, None);
    }
}
