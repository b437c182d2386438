//! The process that builds and evaluates a policy: `kubectl-oaat policy serve`.

use serde_json::Value;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The environment variable with the path of `kubectl-oaat`, to use instead of the one on the PATH.
const VARIABLE: &str = "OAAT_KUBECTL";
/// The version of this crate. The program must have the same version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The maximum time until the first answer. It includes the build of the policy.
const START_TIMEOUT: Duration = Duration::from_secs(3_600);
/// The maximum time of a request. A file with many cases may take minutes.
const CALL_TIMEOUT: Duration = Duration::from_secs(1_800);

/// Why a policy cannot be evaluated. The policy itself is the cause only of [`ChildError::Policy`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChildError {
    #[error(
        "failed to start {program:?}, which runs policies for these tests: {error}; install \
         kubectl-oaat {VERSION}, or set {VARIABLE} to its path"
    )]
    Start {
        program: OsString,
        error: std::io::Error,
    },
    #[error(
        "{program:?} is not kubectl-oaat {VERSION}{}; install that version, set {VARIABLE} to its \
         path, or update this crate with `kubectl-oaat policy new --upgrade`",
        .found.as_ref().map_or(String::new(), |found| format!(" but {found}"))
    )]
    OtherVersion {
        program: OsString,
        found: Option<String>,
    },
    #[error(
        "{program:?} sent no answer and {}; see its errors above, and check that it is \
         kubectl-oaat {VERSION}",
        .status.map_or("closed its output".to_owned(), |status| format!("ended with {status}"))
    )]
    NoAnswer {
        program: OsString,
        status: Option<ExitStatus>,
    },
    #[error("kubectl-oaat sent no answer within {} seconds and was stopped", .0.as_secs())]
    TimedOut(Duration),
    #[error("failed to build kubectl-oaat; see the cargo errors above")]
    Build,
    #[error("{0}")]
    Policy(String),
    #[error("kubectl-oaat ended during a test: {0}")]
    Ended(std::io::Error),
    #[error("kubectl-oaat sent an invalid answer: {0}")]
    Protocol(String),
}

/// The running process. It ends when this value is dropped, or when the test process ends.
pub(crate) struct Server {
    process: Process,
    pipes: Mutex<Pipes>,
    /// The size of the component in bytes.
    pub size: u64,
}

struct Pipes {
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Server {
    /// Starts the process. `file` is a component, or the directory of a policy.
    pub fn start(file: &Path) -> Result<Self, ChildError> {
        Self::start_program(program()?, file)
    }

    fn start_program(program: OsString, file: &Path) -> Result<Self, ChildError> {
        let failed = |error| ChildError::Start {
            program: program.clone(),
            error,
        };
        let mut child = Command::new(&program)
            .args(["policy", "serve"])
            .arg(file)
            .arg("--target")
            .arg(target_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let pipes = (child.stdin.take(), child.stdout.take());
        let process = Process(Mutex::new(child));
        let (Some(requests), Some(answers)) = pipes else {
            return Err(failed(std::io::Error::other("the process has no pipes")));
        };
        let mut pipes = Pipes {
            requests,
            answers: BufReader::new(answers),
        };
        let first = match process.with_timeout(START_TIMEOUT, || pipes.read()) {
            // A program without this command prints its help to standard error, and nothing else.
            Err(ChildError::Ended(_)) => {
                let status = process.exit_status();
                return Err(ChildError::NoAnswer { program, status });
            }
            // The line of another program.
            Err(ChildError::Protocol(_)) => Value::Null,
            first => first?,
        };
        let size = component_size(program, &first)?;
        Ok(Self {
            process,
            pipes: Mutex::new(pipes),
            size,
        })
    }

    /// Sends a request and returns the answer.
    pub fn call(&self, request: &Value) -> Result<Value, ChildError> {
        // A test that panicked has sent its request and read its answer, or neither.
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        // The pipe is not buffered, so write the line at once.
        let line = format!("{request}\n");
        self.process.with_timeout(CALL_TIMEOUT, || {
            let sent = pipes.requests.write_all(line.as_bytes());
            sent.map_err(ChildError::Ended)?;
            pipes.read()
        })
    }
}

/// A process that is killed when this value is dropped.
struct Process(Mutex<Child>);

impl Process {
    fn child(&self) -> MutexGuard<'_, Child> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Exchanges data with the process. After the timeout, kills the process, which ends its pipes.
    fn with_timeout<T>(
        &self,
        timeout: Duration,
        exchange: impl FnOnce() -> Result<T, ChildError>,
    ) -> Result<T, ChildError> {
        let (exchanged, wait) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let watchdog = scope.spawn(move || {
                let timed_out = wait.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout);
                if timed_out {
                    let _ = self.child().kill();
                }
                timed_out
            });
            let result = exchange();
            drop(exchanged);
            if watchdog.join().unwrap_or_default() {
                return Err(ChildError::TimedOut(timeout));
            }
            result
        })
    }

    /// Returns the exit status of a process that has closed its output, or `None` if it is still
    /// running after a few seconds.
    fn exit_status(&self) -> Option<ExitStatus> {
        for _ in 0..500 {
            if let Ok(Some(status)) = self.child().try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Returns the size of the component from the first line of output.
fn component_size(program: OsString, first: &Value) -> Result<u64, ChildError> {
    let found = first["version"].as_str();
    if found != Some(VERSION) {
        let found = found.map(str::to_owned);
        return Err(ChildError::OtherVersion { program, found });
    }
    match first["error"].as_str() {
        Some(error) => Err(ChildError::Policy(error.to_owned())),
        None => Ok(first["size"].as_u64().unwrap_or_default()),
    }
}

impl Pipes {
    fn read(&mut self) -> Result<Value, ChildError> {
        let mut line = String::new();
        let size = self.answers.read_line(&mut line);
        if size.map_err(ChildError::Ended)? == 0 {
            let error = std::io::ErrorKind::UnexpectedEof.into();
            return Err(ChildError::Ended(error));
        }
        serde_json::from_str(&line).map_err(|_| ChildError::Protocol(line))
    }
}

/// Returns the program: the one that the variable names, the one that this repository builds, or the
/// one on the PATH.
fn program() -> Result<OsString, ChildError> {
    match std::env::var_os(VARIABLE) {
        Some(program) => Ok(program),
        None => match repository() {
            Some(root) => build(&root),
            None => Ok("kubectl-oaat".into()),
        },
    }
}

/// Returns the root of the repository, if this crate is in it and not a copy in another crate.
fn repository() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join("cli/Cargo.toml").is_file().then_some(root)
}

/// Builds the program if it is out of date. The cargo process that runs the tests has released the
/// lock of the target directory.
fn build(root: &Path) -> Result<OsString, ChildError> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(&program);
    // Cargo sets these variables for the tested package. Build scripts that depend on them would
    // run again for each package, and all their dependents would be rebuilt. The tests of the
    // repository use `control_plane::remove_package_variables`.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    let output = cargo
        .current_dir(root)
        // The whole workspace, so that dependencies have the same features and are not built again.
        .args(["build", "--quiet", "--workspace", "--bin", "kubectl-oaat"])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| ChildError::Start { program, error })?;
    let messages = String::from_utf8_lossy(&output.stdout);
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let programs = messages.filter_map(|message| Some(message["executable"].as_str()?.to_owned()));
    programs
        .map(OsString::from)
        .find(|path| Path::new(path).ends_with("kubectl-oaat"))
        .filter(|_| output.status.success())
        .ok_or(ChildError::Build)
}

/// Returns a directory in the target directory for nested builds. The running test is in
/// `<target>/<profile>/deps`.
fn target_dir() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    let target = test.ancestors().nth(3).unwrap_or(Path::new("target"));
    target.join("policies")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn error(program: &Path) -> String {
        let started = Server::start_program(program.into(), Path::new("default"));
        started.map_or_else(|error| error.to_string(), |_| String::new())
    }

    #[test]
    fn missing_program_is_named_with_the_fix() {
        let error = error(Path::new("/nowhere/kubectl-oaat"));
        let fix = format!("install kubectl-oaat {VERSION}, or set OAAT_KUBECTL to its path");
        assert!(error.contains("\"/nowhere/kubectl-oaat\""), "{error}");
        assert!(error.ends_with(&fix), "{error}");
    }

    #[test]
    fn other_version_is_rejected() {
        let not = format!("is not kubectl-oaat {VERSION}");
        let other = error(Path::new("/bin/echo"));
        assert!(
            other.contains(&format!("{not}; install that version")),
            "{other}"
        );
        let first = json!({ "version": "9.0.0", "size": 1 });
        let older = component_size("kubectl-oaat".into(), &first);
        let older = older.map_or_else(|error| error.to_string(), |_| String::new());
        assert!(older.contains(&format!("{not} but 9.0.0;")), "{older}");
    }

    #[test]
    fn program_without_an_answer_is_reported_with_its_exit_status() {
        let error = error(Path::new("false"));
        let expected = "\"false\" sent no answer and ended with exit status: 1; see its errors";
        assert!(error.starts_with(expected), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn program_that_hangs_is_stopped() {
        // `tail -f /dev/null` neither answers nor ends.
        let child = Command::new("tail")
            .args(["-f", "/dev/null"])
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let process = Process(Mutex::new(child));
        let read = || {
            let read = output.read_line(&mut String::new());
            read.map_err(ChildError::Ended)
        };
        let error = process.with_timeout(Duration::from_secs(1), read);
        let error = error.map_or_else(|error| error.to_string(), |_| String::new());
        let expected = "kubectl-oaat sent no answer within 1 seconds and was stopped";
        assert_eq!(error, expected);
        assert!(process.exit_status().is_some());
    }

    #[test]
    fn component_that_cannot_be_loaded_is_reported() {
        let first = json!({ "version": VERSION, "error": "Malformed: it is empty" });
        let error = component_size("kubectl-oaat".into(), &first);
        assert!(error.is_err_and(|error| error.to_string() == "Malformed: it is empty"));
    }
}
