//! Policies that misbehave, for the tests that show what the operator makes of
//! them. All are built from source, in a few seconds the first time and in less
//! than one afterwards.
//!
//! ```no_run
//! for policy in hostile_policies::all().unwrap() {
//!     println!("{}: {} ({:?})", policy.name, policy.what, policy.expected);
//! }
//! ```

mod attacks;
mod bombs;
mod bytes;
mod component;
mod guest;
mod modules;
mod mutation;
mod objects;
mod shapes;
mod texts;

pub use attacks::{Attack, COMPILED, attacks};
pub use component::honest;
pub use mutation::{mutated, mutated_text, soup};
pub use objects::{Object, objects};
pub use texts::{Text, durations, lists, paths, run_now, schedules, time_zones};

/// A policy that misbehaves.
#[derive(Clone)]
pub struct Hostile {
    /// A name, unique in [`all`].
    pub name: &'static str,
    /// One sentence on what it does.
    pub what: &'static str,
    /// What a user would store as the policy.
    pub bytes: Vec<u8>,
    /// The settings to use it with, where it needs any.
    pub settings: Option<&'static str>,
    /// What is to come of it.
    pub expected: Expected,
}

/// What is to come of a hostile policy.
///
/// For a request outside the namespace `probe` with two or more items, at least
/// one of them held, and the state that the policy's own last answer asked for:
/// two policies change their mind at the second request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is refused before it decides anything, for the reason with this token.
    /// `SettingsRejected` is the caller's word for any error of `validate`.
    Load(&'static str),
    /// It is loaded, and asking it ends in the error with this token.
    Evaluation(&'static str),
    /// It is loaded and answers within the contract, however unhelpful that is.
    Legal,
}

/// Every hostile policy.
///
/// # Errors
/// When the guest does not build, with cargo's own words on stderr, or when a
/// description here is wrong.
pub fn all() -> anyhow::Result<Vec<Hostile>> {
    let mut all = guest::all()?;
    all.extend(modules::all()?);
    all.extend(shapes::all()?);
    all.extend(bytes::all()?);
    Ok(all)
}
