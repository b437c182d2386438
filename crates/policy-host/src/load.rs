//! The checks of a component, in order, and the errors that they return.

use crate::backtrace::FunctionNames;
use crate::contract::CONTRACT;
use crate::eval_error::EvalError;
use flate2::Compression;
use flate2::write::GzEncoder;
use plain_text as text;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::io::{Read, Write};
use wasmtime::Engine;
use wasmtime::component::Component;

/// The maximum length of a quoted name or version in a message, in bytes.
const NAME: usize = 200;

/// Why a component was rejected. [`LoadError::reason`] returns a token for conditions. The display
/// text says what is wrong and how to fix it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum LoadError {
    /// The component is larger than the maximum.
    #[error(
        "the component is larger than {limit} bytes{}; build it without debug information, as `kubectl-oaat policy build` does, and remove unused dependencies",
        if *.unpacked { " after decompression" } else { "" }
    )]
    TooLarge {
        /// The maximum size in bytes.
        limit: usize,
        /// Whether the component was compressed.
        unpacked: bool,
    },
    /// The sha256 of the component differs from the pinned one.
    #[error(
        "the component's sha256 is {found}, but spec.policy.sha256 is {wanted}; change spec.policy.sha256, or put the pinned component into the ConfigMap"
    )]
    DigestMismatch {
        /// The sha256 of the uncompressed component, in lowercase hexadecimal.
        found: String,
        /// The pinned sha256.
        wanted: String,
    },
    /// The data is not a WebAssembly component.
    #[error("the data is not a WebAssembly component: {0}")]
    Malformed(String),
    /// The component imports an interface that policies must not import.
    #[error(
        "the component imports {import:?}, but a policy may import only oaat:policy/log; {}",
        if .import.starts_with("wasi:") {
            "build it for wasm32-unknown-unknown, as `kubectl-oaat policy build` does, not for wasm32-wasip1 or wasm32-wasip2"
        } else { "remove the import, and use only the data in the request" }
    )]
    ForbiddenImport {
        /// The name of the import.
        import: String,
    },
    /// The component uses a newer contract than this host supports.
    #[error(
        "the component uses contract {found}, but the newest contract that this operator supports is {CONTRACT}; update the operator, or build the policy against contract {CONTRACT}"
    )]
    ContractTooNew {
        /// The contract version that the component uses.
        found: String,
    },
    /// The required export is missing or has another type.
    #[error(
        "the component does not implement contract oaat:policy@{CONTRACT}: {0}; build it against an unmodified wit/{CONTRACT}/policy.wit, in Rust with policy_sdk::export_policy!"
    )]
    InterfaceMismatch(String),
    /// The compiler rejected the component, or crashed.
    #[error(
        "the component does not compile: {0}; rebuild it with `kubectl-oaat policy build`, and check it with `kubectl-oaat policy check`"
    )]
    CompileFailed(String),
    /// Compiling the component exceeded a time limit.
    #[error(
        "compiling the component took more than {} seconds{}",
        .limit.as_secs(),
        if *.cpu {
            " of CPU time; make it smaller: use fewer or shorter functions, and fewer dependencies"
        } else {
            "; the machine may be busy"
        }
    )]
    CompileTimeout {
        /// The time limit.
        limit: std::time::Duration,
        /// Whether the limit applies to CPU time, not to elapsed time.
        cpu: bool,
    },
    /// Compiling the component exceeded a memory limit.
    #[error(
        "the component is too large to compile: {what} takes more than {} KiB; make it smaller: use fewer or shorter functions, fewer types, and fewer dependencies",
        .limit >> 10
    )]
    CompileTooLarge {
        /// What is too large.
        what: CompileMemory,
        /// The limit in bytes.
        limit: usize,
    },
    /// The compiler process failed to run. The component is not the cause.
    #[error("failed to run the compiler process: {0}")]
    CompilerUnavailable(String),
    /// A component that is composed of other components failed to start.
    #[error(
        "the component is composed of other components, as wac and wasi-virt do, and failed to start: {error}; build a single component that imports only the log"
    )]
    ComposedComponent {
        /// Why it failed to start.
        error: EvalError,
    },
    /// The component failed on a small trial request.
    #[error("the component failed on a small trial request: {error:#}; {advice}", error = .0, advice = advice(.0))]
    ProbeFailed(EvalError),
}

/// The parts of a compilation that have a memory limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompileMemory {
    /// The memory of the compiler process.
    Compiler,
    /// Types, imports, exports, and other descriptions.
    Descriptions,
    /// The machine code that the compiler produced.
    MachineCode,
}

impl fmt::Display for CompileMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compiler => "the compiler process",
            Self::Descriptions => "the description of its types, imports, and exports",
            Self::MachineCode => "its machine code",
        })
    }
}

impl LoadError {
    /// Every token that [`LoadError::reason`] returns.
    pub const REASONS: [&'static str; 12] = [
        "TooLarge",
        "DigestMismatch",
        "Malformed",
        "ForbiddenImport",
        "ContractTooNew",
        "InterfaceMismatch",
        "CompileFailed",
        "CompileTimeout",
        "CompileTooLarge",
        "CompilerUnavailable",
        "ComposedComponent",
        "ProbeFailed",
    ];

    /// Returns the CamelCase reason for conditions and events.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "TooLarge",
            Self::DigestMismatch { .. } => "DigestMismatch",
            Self::Malformed(_) => "Malformed",
            Self::ForbiddenImport { .. } => "ForbiddenImport",
            Self::ContractTooNew { .. } => "ContractTooNew",
            Self::InterfaceMismatch(_) => "InterfaceMismatch",
            Self::CompileFailed(_) => "CompileFailed",
            Self::CompileTimeout { .. } => "CompileTimeout",
            Self::CompileTooLarge { .. } => "CompileTooLarge",
            Self::CompilerUnavailable(_) => "CompilerUnavailable",
            Self::ComposedComponent { .. } => "ComposedComponent",
            Self::ProbeFailed(_) => "ProbeFailed",
        }
    }

    /// Adds the names of functions to the backtrace of a crash.
    pub fn with_names(self, names: &FunctionNames) -> Self {
        match self {
            Self::ProbeFailed(error) => Self::ProbeFailed(error.with_names(names)),
            other => other,
        }
    }

    /// Returns whether the same component may load later, because a busy machine is the cause.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::ProbeFailed(EvalError::Deadline(_))
                | Self::CompileTimeout { cpu: false, .. }
                | Self::CompilerUnavailable(_)
        )
    }
}

/// Returns what to do about a policy that failed on the trial request.
fn advice(error: &EvalError) -> &'static str {
    match error {
        EvalError::OutOfFuel(_) => {
            "look for an endless loop; `kubectl-oaat policy check` repeats the trial"
        }
        EvalError::Deadline(_) => {
            "the machine may have been busy; `kubectl-oaat policy bench` shows how long the policy takes"
        }
        EvalError::OutOfMemory(_) => {
            "reduce its memory use; `kubectl-oaat policy check` repeats the trial"
        }
        EvalError::PolicyError(_) | EvalError::Trapped(_) | EvalError::BadAnswer(_) => {
            "it must not crash on any request; `kubectl-oaat policy check` repeats the trial"
        }
    }
}

/// Returns whether the bytes are gzip data, by their magic number.
pub fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// Decompresses the bytes if they are gzip. Never produces more than `limit` bytes.
///
/// # Errors
/// Returns an error if the gzip data is damaged, or if the content exceeds the limit.
pub fn decompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, LoadError> {
    let compressed = is_gzip(bytes);
    let mut wasm = Vec::new();
    if compressed {
        // One byte over the limit shows that the component is too large.
        flate2::read::MultiGzDecoder::new(bytes)
            .take(limit as u64 + 1)
            .read_to_end(&mut wasm)
            .map_err(|e| LoadError::Malformed(format!("it is damaged gzip data ({e})")))?;
    } else if bytes.len() <= limit {
        wasm.extend_from_slice(bytes);
    }
    if wasm.len() > limit || (!compressed && bytes.len() > limit) {
        return Err(LoadError::TooLarge {
            limit,
            unpacked: compressed,
        });
    }
    Ok(wasm)
}

/// Compresses bytes with gzip. The same bytes always give the same result.
///
/// # Errors
/// Never returns an error, because a write to memory does not fail.
pub fn compress(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(bytes)?;
    packed.finish()
}

/// Returns the sha256 of bytes in lowercase hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Compares a digest with the one that the user pinned. The prefix `sha256:` and the case of letters
/// are ignored.
pub(crate) fn check_pin(found: &str, pin: &str) -> Result<(), LoadError> {
    let wanted = pin.trim().trim_start_matches("sha256:").to_lowercase();
    if wanted == found {
        return Ok(());
    }
    Err(LoadError::DigestMismatch {
        found: found.to_owned(),
        wanted: text::clean(&wanted, NAME),
    })
}

/// Checks the first bytes, to return a better error than the compiler.
pub(crate) fn check_header(wasm: &[u8]) -> Result<(), LoadError> {
    let malformed = |why: &str| Err(LoadError::Malformed(why.to_owned()));
    match wasm {
        [] => malformed("it is empty"),
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => malformed(
            "it is a core module, as compilers write it; convert it to a component with `kubectl-oaat policy build` or `kubectl-oaat policy pack`",
        ),
        [0, b'a', b's', b'm', ..] => malformed("its format version is not supported"),
        [0x7f, b'E', b'L', b'F', ..] => {
            malformed("it is native code (a precompiled artifact or a program); use the .wasm file")
        }
        _ => malformed("it does not begin with a WebAssembly header"),
    }
}

/// Returns the number of bytes of a component, including nested components, that are not in code,
/// data, or custom sections. Decoded, they take many times this size.
pub(crate) fn descriptions_size(wasm: &[u8], limit: usize) -> Result<usize, LoadError> {
    use wasmparser::{Parser, Payload};
    let mut bytes = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload
            .map_err(|error| LoadError::Malformed(text::clean(&error.to_string(), text::ERROR)))?;
        match payload {
            Payload::CodeSectionStart { .. }
            | Payload::CodeSectionEntry(_)
            | Payload::DataSection(_)
            | Payload::CustomSection(_)
            | Payload::ModuleSection { .. }
            | Payload::ComponentSection { .. } => {}
            payload => {
                bytes += payload.as_section().map_or(0, |(_, range)| range.len());
            }
        }
    }
    if bytes > limit {
        return Err(LoadError::CompileTooLarge {
            what: CompileMemory::Descriptions,
            limit,
        });
    }
    Ok(bytes)
}

/// Returns whether a component contains other components with code. The components that tools nest
/// to rename exports have none.
pub(crate) fn is_composed(wasm: &[u8]) -> bool {
    use wasmparser::{Parser, Payload};
    // The number of components and modules around the current position, except the outermost.
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
        match payload {
            Payload::ModuleSection { .. } if depth > 0 => return true,
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Returns the error for the first WASI interface that a component imports. The compiler rejects some
/// of these components for other reasons, but the import must be removed first.
pub(crate) fn wasi_import(wasm: &[u8]) -> Option<LoadError> {
    use wasmparser::{Parser, Payload};
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.ok()? {
            // The imports of a nested component are not those of the component.
            Payload::ComponentSection { .. } => return None,
            Payload::ComponentImportSection(section) => {
                let imports = section.into_iter().map_while(Result::ok);
                let mut names = imports.map(|import| import.name.name);
                if let Some(import) = names.find(|name| name.starts_with("wasi:")) {
                    let import = text::clean(import, NAME);
                    return Some(LoadError::ForbiddenImport { import });
                }
            }
            _ => {}
        }
    }
    None
}

/// Checks the names of imports and exports. Compares versions exactly: the linker treats a newer
/// minor version as compatible, but a record with more fields is another type.
pub(crate) fn check_interfaces(engine: &Engine, component: &Component) -> Result<(), LoadError> {
    let types = component.component_type();
    for (import, _) in types.imports(engine) {
        match import.strip_prefix("oaat:policy/") {
            Some(name) if name.starts_with("log@") || name.starts_with("types@") => {
                check_version(import)?
            }
            ours => {
                // A later contract may have more imports than this one.
                if ours.is_some()
                    && let Err(newer @ LoadError::ContractTooNew { .. }) = check_version(import)
                {
                    return Err(newer);
                }
                return Err(LoadError::ForbiddenImport {
                    import: text::clean(import, NAME),
                });
            }
        }
    }
    let exports = types.exports(engine).map(|(name, _)| name);
    let versions = exports.filter(|name| name.starts_with("oaat:policy/selector@"));
    // One matching version is enough: a policy may support older and newer operators.
    let matching = versions.map(check_version).reduce(Result::or);
    matching.unwrap_or_else(|| {
        Err(LoadError::InterfaceMismatch(format!(
            "it does not export oaat:policy/selector@{CONTRACT}"
        )))
    })
}

/// Compares the version in the name of an interface with the host's contract version.
fn check_version(name: &str) -> Result<(), LoadError> {
    let found = name.rsplit('@').next().unwrap_or_default();
    if found == CONTRACT {
        return Ok(());
    }
    let newer = match (
        semver::Version::parse(found),
        semver::Version::parse(CONTRACT),
    ) {
        (Ok(found), Ok(ours)) => found > ours,
        _ => false,
    };
    if newer {
        return Err(LoadError::ContractTooNew {
            found: text::clean(found, NAME),
        });
    }
    Err(LoadError::InterfaceMismatch(format!(
        "it was built for version {}",
        text::clean(found, NAME)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_bomb_is_rejected_at_the_limit() {
        let bomb = compress(&vec![0; 20 << 20]).unwrap();
        assert!(bomb.len() < 1 << 20);
        assert_eq!(
            decompress(&bomb, 1000),
            Err(LoadError::TooLarge {
                limit: 1000,
                unpacked: true
            })
        );
    }

    #[test]
    fn plain_and_gzip_components_are_equal() {
        assert_eq!(decompress(b"abc", 3), Ok(b"abc".to_vec()));
        assert_eq!(
            decompress(&compress(b"abc").unwrap(), 3),
            Ok(b"abc".to_vec())
        );
        assert!(decompress(b"abcd", 3).is_err());
        assert_eq!(
            decompress(&[0x1f, 0x8b, 0, 1], 100).map_err(|e| e.reason()),
            Err("Malformed")
        );
    }

    #[test]
    fn pin_may_have_the_prefix_sha256() {
        assert_eq!(check_pin("ab01", "sha256:AB01"), Ok(()));
        assert_eq!(check_pin("ab01", "ab01"), Ok(()));
        assert_eq!(
            check_pin("ab01", "ff").map_err(|e| e.reason()),
            Err("DigestMismatch")
        );
    }

    #[test]
    fn wrong_headers_have_specific_errors() {
        let cases: [(&[u8], &str); 5] = [
            (b"", "empty"),
            (b"\0asm\x01\0\0\0", "core module"),
            (b"\x7fELF...", "native code"),
            (b"\0asm\xff\0\0\0", "version"),
            (b"hello", "begin"),
        ];
        for (bytes, words) in cases {
            let error = check_header(bytes).map_err(|e| e.to_string());
            assert!(error.is_err_and(|e| e.contains(words)), "{words}");
        }
    }

    #[test]
    fn errors_say_what_to_do() {
        let trial = |error| LoadError::ProbeFailed(error);
        let cases = [
            (
                LoadError::TooLarge {
                    limit: 1,
                    unpacked: true,
                },
                "policy build",
            ),
            (
                LoadError::CompileTimeout {
                    limit: std::time::Duration::from_secs(20),
                    cpu: true,
                },
                "make it smaller",
            ),
            (
                LoadError::CompileTimeout {
                    limit: std::time::Duration::from_secs(30),
                    cpu: false,
                },
                "may be busy",
            ),
            (
                LoadError::CompileTooLarge {
                    what: CompileMemory::Compiler,
                    limit: 1 << 20,
                },
                "more than 1024 KiB; make it smaller",
            ),
            (
                LoadError::DigestMismatch {
                    found: "a".into(),
                    wanted: "b".into(),
                },
                "change spec.policy.sha256",
            ),
            (
                LoadError::ForbiddenImport {
                    import: "wasi:cli/exit@0.2.0".into(),
                },
                "policy build",
            ),
            (
                LoadError::ForbiddenImport {
                    import: "now".into(),
                },
                "remove the import",
            ),
            (
                LoadError::ContractTooNew {
                    found: "2.0.0".into(),
                },
                "update the operator",
            ),
            (LoadError::InterfaceMismatch("x".into()), "export_policy!"),
            (LoadError::CompileFailed("x".into()), "policy build"),
            (trial(EvalError::OutOfFuel(1)), "endless loop"),
            (
                trial(EvalError::Deadline(std::time::Duration::from_secs(1))),
                "may have been busy",
            ),
            (trial(EvalError::OutOfMemory(1)), "reduce its memory use"),
            (trial(EvalError::Trapped("x".into())), "policy check"),
        ];
        for (error, words) in cases {
            let text = error.to_string();
            assert!(text.contains(words), "{text}");
            assert!(LoadError::REASONS.contains(&error.reason()), "{text}");
            assert_eq!(error.is_transient(), words.contains("busy"), "{text}");
        }
    }

    #[test]
    fn newer_contract_has_its_own_reason() {
        let reason = |name: &str| check_version(name).map_err(|e| e.reason());
        assert_eq!(reason("oaat:policy/selector@1.0.0"), Ok(()));
        for newer in ["1.0.1", "1.1.0-rc.1", "1.1.0", "2.0.0"] {
            let name = format!("oaat:policy/selector@{newer}");
            assert_eq!(reason(&name), Err("ContractTooNew"), "{newer}");
        }
        assert_eq!(
            reason("oaat:policy/selector@1.0.0-rc.1"),
            Err("InterfaceMismatch")
        );
    }
}
