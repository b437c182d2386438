use super::*;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use policy_host::{Host, Limits};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const PATIENCE: Duration = Duration::from_secs(60);
/// A component that takes long to compile.
const SLOW: &[u8] = b"slow";

/// The ConfigMap in the fake cluster.
type Stored = Arc<Mutex<Option<ConfigMap>>>;

struct Fixture {
    sources: PolicySources,
    queue: UnboundedReceiver<GroupRef>,
    stored: Stored,
    compilations: Arc<AtomicUsize>,
}

/// Responds to reads of the ConfigMap. Never responds to watches, or to reads before a ConfigMap
/// is stored.
async fn answer(request: Request<Body>, stored: Stored) -> Result<Response<Body>, std::io::Error> {
    let is_watch = request.uri().path().ends_with("/configmaps");
    if is_watch || stored.lock().unwrap().is_none() {
        return std::future::pending().await;
    }
    let stored = stored.lock().unwrap().clone();
    let (code, body) = match stored {
        Some(map) => (200, serde_json::to_vec(&map)?),
        None => {
            let missing = json!({
                "kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": "",
            });
            (404, serde_json::to_vec(&missing)?)
        }
    };
    let response = Response::builder().status(code).body(Body::from(body));
    response.map_err(std::io::Error::other)
}

/// Creates sources whose watches never deliver an event: the tests deliver the objects themselves.
fn fixture(limits: Limits) -> Fixture {
    let stored = Stored::default();
    let served = stored.clone();
    let server = tower::service_fn(move |request| answer(request, served.clone()));
    let (sender, queue) = unbounded_channel();
    let host = Host::new(limits).unwrap();
    let compilations = Arc::new(AtomicUsize::new(0));
    let counted = compilations.clone();
    let compiler = Compiler::new(move |bytes| {
        counted.fetch_add(1, Ordering::SeqCst);
        if bytes == SLOW {
            std::thread::sleep(Duration::from_millis(300));
        }
        host.load(bytes, None)
    });
    let config_maps = ConfigMaps::new(
        Client::new(server, "default"),
        prometheus_client::metrics::counter::Counter::default(),
    );
    let mut sources = PolicySources::new(config_maps, compiler, sender);
    sources.first_backoff = Duration::from_millis(10);
    Fixture {
        sources,
        queue,
        stored,
        compilations,
    }
}

fn map() -> MapName {
    ("home".into(), "mine".into())
}

fn source(key: &str) -> PolicySource {
    let (namespace, name) = map();
    source_in(&namespace, &name, key)
}

fn source_in(namespace: &str, name: &str, key: &str) -> PolicySource {
    PolicySource::ConfigMap(PolicyConfigMap {
        namespace: namespace.into(),
        name: name.into(),
        key: key.into(),
    })
}

fn group(name: &str) -> GroupRef {
    GroupRef::new(name).within("home")
}

fn object(keys: &[(&str, &[u8])]) -> ConfigMap {
    let data = keys.iter().map(|(key, bytes)| {
        let bytes = k8s_openapi::ByteString(bytes.to_vec());
        ((*key).to_owned(), bytes)
    });
    ConfigMap {
        binary_data: Some(data.collect()),
        ..ConfigMap::default()
    }
}

/// The documented algorithm under another digest.
fn variant(name: u8) -> Vec<u8> {
    [built_in_policies::DEFAULT_POLICY, &[0, 2, 1, name]].concat()
}

fn hostile(name: &str) -> Vec<u8> {
    let all = hostile_policies::all().unwrap();
    let mut found = all.into_iter().filter(|policy| policy.name == name);
    found.next().unwrap().bytes
}

impl Fixture {
    /// Delivers an object, as the watch would.
    fn deliver(&self, object: Option<ConfigMap>) {
        self.stored.lock().unwrap().clone_from(&object);
        self.sources.update(&map(), object.as_ref());
    }

    /// Records that a group uses a source.
    fn set_source(&self, name: &str, source: Option<PolicySource>) {
        self.sources.set_sources(&group(name), source, None, None);
    }

    fn compilations(&self) -> usize {
        self.compilations.load(Ordering::SeqCst)
    }

    /// Waits until a group is queued.
    async fn queued(&mut self) -> GroupRef {
        let queued = tokio::time::timeout(PATIENCE, self.queue.recv()).await;
        queued.unwrap().unwrap()
    }

    /// Returns the digest of the loaded policy, or the reason why none is loaded.
    fn read(&self, key: &str) -> String {
        match self.sources.read(&source(key)) {
            PolicyRead::Loading(_) => "Loading".into(),
            PolicyRead::Loaded(policy) => policy.digest().into(),
            PolicyRead::Failed(problem) => problem.reason.into(),
        }
    }

    async fn until(&mut self, key: &str, expected: &str) {
        let begin = Instant::now();
        while self.read(key) != expected {
            assert!(
                begin.elapsed() < PATIENCE,
                "{} is not {expected}",
                self.read(key)
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn digest(&self, wasm: &[u8]) -> String {
        let host = Host::new(Limits::default()).unwrap();
        host.load(wasm, None).unwrap().digest().into()
    }
}

#[tokio::test]
async fn change_of_a_key_requeues_its_groups() {
    let mut fixture = fixture(Limits::default());
    fixture.set_source("a", Some(source("one")));
    fixture.set_source("b", Some(source("two")));
    assert_eq!(fixture.read("one"), "Loading");
    fixture.deliver(None);
    let queued = HashSet::from([fixture.queued().await, fixture.queued().await]);
    assert_eq!(queued, HashSet::from([group("a"), group("b")]));
    assert_eq!(fixture.read("one"), "SourceNotFound");
    fixture.deliver(Some(object(&[("one", &variant(1))])));
    let digest = fixture.digest(&variant(1));
    fixture.until("one", &digest).await;
    assert_eq!(fixture.read("two"), "KeyNotFound");
}

#[tokio::test]
async fn newer_object_replaces_a_load_in_progress() {
    let mut fixture = fixture(Limits::default());
    fixture.set_source("a", Some(source("key")));
    fixture.deliver(Some(object(&[("key", SLOW)])));
    // The slow compilation is running by now.
    tokio::time::sleep(Duration::from_millis(50)).await;
    fixture.deliver(None);
    // The first change is not the result of the slow compilation.
    fixture.queued().await;
    assert_eq!(fixture.read("key"), "SourceNotFound");
    fixture.deliver(Some(object(&[("key", &variant(2))])));
    fixture.deliver(Some(object(&[("key", &variant(3))])));
    let digest = fixture.digest(&variant(3));
    fixture.until("key", &digest).await;
    // The result of an aborted load is ignored.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(fixture.read("key"), digest);
}

#[tokio::test]
async fn unchanged_value_is_loaded_once_and_again_after_deletion() {
    let mut fixture = fixture(Limits::default());
    fixture.set_source("a", Some(source("key")));
    let good = object(&[("key", &variant(4))]);
    fixture.deliver(Some(good.clone()));
    fixture.queued().await;
    fixture.deliver(Some(good.clone()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(fixture.queue.try_recv().is_err());
    fixture.deliver(None);
    fixture.queued().await;
    fixture.deliver(Some(good));
    let digest = fixture.digest(&variant(4));
    fixture.until("key", &digest).await;
}

#[tokio::test]
async fn probe_is_retried_only_after_a_missed_deadline() {
    let endless = hostile("!loop");
    let limits = Limits {
        fuel: u64::MAX / 2,
        deadline: Duration::from_millis(1),
        ..Limits::default()
    };
    let mut slow = fixture(limits);
    slow.set_source("a", Some(source("key")));
    slow.deliver(Some(object(&[("key", &endless)])));
    for _ in 0..3 {
        slow.queued().await;
        let PolicyRead::Failed(problem) = slow.sources.read(&source("key")) else {
            panic!("it is loaded");
        };
        assert_eq!(problem.reason, "ProbeFailed");
        assert!(
            problem.message.contains("retries in"),
            "{}",
            problem.message
        );
    }
    let mut fixture = fixture(Limits::default());
    fixture.set_source("a", Some(source("key")));
    fixture.deliver(Some(object(&[("key", &endless)])));
    fixture.until("key", "ProbeFailed").await;
    fixture.queued().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(fixture.queue.try_recv().is_err());
}

#[tokio::test]
async fn unused_source_is_removed() {
    let fixture = fixture(Limits::default());
    fixture.set_source("a", Some(source("one")));
    fixture.set_source("b", Some(source("one")));
    fixture.set_source("c", Some(source("two")));
    let counts = |sources: &PolicySources| {
        let state = sources.lock();
        (
            state.groups.len(),
            state.sources.len(),
            state.subscriptions.len(),
        )
    };
    assert_eq!(counts(&fixture.sources), (3, 2, 1));
    fixture.sources.retain(&HashSet::from([group("b")]));
    assert_eq!(counts(&fixture.sources), (1, 1, 1));
    fixture.set_source("b", Some(source("two")));
    assert_eq!(counts(&fixture.sources), (1, 1, 1));
    fixture.set_source("b", None);
    assert_eq!(counts(&fixture.sources), (0, 0, 0));
}

#[tokio::test]
async fn forbidden_read_affects_only_sources_that_are_loading() {
    let mut fixture = fixture(Limits::default());
    fixture.set_source("a", Some(source("key")));
    let forbidden = "configmaps is forbidden";
    fixture.sources.set_forbidden(&map(), forbidden);
    fixture.queued().await;
    assert_eq!(fixture.read("key"), "SourceUnreadable");
    fixture.deliver(Some(object(&[("key", &variant(5))])));
    let digest = fixture.digest(&variant(5));
    fixture.until("key", &digest).await;
    fixture.sources.set_forbidden(&map(), forbidden);
    assert_eq!(fixture.read("key"), digest);
}

#[tokio::test]
async fn loaded_value_is_not_compiled_again_for_another_source() {
    let mut fixture = fixture(Limits::default());
    let object = object(&[("one", &variant(6)), ("two", &variant(6))]);
    let digest = fixture.digest(&variant(6));
    for (name, key) in [("a", "one"), ("b", "two")] {
        fixture.set_source(name, Some(source(key)));
        fixture.deliver(Some(object.clone()));
        fixture.until(key, &digest).await;
    }
    assert_eq!(fixture.compilations(), 1);
}

#[tokio::test]
async fn built_in_policy_is_compiled_once_for_all_namespaces() {
    let mut fixture = fixture(Limits::default());
    let built_in = PolicySource::BuiltIn(BuiltInPolicy::Backoff);
    let is_loaded =
        |sources: &PolicySources| matches!(sources.read(&built_in), PolicyRead::Loaded(_));
    let users = ["one", "two"].map(|namespace| GroupRef::new("a").within(namespace));
    for user in &users {
        fixture
            .sources
            .set_sources(user, [built_in.clone()], None, None);
    }
    while !is_loaded(&fixture.sources) {
        let next = tokio::time::timeout(PATIENCE, fixture.queue.recv()).await;
        next.expect("it is not loaded").unwrap();
    }
    // It stays in memory when a namespace, or every group, no longer uses it.
    for user in &users {
        fixture.sources.set_sources(user, None, None, None);
    }
    fixture
        .sources
        .set_sources(&users[0], [built_in.clone()], None, None);
    while !is_loaded(&fixture.sources) {
        let next = tokio::time::timeout(PATIENCE, fixture.queue.recv()).await;
        next.expect("it is not loaded").unwrap();
    }
    assert_eq!(fixture.compilations(), 1);
    // The default policy is compiled at the start of the process.
    let default = PolicySource::BuiltIn(BuiltInPolicy::Default);
    fixture
        .sources
        .set_sources(&users[1], [default], None, None);
    assert_eq!(fixture.sources.users(), ["a"]);
}

#[tokio::test]
async fn evicted_policy_is_compiled_again() {
    let mut fixture = fixture(Limits::default());
    let digest = fixture.digest(&variant(7));
    fixture.set_source("a", Some(source("key")));
    fixture.deliver(Some(object(&[("key", &variant(7))])));
    fixture.until("key", &digest).await;
    fixture.sources.compiler.memory().remove_namespace("home");
    assert_eq!(fixture.read("key"), "Loading");
    fixture.until("key", &digest).await;
    assert_eq!(fixture.compilations(), 2);
}

#[tokio::test]
async fn rejected_value_is_not_compiled_again_after_a_restart() {
    let broken = object(&[("key", b"\0asm\x0d\0\x01\0broken")]);
    let mut first = fixture(Limits::default());
    first.set_source("a", Some(source("key")));
    first.deliver(Some(broken.clone()));
    first.until("key", "Malformed").await;
    let PolicyRead::Failed(problem) = first.sources.read(&source("key")) else {
        panic!("it is loaded");
    };
    let rejected = *problem.rejected.unwrap();
    // The same status in another namespace, or of another release, is ignored.
    let older = RejectedPolicy {
        operator: "0.0.1".into(),
        ..rejected.clone()
    };
    let elsewhere = GroupRef::new("a").within("elsewhere");
    let cases = [
        (group("a"), rejected.clone(), 0),
        (elsewhere, rejected, 1),
        (group("a"), older, 1),
    ];
    for (owner, status, compilations) in cases {
        let mut fixture = fixture(Limits::default());
        fixture.set_source("user", Some(source("key")));
        let of_owner = source_in(owner.namespace.as_deref().unwrap(), "mine", "other");
        fixture
            .sources
            .set_sources(&owner, [of_owner], None, Some(status));
        fixture.deliver(Some(broken.clone()));
        fixture.until("key", "Malformed").await;
        assert_eq!(fixture.compilations(), compilations);
    }
}
