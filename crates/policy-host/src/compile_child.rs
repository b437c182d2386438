//! The child process that compiles one component.
//!
//! No check before compilation can detect every component that keeps a compiler busy for minutes,
//! takes gigabytes, or overflows its stack. Therefore, the compiler runs in a child process, which
//! sets hard limits before it reads anything. A component can crash that process, but no other.

use crate::load::{CompileMemory, LoadError};
use crate::policy::{CompiledPolicy, Host};
use crate::sandbox::Limits;
use plain_text as text;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// The name of the subcommand that calls [`run`].
pub(crate) const SUBCOMMAND: &str = "compile-policy";

/// The maximum elapsed time of a compilation, enforced by the parent.
pub(crate) const ELAPSED: Duration = Duration::from_secs(30);
/// The maximum CPU time of a compilation. An ordinary policy of 1 MB takes less than a second.
pub(crate) const CPU: Duration = Duration::from_secs(20);
/// The maximum resident memory of the process, in bytes. It fits into the default memory limit of
/// 256 MiB together with 32 MiB for policies in memory, 64 MiB for two evaluations, 40 MiB for
/// four large groups, 12 MiB for ConfigMaps, and about 25 MiB for everything else.
pub(crate) const MEMORY: usize = 80 << 20;
/// The maximum address space in bytes, for memory that grows faster than [`CHECK_INTERVAL`] detects.
/// It includes the program, its stacks, and memory that is reserved but not used.
#[cfg(target_os = "linux")]
const ADDRESS_SPACE: u64 = 1 << 30;
/// The stack size of the compiler in bytes. Its recursion depth depends on the nesting of its input.
const STACK: usize = 16 << 20;
/// A CPU priority at which the process gets about a tenth of the time of others. At the lowest one,
/// ordinary policies would not compile within [`ELAPSED`] on a busy machine.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;
/// How often the limits on resident memory and CPU time are checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// The first line of the child's output, as JSON. After `Compiled`, the artifact follows.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum CompileResult {
    Compiled {
        /// The sha256 of the uncompressed component.
        digest: String,
        /// The size of the artifact in bytes.
        size: usize,
        /// [`CompiledPolicy::descriptions`].
        descriptions: usize,
        landlock: Landlock,
    },
    Failed(LoadError),
}

/// How much of Landlock the kernel enforces on the compiler process. With Landlock, the process
/// cannot open files or connections, even if a component takes control of the compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Landlock {
    /// Everything that this release requests.
    Full,
    /// Restrictions on files, but not all newer restrictions.
    Partial,
    /// Nothing, because the kernel does not support Landlock or it is disabled.
    None,
}

/// Limits this process, compiles the component on standard input, and writes the result to
/// standard output. The program must do nothing else before or after.
pub fn run(limits: Limits) -> ExitCode {
    let (usage, landlock) = match confine() {
        Ok(confined) => confined,
        Err(error) => {
            let message = format!("failed to set its limits: {error}");
            let error = LoadError::CompilerUnavailable(message);
            return write_result(&CompileResult::Failed(error), &[]);
        }
    };
    let watcher = thread::current();
    let compiler = thread::Builder::new()
        .name("compiler".into())
        .stack_size(STACK)
        .spawn(move || {
            let compiled = compile(limits);
            watcher.unpark();
            compiled
        });
    let compiler = match compiler {
        Ok(compiler) => compiler,
        Err(error) => {
            let message = format!("failed to start a thread: {error}");
            let error = LoadError::CompilerUnavailable(message);
            return write_result(&CompileResult::Failed(error), &[]);
        }
    };
    while !compiler.is_finished() {
        if let Err(error) = check_limits(&usage) {
            // The compiler thread cannot be interrupted, so the process exits.
            write_result(&CompileResult::Failed(error), &[]);
            std::process::exit(0);
        }
        thread::park_timeout(CHECK_INTERVAL);
    }
    match compiler.join() {
        Ok(Ok(CompiledPolicy {
            digest,
            artifact,
            descriptions,
        })) => {
            let size = artifact.len();
            let compiled = CompileResult::Compiled {
                digest,
                size,
                descriptions,
                landlock,
            };
            write_result(&compiled, &artifact)
        }
        Ok(Err(error)) => write_result(&CompileResult::Failed(error), &[]),
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
            let message = text::clean(message.unwrap_or_default(), text::ERROR);
            let error = LoadError::CompileFailed(format!("the compiler panicked: {message}"));
            write_result(&CompileResult::Failed(error), &[])
        }
    }
}

fn compile(limits: Limits) -> Result<CompiledPolicy, LoadError> {
    let unavailable = |message: String| LoadError::CompilerUnavailable(message);
    // One more byte shows that the component is too large.
    let max = limits.component as u64 + 1;
    let host = Host::new(limits).map_err(|error| unavailable(error.to_string()))?;
    let mut bytes = Vec::new();
    let read = std::io::stdin().take(max).read_to_end(&mut bytes);
    read.map_err(|error| unavailable(format!("failed to read the component: {error}")))?;
    host.compile(&bytes)
}

fn write_result(result: &CompileResult, artifact: &[u8]) -> ExitCode {
    let written = serde_json::to_vec(result).map_err(Into::into);
    let written = written.and_then(|mut line| {
        line.push(b'\n');
        let mut out = std::io::stdout();
        out.write_all(&line)?;
        out.write_all(artifact)?;
        out.flush()
    });
    if written.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The open file /proc/self/status, which reports the memory of this process.
#[cfg(target_os = "linux")]
struct Usage(Option<std::fs::File>);

#[cfg(target_os = "linux")]
impl Usage {
    /// Returns the resident memory in bytes. `ru_maxrss` is not suitable: it starts at the peak of
    /// the parent.
    fn resident(&self) -> usize {
        use std::os::unix::fs::FileExt;
        let mut text = [0; 4096];
        let read = self
            .0
            .as_ref()
            .and_then(|file| file.read_at(&mut text, 0).ok());
        let text = String::from_utf8_lossy(&text[..read.unwrap_or_default()]);
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes =
            line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
        kilobytes.unwrap_or_default() << 10
    }
}

/// Checks the memory and the CPU time of this process.
#[cfg(target_os = "linux")]
fn check_limits(usage: &Usage) -> Result<(), LoadError> {
    use nix::sys::resource::{UsageWho, getrusage};
    let Ok(used) = getrusage(UsageWho::RUSAGE_SELF) else {
        return Ok(());
    };
    if usage.resident() > MEMORY {
        return Err(LoadError::CompileTooLarge {
            what: CompileMemory::Compiler,
            limit: MEMORY,
        });
    }
    let seconds = used.user_time().tv_sec() + used.system_time().tv_sec();
    if u64::try_from(seconds).unwrap_or_default() >= CPU.as_secs() {
        return Err(LoadError::CompileTimeout {
            limit: CPU,
            cpu: true,
        });
    }
    Ok(())
}

/// Drops the privileges that a compiler does not need. An attacker who takes control of it finds no
/// environment, only the descriptors of three pipes and of its own status, and cannot open others.
#[cfg(target_os = "linux")]
fn confine() -> Result<(Usage, Landlock), String> {
    use nix::sys::prctl::set_pdeathsig;
    use nix::sys::resource::{Resource, setrlimit};
    use nix::sys::signal::Signal;

    set_pdeathsig(Signal::SIGKILL).map_err(|error| error.to_string())?;
    // If memory runs out, the kernel kills this process first. Without /proc this fails, but the
    // other limits still apply.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    // If this fails, the process keeps the default priority.
    let _ = rustix::process::nice(NICE);
    close_inherited();
    let usage = Usage(std::fs::File::open("/proc/self/status").ok());
    let landlock = landlock().map_err(|error| format!("Landlock: {error}"))?;
    let cpu = CPU.as_secs();
    for (resource, soft, hard) in [
        (Resource::RLIMIT_CORE, 0, 0),
        (Resource::RLIMIT_FSIZE, 0, 0),
        // One second later than in `check_limits`, which reports the reason.
        (Resource::RLIMIT_CPU, cpu + 1, cpu + 2),
        (Resource::RLIMIT_AS, ADDRESS_SPACE, ADDRESS_SPACE),
        // No new descriptors: the service account token cannot be opened, even without Landlock.
        (Resource::RLIMIT_NOFILE, 0, 0),
    ] {
        setrlimit(resource, soft, hard).map_err(|error| format!("{resource:?}: {error}"))?;
    }
    Ok((usage, landlock))
}

/// Closes descriptors that the parent inherited from its own parents.
#[cfg(target_os = "linux")]
fn close_inherited() {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    let open: Vec<i32> = open
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The descriptor of the directory itself is already closed.
        let _ = nix::unistd::close(descriptor);
    }
}

#[cfg(target_os = "linux")]
fn landlock() -> Result<Landlock, landlock::RulesetError> {
    use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
    let newest = ABI::V6;
    // No rules: every handled access is denied.
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(newest))?
        .handle_access(AccessNet::from_all(newest))?
        .scope(Scope::from_all(newest))?
        .create()?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Landlock::Full,
        RulesetStatus::PartiallyEnforced => Landlock::Partial,
        RulesetStatus::NotEnforced => Landlock::None,
    })
}

#[cfg(not(target_os = "linux"))]
struct Usage;

#[cfg(not(target_os = "linux"))]
fn confine() -> Result<(Usage, Landlock), String> {
    Ok((Usage, Landlock::None))
}

#[cfg(not(target_os = "linux"))]
fn check_limits(_: &Usage) -> Result<(), LoadError> {
    Ok(())
}
