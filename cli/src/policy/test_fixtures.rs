//! What the tests of several tools need.

use std::path::Path;
use std::sync::OnceLock;

/// The default policy, compiled as the operator's own.
pub(crate) fn default_policy() -> &'static [u8] {
    static WASM: OnceLock<Vec<u8>> = OnceLock::new();
    WASM.get_or_init(|| {
        // A folder of its own below the target folder, which cargo holds no lock of.
        let test = std::env::current_exe().unwrap();
        let target = test.ancestors().nth(3).unwrap().join("policies");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy-default");
        policy_build::build(&source, &target).unwrap()
    })
}
