//! The contract's types on the host's side, generated from `wit/`.
//!
//! A later contract gets a module of its own beside this one, with conversions
//! to the newest types, so that old components go on running.

/// The version of `oaat:policy` that this host speaks.
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
pub(crate) use bindings::{Policy as World, PolicyIndices, PolicyPre};
