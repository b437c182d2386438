//! A progress line on the screen.

use std::io::{IsTerminal, Write, stderr};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Shows the progress of tasks until all senders are dropped. On a terminal, the last line counts
/// the seconds. Otherwise, prints a line for each step and every 30 seconds.
pub fn show(lines: &Receiver<(&'static str, String)>) {
    let start = Instant::now();
    let terminal = stderr().is_terminal();
    let mut steps: Vec<(&'static str, String)> = Vec::new();
    let mut last_printed = Instant::now();
    let seconds = |at: Instant| at.elapsed().as_secs();
    loop {
        match lines.recv_timeout(Duration::from_secs(1)) {
            Ok((task, step)) => {
                if !terminal {
                    eprintln!("[{:>4} s] {task}: {step}", seconds(start));
                }
                match steps.iter_mut().find(|(other, _)| *other == task) {
                    Some(entry) => entry.1 = step,
                    None => steps.push((task, step)),
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let parts: Vec<_> = steps
            .iter()
            .map(|(task, step)| format!("{task}: {step}"))
            .collect();
        if terminal {
            let line: String = parts.join(" | ").chars().take(110).collect();
            eprint!("\r\x1b[K[{:>4} s] {line}", seconds(start));
            let _ = stderr().flush();
        } else if seconds(last_printed) >= 30 {
            eprintln!(
                "[{:>4} s] in progress: {}",
                seconds(start),
                parts.join(" | ")
            );
            last_printed = Instant::now();
        }
    }
    if terminal {
        eprint!("\r\x1b[K");
    }
}
