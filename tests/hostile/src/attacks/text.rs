//! Attacks in the text format of WebAssembly.

use super::encode::compress_if_large;
use crate::attack::Row;
use crate::component::honest;
use anyhow::Context;

/// Builds honest policies with these texts at their ends.
pub(super) fn with_texts(
    rows: Vec<(&'static str, &'static [&'static str], &'static str, String)>,
) -> anyhow::Result<Vec<Row>> {
    let built = rows.into_iter().map(|(name, ends, what, text)| {
        let bytes = with_text(&text).with_context(|| name.to_owned())?;
        Ok((name, ends, what, compress_if_large(bytes)?))
    });
    built.collect()
}

/// Returns an honest policy with `more` at its end, as text.
fn with_text(more: &str) -> anyhow::Result<Vec<u8>> {
    let honest = wasmprinter::print_bytes(honest()?)?;
    let inside = honest
        .trim_end()
        .strip_suffix(')')
        .context("the text has no component")?;
    Ok(wat::parse_str(format!("{inside}\n{more}\n)"))?)
}

/// The definitions that a lifted function needs.
pub(super) const HELPER: &str = r#"(core module $hm (memory (export "m") 1)
    (func (export "r") (param i32 i32 i32 i32) (result i32) i32.const 0)
    (func (export "g") (param i32) (result i32) i32.const 0)
    (func (export "h") (param i32)))
    (core instance $hi (instantiate $hm))
    (alias core export $hi "m" (core memory $m)) (alias core export $hi "r" (core func $r))
    (alias core export $hi "g" (core func $g)) (alias core export $hi "h" (core func $h))"#;

/// Returns a function with a parameter of this type, which does not fit into registers.
pub(super) fn lifted(ty: &str) -> String {
    format!(
        r#"{HELPER}(type $lf (func (param "a" {ty}) (param "b" (tuple u8 u8 u8 u8 u8 u8 u8 u8 u8 u8 u8 u8 u8 u8 u8 u8 u8))))
        (func $lifted (type $lf) (canon lift (core func $h) (memory $m) (realloc (func $r))))
        (core func $lowered (canon lower (func $lifted) (memory $m)))
        (core module $lu (import "" "f" (func (param i32))))
        (core instance (instantiate $lu (with "" (instance (export "f" (func $lowered))))))"#
    )
}
