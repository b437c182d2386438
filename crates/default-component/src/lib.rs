//! The built-in policy, which the build script builds from source.

/// The built-in policy as a WebAssembly component.
pub const DEFAULT_POLICY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/policy_default.wasm"));
