//! Components of handwritten core modules.

use anyhow::Context;
use wasm_encoder::{Component, RawSection};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::{ManglingAndAbi, Resolve, WorldId};

/// The contract of the operator.
pub(crate) const CONTRACT: &str = include_str!("../../../wit/1.0.0/policy.wit");

/// Returns an honest policy of a few hundred bytes that chooses the first item. Mutations start
/// from it.
///
/// # Errors
/// Returns an error if the module in this file is wrong.
pub fn honest() -> anyhow::Result<Vec<u8>> {
    policy(&module("", "", CHOOSE_FIRST)?)
}

/// The body of `select` in an honest policy: memory is zero at 16, and an answer of zeros means
/// "start item 0".
pub(crate) const CHOOSE_FIRST: &str = "(i32.const 16)";

/// A flattened request, with the most parameters that the canonical ABI passes one by one.
const REQUEST: &str = "i32 i32 i32 i32 i64 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32";

/// Tests whether the request comes from the namespace `probe`, whose address is the first
/// parameter: its name begins with these four bytes.
pub(crate) const IS_PROBE: &str = "(i32.eq (i32.load (local.get 0)) (i32.const 0x626f7270))";

/// Returns a core module that fulfills the contract. `imports` and `more` are additional fields,
/// and `select` is the body of that function.
pub(crate) fn module(imports: &str, more: &str, select: &str) -> anyhow::Result<Vec<u8>> {
    let realloc = r#"(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $end) (i32.const 7)) (i32.const -8)))
        (global.set $end (i32.add (local.get $at) (local.get 3)))
        (if (i32.gt_u (global.get $end) (i32.shl (memory.size) (i32.const 16)))
            (then (drop (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get 3) (i32.const 16)))))))
        (local.get $at))"#;
    module_with(imports, more, select, realloc)
}

/// Returns a module like [`module`], with a custom allocator.
pub(crate) fn module_with(
    imports: &str,
    more: &str,
    select: &str,
    realloc: &str,
) -> anyhow::Result<Vec<u8>> {
    let text = format!(
        r#"(module {imports}
        (memory (export "memory") 2)
        (global $end (mut i32) (i32.const 4096))
        {realloc}
        (func (export "oaat:policy/selector@1.0.0#select") (param {REQUEST}) (result i32) {select})
        (func (export "oaat:policy/selector@1.0.0#validate") (param i32 i32 i32 i32) (result i32)
            (i32.const 16))
        {more})"#
    );
    wat::parse_str(&text).with_context(|| text.clone())
}

/// Returns a policy from a core module.
pub(crate) fn policy(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    with_world(CONTRACT, module)
}

/// Returns a component of the world `policy` of a contract, from a core module.
pub(crate) fn with_world(contract: &str, module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let (resolve, world) = resolve(contract)?;
    encode(&resolve, world, module.to_vec())
}

/// Returns a component of the world `policy` of a contract that crashes in each function.
pub(crate) fn dummy(contract: &str) -> anyhow::Result<Vec<u8>> {
    let (resolve, world) = resolve(contract)?;
    let module = wit_component::dummy_module(&resolve, world, ManglingAndAbi::Standard32);
    encode(&resolve, world, module)
}

fn resolve(contract: &str) -> anyhow::Result<(Resolve, WorldId)> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("policy.wit", contract)?;
    let world = resolve.select_world(&[package], Some("policy"))?;
    Ok((resolve, world))
}

fn encode(resolve: &Resolve, world: WorldId, mut module: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    wit_component::embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8)?;
    // Not validated, because the result need not be valid.
    ComponentEncoder::default()
        .validate(false)
        .module(&module)?
        .encode()
}

/// Returns the sections of a component, with their headers.
pub(crate) fn sections(mut component: &[u8]) -> Vec<RawSection<'_>> {
    let mut sections = Vec::new();
    component = component.get(8..).unwrap_or_default();
    while let [id, rest @ ..] = component {
        let mut size = 0;
        let mut digits = 0;
        for byte in rest {
            size |= usize::from(byte & 0x7f) << (7 * digits);
            digits += 1;
            // A size has at most five bytes; a longer one is not a section.
            if byte & 0x80 == 0 || digits == 5 {
                break;
            }
        }
        let data = rest.get(digits..digits + size).unwrap_or_default();
        sections.push(RawSection { id: *id, data });
        component = rest.get(digits + size..).unwrap_or_default();
    }
    sections
}

/// Returns a component with additional sections at its end.
pub(crate) fn extend(component: &[u8], more: Component) -> Vec<u8> {
    let more = more.finish();
    [component, more.get(8..).unwrap_or_default()].concat()
}
