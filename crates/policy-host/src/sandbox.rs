//! The sandbox of one evaluation: what a guest may use up, and its log lines.

use crate::contract::{Level, LogHost, TypesHost};
use plain_text as text;
use wasmtime::ResourceLimiter;

/// What one evaluation may use. Every limit has its own named outcome in
/// [`EvalError`](crate::EvalError) or [`LoadError`](crate::LoadError).
#[derive(Clone, Debug)]
pub struct Limits {
    /// Instructions, roughly, that any evaluation may execute. Deterministic:
    /// the same request uses the same fuel on every machine.
    pub fuel: u64,
    /// Fuel added for each item of the request.
    pub fuel_per_item: u64,
    /// Wall-clock time after which an evaluation is interrupted, whatever fuel it
    /// has left. A backstop: fuel should run out first.
    pub deadline: std::time::Duration,
    /// Linear memory in bytes, over all memories of the component.
    pub memory: usize,
    /// Elements over all tables of the component.
    pub table_elements: usize,
    /// Bytes of native stack for guest frames.
    pub stack: usize,
    /// Bytes that the host allocates at most for strings and lists that the guest
    /// hands over in one evaluation.
    pub answer: usize,
    /// Lines of log kept of one evaluation.
    pub log_lines: usize,
    /// Bytes of log kept of one evaluation.
    pub log_bytes: usize,
    /// Bytes of a component, after unpacking.
    pub component: usize,
    /// Bytes of its types, imports, exports, and everything else but code, data, and custom sections.
    pub descriptions: usize,
    /// Bytes of its machine code.
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
    /// How much it matters.
    pub level: Level,
    /// The text, control characters replaced.
    pub text: String,
}

/// The data of a guest's store: how much it used, and what it said.
pub(crate) struct Sandbox {
    memory_left: usize,
    table_left: usize,
    /// A growth was refused: tells "out of memory" from other traps.
    pub refused: bool,
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
            refused: false,
            log_lines: limits.log_lines,
            log_bytes: limits.log_bytes,
            last_error: None,
            log: Vec::new(),
            log_dropped: 0,
        }
    }

    /// Takes `grown` from `left`, or refuses. A refusal ends the guest: one that
    /// is merely told "no" may go on asking until its fuel is gone.
    fn take(
        left: &mut usize,
        refused: &mut bool,
        grown: usize,
        what: &str,
    ) -> wasmtime::Result<bool> {
        match left.checked_sub(grown) {
            Some(rest) => {
                *left = rest;
                Ok(true)
            }
            None => {
                *refused = true;
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
        Self::take(&mut self.memory_left, &mut self.refused, grown, "memory")
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let grown = desired.saturating_sub(current);
        Self::take(&mut self.table_left, &mut self.refused, grown, "table")
    }

    // If the machine cannot provide memory or tables, the guest traps as well. If the failure were
    // visible to the guest, its answer would depend on the free memory of this machine.
    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(error)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(error)
    }

    // A component is a handful of core instances: the guest itself and the
    // adapters around it. More than this is an attempt to use the host up.
    fn instances(&self) -> usize {
        16
    }
    fn tables(&self) -> usize {
        16
    }
    fn memories(&self) -> usize {
        4
    }
}

// Types only: the bindings ask for the impl all the same.
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
    fn the_log_is_bounded_and_says_what_it_dropped() {
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
    fn memory_is_counted_over_all_memories() {
        let limits = Limits {
            memory: 100,
            ..Limits::default()
        };
        let mut sandbox = Sandbox::new(&limits);
        assert!(sandbox.memory_growing(0, 60, None).unwrap_or(false));
        assert!(sandbox.memory_growing(0, 40, None).unwrap_or(false));
        assert!(!sandbox.refused);
        assert!(sandbox.memory_growing(0, 1, None).is_err());
        assert!(sandbox.refused);
    }
}
