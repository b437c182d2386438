//! Runs the compiler in a child process and loads the result.

use crate::compile_child::{Answer, CPU, ELAPSED, Landlock, SUBCOMMAND};
use crate::load::LoadError;
use crate::policy::{CompiledPolicy, Host, Policy};
use plain_text as text;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The maximum length of the first line of an answer, in bytes.
const LINE: u64 = 64 << 10;
/// The maximum bytes that are read from the child's standard error.
const LAST_WORDS: u64 = 4 << 10;
/// How often the parent checks whether the child has exited.
const POLL: Duration = Duration::from_millis(1);

/// Compiles components in child processes of this program. Cheap to clone.
#[derive(Clone)]
pub struct CompileProcess {
    program: PathBuf,
    host: Host,
}

/// A policy that a child process compiled.
pub struct Compiled {
    /// The policy, ready for evaluation.
    pub policy: Policy,
    /// The part of Landlock that the kernel enforced on the child.
    pub landlock: Landlock,
}

impl CompileProcess {
    /// Uses `program`, which runs [`run_compile_child`](crate::run_compile_child) when its only
    /// argument is `compile-policy`. It must be this program or one from the same build: machine
    /// code from it runs in this process.
    pub fn new(program: impl Into<PathBuf>, host: Host) -> Self {
        Self {
            program: program.into(),
            host,
        }
    }

    /// Uses the running program itself, even if its file has been replaced since.
    pub fn of_this_program(host: Host) -> Self {
        // In the child, this path refers to the same program: it is resolved after the fork.
        Self::new("/proc/self/exe", host)
    }

    /// Returns the host that its policies run in.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Checks and compiles a component (plain or gzip), and tries it on a small request. Blocks for
    /// tens of milliseconds for an ordinary component, and for at most 30 seconds.
    ///
    /// # Errors
    /// The first check that failed, or the limit that the compiler exceeded.
    pub fn compile(&self, bytes: &[u8]) -> Result<Compiled, LoadError> {
        let unavailable = |error: std::io::Error| {
            LoadError::CompilerUnavailable(format!("{}: {error}", self.program.display()))
        };
        let mut command = Command::new(&self.program);
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .arg(SUBCOMMAND)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(unavailable)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(unavailable(std::io::ErrorKind::BrokenPipe.into()));
        };
        let artifact = self.host.limits().artifact;
        let (ended, written, last_words) = thread::scope(|scope| {
            let thread = || thread::Builder::new().name("policy-compile-pipe".into());
            // A child that exits before it has read everything reports the reason itself.
            let feed = thread().spawn_scoped(scope, move || drop(stdin.write_all(bytes)));
            let written = thread().spawn_scoped(scope, move || read(stdout, artifact));
            let last_words = thread().spawn_scoped(scope, move || {
                let mut words = Vec::new();
                let _ = stderr.take(LAST_WORDS).read_to_end(&mut words);
                words
            });
            let ended = match (&feed, &written, &last_words) {
                (Ok(_), Ok(_), Ok(_)) => wait(&mut child),
                // Without its pipes it would wait indefinitely.
                _ => child.kill().and_then(|()| child.wait()).map(Some),
            };
            // Whatever it started goes with it, so that its pipes end.
            #[cfg(target_os = "linux")]
            if let Ok(group) = i32::try_from(child.id()) {
                use nix::sys::signal::{Signal, killpg};
                let _ = killpg(nix::unistd::Pid::from_raw(group), Signal::SIGKILL);
            }
            let written = written.map(|thread| thread.join().unwrap_or_default());
            let last_words = last_words.map(|thread| thread.join().unwrap_or_default());
            (ended, written, last_words)
        });
        let (written, last_words) = (
            written.map_err(unavailable)?,
            last_words.map_err(unavailable)?,
        );
        let Some(status) = ended.map_err(unavailable)? else {
            return Err(LoadError::CompileTimeout {
                limit: ELAPSED,
                cpu: false,
            });
        };
        match written {
            Some((Answer::Refused(error), _)) => Err(error),
            Some((
                Answer::Compiled {
                    digest,
                    size,
                    descriptions,
                    landlock,
                },
                artifact,
            )) if status.success() && artifact.len() == size => {
                let compiled = CompiledPolicy {
                    digest,
                    artifact,
                    descriptions,
                };
                let policy = self.host.deserialize(&compiled)?;
                Ok(Compiled { policy, landlock })
            }
            _ => Err(crashed(status, &last_words)),
        }
    }
}

/// Reads the child's answer and the artifact after it, of at most `artifact` bytes.
fn read(pipe: impl Read, artifact: usize) -> Option<(Answer, Vec<u8>)> {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    pipe.by_ref().take(LINE).read_until(b'\n', &mut line).ok()?;
    let answer: Answer = serde_json::from_slice(&line).ok()?;
    let mut bytes = Vec::new();
    if let Answer::Compiled { size, .. } = &answer {
        bytes.reserve_exact((*size).min(artifact));
        // One more byte shows that the size is wrong.
        pipe.take(artifact as u64 + 1)
            .read_to_end(&mut bytes)
            .ok()?;
    }
    Some((answer, bytes))
}

/// Waits for the child to exit. Returns `None` if it had to be killed.
fn wait(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + ELAPSED;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(POLL);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// Returns the error for a child that exited without an answer.
fn crashed(status: ExitStatus, last_words: &[u8]) -> LoadError {
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt;
        /// Sent by the kernel at the limit on CPU time.
        const SIGXCPU: i32 = 24;
        if status.signal() == Some(SIGXCPU) {
            return LoadError::CompileTimeout {
                limit: CPU,
                cpu: true,
            };
        }
    }
    let words = String::from_utf8_lossy(last_words);
    let words = words.lines().map(str::trim).find(|line| !line.is_empty());
    let words = words.map(|words| format!(": {}", text::clean(words, text::QUOTE)));
    LoadError::CompileFailed(format!(
        "it crashed the compiler ({status}{})",
        words.unwrap_or_default()
    ))
}
