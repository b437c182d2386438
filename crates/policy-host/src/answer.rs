//! Checks a policy's answer against the contract.
//!
//! Callers may rely on these properties: the index of an item is in range and the item is
//! startable, there are no verdicts or one for each item, and notes are one line.

use crate::contract::{Choice, Decision, Request};
use plain_text as text;

/// The maximum length of a note in bytes. Longer notes are truncated.
const NOTE: usize = 256;
/// The maximum length of the state in bytes. A longer state is an error.
pub const MAX_STATE: usize = 4096;

/// Checks a decision and truncates its notes.
///
/// # Errors
/// Returns how the decision breaks the contract, as a predicate: "chose item 7, but …".
pub(crate) fn check(request: &Request, mut decision: Decision) -> Result<Decision, String> {
    if let Choice::Run(index) = decision.choice {
        match request.items.get(index as usize) {
            None => {
                return Err(format!(
                    "chose item {index}, but the request has {} items (0 to {})",
                    request.items.len(),
                    request.items.len().saturating_sub(1)
                ));
            }
            Some(item) if !item.startable => {
                return Err(format!(
                    "chose item {index} ({:?}), which the operator holds (startable is false)",
                    item.name
                ));
            }
            Some(_) => {}
        }
    }
    let (verdicts, items) = (decision.verdicts.len(), request.items.len());
    if verdicts != 0 && verdicts != items {
        return Err(format!(
            "returned {verdicts} verdicts for {items} items; it must return none, or one for each item"
        ));
    }
    if let Some(state) = &decision.state
        && state.len() > MAX_STATE
    {
        return Err(format!(
            "returned a state of {} bytes; the maximum is {MAX_STATE}",
            state.len()
        ));
    }
    clean_note(&mut decision.note);
    for verdict in &mut decision.verdicts {
        clean_note(&mut verdict.note);
    }
    Ok(decision)
}

/// Makes a note one line of bounded length. Removes it if nothing visible remains.
fn clean_note(note: &mut Option<String>) {
    *note = note
        .take()
        .map(|text| text::clean(&text, NOTE))
        .filter(|line| !line.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Item, Standing, Verdict};
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    fn request(startable: &[bool]) -> Request {
        Request {
            namespace: "n".into(),
            group: "g".into(),
            now: 0,
            seed: 0,
            settings: "{}".into(),
            state: String::new(),
            items: startable
                .iter()
                .map(|&startable| Item {
                    name: "i".into(),
                    frequency: None,
                    cool_off: 0,
                    settings: None,
                    startable,
                    last_success: None,
                    last_failure: None,
                    failures: 0,
                    runs: 0,
                    last_duration: None,
                })
                .collect(),
            recent: vec![],
            extra: "{}".into(),
        }
    }

    fn run(index: u32) -> Decision {
        Decision {
            choice: Choice::Run(index),
            note: None,
            verdicts: vec![],
            state: None,
        }
    }

    #[test]
    fn index_out_of_range_or_of_a_held_item_is_rejected() {
        assert!(check(&request(&[true]), run(0)).is_ok());
        assert!(check(&request(&[true]), run(1)).is_err_and(|e| e.contains("1 items")));
        assert!(check(&request(&[true, false]), run(1)).is_err_and(|e| e.contains("holds")));
        assert!(check(&request(&[true]), run(u32::MAX)).is_err());
    }

    #[test]
    fn verdicts_are_none_or_one_for_each_item() {
        let verdict = Verdict {
            standing: Standing::Ready,
            until: None,
            note: None,
        };
        for (count, valid) in [(0, true), (1, false), (2, true), (3, false)] {
            let mut decision = run(0);
            decision.verdicts = vec![verdict.clone(); count];
            assert_eq!(
                check(&request(&[true, true]), decision).is_ok(),
                valid,
                "{count}"
            );
        }
    }

    #[test]
    fn state_has_a_maximum_length() {
        for (length, valid) in [(MAX_STATE, true), (MAX_STATE + 1, false)] {
            let mut decision = run(0);
            decision.state = Some("x".repeat(length));
            assert_eq!(
                check(&request(&[true]), decision).is_ok(),
                valid,
                "{length}"
            );
        }
    }

    #[test]
    fn notes_are_truncated_to_one_line() {
        let mut decision = run(0);
        decision.note = Some(format!("a\nb{}", "ü".repeat(300)));
        let note = check(&request(&[true]), decision).ok().and_then(|d| d.note);
        let note = note.unwrap_or_default();
        assert!(note.starts_with("a bü") && note.len() <= NOTE, "{note}");
    }

    fn text() -> impl Strategy<Value = Option<String>> {
        let long = (any::<char>(), 0_usize..6000).prop_map(|(c, n)| c.to_string().repeat(n));
        option::of(prop_oneof![any::<String>(), long])
    }

    fn decision() -> impl Strategy<Value = Decision> {
        let choice = prop_oneof![
            (0_u32..6).prop_map(Choice::Run),
            any::<u32>().prop_map(Choice::Run),
            any::<Option<i64>>().prop_map(Choice::Wait),
        ];
        let verdict = (any::<Option<i64>>(), text()).prop_map(|(until, note)| Verdict {
            standing: Standing::Deferred,
            until,
            note,
        });
        (choice, text(), vec(verdict, 0..6), text()).prop_map(|(choice, note, verdicts, state)| {
            Decision {
                choice,
                note,
                verdicts,
                state,
            }
        })
    }

    proptest! {
        #[test]
        fn checked_decisions_satisfy_the_contract(startable in vec(any::<bool>(), 1..5), decision in decision()) {
            let request = request(&startable);
            let valid = decision.chosen().is_none_or(|index| startable.get(index) == Some(&true))
                && [0, startable.len()].contains(&decision.verdicts.len())
                && decision.state.as_ref().is_none_or(|state| state.len() <= MAX_STATE);
            let checked = check(&request, decision.clone());
            prop_assert_eq!(checked.is_ok(), valid);
            if let Ok(checked) = checked {
                prop_assert_eq!(&checked.choice, &decision.choice);
                prop_assert_eq!(&checked.state, &decision.state);
                let notes = checked.verdicts.iter().map(|verdict| &verdict.note);
                for note in notes.chain([&checked.note]).flatten() {
                    prop_assert!(note.len() <= NOTE && !note.contains(char::is_control));
                }
            }
        }
    }
}
