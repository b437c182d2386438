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
/// What takes long to compile.
const SLOW: &[u8] = b"slow";

/// The ConfigMap that there is.
type Stored = Arc<Mutex<Option<ConfigMap>>>;

struct World {
    sources: Sources,
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

/// Sources whose watches stay silent: the tests bring the objects themselves.
fn world(limits: Limits) -> World {
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
    let config_maps = ConfigMaps::new(Client::new(server, "default"));
    let mut sources = Sources::new(config_maps, compiler, sender);
    sources.first_wait = Duration::from_millis(10);
    World {
        sources,
        queue,
        stored,
        compilations,
    }
}

fn map() -> MapName {
    ("home".into(), "mine".into())
}

fn source(key: &str) -> Source {
    let (namespace, name) = map();
    Source {
        namespace,
        name,
        key: key.into(),
    }
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
    [default_component::DEFAULT_POLICY, &[0, 2, 1, name]].concat()
}

fn hostile(name: &str) -> Vec<u8> {
    let all = hostile_policies::all().unwrap();
    let mut found = all.into_iter().filter(|policy| policy.name == name);
    found.next().unwrap().bytes
}

impl World {
    /// Brings an object, as the watch would.
    fn bring(&self, object: Option<ConfigMap>) {
        self.stored.lock().unwrap().clone_from(&object);
        self.sources.take(&map(), object.as_ref());
    }

    /// Notes that a group uses a source.
    fn used(&self, name: &str, source: Option<Source>) {
        self.sources.used(&group(name), source, None);
    }

    fn compilations(&self) -> usize {
        self.compilations.load(Ordering::SeqCst)
    }

    /// Waits until a group is told.
    async fn told(&mut self) -> GroupRef {
        let told = tokio::time::timeout(PATIENCE, self.queue.recv()).await;
        told.unwrap().unwrap()
    }

    /// The digest of what is loaded, or the reason why nothing is.
    fn read(&self, key: &str) -> String {
        match self.sources.read(&source(key)) {
            PolicyRead::Loading(_) => "Loading".into(),
            PolicyRead::Loaded(policy) => policy.digest().into(),
            PolicyRead::Failed(problem) => problem.reason.into(),
        }
    }

    async fn until(&mut self, key: &str, wanted: &str) {
        let begin = Instant::now();
        while self.read(key) != wanted {
            assert!(
                begin.elapsed() < PATIENCE,
                "{} is not {wanted}",
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
async fn each_key_has_its_own_fate_and_its_own_groups_hear_of_it() {
    let mut world = world(Limits::default());
    world.used("a", Some(source("one")));
    world.used("b", Some(source("two")));
    assert_eq!(world.read("one"), "Loading");
    world.bring(None);
    let told = HashSet::from([world.told().await, world.told().await]);
    assert_eq!(told, HashSet::from([group("a"), group("b")]));
    assert_eq!(world.read("one"), "SourceNotFound");
    world.bring(Some(object(&[("one", &variant(1))])));
    let digest = world.digest(&variant(1));
    world.until("one", &digest).await;
    assert_eq!(world.read("two"), "KeyNotFound");
}

#[tokio::test]
async fn the_watch_is_not_deaf_while_a_component_compiles_and_the_latest_object_wins() {
    let mut world = world(Limits::default());
    world.used("a", Some(source("key")));
    world.bring(Some(object(&[("key", SLOW)])));
    // It has the compiler to itself by now.
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.bring(None);
    // The first news is not what came of the slow one.
    world.told().await;
    assert_eq!(world.read("key"), "SourceNotFound");
    world.bring(Some(object(&[("key", &variant(2))])));
    world.bring(Some(object(&[("key", &variant(3))])));
    let digest = world.digest(&variant(3));
    world.until("key", &digest).await;
    // What was given up does not come back.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.read("key"), digest);
}

#[tokio::test]
async fn the_same_bytes_are_loaded_once_and_again_after_they_were_gone() {
    let mut world = world(Limits::default());
    world.used("a", Some(source("key")));
    let good = object(&[("key", &variant(4))]);
    world.bring(Some(good.clone()));
    world.told().await;
    world.bring(Some(good.clone()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(world.queue.try_recv().is_err());
    world.bring(None);
    world.told().await;
    world.bring(Some(good));
    let digest = world.digest(&variant(4));
    world.until("key", &digest).await;
}

#[tokio::test]
async fn a_trial_that_the_clock_broke_off_is_tried_again_and_no_other() {
    let endless = hostile("!loop");
    let limits = Limits {
        fuel: u64::MAX / 2,
        deadline: Duration::from_millis(1),
        ..Limits::default()
    };
    let mut slow = world(limits);
    slow.used("a", Some(source("key")));
    slow.bring(Some(object(&[("key", &endless)])));
    for _ in 0..3 {
        slow.told().await;
        let PolicyRead::Failed(problem) = slow.sources.read(&source("key")) else {
            panic!("it is loaded");
        };
        assert_eq!(problem.reason, "ProbeFailed");
        assert!(
            problem.message.contains("tried again"),
            "{}",
            problem.message
        );
    }
    let mut world = world(Limits::default());
    world.used("a", Some(source("key")));
    world.bring(Some(object(&[("key", &endless)])));
    world.until("key", "ProbeFailed").await;
    world.told().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(world.queue.try_recv().is_err());
}

#[tokio::test]
async fn what_no_group_uses_any_more_is_forgotten() {
    let world = world(Limits::default());
    world.used("a", Some(source("one")));
    world.used("b", Some(source("one")));
    world.used("c", Some(source("two")));
    let kept = |sources: &Sources| {
        let known = sources.known();
        (
            known.groups.len(),
            known.sources.len(),
            known.subscriptions.len(),
        )
    };
    assert_eq!(kept(&world.sources), (3, 2, 1));
    world.sources.retain(&HashSet::from([group("b")]));
    assert_eq!(kept(&world.sources), (1, 1, 1));
    world.used("b", Some(source("two")));
    assert_eq!(kept(&world.sources), (1, 1, 1));
    world.used("b", None);
    assert_eq!(kept(&world.sources), (0, 0, 0));
}

#[tokio::test]
async fn who_may_not_read_is_told_so_only_where_nothing_is_known() {
    let mut world = world(Limits::default());
    world.used("a", Some(source("key")));
    let forbidden = "configmaps is forbidden";
    world.sources.forbidden(&map(), forbidden);
    world.told().await;
    assert_eq!(world.read("key"), "SourceUnreadable");
    world.bring(Some(object(&[("key", &variant(5))])));
    let digest = world.digest(&variant(5));
    world.until("key", &digest).await;
    world.sources.forbidden(&map(), forbidden);
    assert_eq!(world.read("key"), digest);
}

#[tokio::test]
async fn a_value_that_is_loaded_is_not_compiled_again_for_another_source() {
    let mut world = world(Limits::default());
    let object = object(&[("one", &variant(6)), ("two", &variant(6))]);
    let digest = world.digest(&variant(6));
    for (name, key) in [("a", "one"), ("b", "two")] {
        world.used(name, Some(source(key)));
        world.bring(Some(object.clone()));
        world.until(key, &digest).await;
    }
    assert_eq!(world.compilations(), 1);
}

#[tokio::test]
async fn a_policy_that_was_dropped_from_memory_is_compiled_again() {
    let mut world = world(Limits::default());
    let digest = world.digest(&variant(7));
    world.used("a", Some(source("key")));
    world.bring(Some(object(&[("key", &variant(7))])));
    world.until("key", &digest).await;
    world.sources.compiler.memory().forget("home");
    assert_eq!(world.read("key"), "Loading");
    world.until("key", &digest).await;
    assert_eq!(world.compilations(), 2);
}

#[tokio::test]
async fn a_refused_value_is_not_compiled_again_after_a_restart() {
    let broken = object(&[("key", b"\0asm\x0d\0\x01\0broken")]);
    let mut first = world(Limits::default());
    first.used("a", Some(source("key")));
    first.bring(Some(broken.clone()));
    first.until("key", "Malformed").await;
    let PolicyRead::Failed(problem) = first.sources.read(&source("key")) else {
        panic!("it is loaded");
    };
    let rejected = *problem.rejected.unwrap();
    // The same status in another namespace, or of another release, says nothing.
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
        let mut world = world(Limits::default());
        world.used("user", Some(source("key")));
        let of_owner = Source {
            namespace: owner.namespace.clone().unwrap(),
            ..source("other")
        };
        world.sources.used(&owner, Some(of_owner), Some(status));
        world.bring(Some(broken.clone()));
        world.until("key", "Malformed").await;
        assert_eq!(world.compilations(), compilations);
    }
}
