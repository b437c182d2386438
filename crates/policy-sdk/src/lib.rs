//! The SDK for selection policies.
//!
//! A policy is a type that implements [`Policy`] and is exported by a macro:
//!
//! ```
//! use policy_sdk::{Choice, Decision, Policy, Request};
//!
//! /// Runs the first startable item of the list.
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
//! The crate needs `[lib] crate-type = ["cdylib", "rlib"]`: `cdylib` for the component, `rlib` for
//! its tests. The types are those of the contract; the WIT file in `wit/` documents each field. The
//! SDK also compiles natively, so that a policy can be tested with plain `cargo test`. The crate
//! `policy-testkit` runs the compiled component in the same tests.
//!
//! - [`documented`] contains the steps of the documented algorithm.
//! - [`settings`] parses settings with little code.
//! - [`log`] writes to the operator's log.

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
#[cfg(all(target_arch = "wasm32", feature = "allocator"))]
#[allow(unsafe_code)]
mod bump_allocator;
pub mod documented;
pub mod log;
pub mod settings;

pub use bindings::oaat::policy::types::{
    Choice, Decision, Duration, Instant, Item, ItemSettings, Outcome, Request, Run, Standing,
    Verdict,
};

/// A selection policy: a pure function of the request.
pub trait Policy {
    /// Decides which item runs next. Called when no item of the group is running.
    ///
    /// # Errors
    /// Returns a message for the user if no decision is possible. To start nothing, return
    /// [`Decision::wait`] instead.
    fn select(request: &Request) -> Result<Decision, String>;

    /// Validates settings before they are used. `settings` is a JSON object, `{}` if the group has
    /// none. `items` contains the items with their own settings.
    ///
    /// # Errors
    /// Returns a message that names the setting, the value, and the fix.
    fn validate(settings: &str, items: &[ItemSettings]) -> Result<(), String> {
        let _ = (settings, items);
        Ok(())
    }
}

/// Exports a type that implements [`Policy`] from the component of this crate. Exports nothing in a
/// native build.
#[macro_export]
macro_rules! export_policy {
    ($policy:ty) => {
        // Prevents dead-code warnings in a native build, where nothing calls the policy.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::Request) -> Result<$crate::Decision, String> =
            <$policy as $crate::Policy>::select;
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {
            struct Exported;
            impl $crate::bindings::exports::oaat::policy::selector::Guest for Exported {
                fn select(request: $crate::Request) -> Result<$crate::Decision, String> {
                    $crate::log::install_panic_hook();
                    // The sandbox ends with this call, so dropping the request would waste fuel.
                    let request = ::std::mem::ManuallyDrop::new(request);
                    <$policy as $crate::Policy>::select(&request)
                }
                fn validate(
                    settings: String,
                    items: Vec<$crate::ItemSettings>,
                ) -> Result<(), String> {
                    $crate::log::install_panic_hook();
                    <$policy as $crate::Policy>::validate(&settings, &items)
                }
            }
    $crate::bindings::export_world!(Exported with_types_in $crate::bindings);
        };
    };
}
