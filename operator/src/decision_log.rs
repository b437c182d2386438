//! The decision log: one line for each decision, with the digests that identify it. The whole
//! request is written only on request, to the line or to a file.

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
const WINDOW: Duration = Duration::from_secs(60);

/// What to log for each decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogDecisions {
    /// Log digests, the choice, and the fuel.
    #[default]
    Digest,
    /// Also log the whole request and answer.
    Full,
}

/// Writes decisions down. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct DecisionLog {
    log: LogDecisions,
    folder: Option<Arc<Folder>>,
    said: Arc<Mutex<Said>>,
}

/// The number of lines that policies have logged in this window, by namespace and group.
#[derive(Debug, Default)]
struct Said {
    since: Option<Instant>,
    lines: HashMap<(String, String), usize>,
}

impl DecisionLog {
    /// Creates a recorder that writes to the log, and each decision to a separate file in `folder`.
    ///
    /// # Errors
    /// If the directory cannot be created or read.
    pub fn new(log: LogDecisions, folder: Option<PathBuf>) -> std::io::Result<Self> {
        Ok(Self {
            log,
            folder: folder.map(Folder::open).transpose()?.map(Arc::new),
            said: Arc::default(),
        })
    }

    /// Writes a decision down; gives the sha256 of the request. Blocks where it writes a file.
    pub fn record(
        &self,
        policy: &Policy,
        request: &Request,
        evaluation: &Evaluation<Decision>,
    ) -> String {
        self.quote(policy, request, evaluation);
        let (namespace, group) = (request.namespace.as_str(), request.group.as_str());
        let digest = policy.digest();
        let json = || {
            let record = DecisionRecord::new(policy, request, evaluation);
            serde_json::to_string(&record).unwrap_or_default()
        };
        let full = self.log == LogDecisions::Full;
        let json = (full || self.folder.is_some()).then(json);
        // As it is, not quoted, so that it can be cut out of a line of text; and first of all, so
        // that nothing that anyone else has a say in stands before it.
        let whole = json.as_ref().filter(|_| full);
        let whole = whole.map(tracing::field::display);
        let seed = format!("{:016x}", request.seed);
        let sha256 = request_digest(request);
        let fuel = evaluation.fuel;
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
        if let (Some(folder), Some(json)) = (&self.folder, &json) {
            // In the order of time, and never two of one name; a group's name may be as long
            // as a file's.
            let short = &group[..group.floor_char_boundary(63)];
            let name = format!("{}-{namespace}-{short}-{}.json", request.now, &sha256[..12]);
            if let Err(error) = folder.add(name, json) {
                warn!(namespace, group, %error, "failed to record a decision");
            }
        }
        sha256
    }

    /// Logs what a policy logged, up to a number of lines per group and minute.
    fn quote(&self, policy: &Policy, request: &Request, evaluation: &Evaluation<Decision>) {
        let (namespace, group) = (request.namespace.as_str(), request.group.as_str());
        let digest = policy.digest();
        let quoted = self.may_quote(namespace, group, evaluation.log.len());
        for line in &evaluation.log[..quoted] {
            // Quoted, as a field: a policy's text must not be mistaken for a line of the
            // operator's.
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
        let dropped = evaluation.log_dropped + (evaluation.log.len() - quoted) as u64;
        // One who may say nothing more is not complained about again and again.
        if dropped > 0 && (quoted > 0 || evaluation.log.is_empty()) {
            warn!(target: "oaat_operator::policy", namespace, group, digest, dropped, "the policy logged more than is kept");
        }
    }

    /// Returns the number of these lines that may be logged for a group's policy.
    fn may_quote(&self, namespace: &str, group: &str, lines: usize) -> usize {
        if lines == 0 {
            return 0;
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.since.is_none_or(|since| since.elapsed() >= WINDOW) {
            *said = Said {
                since: Some(Instant::now()),
                lines: HashMap::new(),
            };
        }
        let before = said.lines.entry((namespace.to_owned(), group.to_owned()));
        let before = before.or_default();
        let quoted = lines.min(LINES - *before);
        *before += quoted;
        quoted
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
            // Other files are left alone.
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
                warn!(file = name, %error, "failed to remove an old record of a decision");
            }
        }
    }
}

impl Files {
    fn add(&mut self, name: String, size: u64) {
        let before = self.sizes.insert(name, size);
        self.bytes = self.bytes + size - before.unwrap_or_default();
    }

    /// Removes and returns the oldest until the rest is within the limits.
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

    /// What the log has after an evaluation was written down, as text and as JSON.
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
                let recorder = DecisionLog::new(mode, None).unwrap();
                recorder.record(policy, request, evaluation);
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
        let policy = host.load(default_component::DEFAULT_POLICY, None).unwrap();
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
            format!("{time}  INFO oaat_operator::decision_log: decided record={forged}"),
            format!("\" INFO oaat_operator::decision_log: decided record={forged}"),
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
            for log in logged(LogDecisions::Full, &policy, &request, &evaluation) {
                assert!(log.lines().count() >= 4, "{log}");
                let found = kubectl_oaat::policy::recorded(&log);
                assert_eq!(found, std::slice::from_ref(&expected), "{log}");
            }
        }
    }

    #[test]
    fn without_being_asked_the_log_has_one_line_of_digests() {
        let host = Host::new(Limits::default()).unwrap();
        let policy = host.load(default_component::DEFAULT_POLICY, None).unwrap();
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
    fn a_policy_that_logs_in_every_decision_is_cut_short() {
        let recorder = DecisionLog::default();
        let quoted: usize = (0..10).map(|_| recorder.may_quote("n", "g", 64)).sum();
        assert_eq!(quoted, LINES);
        assert_eq!(recorder.may_quote("n", "other", 64), 64);
        recorder.said.lock().unwrap().since = None;
        assert_eq!(recorder.may_quote("n", "g", 64), 64);
    }

    #[test]
    fn the_oldest_records_go_and_others_files_stay() {
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
    fn records_have_a_total_size() {
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
