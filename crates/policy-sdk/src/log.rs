//! Lines for the operator's log. Natively they go to standard error.

use crate::bindings::oaat::policy::log::Level;

/// For the author of the policy.
pub fn debug(line: &str) {
    write(Level::Debug, line);
}

/// Worth reading in normal operation.
pub fn info(line: &str) {
    write(Level::Info, line);
}

/// Something is wrong, and the policy carries on.
pub fn warn(line: &str) {
    write(Level::Warn, line);
}

/// Something is wrong, and the policy cannot do its work.
pub fn error(line: &str) {
    write(Level::Error, line);
}

fn write(level: Level, line: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::oaat::policy::log::write(level, line);
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{level:?}: {line}");
}

/// Sends what a panic says to the log, where the operator takes it from to
/// explain the trap that follows. Without it a panic is only "unreachable".
#[doc(hidden)]
pub fn panics() {
    std::panic::set_hook(Box::new(|info| error(&info.to_string())));
}
