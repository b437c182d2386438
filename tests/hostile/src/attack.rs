//! An attack on the code that compiles components.

/// A component that attacks the compiler.
#[derive(Clone)]
pub struct Attack {
    /// A unique name.
    pub name: String,
    /// A sentence that describes the attack.
    pub what: &'static str,
    /// The bytes that a user would store as the policy.
    pub bytes: Vec<u8>,
    /// The acceptable reasons. [`COMPILED`] means that an artifact is acceptable.
    pub ends: &'static [&'static str],
}

/// The reason for a component that compiles within all limits.
pub const COMPILED: &str = "Compiled";

/// The reasons for a valid component whose cost depends on the machine.
pub(crate) const HEAVY: &[&str] = &[
    COMPILED,
    "TooLarge",
    "CompileFailed",
    "CompileTimeout",
    "CompileTooLarge",
    "ComposedComponent",
    "ProbeFailed",
];

/// The reasons for invalid bytes. Which check detects them first is not guaranteed.
pub(crate) const WRONG: &[&str] = &[
    "Malformed",
    "CompileFailed",
    "TooLarge",
    "InterfaceMismatch",
];

/// The reasons for a valid component that exceeds a limit.
pub(crate) const LIMITED: &[&str] = &[
    "TooLarge",
    "CompileFailed",
    "CompileTimeout",
    "CompileTooLarge",
];

/// The reasons for a valid component that requests something forbidden.
pub(crate) const FORBIDDEN: &[&str] = &[
    "ForbiddenImport",
    "TooLarge",
    "CompileFailed",
    "CompileTimeout",
    "CompileTooLarge",
];

/// The reasons for a component that does not match the contract.
pub(crate) const FOREIGN: &[&str] = &[
    "Malformed",
    "InterfaceMismatch",
    "CompileFailed",
    "ProbeFailed",
];

/// The name of an attack, its acceptable reasons, its description, and its bytes.
pub(crate) type Row = (&'static str, &'static [&'static str], &'static str, Vec<u8>);
