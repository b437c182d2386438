//! Finds and opens files with recorded decisions.

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Returns the files to read: each directory is replaced by the files that the operator records
/// there, in the order of their times.
pub(crate) fn recorded_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let name = || path.display().to_string();
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).with_context(name)? {
            let entry = entry.with_context(name)?;
            let time = entry.file_name().to_str().and_then(time_of_record);
            // Reading a named pipe or a device might never end.
            let time = time.filter(|_| entry.path().is_file());
            inside.extend(time.map(|time| (time, entry.path())));
        }
        if inside.is_empty() {
            bail!(
                "{}: the directory contains no file of --record-decisions, such as \
                 1767225600000-home-backup-0123456789ab.json; to read logs, name the files",
                name()
            );
        }
        inside.sort();
        files.extend(inside.into_iter().map(|(_, file)| file));
    }
    Ok(files)
}

/// Returns the time in the name of a file that the operator recorded.
fn time_of_record(name: &str) -> Option<u64> {
    let time = name.strip_suffix(".json")?.split('-').next()?;
    time.parse().ok()
}

/// Opens a file; `-` is standard input.
pub(crate) fn open(file: &Path) -> Result<Box<dyn Read>> {
    if file == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    let opened = File::open(file).with_context(|| file.display().to_string())?;
    Ok(Box::new(opened))
}
