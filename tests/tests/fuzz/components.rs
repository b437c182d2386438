//! Components in the operator's compile process. Whatever their bytes, each ends with a documented
//! reason, or is a policy that fulfills the contract.

use crate::runner::fuzz;
use hostile_policies::compiling::Compiler;
use hostile_policies::{COMPILED, mutated};
use oaat_tests::operator;
use policy_host::{Item, Request};
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

/// The timeout for one component.
const LONGEST: Duration = Duration::from_secs(35);

fn seeds() -> Vec<Vec<u8>> {
    let hostile = hostile_policies::all().unwrap().into_iter();
    let named = [
        "notes-shared",
        "realloc-log",
        "note-control",
        "contract-1.1.0",
    ];
    let hostile = hostile.filter(|policy| named.contains(&policy.name));
    let attacks = hostile_policies::attacks().unwrap().into_iter();
    // Only small ones, because most mutations of a large one change nothing relevant.
    let attacks = attacks.filter(|attack| attack.bytes.len() < 4_096);
    let honest = hostile_policies::honest().unwrap();
    let others = hostile
        .map(|policy| policy.bytes)
        .chain(attacks.map(|attack| attack.bytes));
    // One half of all cases starts from the honest component.
    let others: Vec<_> = others.collect();
    let mut seeds = vec![honest; others.len()];
    seeds.extend(others);
    seeds
}

fn request() -> Request {
    let item = |name: &str, startable| Item {
        name: name.into(),
        frequency: Some(60_000),
        cool_off: 1_000,
        settings: None,
        startable,
        last_success: None,
        last_failure: None,
        failures: 0,
        runs: 0,
        last_duration: None,
    };
    Request {
        namespace: "default".into(),
        group: "group".into(),
        now: 1_800_000_000_000,
        seed: 7,
        settings: "{}".into(),
        state: String::new(),
        items: vec![item("ready", true), item("held", false)],
        recent: vec![],
        extra: "{}".into(),
    }
}

fn survives(compiler: &Compiler, bytes: &[u8]) -> Result<(), TestCaseError> {
    let verdict = compiler.verdict(bytes);
    prop_assert!(verdict.took < LONGEST, "{verdict:?}");
    let named = verdict.reason.chars().all(|c| c.is_ascii_alphabetic());
    prop_assert!(named && !verdict.reason.is_empty(), "{verdict:?}");
    let one_line = !verdict.message.contains(char::is_control);
    prop_assert!(one_line && verdict.message.len() < 2_048, "{verdict:?}");
    if verdict.reason == COMPILED {
        let policy = compiler
            .load(bytes)
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        let request = request();
        if let Ok(decision) = policy.evaluate(&request).answer {
            let startable = |index: usize| request.items[index].startable;
            prop_assert!(decision.chosen().is_none_or(startable));
        }
        let _ = policy.validate("{}", &[]);
    }
    Ok(())
}

#[test]
fn components() {
    let compiler = Compiler::new(operator::binary(!cfg!(debug_assertions)).unwrap()).unwrap();
    let header = b"\0asm\x0d\0\x01\0".as_slice();
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03".as_slice();
    let strategy = prop_oneof![
        8 => mutated(seeds()),
        1 => (proptest::sample::select(vec![header, gzip, &[]]), vec(any::<u8>(), 0..200))
            .prop_map(|(header, bytes)| [header, &bytes].concat()),
    ];
    fuzz("components", 120, &strategy, |bytes| {
        survives(&compiler, &bytes)
    });
}
