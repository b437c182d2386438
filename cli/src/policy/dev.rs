//! `policy dev`: builds and tests a policy after each change.

use crate::policy::decisions::{self, Line};
use crate::policy::failure::{self, PolicyFailure};
use crate::policy::{build, component, test};
use crate::terminal;
use anyhow::{Context, Result, bail};
use policy_cases::item_settings;
use policy_host::{DecisionRecord, Policy, WaitTimes, compare_answers};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

/// The interval of the checks for changes.
const INTERVAL: Duration = Duration::from_millis(200);
/// The maximum number of files that are watched.
const MAX_FILES: usize = 20_000;

/// Arguments of `policy dev`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory of the policy. All files in it are watched, except those in `target`.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// The YAML file with the cases. The default is `cases.yaml` in this directory, if it exists.
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    /// Replay the latest of these recorded decisions after each build. The path is a file or directory
    /// from --record-decisions, or the log of an operator with --log-decisions full.
    #[arg(long, value_name = "PATH")]
    decisions: Option<PathBuf>,
}

/// Builds and tests until standard output is closed or the process is interrupted.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let record = args.decisions.as_deref().map(latest).transpose()?;
    let mut last_fuel = None;
    policy_build::check_policy(&args.dir)?;
    loop {
        // A file that changes during the build starts another build.
        let files = watched_files(args)?;
        let text = match build::build(&args.dir, None) {
            Ok(built) => {
                let start = Instant::now();
                test_build(args, &built.file, record.as_ref(), &mut last_fuel)
                    .map(|text| format!("{text} ({} ms)\n", start.elapsed().as_millis()))
            }
            Err(error) => Err(error),
        };
        let text = text.unwrap_or_else(|error| format!("{error:#}\n"));
        let watched = args.dir.display();
        let printed = terminal::print(&format!(
            "{text}waiting for changes in {watched}; stop with Ctrl-C\n\n"
        ));
        match printed {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            printed => printed?,
        }
        while watched_files(args)? == files {
            std::thread::sleep(INTERVAL);
        }
    }
}

/// Runs the cases of a component, and replays a decision. `last_fuel` is the fuel of the previous
/// build.
fn test_build(
    args: &Args,
    file: &Path,
    record: Option<&DecisionRecord>,
    last_fuel: &mut Option<u64>,
) -> Result<String> {
    let policy = component::load(file, &[])?.policy;
    let mut text = String::new();
    let default = args.dir.join("cases.yaml");
    if let Some(cases) = args.cases.clone().or(default.is_file().then_some(default)) {
        let cases = test::Args {
            file: file.to_owned(),
            cases,
            seeds: None,
            format: test::Format::Pretty,
            filter: None,
        };
        let tested = test::test(&cases, || Ok(policy.clone()))?;
        match (tested.cases, tested.failed) {
            (1, 0) => text += "1 case passed\n",
            (cases, 0) => writeln!(text, "{cases} cases passed")?,
            _ => text += &tested.report,
        }
    }
    let fuel = match record {
        Some(record) => {
            let again = replay(&policy, record)?;
            let change = describe_change(record, &again);
            let (then, now) = (record.fuel, again.fuel);
            let difference = delta(then, now);
            write!(
                text,
                "{change}, fuel {difference} ({then} recorded, {now} now)"
            )?;
            now
        }
        None => {
            let fuel = policy.probe().fuel;
            write!(text, "fuel {fuel} for a trial request of 2 items")?;
            fuel
        }
    };
    if let Some(last) = last_fuel.replace(fuel) {
        let difference = delta(last, fuel);
        write!(text, "; {difference} since the last build")?;
    }
    Ok(text)
}

/// Formats a difference with its sign.
fn delta(then: u64, now: u64) -> String {
    format!("{:+}", i128::from(now) - i128::from(then))
}

/// Evaluates the request of a recorded decision, as the operator does.
fn replay(policy: &Policy, record: &DecisionRecord) -> Result<DecisionRecord, PolicyFailure> {
    let request = &record.request;
    failure::validate(policy, &request.settings, &item_settings(&request.items))?;
    let evaluation = policy.evaluate(request);
    match evaluation.answer {
        Err(error) => Err(PolicyFailure::NoDecision(error)),
        Ok(_) => Ok(DecisionRecord::new(policy, request, &evaluation)),
    }
}

fn describe_change(then: &DecisionRecord, now: &DecisionRecord) -> String {
    let compare = WaitTimes::Compare;
    match compare_answers(&then.request, &then.answer, &now.answer, compare) {
        None => "answer unchanged".to_owned(),
        Some(difference) => format!("answer changed: {difference}"),
    }
}

/// Returns the latest decision in a file, or in the newest file of a directory.
fn latest(path: &Path) -> Result<DecisionRecord> {
    let files = decisions::recorded_files(&[path.to_owned()]).context("--decisions")?;
    let file = files.last().map_or(path, PathBuf::as_path);
    let mut latest: Option<DecisionRecord> = None;
    decisions::read_chunks(decisions::open(file)?, |chunk| {
        chunk.for_each(|_, line: Line<DecisionRecord>| {
            let time = latest.as_ref().map(|latest| latest.request.now);
            if let Line::Record(record) = line
                && Some(record.request.now) >= time
            {
                latest = Some(record);
            }
        });
        true
    })
    .with_context(|| file.display().to_string())?;
    latest.with_context(|| {
        format!(
            "--decisions: {}: no recorded decision found; {}",
            file.display(),
            decisions::USE_RECORDS
        )
    })
}

/// The watched files, with their modification times and sizes.
type WatchedFiles = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// Finds the files of the policy and its cases. Polls instead of waiting for events: a policy has few
/// files, and network file systems and container mounts do not deliver events.
fn watched_files(args: &Args) -> Result<WatchedFiles> {
    let mut files = WatchedFiles::new();
    let mut directories = vec![args.dir.clone()];
    files.extend(args.cases.as_deref().and_then(stamp));
    while let Some(directory) = directories.pop() {
        // A directory that was removed in the meantime has no files.
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let hidden = name.as_encoded_bytes().starts_with(b".");
            let path = entry.path();
            match entry.file_type() {
                _ if hidden => {}
                Ok(kind) if kind.is_dir() && name != "target" => directories.push(path),
                // The build itself writes Cargo.lock.
                Ok(kind) if kind.is_file() && name != "Cargo.lock" => files.extend(stamp(&path)),
                _ => {}
            }
        }
        if files.len() + directories.len() > MAX_FILES {
            bail!(
                "{}: contains more than {MAX_FILES} files; use the directory of a policy",
                args.dir.display()
            );
        }
    }
    Ok(files)
}

fn stamp(file: &Path) -> Option<(PathBuf, (Option<SystemTime>, u64))> {
    let data = std::fs::metadata(file).ok()?;
    Some((file.to_owned(), (data.modified().ok(), data.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::test_fixtures::record;

    fn args(dir: &Path) -> Args {
        Args {
            dir: dir.to_owned(),
            cases: None,
            decisions: None,
        }
    }

    #[test]
    fn watched_files_exclude_the_output_of_the_build() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("src/lib.rs", "1");
        let args = args(folder.path());
        let before = watched_files(&args).unwrap();
        assert_eq!(before.len(), 1);
        for ignored in ["target/a.wasm", ".git/index", "Cargo.lock"] {
            write(ignored, "x");
        }
        assert_eq!(watched_files(&args).unwrap(), before);
        write("src/lib.rs", "12");
        assert_ne!(watched_files(&args).unwrap(), before);
    }

    #[test]
    fn latest_decision_is_read_and_errors_name_the_flag_that_records() {
        let folder = tempfile::tempdir().unwrap();
        let error = format!("{:#}", latest(folder.path()).unwrap_err());
        assert!(error.contains("--record-decisions"), "{error}");
        let file = folder.path().join("1-n-g-0.json");
        std::fs::write(&file, "{}").unwrap();
        for path in [folder.path(), &file] {
            let error = latest(path).unwrap_err().to_string();
            assert!(error.contains("no recorded decision"), "{error}");
        }
        // The newest file of a directory, and the latest decision of a file.
        let mut records = [record(), record(), record()];
        for (record, now) in records.iter_mut().zip([5, 7, 6]) {
            record.request.now = now;
        }
        let lines = records.iter().map(|of| serde_json::to_string(of).unwrap());
        let newest = folder.path().join("2-n-g-0.json");
        std::fs::write(&newest, lines.collect::<Vec<_>>().join("\n")).unwrap();
        for path in [folder.path(), &newest] {
            assert_eq!(latest(path).unwrap().request.now, 7);
        }
    }

    #[test]
    fn delta_has_a_sign() {
        assert_eq!(delta(12_345, 9_225), "-3120");
        assert_eq!(delta(1, 2), "+1");
        assert_eq!(delta(u64::MAX, 0), "-18446744073709551615");
    }
}
