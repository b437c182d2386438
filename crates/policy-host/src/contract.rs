//! The host-side types of the contract, generated from `wit/`.
//!
//! A later contract gets its own module next to this one, with conversions to the newest types, so
//! that old components continue to run.

/// The version of `oaat:policy` that this host implements.
pub const CONTRACT: &str = "1.0.0";

mod bindings {
    #![allow(missing_docs)]
    wasmtime::component::bindgen!({
        path: "../../wit/1.0.0",
        world: "policy",
        additional_derives: [PartialEq, Clone, serde::Serialize, serde::Deserialize],
    });
}

pub use bindings::oaat::policy::log::Level;
pub use bindings::oaat::policy::types::{
    Choice, Decision, Duration, Instant, Item, ItemSettings, Outcome, Request, Run, Standing,
    Verdict,
};
pub(crate) use bindings::oaat::policy::{log::Host as LogHost, types::Host as TypesHost};
pub(crate) use bindings::{Policy as PolicyWorld, PolicyIndices, PolicyPre};

impl Standing {
    /// Returns the name that test cases and reports use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Fresh => "fresh",
            Self::Cooling => "cooling",
            Self::Deferred => "deferred",
        }
    }
}
