//! Fixtures that several tests share.

use std::path::Path;
use std::sync::OnceLock;

/// Returns the component of the built-in policy.
pub(crate) fn default_policy() -> &'static [u8] {
    static WASM: OnceLock<Vec<u8>> = OnceLock::new();
    WASM.get_or_init(|| {
        // A separate target directory: the cargo process that runs this test may hold the lock of
        // its own.
        let test = std::env::current_exe().unwrap();
        let target = test.ancestors().nth(3).unwrap().join("policies");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy-default");
        policy_build::build(&source, &target).unwrap()
    })
}
