//! The heaviest components that are accepted compile within bounds of time and memory. In a
//! program of its own, for the memory is counted over all of it.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use policy_host::{Host, Limits};
use std::io::Write;
use std::time::{Duration, Instant};

/// What one may take. Some seconds and some 150 MB by themselves; the machine may be busy.
const LONGEST: Duration = Duration::from_secs(60);
const MOST: u64 = 400 << 20;

/// A line of this process's status in bytes.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let found = status.lines().find_map(|l| l.strip_prefix(line));
    let kilobytes: u64 = found
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kilobytes << 10
}

#[test]
fn what_is_heavy_and_accepted_compiles_within_bounds() {
    let host = Host::new(Limits::default()).unwrap();
    let mut out = std::io::stdout();
    for heavy in hostile_policies::heavy().unwrap() {
        // The peak counts from here.
        let reset = std::fs::write("/proc/self/clear_refs", "5").is_ok();
        let before = memory("VmRSS:");
        let begin = Instant::now();
        let loaded = host.load(&heavy.bytes, None);
        let took = begin.elapsed();
        let peak = memory("VmHWM:").saturating_sub(before);
        assert!(loaded.is_ok(), "{}: {:?}", heavy.name, loaded.err());
        writeln!(
            out,
            "heavy {:20} {:6} ms {:4} MB  {}",
            heavy.name,
            took.as_millis(),
            peak >> 20,
            heavy.what
        )
        .unwrap();
        assert!(took < LONGEST, "{} took {took:?}", heavy.name);
        assert!(!reset || peak < MOST, "{} took {peak} bytes", heavy.name);
    }
}
