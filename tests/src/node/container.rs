//! A container: a local process, or the reason why it has none.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::ResourceExt;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinHandle;

use super::LogLine;
use super::environment::{self, Variables, expand};
use super::shared::Shared;
use super::status::State;
use super::volumes::Mounts;
use crate::process::Supervised;

/// The time to wait for the rest of a log after the container has ended. Another process may hold
/// the log open longer.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The size of a termination message from the log, as in a kubelet (`FallbackToLogsOnError`).
const MESSAGE: usize = 2048;

/// A started container.
pub(super) struct Process {
    supervised: Arc<Supervised>,
    started: Timestamp,
    log: JoinHandle<()>,
    /// The log whose end becomes the message if the container fails.
    last_words: Option<PathBuf>,
}

impl Process {
    pub(super) fn supervised(&self) -> &Supervised {
        &self.supervised
    }

    pub(super) fn running(&self) -> State {
        State::Running {
            started: self.started,
        }
    }

    /// Waits for the end of the process and for the rest of its log.
    pub(super) async fn ended(&mut self, shared: &Shared) -> State {
        let (status, at) = self.supervised.ended().await;
        if !self.log.is_finished() {
            // After the timeout, the log is left unchanged.
            let _ = tokio::time::timeout(LAST_WORDS, &mut self.log).await;
        }
        let mut state = State::ended(self.started, shared.skewed(at), exit_code(status));
        if let (
            State::Terminated {
                code: 1.., message, ..
            },
            Some(log),
        ) = (&mut state, &self.last_words)
        {
            let log = fs::read(log).unwrap_or_default();
            let end = &log[log.len().saturating_sub(MESSAGE)..];
            *message = String::from_utf8_lossy(end).into_owned();
        }
        state
    }
}

/// Returns whether the name of the image represents an image that does not exist.
pub(super) fn image_is_missing(container: &Container) -> bool {
    let image = container.image.as_deref().unwrap_or_default();
    image.starts_with("missing/") || image.starts_with("does-not-exist")
}

/// Starts the container's process.
///
/// # Errors
/// Returns the state of the container if it does not start.
pub(super) async fn start(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
) -> Result<Process, State> {
    let waiting = |reason, message: String| State::Waiting { reason, message };
    if image_is_missing(container) {
        let image = container.image.as_deref().unwrap_or_default();
        let message = format!("failed to pull image \"{image}\": not found");
        return Err(waiting("ErrImagePull", message));
    }
    let image = container.image.as_deref().unwrap_or_default();
    let entry_point = shared.entry_points.get(image);
    let entry_point = entry_point.map(|program| vec![program.to_string_lossy().into_owned()]);
    let command = container.command.clone().filter(|c| !c.is_empty());
    let Some(command) = command.or(entry_point) else {
        let message = format!("the test node has no image {image:?}, so a command is required");
        return Err(waiting("CreateContainerError", message));
    };
    let mut variables = environment::resolve(&shared.client, pod, container, &shared.name)
        .await
        .map_err(|message| waiting("CreateContainerConfigError", message))?;
    let mounts = Mounts::prepare(shared, pod, container)
        .await
        .map_err(|message| waiting("ContainerCreating", message))?;

    let mut words = command
        .iter()
        .chain(container.args.iter().flatten())
        .map(|word| mounts.replace(&expand(word, &variables)))
        .collect::<Vec<_>>()
        .into_iter();
    for (_, value) in &mut variables {
        *value = mounts.replace(value);
    }
    let program = words.next().unwrap_or_default();
    let mut command = Command::new(&program);
    command.args(words);
    launch(shared, pod, container, command, variables).map_err(|error| {
        let now = shared.now();
        State::Terminated {
            started: Some(now),
            finished: Some(now),
            code: 128,
            reason: "StartError",
            message: format!("cannot start {program}: {error}"),
        }
    })
}

fn launch(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
    mut command: Command,
    variables: Variables,
) -> io::Result<Process> {
    let namespace = pod.namespace().unwrap_or_default();
    let log_file = shared.log_path(&namespace, &pod.name_any(), &container.name);
    let log = open_log(&log_file)?;
    let home = shared.scratch(pod);
    fs::create_dir_all(&home)?;
    let folder = container
        .working_dir
        .as_deref()
        .map(Path::new)
        .filter(|folder| folder.is_dir())
        .unwrap_or(&home);

    // One pipe for both, so that lines stay in the order they were written in.
    let (output, input) = io::pipe()?;
    command
        .env_clear()
        .env("PATH", shared.path())
        .env("HOME", &home)
        .envs(variables)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(input.try_clone()?)
        .stderr(input);
    let supervised = shared.start_process(&mut command)?;
    // The command holds the writing end, which must be closed for the log to end.
    drop(command);

    let output = Receiver::from_owned_fd(OwnedFd::from(output))?;
    let source = LogLine {
        namespace,
        pod: pod.name_any(),
        container: container.name.clone(),
        line: String::new(),
    };
    let policy = container.termination_message_policy.as_deref();
    Ok(Process {
        supervised,
        last_words: (policy == Some("FallbackToLogsOnError")).then_some(log_file),
        started: shared.now(),
        log: tokio::spawn(copy_log(output, log, source, shared.lines.clone())),
    })
}

fn open_log(file: &Path) -> io::Result<File> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    File::options().create(true).append(true).open(file)
}

async fn copy_log(
    output: Receiver,
    mut file: File,
    source: LogLine,
    lines: tokio::sync::broadcast::Sender<LogLine>,
) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while let Ok(1..) = output.read_until(b'\n', &mut line).await {
        // A full disk must not stop the container.
        let _ = file.write_all(&line);
        let text = String::from_utf8_lossy(&line);
        // There may be no receiver.
        let _ = lines.send(LogLine {
            line: text.trim_end_matches('\n').to_owned(),
            ..source.clone()
        });
        line.clear();
    }
}

/// Returns the exit code as a container runtime does: 128 + n if signal n killed the process.
fn exit_code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

impl Shared {
    /// Converts a time of this machine to the node's clock.
    pub(super) fn skewed(&self, time: SystemTime) -> Timestamp {
        let time = Timestamp::try_from(time).unwrap_or_default();
        let skew = self.skew.load(std::sync::atomic::Ordering::Relaxed);
        time + k8s_openapi::jiff::SignedDuration::from_secs(skew)
    }

    /// Returns the time of the node's clock.
    pub(super) fn now(&self) -> Timestamp {
        self.skewed(SystemTime::now())
    }
}
