//! The sandbox of one evaluation: resource limits and log lines of a guest.

use crate::contract::{Level, LogHost, TypesHost};
use plain_text as text;
use wasmtime::ResourceLimiter;

/// The maximum number of core instances of a component. An ordinary component has a few: the guest
/// and its adapters. This limit and the next two protect the resources of the host.
pub(crate) const INSTANCES: u32 = 16;
/// The maximum number of tables of a component.
pub(crate) const TABLES: u32 = 16;
/// The maximum number of memories of a component.
pub(crate) const MEMORIES: u32 = 4;

/// The limits of a component and of one evaluation. An exceeded limit is reported as an
/// [`EvalError`](crate::EvalError) or a [`LoadError`](crate::LoadError).
#[derive(Clone, Debug)]
pub struct Limits {
    /// The fuel, roughly the number of instructions, of every evaluation. Deterministic: the same
    /// request uses the same fuel on every machine.
    pub fuel: u64,
    /// The additional fuel for each item of the request.
    pub fuel_per_item: u64,
    /// The elapsed time after which an evaluation is interrupted, even if it has fuel left. Fuel
    /// should run out first.
    pub deadline: std::time::Duration,
    /// The maximum total size of the component's linear memories, in bytes.
    pub memory: usize,
    /// The maximum total number of elements in the component's tables.
    pub table_elements: usize,
    /// The maximum size of the native stack for guest frames, in bytes.
    pub stack: usize,
    /// The maximum memory that the host allocates for strings and lists from the guest in one
    /// evaluation, in bytes.
    pub answer: usize,
    /// The maximum number of log lines that are kept from one evaluation.
    pub log_lines: usize,
    /// The maximum total length of log lines that are kept from one evaluation, in bytes.
    pub log_bytes: usize,
    /// The maximum size of an uncompressed component, in bytes.
    pub component: usize,
    /// The maximum size of a component's types, imports, exports, and other sections, in bytes. Code,
    /// data, and custom sections do not count.
    pub descriptions: usize,
    /// The maximum size of a component's machine code, in bytes.
    pub artifact: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel: 10_000_000,
            fuel_per_item: 50_000,
            deadline: std::time::Duration::from_millis(500),
            memory: 32 << 20,
            table_elements: 100_000,
            stack: 512 << 10,
            answer: 4 << 20,
            log_lines: 64,
            log_bytes: 16 << 10,
            component: 4 << 20,
            descriptions: 128 << 10,
            artifact: 4 << 20,
        }
    }
}

/// A line that a policy wrote to its log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// The severity.
    pub level: Level,
    /// The text as one line, without unprintable characters.
    pub text: String,
}

/// The data of a guest's store: its remaining resources and its log.
pub(crate) struct Sandbox {
    memory_left: usize,
    table_left: usize,
    /// Whether a memory or table could not grow because of its limit.
    pub limit_reached: bool,
    log_lines: usize,
    log_bytes: usize,
    /// The beginning of the latest error that was logged, kept when the log is full.
    pub last_error: Option<String>,
    pub log: Vec<LogLine>,
    pub log_dropped: u64,
}

impl Sandbox {
    pub fn new(limits: &Limits) -> Self {
        Self {
            memory_left: limits.memory,
            table_left: limits.table_elements,
            limit_reached: false,
            log_lines: limits.log_lines,
            log_bytes: limits.log_bytes,
            last_error: None,
            log: Vec::new(),
            log_dropped: 0,
        }
    }

    /// Subtracts `grown` from `left`. If the limit is reached, returns an error, which ends the
    /// guest: otherwise, it could retry until its fuel is used up.
    fn take(
        left: &mut usize,
        limit_reached: &mut bool,
        grown: usize,
        what: &str,
    ) -> wasmtime::Result<bool> {
        match left.checked_sub(grown) {
            Some(rest) => {
                *left = rest;
                Ok(true)
            }
            None => {
                *limit_reached = true;
                Err(wasmtime::Error::msg(format!("{what} limit reached")))
            }
        }
    }
}

impl ResourceLimiter for Sandbox {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let grown = desired.saturating_sub(current);
        Self::take(
            &mut self.memory_left,
            &mut self.limit_reached,
            grown,
            "memory",
        )
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let grown = desired.saturating_sub(current);
        Self::take(
            &mut self.table_left,
            &mut self.limit_reached,
            grown,
            "table",
        )
    }

    // If the machine cannot provide memory or tables, the guest traps as well. If the guest could
    // observe the failure, its answer would depend on the free memory of this machine.
    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(error)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(error)
    }

    fn instances(&self) -> usize {
        INSTANCES as usize
    }
    fn tables(&self) -> usize {
        TABLES as usize
    }
    fn memories(&self) -> usize {
        MEMORIES as usize
    }
}

// The interface has no functions, but the bindings require the implementation.
impl TypesHost for Sandbox {}

impl LogHost for Sandbox {
    fn write(&mut self, level: Level, line: String) {
        if level == Level::Error {
            self.last_error = Some(text::clean(&line, text::ERROR));
        }
        if self.log.len() >= self.log_lines || line.len() > self.log_bytes {
            self.log_dropped += 1;
            return;
        }
        self.log_bytes -= line.len();
        let text = text::clean(&line, line.len());
        self.log.push(LogLine { level, text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_is_bounded_and_counts_dropped_lines() {
        let limits = Limits {
            log_lines: 2,
            log_bytes: 10,
            ..Limits::default()
        };
        let mut sandbox = Sandbox::new(&limits);
        sandbox.write(Level::Info, "a\nb".into());
        sandbox.write(Level::Info, "0123456789".into());
        sandbox.write(Level::Info, "1234567".into());
        sandbox.write(Level::Info, String::new());
        let texts: Vec<_> = sandbox.log.iter().map(|l| l.text.as_str()).collect();
        assert_eq!(texts, ["a b", "1234567"]);
        assert_eq!(sandbox.log_dropped, 2);
        sandbox.write(Level::Error, "why".into());
        assert_eq!((sandbox.log.len(), sandbox.log_dropped), (2, 3));
        assert_eq!(sandbox.last_error.as_deref(), Some("why"));
    }

    #[test]
    fn memory_limit_applies_to_all_memories_together() {
        let limits = Limits {
            memory: 100,
            ..Limits::default()
        };
        let mut sandbox = Sandbox::new(&limits);
        assert!(sandbox.memory_growing(0, 60, None).unwrap_or(false));
        assert!(sandbox.memory_growing(0, 40, None).unwrap_or(false));
        assert!(!sandbox.limit_reached);
        assert!(sandbox.memory_growing(0, 1, None).is_err());
        assert!(sandbox.limit_reached);
    }
}
