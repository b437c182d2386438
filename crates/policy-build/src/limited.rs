//! Reads modules and the output of programs, and rejects those that exceed a limit.

use crate::BuildError;
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// The maximum size of a core module in bytes. A module with debug information may be large.
pub const MAX_MODULE: u64 = 256 << 20;
/// The maximum size of the output of a program in bytes. cargo prints a few kilobytes for each
/// dependency.
const MAX_OUTPUT: u64 = 64 << 20;

/// Reads a core module.
pub(crate) fn read_module(file: &Path) -> Result<Vec<u8>> {
    read_all(File::open(file)?, MAX_MODULE)
}

/// Runs a program, and returns its exit status and what it prints to standard output.
pub(crate) fn output(
    command: &mut Command,
) -> std::result::Result<(ExitStatus, Vec<u8>), BuildError> {
    let program = command.get_program().display().to_string();
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Err(BuildError::Start { program, error }),
    };
    let printed = child.stdout.take().map(|out| read_all(out, MAX_OUTPUT));
    let printed = printed.unwrap_or_else(|| Err(ErrorKind::BrokenPipe.into()));
    if printed.is_err() {
        let _ = child.kill();
    }
    let status = child.wait();
    status
        .and_then(|status| Ok((status, printed?)))
        .map_err(|error| BuildError::Output { program, error })
}

fn read_all(input: impl Read, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let problem = format!("larger than {} MiB", limit >> 20);
        return Err(Error::new(ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_output_ends_the_program() {
        let mut endless = Command::new("cat");
        let error = output(endless.arg("/dev/zero")).map(|(status, _)| status);
        let error = error.map_err(|error| error.to_string());
        let expected = "failed to read the output of cat: larger than 64 MiB";
        assert_eq!(error, Err(expected.to_owned()));
        let printed = output(Command::new("echo").arg("text"));
        let printed = printed.map(|(status, text)| (status.success(), text));
        assert!(printed.is_ok_and(|printed| printed == (true, b"text\n".to_vec())));
    }

    #[test]
    fn large_module_is_rejected() {
        let folder = std::env::temp_dir().join(format!("large-module-{}", std::process::id()));
        // A sparse file uses no space.
        let file = File::create(&folder).and_then(|file| file.set_len(MAX_MODULE + 1));
        let read = file.and_then(|()| read_module(&folder));
        let _ = std::fs::remove_file(&folder);
        let error = read
            .map(|bytes| bytes.len())
            .map_err(|error| error.to_string());
        assert_eq!(error, Err("larger than 256 MiB".to_owned()));
    }
}
