//! Components that are cut off, or whose sizes and counts are wrong.

use super::encode::section;
use crate::attack::{Attack, FOREIGN, WRONG};
use crate::bombs::{with_module, with_sections};
use crate::component::{honest, sections};

/// An honest component that is cut off at the start, or in the middle, of each section.
pub(super) fn cut() -> anyhow::Result<Vec<Attack>> {
    let honest = honest()?;
    let mut all = Vec::new();
    for (number, part) in sections(&honest).iter().enumerate() {
        let begin = part.data.as_ptr() as usize - honest.as_ptr() as usize;
        for (place, at) in [("in", begin + part.data.len() / 2), ("at", begin)] {
            all.push(Attack {
                name: format!("cut-{place}-section-{number}"),
                what: "an honest component that is cut off",
                bytes: honest[..at].to_vec(),
                ends: FOREIGN,
            });
        }
    }
    Ok(all)
}

/// Wrong sizes and counts in each kind of section.
pub(super) fn miscounted() -> anyhow::Result<Vec<Attack>> {
    let honest = honest()?;
    let mut all = Vec::new();
    let mut push = |name: String, what, bytes| {
        all.push(Attack {
            name,
            what,
            bytes,
            ends: WRONG,
        });
    };
    let most = [0xff, 0xff, 0xff, 0xff, 0x0f];
    for id in 0..=12_u8 {
        push(
            format!("size-{id}"),
            "a section that says it is as long as can be",
            [honest.as_slice(), &[id], &most, &[1; 64]].concat(),
        );
        push(
            format!("size-long-{id}"),
            "a section whose length is a number without an end",
            [honest.as_slice(), &[id], &[0xff; 12]].concat(),
        );
        push(
            format!("count-{id}"),
            "a section of the component that says it has four thousand million entries",
            with_sections([(id, [most.as_slice(), &[0x40; 64]].concat())])?,
        );
        // Sections of a core module: types, functions, tables, and so on.
        let core = [
            b"\0asm\x01\0\0\0",
            section(id, &[most.as_slice(), &[0x60; 64]].concat()).as_slice(),
        ]
        .concat();
        push(
            format!("core-count-{id}"),
            "a section of a core module that says it has four thousand million entries",
            with_module(&core)?,
        );
    }
    // In names, parameters, locals, and jump tables.
    for (name, body) in [
        (
            "locals",
            [&[1, 10, 1], most.as_slice(), &[0x7f, 0x0b]].concat(),
        ),
        (
            "locals-sum",
            [&[1, 16, 2], most.as_slice(), &[0x7f], &most, &[0x7e, 0x0b]].concat(),
        ),
        (
            "jump-table",
            [&[1, 12, 0, 0x41, 0, 0x0e], most.as_slice(), &[0, 0x0b]].concat(),
        ),
    ] {
        let core = [
            b"\0asm\x01\0\0\0".as_slice(),
            &section(1, &[1, 0x60, 0, 0]),
            &section(3, &[1, 0]),
            &section(10, &body),
        ];
        push(
            format!("core-count-{name}"),
            "code that says it has four thousand million of something",
            with_module(&core.concat())?,
        );
    }
    for (name, id, body) in [
        ("name", 10, [&[1, 0], most.as_slice(), b"x"].concat()),
        (
            "record",
            7,
            [&[1, 0x72], most.as_slice(), b"\x01a\x7f"].concat(),
        ),
        ("flags", 7, [&[1, 0x6e], most.as_slice(), b"\x01a"].concat()),
        (
            "tuple",
            7,
            [&[1, 0x6f], most.as_slice(), &[0x7f; 9]].concat(),
        ),
        (
            "declarations",
            7,
            [&[1, 0x41], most.as_slice(), &[1, 0x40, 0, 0]].concat(),
        ),
        (
            "options",
            8,
            [&[1, 0, 0, 0], most.as_slice(), &[0; 9]].concat(),
        ),
        (
            "arguments",
            5,
            [&[1, 0, 0], most.as_slice(), &[0; 9]].concat(),
        ),
    ] {
        push(
            format!("count-{name}"),
            "a description that says it has four thousand million parts",
            with_sections([(id, body)])?,
        );
    }
    Ok(all)
}
