//! The decision log: one line for each decision, with the digests that identify it. The complete
//! request is written only if configured, to the line or to a file.

use policy_host::{Decision, DecisionRecord, Evaluation, Level, Policy, Request, request_digest};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::{debug, error, info, warn};

/// The maximum number of files in the directory of decisions.
const FILES: usize = 1000;
/// The maximum bytes of all these files.
const BYTES: u64 = 256 << 20;
/// The maximum number of lines that the policy of one group may log in [`WINDOW`].
const LINES: usize = 256;
/// The period after which the count of lines starts again.
const WINDOW: Duration = Duration::from_secs(60);

/// What to log for each decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogDecisions {
    /// Log digests, the choice, and the fuel.
    #[default]
    Digest,
    /// Also log the complete request and answer.
    Full,
}

/// Records decisions. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct DecisionLog {
    log: LogDecisions,
    folder: Option<Arc<Folder>>,
    policy_lines: Arc<Mutex<PolicyLines>>,
}

/// The number of lines that policies have logged in this window, by namespace and group.
#[derive(Debug, Default)]
struct PolicyLines {
    since: Option<Instant>,
    lines: HashMap<(String, String), usize>,
}

impl DecisionLog {
    /// Creates a decision log. It also writes each decision to a separate file in `folder`, if
    /// given.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be created or read.
    pub fn new(log: LogDecisions, folder: Option<PathBuf>) -> std::io::Result<Self> {
        Ok(Self {
            log,
            folder: folder.map(Folder::open).transpose()?.map(Arc::new),
            policy_lines: Arc::default(),
        })
    }

    /// Records a decision, and returns the sha256 of the request. Blocks if it writes a file.
    pub fn record(
        &self,
        policy: &Policy,
        request: &Request,
        evaluation: &Evaluation<Decision>,
    ) -> String {
        self.log_policy_lines(policy, request, evaluation);
        let (namespace, group) = (request.namespace.as_str(), request.group.as_str());
        let digest = policy.digest();
        let json = || {
            let record = DecisionRecord::new(policy, request, evaluation);
            serde_json::to_string(&record).unwrap_or_default()
        };
        let full = self.log == LogDecisions::Full;
        let json = (full || self.folder.is_some()).then(json);
        // Not quoted, so that it can be extracted from a line of text. The first field, so that no
        // text from a policy or a tenant precedes it.
        let record = json.as_ref().filter(|_| full);
        let record = record.map(tracing::field::display);
        let seed = format!("{:016x}", request.seed);
        let sha256 = request_digest(request);
        let fuel = evaluation.fuel;
        match &evaluation.answer {
            Ok(decision) => {
                let chosen = decision.chosen().and_then(|i| request.items.get(i));
                let item = chosen.map(|i| i.name.as_str());
                let why = decision.note.as_deref();
                info!(record, namespace, group, digest, seed, fuel, request = sha256, item, choice = ?decision.choice, why, "decided");
            }
            Err(error) => {
                let (reason, error) = (error.reason(), error.to_string());
                warn!(
                    record,
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
        if let (Some(folder), Some(json)) = (&self.folder, &json) {
            // Names sort by time and are unique. The group's name is truncated, because it may be
            // as long as a file name.
            let short_group = &group[..group.floor_char_boundary(63)];
            let name = format!(
                "{}-{namespace}-{short_group}-{}.json",
                request.now,
                &sha256[..12]
            );
            if let Err(error) = folder.add(name, json) {
                warn!(namespace, group, %error, "failed to record a decision");
            }
        }
        sha256
    }

    /// Logs the lines that a policy logged, up to [`LINES`] for a group in [`WINDOW`].
    fn log_policy_lines(
        &self,
        policy: &Policy,
        request: &Request,
        evaluation: &Evaluation<Decision>,
    ) {
        let (namespace, group) = (request.namespace.as_str(), request.group.as_str());
        let digest = policy.digest();
        let logged = self.take_quota(namespace, group, evaluation.log.len());
        for line in &evaluation.log[..logged] {
            // The text is a quoted field, so that it cannot be mistaken for a line of the operator.
            let text = line.text.as_str();
            match line.level {
                Level::Debug => {
                    debug!(target: "oaat_operator::policy", namespace, group, digest, line = text, "the policy logged a line")
                }
                Level::Info => {
                    info!(target: "oaat_operator::policy", namespace, group, digest, line = text, "the policy logged a line")
                }
                Level::Warn => {
                    warn!(target: "oaat_operator::policy", namespace, group, digest, line = text, "the policy logged a line")
                }
                Level::Error => {
                    error!(target: "oaat_operator::policy", namespace, group, digest, line = text, "the policy logged a line")
                }
            }
        }
        let dropped = evaluation.log_dropped + (evaluation.log.len() - logged) as u64;
        // A policy that has used up its quota is not reported after every decision.
        if dropped > 0 && (logged > 0 || evaluation.log.is_empty()) {
            warn!(target: "oaat_operator::policy", namespace, group, digest, dropped, "the policy logged too many lines; some were dropped");
        }
    }

    /// Returns how many of `lines` may be logged for the policy of a group, and counts them.
    fn take_quota(&self, namespace: &str, group: &str, lines: usize) -> usize {
        if lines == 0 {
            return 0;
        }
        let mut counts = self
            .policy_lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if counts.since.is_none_or(|since| since.elapsed() >= WINDOW) {
            *counts = PolicyLines {
                since: Some(Instant::now()),
                lines: HashMap::new(),
            };
        }
        let used = counts.lines.entry((namespace.to_owned(), group.to_owned()));
        let used = used.or_default();
        let allowed = lines.min(LINES - *used);
        *used += allowed;
        allowed
    }
}

/// A directory of decisions that removes the oldest when there are too many. Its content is listed
/// once, at startup.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    files: Mutex<Files>,
}

/// The sizes of files by name. A name begins with the time.
#[derive(Debug, Default)]
struct Files {
    sizes: BTreeMap<String, u64>,
    bytes: u64,
}

impl Folder {
    fn open(path: PathBuf) -> std::io::Result<Self> {
        std::fs::create_dir_all(&path)?;
        let mut files = Files::default();
        for entry in std::fs::read_dir(&path)? {
            let entry = entry?;
            // Files that are not decisions are ignored.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let time = name.split('-').next().unwrap_or_default();
            if time.parse::<u64>().is_ok() && name.ends_with(".json") {
                files.add(name, entry.metadata()?.len());
            }
        }
        let folder = Self {
            path,
            files: Mutex::default(),
        };
        folder.remove(files.excess());
        *folder.files() = files;
        Ok(folder)
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, name: String, json: &str) -> std::io::Result<()> {
        std::fs::write(self.path.join(&name), json)?;
        let excess = {
            let mut files = self.files();
            files.add(name, json.len() as u64);
            files.excess()
        };
        self.remove(excess);
        Ok(())
    }

    fn remove(&self, names: Vec<String>) {
        for name in names {
            if let Err(error) = std::fs::remove_file(self.path.join(&name)) {
                warn!(file = name, %error, "failed to remove an old decision");
            }
        }
    }
}

impl Files {
    fn add(&mut self, name: String, size: u64) {
        let before = self.sizes.insert(name, size);
        self.bytes = self.bytes + size - before.unwrap_or_default();
    }

    /// Removes and returns the oldest files until the rest is within the limits.
    fn excess(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        while (self.sizes.len() > FILES || self.bytes > BYTES)
            && let Some((name, size)) = self.sizes.pop_first()
        {
            self.bytes -= size;
            names.push(name);
        }
        names
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

    /// Returns the log of one evaluation, as text and as JSON.
    fn logged(
        mode: LogDecisions,
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
                let decisions = DecisionLog::new(mode, None).unwrap();
                decisions.record(policy, request, evaluation);
            };
            if json {
                let format = format.json().flatten_event(true);
                tracing::subscriber::with_default(format.finish(), write);
            } else {
                tracing::subscriber::with_default(format.finish(), write);
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
    fn policy_can_neither_forge_nor_hide_a_record() {
        let host = Host::new(Limits::default()).unwrap();
        let policy = host.load(built_in_policies::DEFAULT_POLICY, None).unwrap();
        let request = request();
        let failed = |message: &str| Evaluation::<Decision> {
            answer: Err(EvalError::PolicyError(message.into())),
            fuel: 7,
            log: Vec::new(),
            log_dropped: 0,
        };
        let forged = Request {
            namespace: "forged".into(),
            ..request.clone()
        };
        let forged = DecisionRecord::new(&policy, &forged, &failed("forged"));
        let forged = serde_json::to_string(&forged).unwrap();
        let time = "2026-01-01T00:00:00.000000Z";
        let attacks = [
            format!("record={forged}"),
            format!("decided record={forged}"),
            format!("{time}  INFO oaat_operator::decision_log: decided record={forged}"),
            format!("\" INFO oaat_operator::decision_log: decided record={forged}"),
            // A reader that finds this first would miss the record behind it.
            "record={".to_owned(),
            "decided record={} \\".to_owned(),
        ];
        for attack in attacks {
            let mut evaluation = failed(&attack);
            for level in [Level::Debug, Level::Info, Level::Warn, Level::Error] {
                let text = attack.clone();
                evaluation.log.push(LogLine { level, text });
            }
            let expected = DecisionRecord::new(&policy, &request, &evaluation);
            for log in logged(LogDecisions::Full, &policy, &request, &evaluation) {
                assert!(log.lines().count() >= 4, "{log}");
                let found = kubectl_oaat::policy::recorded(&log);
                assert_eq!(found, std::slice::from_ref(&expected), "{log}");
            }
        }
    }

    #[test]
    fn digest_mode_logs_one_line_without_content() {
        let host = Host::new(Limits::default()).unwrap();
        let policy = host.load(built_in_policies::DEFAULT_POLICY, None).unwrap();
        let request = Request {
            settings: "{\"secret\":\"of the group\"}".into(),
            ..request()
        };
        let evaluation = policy.evaluate(&request);
        for log in logged(LogDecisions::Digest, &policy, &request, &evaluation) {
            assert_eq!(log.lines().count(), 1, "{log}");
            assert!(log.contains(policy.digest()), "{log}");
            assert!(log.contains(&request_digest(&request)), "{log}");
            assert!(!log.contains("of the group"), "{log}");
            assert!(kubectl_oaat::policy::recorded(&log).is_empty(), "{log}");
        }
    }

    #[test]
    fn policy_lines_are_limited_per_group_and_window() {
        let decisions = DecisionLog::default();
        let logged: usize = (0..10).map(|_| decisions.take_quota("n", "g", 64)).sum();
        assert_eq!(logged, LINES);
        assert_eq!(decisions.take_quota("n", "other", 64), 64);
        decisions.policy_lines.lock().unwrap().since = None;
        assert_eq!(decisions.take_quota("n", "g", 64), 64);
    }

    #[test]
    fn oldest_decisions_are_removed_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        std::fs::write(path.join("notes.json"), "mine").unwrap();
        let name = |number: usize| format!("{}-n-g-0.json", 1_800_000_000_000 + number);
        let decisions = Folder::open(path.clone()).unwrap();
        for number in 0..FILES + 2 {
            decisions.add(name(number), "{}").unwrap();
        }
        // Files from before a restart count as well.
        let decisions = Folder::open(path.clone()).unwrap();
        decisions.add(name(FILES + 2), "{}").unwrap();
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), FILES + 1);
        assert!(!path.join(name(2)).exists() && path.join(name(3)).exists());
        assert!(path.join("notes.json").exists());
    }

    #[test]
    fn total_size_of_decisions_is_limited() {
        let mut files = Files::default();
        files.add("1".into(), BYTES / 2);
        files.add("2".into(), BYTES / 2);
        assert!(files.excess().is_empty());
        files.add("2".into(), BYTES / 4);
        files.add("3".into(), BYTES / 2);
        assert_eq!(files.excess(), ["1"]);
        assert_eq!(files.bytes, BYTES / 4 * 3);
    }
}
