//! Writes decisions down: one line of the log each, with all that is needed to repeat it, and
//! files where that is asked for.

use policy_host::{Decision, DecisionRecord, Evaluation, Level, Policy, Request};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::{debug, error, info, warn};

/// Longest record in bytes that goes into the log.
const IN_THE_LOG: usize = 64 << 10;

/// Writes decisions down. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    folder: Option<Arc<Path>>,
}

impl Recorder {
    /// Also writes each decision into a file of its own in `folder`.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(folder: Option<PathBuf>) -> std::io::Result<Self> {
        if let Some(folder) = &folder {
            std::fs::create_dir_all(folder)?;
        }
        Ok(Self {
            folder: folder.map(Into::into),
        })
    }

    /// Writes a decision down; gives the sha256 of the request. Blocks where it writes a file.
    pub fn record(
        &self,
        policy: &Policy,
        request: &Request,
        evaluation: &Evaluation<Decision>,
    ) -> String {
        let (namespace, group) = (request.namespace.as_str(), request.group.as_str());
        let digest = policy.digest();
        for line in &evaluation.log {
            let text = &line.text;
            match line.level {
                Level::Debug => {
                    debug!(target: "oaat_operator::policy", namespace, group, digest, "{text}")
                }
                Level::Info => {
                    info!(target: "oaat_operator::policy", namespace, group, digest, "{text}")
                }
                Level::Warn => {
                    warn!(target: "oaat_operator::policy", namespace, group, digest, "{text}")
                }
                Level::Error => {
                    error!(target: "oaat_operator::policy", namespace, group, digest, "{text}")
                }
            }
        }
        let dropped = evaluation.log_dropped;
        if dropped > 0 {
            warn!(target: "oaat_operator::policy", namespace, group, digest, dropped, "the policy logged more than is kept");
        }
        let record = DecisionRecord::new(policy, request, evaluation);
        let json = serde_json::to_string(&record).unwrap_or_default();
        // As it is, not quoted, so that it can be cut out of a line of text.
        let whole = (json.len() <= IN_THE_LOG).then(|| tracing::field::display(&json));
        let seed = format!("{:016x}", request.seed);
        let (fuel, sha256) = (evaluation.fuel, &record.request_sha256);
        match &evaluation.answer {
            Ok(decision) => {
                let chosen = decision.chosen().and_then(|i| request.items.get(i));
                let item = chosen.map(|i| i.name.as_str());
                let why = decision.note.as_deref();
                info!(namespace, group, digest, seed, fuel, request = sha256, item, choice = ?decision.choice, why, record = whole, "decided");
            }
            Err(error) => {
                let reason = error.reason();
                warn!(namespace, group, digest, seed, fuel, request = sha256, reason, %error, record = whole, "no decision");
            }
        }
        if let Some(folder) = &self.folder {
            // In the order of time, and never two of one name; a group's name may be as long
            // as a file's.
            let short = &group[..group.floor_char_boundary(63)];
            let name = format!("{}-{namespace}-{short}-{}.json", request.now, &sha256[..12]);
            if let Err(error) = std::fs::write(folder.join(&name), &json) {
                warn!(namespace, group, file = name, %error, "a decision could not be recorded");
            }
        }
        record.request_sha256
    }
}
