//! Writes lines to the operator's log, or to standard error in a native build.

pub use crate::bindings::oaat::policy::log::Level;

/// Logs a line for the author of the policy.
pub fn debug(line: impl AsRef<str>) {
    write(Level::Debug, line.as_ref());
}

/// Logs a line that is useful in normal operation.
pub fn info(line: impl AsRef<str>) {
    write(Level::Info, line.as_ref());
}

/// Logs a problem that does not prevent a decision.
pub fn warn(line: impl AsRef<str>) {
    write(Level::Warn, line.as_ref());
}

/// Logs a problem that prevents a decision.
pub fn error(line: impl AsRef<str>) {
    write(Level::Error, line.as_ref());
}

fn write(level: Level, line: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::oaat::policy::log::write(level, line);
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{level:?}: {line}");
}

/// Installs a panic hook that logs the message. The operator adds this message to the error for the
/// trap, which would otherwise only be "unreachable".
#[doc(hidden)]
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| error(info.to_string())));
}
