use super::*;
use crate::api::OaatGroup;
use crate::guarded::Guarded;
use kube::runtime::reflector::ObjectRef;
use policy_host::{Host, Limits};
use serde_json::json;
use std::time::Instant;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    sources: Sources,
    queue: UnboundedReceiver<GroupRef>,
}

/// Sources whose watches hear nothing: the tests bring the objects themselves.
fn world(limits: Limits) -> World {
    let silent = tower::service_fn(|_: http::Request<kube::client::Body>| {
        std::future::pending::<Result<http::Response<kube::client::Body>, std::io::Error>>()
    });
    let (sender, queue) = unbounded_channel();
    let compiler = Compiler::new(Host::new(limits).unwrap());
    let mut sources = Sources::new(Client::new(silent, "default"), compiler, sender);
    sources.first_wait = Duration::from_millis(10);
    World { sources, queue }
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
    ObjectRef::<Guarded<OaatGroup>>::new(name).within("home")
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
    [crate::DEFAULT_POLICY, &[0, 2, 1, name]].concat()
}

fn hostile(name: &str) -> Vec<u8> {
    let all = hostile_policies::all().unwrap();
    let mut found = all.into_iter().filter(|policy| policy.name == name);
    found.next().unwrap().bytes
}

impl World {
    /// Brings an object, as the watch would.
    fn bring(&self, object: Option<ConfigMap>) {
        self.sources.take(&map(), object.as_ref());
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
    world.sources.used(&group("a"), Some(source("one")));
    world.sources.used(&group("b"), Some(source("two")));
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
    world.sources.used(&group("a"), Some(source("key")));
    let heavy = hostile_policies::heavy().unwrap().swap_remove(0);
    world.bring(Some(object(&[("key", &heavy.bytes)])));
    // It has the compiler to itself by now.
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.bring(None);
    // The first that is heard is not that the heavy one is loaded.
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
    world.sources.used(&group("a"), Some(source("key")));
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
    slow.sources.used(&group("a"), Some(source("key")));
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
    world.sources.used(&group("a"), Some(source("key")));
    world.bring(Some(object(&[("key", &endless)])));
    world.until("key", "ProbeFailed").await;
    world.told().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(world.queue.try_recv().is_err());
}

#[tokio::test]
async fn what_no_group_uses_any_more_is_forgotten() {
    let world = world(Limits::default());
    world.sources.used(&group("a"), Some(source("one")));
    world.sources.used(&group("b"), Some(source("one")));
    world.sources.used(&group("c"), Some(source("two")));
    let kept = |sources: &Sources| {
        let known = sources.known();
        (known.groups.len(), known.sources.len(), known.watches.len())
    };
    assert_eq!(kept(&world.sources), (3, 2, 1));
    world.sources.retain(&HashSet::from([group("b")]));
    assert_eq!(kept(&world.sources), (1, 1, 1));
    world.sources.used(&group("b"), Some(source("two")));
    assert_eq!(kept(&world.sources), (1, 1, 1));
    world.sources.used(&group("b"), None);
    assert_eq!(kept(&world.sources), (0, 0, 0));
}

#[tokio::test]
async fn who_may_not_read_is_told_so_only_where_nothing_is_known() {
    let mut world = world(Limits::default());
    world.sources.used(&group("a"), Some(source("key")));
    let status = serde_json::from_value(json!({
        "status": "Failure", "message": "configmaps is forbidden", "reason": "Forbidden", "code": 403,
    }));
    let error = kube::Error::Api(Box::new(status.unwrap()));
    let error = watcher::Error::InitialListFailed(error);
    world.sources.interrupted(&map(), &error);
    world.told().await;
    assert_eq!(world.read("key"), "SourceUnreadable");
    world.bring(Some(object(&[("key", &variant(5))])));
    let digest = world.digest(&variant(5));
    world.until("key", &digest).await;
    world.sources.interrupted(&map(), &error);
    assert_eq!(world.read("key"), digest);
}

#[tokio::test]
async fn the_same_component_in_another_config_map_is_not_compiled_again() {
    let mut world = world(Limits::default());
    let heavy = hostile_policies::heavy().unwrap();
    // Little to read, and much to compile.
    let heavy = heavy.into_iter().find(|heavy| heavy.name == "heavy-joins");
    let object = object(&[("key", &heavy.unwrap().bytes)]);
    let mut took = Vec::new();
    for name in ["mine", "other"] {
        let source = Source {
            name: name.into(),
            ..source("key")
        };
        world.sources.used(&group(name), Some(source.clone()));
        let begin = Instant::now();
        let map = ("home".to_owned(), name.to_owned());
        world.sources.take(&map, Some(&object));
        world.told().await;
        took.push(begin.elapsed());
        let read = world.sources.read(&source);
        assert!(matches!(read, PolicyRead::Loaded(_)), "{read:?}");
    }
    assert!(took[1] < took[0] / 3, "{took:?}");
}
