//! Bytes that are not a component, or an invalid one.

use crate::Expected::{self, Legal, Load};
use crate::Hostile;
use crate::component::{CHOOSE_FIRST, honest, module, sections};
use policy_host::compress;

pub(crate) fn all() -> anyhow::Result<Vec<Hostile>> {
    let honest = honest()?;
    let code = longest_section(&honest);
    let mut all = Vec::new();
    let mut push = |name, expected: Expected, what, bytes| {
        all.push(Hostile {
            name,
            what,
            bytes,
            settings: None,
            expected,
        })
    };
    let malformed = Load("Malformed");
    push("empty", malformed, "no bytes at all", vec![]);
    push(
        "text",
        malformed,
        "a text file",
        b"apiVersion: v1\n".repeat(9),
    );
    push(
        "core-module",
        malformed,
        "a core module, as compilers write it",
        module("", "", CHOOSE_FIRST)?,
    );
    push(
        "precompiled",
        malformed,
        "machine code, as wasmtime precompiles it of an honest component",
        wasmtime::Engine::default()
            .precompile_component(&honest)
            .map_err(|error| anyhow::anyhow!("{error:#}"))?,
    );
    push(
        "precompiled-header",
        malformed,
        "nothing but the header of machine code",
        [b"\x7fELF\x02\x01\x01\xc8".as_slice(), &[0; 4096]].concat(),
    );
    push(
        "header-only",
        Load("InterfaceMismatch"),
        "a component with nothing in it",
        honest[..8].to_vec(),
    );
    push(
        "truncated-5",
        malformed,
        "the first 5 bytes",
        honest[..5].to_vec(),
    );
    push(
        "truncated-9",
        malformed,
        "the first 9 bytes",
        honest[..9].to_vec(),
    );
    push(
        "truncated-half",
        malformed,
        "the first half",
        honest[..honest.len() / 2].to_vec(),
    );
    push(
        "truncated-1",
        malformed,
        "all but the last byte",
        honest[..honest.len() - 1].to_vec(),
    );
    push(
        "trailing",
        malformed,
        "a component with another behind it",
        [honest.as_slice(), &honest].concat(),
    );
    push(
        "flipped-header",
        malformed,
        "one bit of the format version is wrong",
        flip(&honest, 4, 0x40),
    );
    push(
        "flipped-length",
        malformed,
        "one bit of a section's length is wrong",
        flip(&honest, 9, 0x01),
    );
    push(
        "flipped-code",
        Load("CompileFailed"),
        "an instruction is one that does not exist",
        flip(&honest, code, 0xff),
    );
    push(
        "gzip",
        Legal,
        "honest, and packed with gzip",
        compress(&honest)?,
    );
    push(
        "gzip-twice",
        malformed,
        "packed with gzip twice",
        compress(&compress(&honest)?)?,
    );
    push(
        "gzip-truncated",
        malformed,
        "packed with gzip, and cut off",
        compress(&honest)?[..100].to_vec(),
    );
    push(
        "gzip-bomb",
        Load("TooLarge"),
        "20 MiB of zeros, packed to 20 kB",
        compress(&[honest, vec![0; 20 << 20]].concat())?,
    );
    push(
        "gzip-members",
        Load("TooLarge"),
        "a million pieces of gzip in a row",
        compress(&[0; 1024])?.repeat(100_000),
    );
    push(
        "oversized",
        Load("TooLarge"),
        "20 MiB, unpacked",
        vec![0; 20 << 20],
    );
    Ok(all)
}

/// Returns the position of the second last byte of the core module's code, which is in an
/// instruction.
fn longest_section(component: &[u8]) -> usize {
    let module = sections(component)
        .into_iter()
        .find(|section| section.id == 1);
    let module = module.map_or(&[][..], |section| section.data);
    let mut at = 0;
    for section in sections(module) {
        if section.id == 10 {
            // The slices are parts of the component, so their positions are known.
            at = section.data.as_ptr() as usize - component.as_ptr() as usize + section.data.len();
        }
    }
    at.saturating_sub(3)
}

pub(crate) fn flip(bytes: &[u8], at: usize, bits: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= bits;
    }
    bytes
}
