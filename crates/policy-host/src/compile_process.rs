//! Runs the compiler in a child process and loads the result.

use crate::compile_child::{CPU, CompileResult, ELAPSED, Landlock, SUBCOMMAND};
use crate::load::LoadError;
use crate::policy::{CompiledPolicy, Host, Policy};
use plain_text as text;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The maximum length of the first line of a result, in bytes.
const MAX_LINE: u64 = 64 << 10;
/// The maximum number of bytes that are read from the child's standard error.
const MAX_STDERR: u64 = 4 << 10;
/// How often the parent checks whether the child has exited.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

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
    /// How much of Landlock the kernel enforced on the child.
    pub landlock: Landlock,
}

impl CompileProcess {
    /// Uses `program`, which must call [`run_compile_child`](crate::run_compile_child) if its only
    /// argument is `compile-policy`. It must be this program or one from the same build, because
    /// this process runs the machine code that it returns.
    pub fn new(program: impl Into<PathBuf>, host: Host) -> Self {
        Self {
            program: program.into(),
            host,
        }
    }

    /// Uses the running program, even if its file has been replaced since.
    pub fn of_this_program(host: Host) -> Self {
        // In the child, this path refers to the same program: it is resolved after the fork.
        Self::new("/proc/self/exe", host)
    }

    /// Returns the host that the compiled policies run in.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Checks and compiles a component (plain or gzip), and tries it on a small request. Blocks for
    /// tens of milliseconds for an ordinary component, and for about 30 seconds at most.
    ///
    /// # Errors
    /// Returns the first check that failed, or the limit that the compiler exceeded.
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
        let (exit, result, stderr) = thread::scope(|scope| {
            let thread = || thread::Builder::new().name("policy-compile-pipe".into());
            // A child that exits before it has read everything reports the reason itself.
            let feed = thread().spawn_scoped(scope, move || drop(stdin.write_all(bytes)));
            let result = thread().spawn_scoped(scope, move || read_result(stdout, artifact));
            let stderr = thread().spawn_scoped(scope, move || {
                let mut bytes = Vec::new();
                let _ = stderr.take(MAX_STDERR).read_to_end(&mut bytes);
                bytes
            });
            let exit = match (&feed, &result, &stderr) {
                (Ok(_), Ok(_), Ok(_)) => wait(&mut child),
                // Without its pipes, the child would wait indefinitely.
                _ => child.kill().and_then(|()| child.wait()).map(Some),
            };
            // Kill any processes that the child started, because they keep the pipes open.
            #[cfg(target_os = "linux")]
            if let Ok(group) = i32::try_from(child.id()) {
                use nix::sys::signal::{Signal, killpg};
                let _ = killpg(nix::unistd::Pid::from_raw(group), Signal::SIGKILL);
            }
            let result = result.map(|thread| thread.join().unwrap_or_default());
            let stderr = stderr.map(|thread| thread.join().unwrap_or_default());
            (exit, result, stderr)
        });
        let (result, stderr) = (result.map_err(unavailable)?, stderr.map_err(unavailable)?);
        let Some(status) = exit.map_err(unavailable)? else {
            return Err(LoadError::CompileTimeout {
                limit: ELAPSED,
                cpu: false,
            });
        };
        match result {
            Some((CompileResult::Failed(error), _)) => Err(error),
            Some((
                CompileResult::Compiled {
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
            _ => Err(crash_error(status, &stderr)),
        }
    }
}

/// Reads the child's result and the artifact after it, of at most `artifact` bytes.
fn read_result(pipe: impl Read, artifact: usize) -> Option<(CompileResult, Vec<u8>)> {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    pipe.by_ref()
        .take(MAX_LINE)
        .read_until(b'\n', &mut line)
        .ok()?;
    let result: CompileResult = serde_json::from_slice(&line).ok()?;
    let mut bytes = Vec::new();
    if let CompileResult::Compiled { size, .. } = &result {
        bytes.reserve_exact((*size).min(artifact));
        // One more byte shows that the size is wrong.
        pipe.take(artifact as u64 + 1)
            .read_to_end(&mut bytes)
            .ok()?;
    }
    Some((result, bytes))
}

/// Waits for the child to exit. Kills it after [`ELAPSED`] and then returns `None`.
fn wait(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + ELAPSED;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(POLL_INTERVAL);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// Returns the error for a child that exited without a result.
fn crash_error(status: ExitStatus, stderr: &[u8]) -> LoadError {
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt;
        /// The signal that the kernel sends at the limit on CPU time.
        const SIGXCPU: i32 = 24;
        if status.signal() == Some(SIGXCPU) {
            return LoadError::CompileTimeout {
                limit: CPU,
                cpu: true,
            };
        }
    }
    let stderr = String::from_utf8_lossy(stderr);
    let line = stderr.lines().map(str::trim).find(|line| !line.is_empty());
    let quote = line.map(|line| format!(": {}", text::clean(line, text::QUOTE)));
    LoadError::CompileFailed(format!(
        "it crashed the compiler ({status}{})",
        quote.unwrap_or_default()
    ))
}
