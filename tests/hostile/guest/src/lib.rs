//! A policy that misbehaves in the way that its marker names.
//!
//! The crate is compiled once. `hostile-policies` writes the name of a behavior into the marker of
//! the built component, which results in a separate component for each name. With `!` before the
//! name, it also misbehaves at the trial request of the loader, which it otherwise answers like an
//! honest policy.

mod select;

use policy_sdk::{Decision, ItemSettings, Policy, Request};
use std::hint::black_box;

/// The text that the library searches for in the built component.
const PREFIX: &str = "oaat-hostile:";
static MARKER: [u8; 48] = *b"oaat-hostile:...................................";

/// Returns the name in the marker. Without `black_box`, the compiler would keep only the behavior
/// of the marker that it sees.
fn marked() -> &'static str {
    let name = black_box(&MARKER).get(PREFIX.len()..).unwrap_or_default();
    std::str::from_utf8(name)
        .unwrap_or_default()
        .trim_end_matches('.')
}

struct Hostile;

impl Policy for Hostile {
    fn select(request: &Request) -> Result<Decision, String> {
        let name = marked();
        match name.strip_prefix('!') {
            Some(name) => select::misbehave(name, request),
            None if request.namespace == "probe" => Ok(Decision::run(0)),
            None => select::misbehave(name, request),
        }
    }

    fn validate(settings: &str, _: &[ItemSettings]) -> Result<(), String> {
        match marked() {
            "validate-err" => Err(format!(
                "mood: {settings} was given; nothing would be right"
            )),
            "validate-trap" => panic!("these settings are not what I expect: {settings}"),
            "validate-loop" => select::forever(),
            _ => Ok(()),
        }
    }
}

policy_sdk::export_policy!(Hostile);
