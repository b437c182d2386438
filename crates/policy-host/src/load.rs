//! From bytes to a component that may serve: the checks, in order, and the
//! reason when one fails.

use crate::contract::CONTRACT;
use crate::policy::EvalError;
use plain_text as text;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::io::Read;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Bytes of a name or version that a message quotes.
const NAME: usize = 200;

/// Why bytes did not become a policy. [`LoadError::reason`] is a token for
/// machines, the display text says to people what to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum LoadError {
    /// More bytes than a component may have, packed or unpacked.
    #[error(
        "the component is larger than {limit} bytes{}; build it without debug information, as `kubectl-oaat policy build` does, and leave out what it does not need",
        if *.unpacked { " when unpacked" } else { "" }
    )]
    TooLarge {
        /// The most that is accepted, in bytes.
        limit: usize,
        /// Whether the bytes were compressed.
        unpacked: bool,
    },
    /// The bytes are not those that the pin names.
    #[error(
        "the component's sha256 is {found}, but spec.policy.sha256 asks for {wanted}; change the pin, or put that component into the ConfigMap"
    )]
    DigestMismatch {
        /// sha256 of the uncompressed component, in lower-case hex.
        found: String,
        /// The pin.
        wanted: String,
    },
    /// Not a WebAssembly component at all.
    #[error("this is not a WebAssembly component: {0}")]
    Malformed(String),
    /// It wants to call something that no policy may call.
    #[error(
        "the component imports {import:?}, and a policy may import nothing but oaat:policy/log{}",
        if .import.starts_with("wasi:") {
            " (was it built for wasm32-wasip1 or wasip2? `kubectl-oaat policy build` builds for wasm32-unknown-unknown)"
        } else { "; take the import out: all that a policy may know is in the request" }
    )]
    ForbiddenImport {
        /// The import's name.
        import: String,
    },
    /// It speaks a newer contract than this host.
    #[error(
        "the component speaks contract {found}, newer than {CONTRACT}, the newest that this operator knows; update the operator or build the policy against {CONTRACT}"
    )]
    ContractTooNew {
        /// The version it speaks.
        found: String,
    },
    /// It lacks the export, or the export has another type.
    #[error(
        "the component does not fit contract oaat:policy@{CONTRACT}: {0}; build it against wit/{CONTRACT}/policy.wit as it is, in Rust with policy-sdk and policy_sdk::export_policy!"
    )]
    InterfaceMismatch(String),
    /// The compiler rejected it, or crashed.
    #[error(
        "the component does not compile: {0}; build it again with `kubectl-oaat policy build`, and see what `kubectl-oaat policy check` reports"
    )]
    CompileFailed(String),
    /// Compiling it exceeded a time limit.
    #[error(
        "compiling the component took more than {} seconds {}; make it smaller: fewer or shorter functions, fewer dependencies",
        .limit.as_secs(), if *.cpu { "of CPU time" } else { "in all" }
    )]
    CompileTimeout {
        /// The most that is allowed.
        limit: std::time::Duration,
        /// Whether CPU time was measured, or elapsed time.
        cpu: bool,
    },
    /// Compiling it exceeded a memory limit.
    #[error(
        "the component is too large to compile: {what} takes more than {} KiB; make it smaller: fewer or shorter functions, fewer types, fewer dependencies",
        .limit >> 10
    )]
    CompileTooLarge {
        /// What is too large.
        what: CompileMemory,
        /// The most that is allowed, in bytes.
        limit: usize,
    },
    /// The compiler could not be run, which is not the component's fault.
    #[error("the compiler process could not be run: {0}")]
    CompilerUnavailable(String),
    /// It could not answer a small request.
    #[error("the component failed on a small trial request: {error}; {way}", error = .0, way = way_out(.0))]
    ProbeFailed(EvalError),
}

/// The parts of a compilation that have a limit in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompileMemory {
    /// The memory of the compiler process.
    Compiler,
    /// Types, imports, exports, and other descriptions.
    Descriptions,
    /// The machine code that it produced.
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
    pub const REASONS: [&'static str; 11] = [
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
        "ProbeFailed",
    ];

    /// A CamelCase token for conditions and events.
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
            Self::ProbeFailed(_) => "ProbeFailed",
        }
    }

    /// Returns whether the same bytes may load later, because a busy machine is the cause, not the
    /// component.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::ProbeFailed(EvalError::Deadline(_)) | Self::CompilerUnavailable(_)
        )
    }
}

/// What to do about a policy that failed on the trial request.
fn way_out(error: &EvalError) -> &'static str {
    match error {
        EvalError::OutOfFuel(_) => {
            "look for an endless loop; `kubectl-oaat policy check` repeats the trial"
        }
        EvalError::Deadline(_) => {
            "the machine may have been busy; `kubectl-oaat policy bench` says how long the policy takes"
        }
        EvalError::OutOfMemory(_) => {
            "let it keep less; `kubectl-oaat policy check` repeats the trial"
        }
        EvalError::PolicyError(_) | EvalError::Trapped(_) | EvalError::BadAnswer(_) => {
            "no request may make it crash; `kubectl-oaat policy check` repeats the trial"
        }
    }
}

/// Undoes gzip where the bytes are gzip, never producing more than `limit` bytes.
pub(crate) fn unpack(bytes: &[u8], limit: usize) -> Result<Vec<u8>, LoadError> {
    let packed = bytes.starts_with(&[0x1f, 0x8b]);
    let mut wasm = Vec::new();
    if packed {
        // One byte over the limit is enough to know that it is too large.
        flate2::read::MultiGzDecoder::new(bytes)
            .take(limit as u64 + 1)
            .read_to_end(&mut wasm)
            .map_err(|e| LoadError::Malformed(format!("it looks like gzip, but {e}")))?;
    } else if bytes.len() <= limit {
        wasm.extend_from_slice(bytes);
    }
    if wasm.len() > limit || (!packed && bytes.len() > limit) {
        return Err(LoadError::TooLarge {
            limit,
            unpacked: packed,
        });
    }
    Ok(wasm)
}

/// Returns the sha256 of bytes in lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Compares a digest with the pin that a user gave (with or without `sha256:`,
/// in either case).
pub(crate) fn pinned(found: &str, pin: &str) -> Result<(), LoadError> {
    let wanted = pin.trim().trim_start_matches("sha256:").to_lowercase();
    if wanted == found {
        return Ok(());
    }
    Err(LoadError::DigestMismatch {
        found: found.to_owned(),
        wanted: text::clean(&wanted, NAME),
    })
}

/// What can be told from the first bytes, in words better than the compiler's.
pub(crate) fn sniff(wasm: &[u8]) -> Result<(), LoadError> {
    let malformed = |text: &str| Err(LoadError::Malformed(text.to_owned()));
    match wasm {
        [] => malformed("it is empty"),
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => malformed(
            "it is a core module, as cargo builds it; `kubectl-oaat policy build` and `policy pack` make a component of it",
        ),
        [0, b'a', b's', b'm', ..] => malformed("its format version is unknown"),
        [0x7f, b'E', b'L', b'F', ..] => malformed(
            "it is native code (a precompiled artefact or a program); give the .wasm itself",
        ),
        _ => malformed("it does not begin as WebAssembly does"),
    }
}

/// Counts the bytes of a component, and of what is inside it, that are neither code nor data nor
/// custom sections. They take many times their size once they are decoded.
pub(crate) fn descriptions(wasm: &[u8], limit: usize) -> Result<usize, LoadError> {
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

/// Checks the names that a component imports and exports. Exactly, as strings:
/// the linker would take a newer minor version for a compatible one, but a
/// record that grew is another type.
pub(crate) fn names(engine: &Engine, component: &Component) -> Result<(), LoadError> {
    let types = component.component_type();
    for (import, _) in types.imports(engine) {
        match import.strip_prefix("oaat:policy/") {
            Some(name) if name.starts_with("log@") || name.starts_with("types@") => {
                version(import)?
            }
            ours => {
                // A later contract may have more to import than this one.
                if ours.is_some()
                    && let Err(newer @ LoadError::ContractTooNew { .. }) = version(import)
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
    // One of several is enough: a policy may serve older and newer operators.
    let fits = versions.map(version).reduce(Result::or);
    fits.unwrap_or_else(|| {
        Err(LoadError::InterfaceMismatch(format!(
            "it does not export oaat:policy/selector@{CONTRACT}"
        )))
    })
}

/// Compares the version in an interface's name with the host's.
fn version(name: &str) -> Result<(), LoadError> {
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
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let written = out.write_all(bytes).and_then(|()| out.finish());
        written.unwrap_or_default()
    }

    #[test]
    fn a_gzip_bomb_stops_at_the_limit() {
        let bomb = gzip(&vec![0; 20 << 20]);
        assert!(bomb.len() < 1 << 20);
        assert_eq!(
            unpack(&bomb, 1000),
            Err(LoadError::TooLarge {
                limit: 1000,
                unpacked: true
            })
        );
    }

    #[test]
    fn plain_and_gzip_give_the_same_bytes() {
        assert_eq!(unpack(b"abc", 3), Ok(b"abc".to_vec()));
        assert_eq!(unpack(&gzip(b"abc"), 3), Ok(b"abc".to_vec()));
        assert!(unpack(b"abcd", 3).is_err());
        assert_eq!(
            unpack(&[0x1f, 0x8b, 0, 1], 100).map_err(|e| e.reason()),
            Err("Malformed")
        );
    }

    #[test]
    fn a_pin_may_carry_its_algorithm() {
        assert_eq!(pinned("ab01", "sha256:AB01"), Ok(()));
        assert_eq!(pinned("ab01", "ab01"), Ok(()));
        assert_eq!(
            pinned("ab01", "ff").map_err(|e| e.reason()),
            Err("DigestMismatch")
        );
    }

    #[test]
    fn each_wrong_beginning_has_its_own_words() {
        let cases: [(&[u8], &str); 5] = [
            (b"", "empty"),
            (b"\0asm\x01\0\0\0", "core module"),
            (b"\x7fELF...", "native code"),
            (b"\0asm\xff\0\0\0", "version"),
            (b"hello", "begin"),
        ];
        for (bytes, words) in cases {
            let error = sniff(bytes).map_err(|e| e.to_string());
            assert!(error.is_err_and(|e| e.contains(words)), "{words}");
        }
    }

    #[test]
    fn each_refusal_says_what_to_do() {
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
                    limit: std::time::Duration::from_secs(30),
                    cpu: false,
                },
                "make it smaller",
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
                "change the pin",
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
                "take the import out",
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
                "policy bench",
            ),
            (trial(EvalError::OutOfMemory(1)), "keep less"),
            (trial(EvalError::Trapped("x".into())), "policy check"),
        ];
        for (error, words) in cases {
            let text = error.to_string();
            assert!(text.contains(words), "{text}");
            assert!(LoadError::REASONS.contains(&error.reason()), "{text}");
            assert_eq!(error.may_pass(), words == "policy bench", "{text}");
        }
    }

    #[test]
    fn a_newer_contract_is_told_from_an_older_one() {
        let reason = |name: &str| version(name).map_err(|e| e.reason());
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
