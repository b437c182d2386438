//! The default policy, which the build script builds from source.

/// The default policy as a WebAssembly component.
pub const DEFAULT_POLICY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/policy_default.wasm"));
