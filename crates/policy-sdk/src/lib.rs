//! What a selection policy is written with.
//!
//! A policy is a type that implements [`Policy`], exported by one macro:
//!
//! ```
//! use policy_sdk::{Choice, Decision, Policy, Request};
//!
//! /// Runs whatever the operator lets it run, in the order of the list.
//! struct FirstOfAll;
//!
//! impl Policy for FirstOfAll {
//!     fn select(request: &Request) -> Result<Decision, String> {
//!         let first = request.items.iter().position(|item| item.startable);
//!         Ok(match first {
//!             Some(index) => Decision::run(index),
//!             None => Decision::wait(None),
//!         })
//!     }
//! }
//!
//! policy_sdk::export_policy!(FirstOfAll);
//! ```
//!
//! The crate needs `[lib] crate-type = ["cdylib", "rlib"]`: the first for the
//! component, the second for its tests. The types are those of the contract,
//! whose text in `wit/` says what every field means. All of this also compiles
//! natively, so that a policy is tested with plain `cargo test`; the crate
//! `policy-testkit` adds the compiled component to the same tests.

#[doc(hidden)]
#[allow(missing_docs, unsafe_code, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/1.0.0",
        world: "policy",
        additional_derives: [PartialEq, Clone],
        pub_export_macro: true,
        export_macro_name: "export_world",
        default_bindings_module: "policy_sdk::bindings",
    });
}

mod builders;
pub mod documented;
pub mod log;
#[cfg(all(target_arch = "wasm32", feature = "allocator"))]
#[allow(unsafe_code)]
mod bump_allocator;

pub use bindings::oaat::policy::types::{
    Choice, Decision, Duration, Instant, Item, ItemSettings, Outcome, Request, Run, Standing,
    Verdict,
};

/// A selection policy: a pure function of the request.
pub trait Policy {
    /// Decides what is next. Called when nothing of the group runs.
    ///
    /// # Errors
    /// In words for the group's user: why no decision is possible. Not a way to
    /// say "wait".
    fn select(request: &Request) -> Result<Decision, String>;

    /// Checks settings before they are used. `settings` is a JSON object, `{}`
    /// when there are none; `items` holds the items that have settings of their own.
    ///
    /// # Errors
    /// Names the setting, what was given, and what would be right.
    fn validate(settings: &str, items: &[ItemSettings]) -> Result<(), String> {
        let _ = (settings, items);
        Ok(())
    }
}

/// Exports a type that implements [`Policy`] from this crate's component.
/// Natively it does nothing, so the crate's tests link as usual.
#[macro_export]
macro_rules! export_policy {
    ($policy:ty) => {
        // Natively nothing calls it; that must not look like dead code.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::Request) -> Result<$crate::Decision, String> =
            <$policy as $crate::Policy>::select;
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {
            struct Exported;
            impl $crate::bindings::exports::oaat::policy::selector::Guest for Exported {
                fn select(request: $crate::Request) -> Result<$crate::Decision, String> {
                    $crate::log::panics();
                    // The sandbox ends with this call: not worth taking apart.
                    let request = ::std::mem::ManuallyDrop::new(request);
                    <$policy as $crate::Policy>::select(&request)
                }
                fn validate(
                    settings: String,
                    items: Vec<$crate::ItemSettings>,
                ) -> Result<(), String> {
                    $crate::log::panics();
                    <$policy as $crate::Policy>::validate(&settings, &items)
                }
            }
    $crate::bindings::export_world!(Exported with_types_in $crate::bindings);
        };
    };
}
