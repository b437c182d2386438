//! The names of functions in a WebAssembly module.

use std::collections::BTreeMap;
use std::fmt::Write;
use wasmparser::{ExternalKind, KnownCustom, Name, NameSectionReader, Parser, Payload};

/// The custom section that contains the names.
const SECTION: &str = "name";
/// The maximum length of a name in bytes. Longer names are truncated.
const MAX_LENGTH: usize = 200;

/// Returns the names of the functions in a core module, by index. For a component, uses the module
/// with the most names. Without debug information, these are the names of exports. Returns no names
/// if the bytes are malformed.
pub fn function_names(wasm: &[u8]) -> BTreeMap<u32, String> {
    let mut modules = vec![BTreeMap::new()];
    for payload in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
        let Some(names) = modules.last_mut() else {
            break;
        };
        match payload {
            Payload::Version { .. } => modules.push(BTreeMap::new()),
            Payload::ExportSection(section) => {
                let exports = section.into_iter().map_while(Result::ok);
                let functions = exports.filter(|export| export.kind == ExternalKind::Func);
                names.extend(functions.map(|export| (export.index, bounded(export.name))));
            }
            Payload::CustomSection(section) => {
                if let KnownCustom::Name(section) = section.as_known() {
                    names.extend(functions(section));
                }
            }
            _ => {}
        }
    }
    let most = modules.into_iter().max_by_key(BTreeMap::len);
    most.unwrap_or_default()
}

fn functions(section: NameSectionReader<'_>) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    for subsection in section.into_iter().map_while(Result::ok) {
        if let Name::Function(functions) = subsection {
            let functions = functions.into_iter().map_while(Result::ok);
            names.extend(functions.map(|naming| (naming.index, demangle(naming.name))));
        }
    }
    names
}

/// Demangles a Rust symbol. Returns other names unchanged.
fn demangle(symbol: &str) -> String {
    let mut path = Bounded(String::new());
    // Fails only if the name is too long.
    let _ = write!(path, "{:#}", rustc_demangle::demangle(symbol));
    path.0
}

fn bounded(name: &str) -> String {
    name[..name.floor_char_boundary(MAX_LENGTH)].to_owned()
}

/// Text of bounded length. A short symbol can have a very long demangled name.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = MAX_LENGTH - self.0.len();
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room {
            return Err(std::fmt::Error);
        }
        Ok(())
    }
}

/// Removes the names of functions from a core module. Returns malformed bytes unchanged.
pub(crate) fn without_names(module: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    // The end of the previous section. The header of the next one starts there.
    let mut end = 0;
    for payload in Parser::new(0).parse_all(module) {
        let Ok(payload) = payload else {
            return module.to_vec();
        };
        let section = match &payload {
            Payload::Version { range, .. } => range.clone(),
            other => match other.as_section() {
                Some((_, content)) => content,
                None => continue,
            },
        };
        let has_names = matches!(&payload, Payload::CustomSection(c) if c.name() == SECTION);
        if !has_names {
            kept.extend_from_slice(&module[end..section.end]);
        }
        end = section.end;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a section of less than 128 bytes.
    fn section(id: u8, content: &[u8]) -> Vec<u8> {
        [&[id, content.len() as u8], content].concat()
    }

    fn module(sections: &[Vec<u8>]) -> Vec<u8> {
        [b"\0asm\x01\0\0\0".as_slice(), &sections.concat()].concat()
    }

    fn names(functions: &[(u8, &str)]) -> Vec<u8> {
        let entry =
            |(index, name): &(u8, &str)| [&[*index, name.len() as u8], name.as_bytes()].concat();
        let entries: Vec<_> = functions.iter().map(entry).collect();
        let map = [vec![functions.len() as u8], entries.concat()].concat();
        section(0, &[b"\x04name".as_slice(), &section(1, &map)].concat())
    }

    #[test]
    fn function_names_are_demangled_and_bounded() {
        let long = "x".repeat(100);
        let symbol = format!("_ZN4crat100{long}100{long}17h0123456789abcdefE");
        assert!(demangle(&symbol.replace("_ZN4crat", "_ZN")).len() == MAX_LENGTH);
        let module = module(&[names(&[
            (3, "_ZN4core3foo17h0123456789abcdefE"),
            (4, "main"),
        ])]);
        let expected = [(3, "core::foo".to_owned()), (4, "main".to_owned())];
        assert_eq!(function_names(&module), BTreeMap::from(expected));
        let export = section(7, b"\x01\x06select\x00\x05");
        let expected = BTreeMap::from([(5, "select".to_owned())]);
        assert_eq!(function_names(&self::module(&[export])), expected);
        assert!(function_names(b"").is_empty());
    }

    #[test]
    fn without_names_removes_only_the_names() {
        let other = section(0, b"\x05other");
        let all = module(&[other.clone(), names(&[(0, "f")]), other.clone()]);
        assert_eq!(without_names(&all), module(&[other.clone(), other]));
        assert_eq!(without_names(b"\0asm?"), b"\0asm?");
    }
}
