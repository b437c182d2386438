//! Reads recorded decisions: the files of `--record-decisions`, and the operator's log.

mod chunk;
mod log_line;
mod paths;
#[cfg(test)]
mod tests;

pub(crate) use chunk::{Chunk, read_chunks};
pub(crate) use log_line::Line;
pub(crate) use paths::{open, recorded_files};

use policy_host::DecisionRecord;

/// The fix for a file without records.
pub(crate) const USE_RECORDS: &str = "use a file from --record-decisions, or the log of an operator with \
                              --log-decisions full";
/// The problem of a log of digests, and the fix.
pub(crate) const ONLY_DIGESTS: &str = "this log contains only digests of decisions; to record \
                                       decisions, start the operator with --log-decisions full \
                                       or --record-decisions DIR";

/// Returns all records in a text: a single record, one record per line, or a log of the operator in
/// either format.
pub fn recorded(text: &str) -> Vec<DecisionRecord> {
    let mut records = Vec::new();
    // Reading from memory does not fail.
    let _ = read_chunks(text.as_bytes(), |chunk| {
        chunk.for_each(|_, line| {
            if let Line::Record(record) = line {
                records.push(record);
            }
        });
        true
    });
    records
}
