//! Bytes that nobody wrote, in the loader: whatever they are, it says what is
//! wrong with them in one line, or there is a policy that keeps to the contract.
//!
//! `PROPTEST_CASES=100000 cargo test -p policy-host --test hostile fuzz` goes on
//! for longer.

use crate::common::{ask, host, named, one_line};
use policy_host::{EvalError, Host, LoadError};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use std::sync::LazyLock;

static HOST: LazyLock<Host> = LazyLock::new(host);

/// What mutations start from: a policy of one module, and one of three as cargo
/// builds it.
static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    vec![
        hostile_policies::honest().unwrap(),
        named("notes-shared").bytes.clone(),
        named("realloc-log").bytes.clone(),
        named("note-control").bytes.clone(),
    ]
});

fn cases(cases: u32) -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig::with_cases(cases),
    }
}

#[derive(Clone, Debug)]
enum Mutation {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Delete(Index, usize),
    /// Copies a piece to another place.
    Splice(Index, Index, usize),
    Truncate(Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    // The bytes that mean the most: small numbers, opcodes of blocks, ends of LEB128.
    let byte = || prop_oneof![0_u8..0x20, Just(0x7f), Just(0x80), Just(0xff), any::<u8>()];
    prop_oneof![
        4 => (at(), 0_u32..8).prop_map(|(at, bit)| Mutation::Flip(at, 1 << bit)),
        4 => (at(), byte()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        1 => (at(), vec(byte(), 1..8)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => (at(), 1_usize..8).prop_map(|(at, length)| Mutation::Delete(at, length)),
        1 => (at(), at(), 1_usize..64).prop_map(|(from, to, length)| Mutation::Splice(from, to, length)),
        1 => at().prop_map(Mutation::Truncate),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    if bytes.is_empty() {
        return;
    }
    let length = bytes.len();
    let piece = |at: &Index, wanted: usize| {
        let at = at.index(length);
        at..(at + wanted).min(length)
    };
    match mutation {
        Mutation::Flip(at, bits) => bytes[at.index(length)] ^= bits,
        Mutation::Set(at, byte) => bytes[at.index(length)] = *byte,
        Mutation::Insert(at, more) => {
            let at = at.index(length);
            bytes.splice(at..at, more.iter().copied());
        }
        Mutation::Delete(at, wanted) => {
            bytes.drain(piece(at, *wanted));
        }
        Mutation::Splice(from, to, wanted) => {
            let copied = bytes[piece(from, *wanted)].to_vec();
            let to = to.index(length);
            bytes.splice(to..to, copied);
        }
        Mutation::Truncate(at) => bytes.truncate(at.index(length)),
    }
}

/// A component with a few changes, most of them small enough to leave it valid.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    (any::<Index>(), vec(mutation(), 1..5)).prop_map(|(seed, mutations)| {
        let mut bytes = seed.get(&SEEDS).clone();
        for mutation in &mutations {
            mutate(&mut bytes, mutation);
        }
        bytes
    })
}

/// Loads, asks, and holds what comes of it against the contract.
fn survives(bytes: &[u8]) -> Result<(), TestCaseError> {
    match HOST.load(bytes, None) {
        Ok(policy) => {
            let answer = ask(&policy, "{}", "").answer;
            let words = answer.err().as_ref().map(EvalError::to_string);
            prop_assert!(words.is_none_or(|words| one_line(&words)));
            let _ = policy.validate("{}", &[]);
        }
        Err(error) => {
            let words = error.to_string();
            prop_assert!(one_line(&words) && words.len() < 2048, "{words:?}");
            // Told as a fault of the component, and yet one of the compiler.
            let crashed =
                matches!(&error, LoadError::CompileFailed(why) if why.contains("crashed"));
            prop_assert!(!crashed, "{words}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..200)) {
        survives(&bytes)?;
    }

    #[test]
    fn any_bytes_after_the_header(bytes in vec(any::<u8>(), 0..200)) {
        survives(&[b"\0asm\x0d\0\x01\0".as_slice(), &bytes].concat())?;
    }

    #[test]
    fn any_bytes_after_the_header_of_gzip(bytes in vec(any::<u8>(), 0..200)) {
        survives(&[b"\x1f\x8b\x08\0\0\0\0\0\0\x03".as_slice(), &bytes].concat())?;
    }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn components_with_small_changes(bytes in mutated()) {
        survives(&bytes)?;
    }
}
