//! Policies that misbehave, for tests of how the operator handles them. All are built from source,
//! in a few seconds the first time and in less than one second afterwards.
//!
//! ```no_run
//! for policy in hostile_policies::all().unwrap() {
//!     println!("{}: {} ({:?})", policy.name, policy.what, policy.expected);
//! }
//! ```

mod attack;
mod attacks;
mod bombs;
mod bytes;
pub mod compiling;
mod component;
mod guest;
mod modules;
mod mutation;
mod objects;
mod residue;
mod shapes;
mod texts;

pub use attack::{Attack, COMPILED};
pub use attacks::attacks;
pub use component::honest;
pub use mutation::{mutated, mutated_text, soup};
pub use objects::{Object, objects};
pub use residue::residue_detector;
pub use texts::{Text, durations, lists, paths, run_now, schedules, time_zones};

/// A policy that misbehaves.
#[derive(Clone)]
pub struct Hostile {
    /// A name that is unique in [`all`].
    pub name: &'static str,
    /// A sentence that describes the misbehavior.
    pub what: &'static str,
    /// The bytes that a user would store as the policy.
    pub bytes: Vec<u8>,
    /// The settings to use with the policy, if it needs any.
    pub settings: Option<&'static str>,
    /// The expected result.
    pub expected: Expected,
}

/// The expected result of a hostile policy.
///
/// It applies to a request outside of the namespace `probe` with two or more items, at least one of
/// them held, and with the state of the policy's own last answer. Two policies change their
/// behavior at the second request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The policy is rejected before its first decision, for the reason with this token.
    /// `SettingsRejected` represents any error of `validate`.
    Load(&'static str),
    /// The policy is loaded, and its evaluation ends in the error with this token.
    Evaluation(&'static str),
    /// The policy is loaded and its answers fulfill the contract, even if they are not useful.
    Legal,
}

/// Returns every hostile policy.
///
/// # Errors
/// Returns an error if the guest does not build, with cargo's output on stderr, or if a description
/// in this crate is wrong.
pub fn all() -> anyhow::Result<Vec<Hostile>> {
    let mut all = guest::all()?;
    all.extend(modules::all()?);
    all.extend(shapes::all()?);
    all.extend(bytes::all()?);
    Ok(all)
}
