//! The misbehaviors that are written in Rust: one build, and one component for each name.

use crate::Expected::{self, Evaluation, Legal, Load};
use crate::Hostile;
use anyhow::{Context, ensure};
use std::path::{Path, PathBuf};

/// The marker in the guest, of fixed length.
const PREFIX: &str = "oaat-hostile:";
const MARKER: usize = 48;

type Row = (&'static str, Expected, &'static str);

/// A name with `!` also misbehaves at the trial request.
#[rustfmt::skip]
const BEHAVIOURS: &[Row] = &[
    ("loop", Evaluation("OutOfFuel"), "select never returns"),
    ("!loop", Load("ProbeFailed"), "select never returns, at the trial request already"),
    ("copy", Evaluation("OutOfFuel"), "copies 8 MiB with one instruction, for ever"),
    ("allocate", Evaluation("OutOfMemory"), "allocates 1 GiB at once"),
    ("!allocate", Load("ProbeFailed"), "allocates 1 GiB at once, at the trial request already"),
    ("grow", Evaluation("OutOfMemory"), "grows its memory by 64 KiB until it is refused"),
    ("!grow", Load("ProbeFailed"), "grows its memory by 64 KiB until it is refused, at the trial request already"),
    ("recurse", Evaluation("Trapped"), "calls itself until its stack is full"),
    ("!recurse", Load("ProbeFailed"), "calls itself until its stack is full, at the trial request already"),
    ("panic", Evaluation("Trapped"), "panics with a message of many lines and control characters"),
    ("!panic", Load("ProbeFailed"), "panics at the trial request already"),
    ("panic-long", Evaluation("Trapped"), "panics with a message of 700 kB"),
    ("unreachable", Evaluation("Trapped"), "executes `unreachable`, without a word in the log"),
    ("!unreachable", Load("ProbeFailed"), "executes `unreachable` at the trial request already"),
    ("verdicts-many", Evaluation("BadAnswer"), "answers 100,000 verdicts"),
    ("!verdicts-many", Evaluation("BadAnswer"), "answers 100,000 verdicts, also to the trial request"),
    ("verdicts-million", Evaluation("OutOfMemory"), "wants to answer 2,000,000 verdicts, which do not fit its memory"),
    ("verdicts-short", Evaluation("BadAnswer"), "answers one verdict too few"),
    ("verdicts-long", Evaluation("BadAnswer"), "answers one verdict too many"),
    ("verdicts-noted", Legal, "adds long notes with control characters to all verdicts"),
    ("index-next", Evaluation("BadAnswer"), "chooses the item after the last"),
    ("!index-next", Evaluation("BadAnswer"), "chooses the item after the last, also of the trial request"),
    ("index-max", Evaluation("BadAnswer"), "chooses item 4,294,967,295"),
    ("held", Evaluation("BadAnswer"), "chooses an item that is held, if there is one"),
    ("failed", Legal, "chooses the item that failed last, for ever; a fault only while that item is held"),
    ("wait-past", Legal, "waits until 1970"),
    ("wait-1ms", Legal, "waits for 1 ms, for ever"),
    ("wait-ever", Legal, "waits for nothing, for ever"),
    ("wait-9999", Legal, "waits until the year 9999"),
    ("wait-max", Legal, "waits until the last instant there is"),
    ("wait-min", Legal, "waits until the first instant there is"),
    ("until-moves", Legal, "waits, and dates its verdicts differently each time"),
    ("note-changes", Legal, "waits 1 ms, for ever, with another note each time"),
    ("alternate", Legal, "is quick and slow in turn, within all limits"),
    ("until-extreme", Legal, "dates verdicts at the ends of time"),
    ("note-control", Legal, "gives a note with newlines and terminal escapes"),
    ("note-long", Legal, "gives a note of 1 MiB"),
    ("note-huge", Evaluation("BadAnswer"), "gives a note of 8 MiB"),
    ("state-full", Legal, "asks for the longest state allowed, all of it NUL"),
    ("state-long", Evaluation("BadAnswer"), "asks for a state of 1 MiB"),
    ("state-ignored", Legal, "asks for a state that nobody can parse, and ignores it"),
    ("state-refused", Evaluation("PolicyError"), "refuses its own state at the second request"),
    ("err", Evaluation("PolicyError"), "refuses to decide"),
    ("!err", Evaluation("PolicyError"), "refuses to decide, also at the trial request"),
    ("err-empty", Evaluation("PolicyError"), "refuses to decide, without a word"),
    ("err-long", Evaluation("PolicyError"), "refuses to decide, in 1 MiB"),
    ("err-huge", Evaluation("BadAnswer"), "refuses to decide, in 8 MiB"),
    ("err-control", Evaluation("PolicyError"), "refuses to decide, with newlines and terminal escapes"),
    ("validate-err", Load("SettingsRejected"), "refuses all settings"),
    ("validate-trap", Load("SettingsRejected"), "panics on all settings"),
    ("validate-loop", Load("SettingsRejected"), "checks settings for ever"),
    ("log-flood", Evaluation("OutOfFuel"), "logs short lines for ever"),
    ("log-lines", Legal, "logs 10,000 lines with control characters"),
    ("log-long", Legal, "logs one line of 1 MiB"),
    ("log-huge", Evaluation("BadAnswer"), "logs one line of 8 MiB"),
    ("log-slow", Evaluation("Deadline"), "logs lines of 4 MB for ever, which costs more time than fuel"),
];

pub(crate) fn all() -> anyhow::Result<Vec<Hostile>> {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest");
    let built = policy_build::build(&guest, &target_dir())?;
    let mut all = BEHAVIOURS
        .iter()
        .map(|&(name, expected, what)| {
            Ok(Hostile {
                name,
                what,
                bytes: marked(&built, name)?,
                settings: None,
                expected,
            })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    all.push(Hostile {
        name: "settings-panic",
        what: "takes all settings when they are checked, and panics on them when it decides",
        bytes: marked(&built, "settings-panic")?,
        settings: Some(r#"{"mood":"sour"}"#),
        expected: Evaluation("Trapped"),
    });
    Ok(all)
}

/// Returns the component with this name in its marker.
fn marked(built: &[u8], name: &str) -> anyhow::Result<Vec<u8>> {
    let mut marker = PREFIX.as_bytes().to_vec();
    marker.resize(MARKER, b'.');
    let mut found = built
        .windows(MARKER)
        .enumerate()
        .filter(|(_, window)| *window == marker);
    let (at, _) = found.next().context("the guest has no marker")?;
    ensure!(found.next().is_none(), "the guest has two markers");
    ensure!(
        PREFIX.len() + name.len() <= MARKER,
        "{name} is too long for the marker"
    );
    let mut bytes = built.to_vec();
    bytes[at + PREFIX.len()..][..name.len()].copy_from_slice(name.as_bytes());
    Ok(bytes)
}

/// Returns a separate folder below the target folder of the running program, which cargo marks with
/// a file. The cargo that runs a test may lock the target folder itself.
fn target_dir() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let target = program
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").is_file());
    match target {
        Some(target) => target.join("policies"),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/policies"),
    }
}
