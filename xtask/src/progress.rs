//! A line on the screen that says what goes on, and for how long.

use std::io::{IsTerminal, Write, stderr};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Shows what comes in until the senders are gone. On a terminal the last line counts
/// the seconds; elsewhere a line is printed for each step, and every half minute.
pub fn show(lines: &Receiver<(&'static str, String)>) {
    let start = Instant::now();
    let terminal = stderr().is_terminal();
    let mut going: Vec<(&'static str, String)> = Vec::new();
    let mut told = Instant::now();
    let seconds = |at: Instant| at.elapsed().as_secs();
    loop {
        match lines.recv_timeout(Duration::from_secs(1)) {
            Ok((who, what)) => {
                if !terminal {
                    eprintln!("[{:>4} s] {who}: {what}", seconds(start));
                }
                match going.iter_mut().find(|(other, _)| *other == who) {
                    Some(entry) => entry.1 = what,
                    None => going.push((who, what)),
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let parts: Vec<_> = going
            .iter()
            .map(|(who, what)| format!("{who}: {what}"))
            .collect();
        if terminal {
            let line: String = parts.join(" | ").chars().take(110).collect();
            eprint!("\r\x1b[K[{:>4} s] {line}", seconds(start));
            let _ = stderr().flush();
        } else if seconds(told) >= 30 {
            eprintln!(
                "[{:>4} s] still at it: {}",
                seconds(start),
                parts.join(" | ")
            );
            told = Instant::now();
        }
    }
    if terminal {
        eprint!("\r\x1b[K");
    }
}
