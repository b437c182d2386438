//! The call stacks of guests.

use plain_text as text;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use wasmtime::WasmBacktrace;

/// The maximum number of frames that are kept.
pub(crate) const MAX_FRAMES: usize = 64;
/// The maximum number of frames that a line shows.
const MAX_SHOWN: usize = 4;
/// The maximum length of a name in bytes.
const MAX_NAME: usize = 100;
/// The prefix of the names of modules that wit-component generates. They only forward calls.
const GENERATED: &str = "wit-component:";
/// The prefixes of functions that handle a panic. They come before the function that panicked.
const PANIC_HANDLING: [&str; 6] = ["core::", "std::", "alloc::", "rust_", "__rust", "<core::"];

/// A function on the call stack of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The index of the function in its core module.
    pub function: u32,
    /// The name of the function, as one line.
    pub name: Option<String>,
    /// The offset of the current instruction in the body of the function, in bytes.
    pub offset: Option<usize>,
    /// Whether the function belongs to a generated module. [`FunctionNames`] does not apply to it.
    generated: bool,
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "function {}", self.function),
        }
    }
}

/// A call stack of a guest, innermost function first. Its `Display` is one line with a few functions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backtrace {
    frames: Vec<Frame>,
}

impl Backtrace {
    pub(crate) fn of(error: &wasmtime::Error, names: &FunctionNames) -> Self {
        let frames = error.downcast_ref().map(WasmBacktrace::frames);
        let frame = |frame: &wasmtime::FrameInfo| {
            let module = frame.module().name().unwrap_or_default();
            Frame {
                function: frame.func_index(),
                name: frame.func_name().map(|name| text::clean(name, MAX_NAME)),
                offset: frame.func_offset(),
                generated: module.starts_with(GENERATED),
            }
        };
        let frames = frames
            .unwrap_or_default()
            .iter()
            .take(MAX_FRAMES)
            .map(frame);
        Self {
            frames: frames.collect(),
        }
        .with_names(names)
    }

    /// Returns the functions, innermost first, at most 64.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    pub(crate) fn with_names(mut self, names: &FunctionNames) -> Self {
        for frame in self.frames.iter_mut().filter(|frame| !frame.generated) {
            if let Some(name) = names.0.get(&frame.function) {
                frame.name = Some(text::clean(name, MAX_NAME));
            }
        }
        self
    }
}

impl fmt::Display for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handles_panic = |frame: &Frame| {
            let name = frame.name.as_deref().unwrap_or_default();
            PANIC_HANDLING.iter().any(|prefix| name.starts_with(prefix))
        };
        let start = self.frames.iter().position(|frame| !handles_panic(frame));
        let frames = &self.frames[start.unwrap_or(0)..];
        for (index, frame) in frames.iter().take(MAX_SHOWN).enumerate() {
            let separator = if index == 0 { "" } else { ", called by " };
            write!(f, "{separator}{frame}")?;
        }
        match frames.len().saturating_sub(MAX_SHOWN) {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

/// The names of the functions in the main core module of a component, by index. A component without
/// debug information does not contain them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FunctionNames(Arc<BTreeMap<u32, String>>);

impl From<BTreeMap<u32, String>> for FunctionNames {
    fn from(names: BTreeMap<u32, String>) -> Self {
        Self(Arc::new(names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backtrace(names: &[Option<&str>]) -> Backtrace {
        let frame = |(index, name): (usize, &Option<&str>)| Frame {
            function: index as u32,
            name: name.map(str::to_owned),
            offset: None,
            generated: index == 1,
        };
        Backtrace {
            frames: names.iter().enumerate().map(frame).collect(),
        }
    }

    #[test]
    fn display_is_one_line_of_a_few_functions() {
        assert_eq!(backtrace(&[]).to_string(), "");
        assert_eq!(
            backtrace(&[None, Some("select")]).to_string(),
            "function 0, called by select"
        );
        assert_eq!(
            backtrace(&[None; 6]).to_string(),
            "function 0, called by function 1, called by function 2, called by function 3, and 2 more"
        );
    }

    #[test]
    fn display_omits_functions_that_handle_a_panic() {
        let panic = [Some("rust_panic"), Some("core::panicking::panic"), None];
        assert_eq!(backtrace(&panic).to_string(), "function 2");
        assert_eq!(
            backtrace(&panic[..2]).to_string(),
            "rust_panic, called by core::panicking::panic"
        );
    }

    #[test]
    fn names_apply_to_the_main_module_and_are_one_line() {
        let names = BTreeMap::from([(0, "a\nb".to_owned()), (1, "c".to_owned())]);
        let named = backtrace(&[Some("export"), None]).with_names(&names.into());
        assert_eq!(named.to_string(), "a b, called by function 1");
    }
}
