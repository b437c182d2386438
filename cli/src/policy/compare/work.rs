//! Compares two policies on all recorded decisions, with several threads.

use super::side::{Evaluator, Side};
use super::tally::{GroupName, Position, Tally};
use crate::policy::decisions::{self, Chunk, Line};
use crate::terminal::Progress;
use anyhow::{Context, Result, anyhow};
use policy_host::Request;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// The part of a record that a comparison needs. The recorded answer is skipped.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordedRequest {
    request_sha256: String,
    request: Request,
}

/// A chunk and the index of its file.
struct Task {
    file: usize,
    chunk: Chunk,
}

/// Compares A and B on the decisions in files. If `groups` is not empty, uses only decisions of these
/// groups.
pub(crate) fn compare(sides: &[Side; 2], files: &[PathBuf], groups: &[GroupName]) -> Result<Tally> {
    compare_with(threads(), sides, files, groups)
}

/// Returns the number of threads, at least the two that simulate A and B.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, |threads| threads.get().max(2))
}

/// Compares as [`compare`] does. The number of threads does not change the result.
pub(super) fn compare_with(
    threads: usize,
    sides: &[Side; 2],
    files: &[PathBuf],
    groups: &[GroupName],
) -> Result<Tally> {
    let progress = Progress::new();
    let (sender, receiver) = sync_channel(threads);
    let receiver = Arc::new(Mutex::new(receiver));
    std::thread::scope(|scope| {
        let start = |tasks| scope.spawn(move || work(sides, groups, &tasks));
        // Each thread owns the receiver, so sending fails when no thread is left.
        let tasks = std::iter::repeat_n(receiver, threads);
        let workers: Vec<_> = tasks.map(start).collect();
        let read = send_chunks(files, &sender, &progress);
        // The workers end when they have received everything.
        drop(sender);
        let mut tally = Tally::default();
        for worker in workers {
            let part = worker.join();
            tally.merge(part.map_err(|_| anyhow!("a thread of the comparison panicked"))?);
        }
        read.map(|()| tally)
    })
}

fn send_chunks(files: &[PathBuf], tasks: &SyncSender<Task>, progress: &Progress) -> Result<()> {
    let count = files.len();
    for (file, path) in files.iter().enumerate() {
        let number = file + 1;
        let input = decisions::open(path)?;
        let send = |chunk: Chunk| {
            let line = chunk.first_line;
            progress.show(|| format!("comparing decisions: file {number} of {count}, line {line}"));
            tasks.send(Task { file, chunk }).is_ok()
        };
        decisions::read_chunks(input, send).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn work(sides: &[Side; 2], groups: &[GroupName], tasks: &Arc<Mutex<Receiver<Task>>>) -> Tally {
    let mut tally = Tally::default();
    let mut evaluators = sides.each_ref().map(Evaluator::new);
    loop {
        let task = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Task { file, chunk }) = task else {
            return tally;
        };
        chunk.for_each(|line, content: Line<RecordedRequest>| {
            let position = Position { file, line };
            match content {
                Line::Record(record) => {
                    let mut request = record.request;
                    if is_selected(groups, &request) {
                        let answers = evaluators.each_mut().map(|side| side.answer(&mut request));
                        tally.add(position, &record.request_sha256, request, answers);
                    }
                }
                Line::Unreadable(why) => tally.add_unreadable(position, why),
                Line::Digests => tally.has_digests = true,
                Line::Other => {}
            }
        });
    }
}

fn is_selected(groups: &[GroupName], request: &Request) -> bool {
    let is_group =
        |group: &GroupName| group.namespace == request.namespace && group.name == request.group;
    groups.is_empty() || groups.iter().any(is_group)
}
