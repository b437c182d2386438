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
            // In quotes, as a field: a policy's words must not pass for a line of the operator's.
            let text = line.text.as_str();
            match line.level {
                Level::Debug => {
                    debug!(target: "oaat_operator::policy", namespace, group, digest, line = text, "the policy says")
                }
                Level::Info => {
                    info!(target: "oaat_operator::policy", namespace, group, digest, line = text, "the policy says")
                }
                Level::Warn => {
                    warn!(target: "oaat_operator::policy", namespace, group, digest, line = text, "the policy says")
                }
                Level::Error => {
                    error!(target: "oaat_operator::policy", namespace, group, digest, line = text, "the policy says")
                }
            }
        }
        let dropped = evaluation.log_dropped;
        if dropped > 0 {
            warn!(target: "oaat_operator::policy", namespace, group, digest, dropped, "the policy logged more than is kept");
        }
        let record = DecisionRecord::new(policy, request, evaluation);
        let json = serde_json::to_string(&record).unwrap_or_default();
        // As it is, not quoted, so that it can be cut out of a line of text; and first of all, so
        // that nothing that anyone else has a say in stands before it.
        let whole = (json.len() <= IN_THE_LOG).then(|| tracing::field::display(&json));
        let seed = format!("{:016x}", request.seed);
        let (fuel, sha256) = (evaluation.fuel, &record.request_sha256);
        match &evaluation.answer {
            Ok(decision) => {
                let chosen = decision.chosen().and_then(|i| request.items.get(i));
                let item = chosen.map(|i| i.name.as_str());
                let why = decision.note.as_deref();
                info!(record = whole, namespace, group, digest, seed, fuel, request = sha256, item, choice = ?decision.choice, why, "decided");
            }
            Err(error) => {
                let (reason, error) = (error.reason(), error.to_string());
                warn!(
                    record = whole,
                    namespace,
                    group,
                    digest,
                    seed,
                    fuel,
                    request = sha256,
                    reason,
                    error,
                    "no decision"
                );
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

#[cfg(test)]
mod tests {
    use super::*;
    use policy_host::{EvalError, Host, Limits, LogLine};
    use std::io::Write;
    use std::sync::{Mutex, PoisonError};

    /// A log in memory.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            log.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What the log has after an evaluation was written down, as text and as JSON.
    fn logged(
        policy: &Policy,
        request: &Request,
        evaluation: &Evaluation<Decision>,
    ) -> [String; 2] {
        [false, true].map(|json| {
            let log = Log::default();
            let writer = log.clone();
            let format = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_writer(move || writer.clone());
            let write = || {
                Recorder::default().record(policy, request, evaluation);
            };
            match json {
                false => tracing::subscriber::with_default(format.finish(), write),
                true => {
                    let format = format.json().flatten_event(true);
                    tracing::subscriber::with_default(format.finish(), write);
                }
            }
            let bytes = log.0.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }

    fn request() -> Request {
        Request {
            namespace: "home".into(),
            group: "backup".into(),
            now: 1,
            seed: 2,
            settings: "{}".into(),
            state: String::new(),
            items: Vec::new(),
            recent: Vec::new(),
            extra: "{}".into(),
        }
    }

    #[test]
    fn a_policy_can_neither_forge_a_record_nor_hide_its_own() {
        let host = Host::new(Limits::default()).unwrap();
        let policy = host.load(crate::DEFAULT_POLICY, None).unwrap();
        let request = request();
        let refused = |words: &str| Evaluation::<Decision> {
            answer: Err(EvalError::PolicyError(words.into())),
            fuel: 7,
            log: Vec::new(),
            log_dropped: 0,
        };
        let forged = Request {
            namespace: "forged".into(),
            ..request.clone()
        };
        let forged = DecisionRecord::new(&policy, &forged, &refused("forged"));
        let forged = serde_json::to_string(&forged).unwrap();
        let time = "2026-01-01T00:00:00.000000Z";
        let attacks = [
            format!("record={forged}"),
            format!("decided record={forged}"),
            format!("{time}  INFO oaat_operator::recorder: decided record={forged}"),
            format!("\" INFO oaat_operator::recorder: decided record={forged}"),
            // What is no record would be found first, and the record behind it not at all.
            "record={".to_owned(),
            "decided record={} \\".to_owned(),
        ];
        for words in attacks {
            let mut evaluation = refused(&words);
            for level in [Level::Debug, Level::Info, Level::Warn, Level::Error] {
                let text = words.clone();
                evaluation.log.push(LogLine { level, text });
            }
            let expected = DecisionRecord::new(&policy, &request, &evaluation);
            for log in logged(&policy, &request, &evaluation) {
                assert!(log.lines().count() >= 4, "{log}");
                let found = policy_tools::recorded(&log);
                assert_eq!(found, std::slice::from_ref(&expected), "{log}");
            }
        }
    }
}
