//! Small mutations of bytes, for property tests that start from almost valid input.

use crate::component::sections;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// A change.
#[derive(Clone, Debug)]
enum Mutation {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Delete(Index, usize),
    /// Copies a range to another position.
    Splice(Index, Index, usize),
    Truncate(Index),
    /// Encodes a one-byte number in more bytes, or without an end.
    Lengthen(Index, usize),
    /// Copies a section of a component to the position after another one.
    Section(Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    // The most significant bytes: small numbers, opcodes of blocks, ends of LEB128, brackets, and
    // quotes.
    let byte = || {
        prop_oneof![
            0_u8..0x20,
            Just(0x7f),
            Just(0x80),
            Just(0xff),
            proptest::sample::select(b"[]{}\"'\\:,-&*!|>#$.?@ \n".to_vec()),
            any::<u8>()
        ]
    };
    prop_oneof![
        4 => (at(), 0_u32..8).prop_map(|(at, bit)| Mutation::Flip(at, 1 << bit)),
        4 => (at(), byte()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        1 => (at(), vec(byte(), 1..8)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => (at(), 1_usize..8).prop_map(|(at, length)| Mutation::Delete(at, length)),
        1 => (at(), at(), 1_usize..64).prop_map(|(from, to, length)| Mutation::Splice(from, to, length)),
        1 => at().prop_map(Mutation::Truncate),
        1 => (at(), 1_usize..12).prop_map(|(at, length)| Mutation::Lengthen(at, length)),
        1 => (at(), at()).prop_map(|(from, to)| Mutation::Section(from, to)),
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
        Mutation::Lengthen(at, by) => {
            let at = at.index(length);
            bytes[at] |= 0x80;
            bytes.splice(at + 1..at + 1, std::iter::repeat_n(0x80, *by).chain([0]));
        }
        Mutation::Section(from, to) => {
            let ends: Vec<usize> = sections(bytes)
                .iter()
                .map(|part| {
                    let begin = part.data.as_ptr() as usize;
                    // A slice that is not part of the bytes has no position.
                    let begin = begin.saturating_sub(bytes.as_ptr() as usize);
                    (begin + part.data.len()).min(length)
                })
                .collect();
            if ends.is_empty() {
                return;
            }
            let number = from.index(ends.len());
            let begin = if number == 0 { 8 } else { ends[number - 1] };
            let copied = bytes[begin.min(ends[number])..ends[number]].to_vec();
            let to = ends[to.index(ends.len())];
            bytes.splice(to..to, copied);
        }
    }
}

/// Returns one of the seeds with a few changes, most of them small enough to leave it nearly valid.
pub fn mutated(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (proptest::sample::select(seeds), vec(mutation(), 1..5)).prop_map(|(mut bytes, mutations)| {
        for mutation in &mutations {
            mutate(&mut bytes, mutation);
        }
        bytes
    })
}

/// Returns one of the texts with a few changes.
pub fn mutated_text(seeds: Vec<String>) -> impl Strategy<Value = String> {
    mutated(seeds.into_iter().map(String::into_bytes).collect())
        .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns texts that consist of these pieces.
pub fn soup(pieces: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    vec(proptest::sample::select(pieces), 0..most).prop_map(|pieces| pieces.concat())
}
