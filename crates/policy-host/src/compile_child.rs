//! The process that compiles one component, and nothing else.
//!
//! No check before compilation can detect every component that keeps a compiler busy for minutes,
//! takes gigabytes, or overflows its stack. Therefore the compiler runs in a child process, which
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

/// Name of the subcommand that runs [`run`].
pub(crate) const SUBCOMMAND: &str = "compile-policy";

/// The maximum elapsed time of a compilation, enforced by the parent.
pub(crate) const ELAPSED: Duration = Duration::from_secs(30);
/// The maximum CPU time of a compilation. An ordinary policy of 1 MB takes less than a second.
pub(crate) const CPU: Duration = Duration::from_secs(20);
/// The maximum resident memory of the process. With it the limits add up to the shipped memory limit
/// of 256 MiB: 32 MiB for policies in memory, 64 MiB for two evaluations, 40 MiB for four large
/// groups, 12 MiB for ConfigMaps that are read, and some 25 MiB for everything else.
pub(crate) const MEMORY: usize = 80 << 20;
/// The maximum address space, for what grows faster than [`WATCH`] notices. It includes the
/// program itself, its stacks, and memory that is reserved and never used.
#[cfg(target_os = "linux")]
const ADDRESS_SPACE: u64 = 1 << 30;
/// The stack size of the compiler, which recurses with the nesting of its input.
const STACK: usize = 16 << 20;
/// The lowest CPU priority.
#[cfg(target_os = "linux")]
const NICE: i32 = 19;
/// How often the limits on resident memory and CPU time are checked.
const WATCH: Duration = Duration::from_millis(5);

/// The first output of the child: one line of JSON. After `Compiled`, the artifact follows.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Answer {
    Compiled {
        /// sha256 of the uncompressed component.
        digest: String,
        /// Size of the artifact in bytes.
        size: usize,
        /// [`CompiledPolicy::descriptions`].
        descriptions: usize,
        landlock: Landlock,
    },
    Refused(LoadError),
}

/// The part of Landlock that the kernel enforces on the compiler process. With Landlock, the
/// process cannot open files or connections, even if a component takes control of the compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Landlock {
    /// All restrictions that this release requests.
    Full,
    /// Restrictions on files, but not all of the newer ones.
    Partial,
    /// None: the kernel does not support Landlock, or it is disabled.
    None,
}

/// Limits this process, compiles the component on standard input, and writes the result to
/// standard output. The program must do nothing else before or after.
pub fn run(limits: Limits) -> ExitCode {
    let (usage, landlock) = match confine() {
        Ok(confined) => confined,
        Err(error) => {
            let words = format!("it failed to set its limits: {error}");
            return answer(&Answer::Refused(LoadError::CompilerUnavailable(words)), &[]);
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
            let words = format!("it failed to start a thread: {error}");
            return answer(&Answer::Refused(LoadError::CompilerUnavailable(words)), &[]);
        }
    };
    while !compiler.is_finished() {
        if let Err(error) = within_limits(&usage) {
            // The compiler cannot be interrupted; the end of the process ends it.
            answer(&Answer::Refused(error), &[]);
            std::process::exit(0);
        }
        thread::park_timeout(WATCH);
    }
    match compiler.join() {
        Ok(Ok(CompiledPolicy {
            digest,
            artifact,
            descriptions,
        })) => {
            let size = artifact.len();
            let compiled = Answer::Compiled {
                digest,
                size,
                descriptions,
                landlock,
            };
            answer(&compiled, &artifact)
        }
        Ok(Err(error)) => answer(&Answer::Refused(error), &[]),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
            let words = text::clean(words.unwrap_or_default(), text::ERROR);
            let error = LoadError::CompileFailed(format!("the compiler panicked: {words}"));
            answer(&Answer::Refused(error), &[])
        }
    }
}

fn compile(limits: Limits) -> Result<CompiledPolicy, LoadError> {
    let unavailable = |words: String| LoadError::CompilerUnavailable(words);
    let most = limits.component as u64 + 1;
    let host = Host::new(limits).map_err(|error| unavailable(error.to_string()))?;
    let mut bytes = Vec::new();
    let read = std::io::stdin().take(most).read_to_end(&mut bytes);
    read.map_err(|error| unavailable(format!("it failed to read the component: {error}")))?;
    host.compile(&bytes)
}

fn answer(answer: &Answer, artifact: &[u8]) -> ExitCode {
    let written = serde_json::to_vec(answer).map_err(Into::into);
    let written = written.and_then(|mut line| {
        line.push(b'\n');
        let mut out = std::io::stdout();
        out.write_all(&line)?;
        out.write_all(artifact)?;
        out.flush()
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Where this process reads what it uses.
#[cfg(target_os = "linux")]
struct Usage(Option<std::fs::File>);

#[cfg(target_os = "linux")]
impl Usage {
    /// Resident memory in bytes. Not `ru_maxrss`, which begins with the peak of the parent.
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

/// Checks what this process uses.
#[cfg(target_os = "linux")]
fn within_limits(usage: &Usage) -> Result<(), LoadError> {
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

/// Gives up what a compiler does not need. An attacker who takes control of it finds no environment,
/// no descriptor but the three pipes and the figures of its own status, and no way to open another.
#[cfg(target_os = "linux")]
fn confine() -> Result<(Usage, Landlock), String> {
    use nix::sys::prctl::set_pdeathsig;
    use nix::sys::resource::{Resource, setrlimit};
    use nix::sys::signal::Signal;

    set_pdeathsig(Signal::SIGKILL).map_err(|error| error.to_string())?;
    // If memory is short, the kernel kills this process first. Without /proc this fails, and the
    // other limits still apply.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    // Compilation takes only the CPU time that nothing else needs. Where this fails, the process
    // competes with others as an equal.
    let _ = rustix::process::nice(NICE);
    close_inherited();
    let usage = Usage(std::fs::File::open("/proc/self/status").ok());
    let landlock = landlock().map_err(|error| format!("Landlock: {error}"))?;
    let cpu = CPU.as_secs();
    for (resource, soft, hard) in [
        (Resource::RLIMIT_CORE, 0, 0),
        (Resource::RLIMIT_FSIZE, 0, 0),
        // One second later than the check in `within_limits`, which reports the reason.
        (Resource::RLIMIT_CPU, cpu + 1, cpu + 2),
        (Resource::RLIMIT_AS, ADDRESS_SPACE, ADDRESS_SPACE),
        // No new descriptors of any kind: the service account token cannot be opened on any kernel.
        (Resource::RLIMIT_NOFILE, 0, 0),
    ] {
        setrlimit(resource, soft, hard).map_err(|error| format!("{resource:?}: {error}"))?;
    }
    Ok((usage, landlock))
}

/// Closes descriptors that were inherited from the parent's own parents.
#[cfg(target_os = "linux")]
fn close_inherited() {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    let open: Vec<i32> = open
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The descriptor that listed the directory is closed already.
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
fn within_limits(_: &Usage) -> Result<(), LoadError> {
    Ok(())
}
