//! Finds imports that a policy must not have, and explains how to avoid them.

use std::fmt;
use wasmparser::{Parser, Payload};

/// An import of a core module that is not part of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignImport {
    /// The module that it is imported from.
    pub module: String,
    /// Its name in that module.
    pub name: String,
}

impl fmt::Display for ForeignImport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { module, name } = self;
        write!(
            f,
            "the module imports {name:?} from {module:?}, but a policy may import only its log; {}",
            Origin::of(module, name).advice()
        )
    }
}

/// Where an import comes from.
#[derive(Clone, Copy)]
enum Origin {
    Wasi,
    AssemblyScript,
    WasmBindgen,
    SpecTest,
    Random,
    Go,
    Undefined,
    Other,
}

impl Origin {
    fn of(module: &str, name: &str) -> Self {
        match module {
            _ if module.starts_with("wasi") => Self::Wasi,
            _ if module.starts_with("__wbindgen_") || module == "wbg" => Self::WasmBindgen,
            "spectest" => Self::SpecTest,
            "gojs" | "go" => Self::Go,
            "env" if name == "abort" || name == "seed" => Self::AssemblyScript,
            _ if name.contains("getrandom") => Self::Random,
            _ if name.starts_with("__wbindgen_") || name.starts_with("__wbg_") => Self::WasmBindgen,
            "env" => Self::Undefined,
            _ => Self::Other,
        }
    }

    /// Returns how to avoid the import.
    fn advice(self) -> &'static str {
        match self {
            Self::Wasi => {
                "it was built for WASI: build it for wasm32-unknown-unknown, and do not use files, clocks, \
                 random numbers, or the standard output"
            }
            Self::AssemblyScript => {
                "AssemblyScript adds it: compile with `--use abort=` and without Math.random"
            }
            Self::WasmBindgen => {
                "a dependency uses wasm-bindgen to call JavaScript: find it with `cargo tree -i wasm-bindgen`, and \
                 disable its feature, often called js, wasm-bindgen, or wasmbind"
            }
            Self::SpecTest => "only the WebAssembly test suite provides it: remove it",
            Self::Random => {
                "a dependency uses getrandom: disable it, and use the seed of the request for random numbers"
            }
            Self::Go => {
                "a Go program for js/wasm needs a browser: use another language, such as Rust or C"
            }
            Self::Undefined => {
                "the linker found no definition of this function: define it, or do not call it"
            }
            Self::Other => "remove it, and use only the data in the request",
        }
    }
}

/// Returns the first import that a policy must not have. Returns `None` if there is none, or if the
/// module is malformed.
pub(crate) fn first_foreign(module: &[u8]) -> Option<ForeignImport> {
    for payload in Parser::new(0).parse_all(module) {
        let Payload::ImportSection(section) = payload.ok()? else {
            continue;
        };
        for import in section.into_imports() {
            let import = import.ok()?;
            if !import.module.starts_with("oaat:policy/") {
                return Some(ForeignImport {
                    module: import.module.chars().take(MAX_NAME).collect(),
                    name: import.name.chars().take(MAX_NAME).collect(),
                });
            }
        }
    }
    None
}

/// The maximum length of a quoted name, in characters.
const MAX_NAME: usize = 100;

/// Returns whether a module contains the type of its world, which the SDK and binding generators add.
pub(crate) fn has_world(module: &[u8]) -> bool {
    let payloads = Parser::new(0).parse_all(module);
    payloads.map_while(Result::ok).any(|payload| {
        matches!(payload, Payload::CustomSection(section) if section.name().starts_with("component-type"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a module that imports a function.
    fn importing(module: &str, name: &str) -> Vec<u8> {
        let mut section = vec![1, module.len() as u8];
        section.extend(module.bytes());
        section.push(name.len() as u8);
        section.extend(name.bytes());
        section.extend([0, 0]);
        // A type section with the type of a function without parameters, then the imports.
        let mut bytes = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02".to_vec();
        bytes.push(section.len() as u8);
        bytes.extend(section);
        bytes
    }

    #[test]
    fn foreign_imports_are_reported_with_advice() {
        for (module, name, advice) in [
            (
                "wasi_snapshot_preview1",
                "fd_write",
                "wasm32-unknown-unknown",
            ),
            (
                "wasi:clocks/wall-clock@0.2.0",
                "now",
                "wasm32-unknown-unknown",
            ),
            ("env", "abort", "--use abort="),
            ("__wbindgen_placeholder__", "__wbindgen_throw", "cargo tree"),
            ("wbg", "__wbg_now", "cargo tree"),
            ("env", "__wbindgen_describe", "cargo tree"),
            ("spectest", "print", "remove it"),
            ("env", "__getrandom_v03_custom", "the seed of the request"),
            ("env", "sqrt", "no definition"),
            ("gojs", "runtime.wasmExit", "Go"),
            ("other", "f", "only the data in the request"),
        ] {
            let import = first_foreign(&importing(module, name)).map(|import| import.to_string());
            let text = import.unwrap_or_default();
            for part in [&format!("{module:?}"), &format!("{name:?}"), advice] {
                assert!(text.contains(part), "{module} {name}: {text}");
            }
        }
        assert_eq!(
            first_foreign(&importing("oaat:policy/log@1.0.0", "write")),
            None
        );
        assert_eq!(first_foreign(b"not wasm"), None);
    }
}
