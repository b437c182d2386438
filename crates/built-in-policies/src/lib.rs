//! The components of the built-in policies. The build script builds them from source.

use oaat_api::BuiltInPolicy;

/// The built-in policy `default` as a WebAssembly component.
pub const DEFAULT_POLICY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/default.wasm"));

const BACKOFF: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/backoff.wasm.gz"));
const EXPRESSION: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/expression.wasm.gz"));
const FAIR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/fair.wasm.gz"));

/// Returns the component of a built-in policy, plain or compressed with gzip.
pub fn component(policy: BuiltInPolicy) -> &'static [u8] {
    match policy {
        BuiltInPolicy::Default => DEFAULT_POLICY,
        BuiltInPolicy::Backoff => BACKOFF,
        BuiltInPolicy::Fair => FAIR,
        BuiltInPolicy::Expression => EXPRESSION,
    }
}
