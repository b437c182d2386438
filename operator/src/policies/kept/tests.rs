use super::*;
use crate::policies::{Compiler, PolicyCache, PolicySources};
use crate::policy_limiter::{PolicyLimiter, permits};
use crate::policy_source::{LastGoodPolicy, PolicyRead, PolicySource};
use built_in_policies::DEFAULT_POLICY;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::runtime::reflector::ObjectRef;
use oaat_api::{OaatGroup, OaatGroupStatus, PolicyInUse};
use policy_host::{Host, Policy};
use prometheus_client::metrics::counter::Counter;
use serde_json::Value;
use std::collections::btree_map::Entry;
use tokio::sync::mpsc::unbounded_channel;

const PATIENCE: Duration = Duration::from_secs(60);
const LIMITS: KeptLimits = KeptLimits {
    count: 3,
    bytes: 1 << 20,
};

/// The ConfigMaps in a fake cluster, by path.
#[derive(Default)]
struct Stored {
    maps: BTreeMap<String, Value>,
    /// The methods and paths of all writes.
    writes: Vec<String>,
}

type Cluster = Arc<Mutex<Stored>>;

fn status(code: u16, reason: &str) -> (u16, Value) {
    let body = json!({
        "kind": "Status", "status": "Failure", "reason": reason, "code": code, "message": reason,
    });
    (code, body)
}

/// Answers requests for ConfigMaps. Never answers watches.
async fn answer(
    request: Request<Body>,
    cluster: Cluster,
) -> Result<Response<Body>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if parts
        .uri
        .query()
        .is_some_and(|query| query.contains("watch="))
    {
        return std::future::pending().await;
    }
    let body = body
        .collect()
        .await
        .map_err(std::io::Error::other)?
        .to_bytes();
    let given: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut stored = cluster.lock().unwrap();
    if parts.method != Method::GET {
        stored.writes.push(format!("{} {path}", parts.method));
    }
    let is_list = path.ends_with("/configmaps");
    let (code, body) = match parts.method {
        Method::GET if is_list => {
            let below = |name: &&String| name.starts_with(&path);
            let items = stored.maps.keys().filter(below).map(|name| {
                let metadata = &stored.maps[name]["metadata"];
                json!({ "metadata": metadata })
            });
            let items: Vec<_> = items.collect();
            (
                200,
                json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": items }),
            )
        }
        Method::GET => match stored.maps.get(&path) {
            Some(map) => (200, map.clone()),
            None => status(404, "NotFound"),
        },
        Method::POST => {
            let name = given["metadata"]["name"].as_str().unwrap_or_default();
            let path = format!("{path}/{name}");
            match stored.maps.entry(path) {
                Entry::Occupied(_) => status(409, "AlreadyExists"),
                Entry::Vacant(entry) => (201, entry.insert(given).clone()),
            }
        }
        Method::PATCH => match stored.maps.get_mut(&path) {
            Some(map) => {
                let given = given["metadata"]["annotations"].as_object().cloned();
                for (key, value) in given.into_iter().flatten() {
                    map["metadata"]["annotations"][key] = value;
                }
                (200, map.clone())
            }
            None => status(404, "NotFound"),
        },
        _ => match stored.maps.remove(&path) {
            Some(map) => (200, map),
            None => status(404, "NotFound"),
        },
    };
    let body = serde_json::to_vec(&body)?;
    let response = Response::builder().status(code).body(Body::from(body));
    response.map_err(std::io::Error::other)
}

fn client(cluster: &Cluster) -> Client {
    let cluster = cluster.clone();
    let server = tower::service_fn(move |request| answer(request, cluster.clone()));
    Client::new(server, "default")
}

fn path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps/{name}")
}

/// Stores a ConfigMap with a policy under the default key.
fn store(cluster: &Cluster, namespace: &str, name: &str, value: &[u8]) {
    let map = ConfigMap {
        binary_data: Some([("policy.wasm".into(), ByteString(value.to_vec()))].into()),
        ..ConfigMap::default()
    };
    let map = serde_json::to_value(map).unwrap();
    cluster
        .lock()
        .unwrap()
        .maps
        .insert(path(namespace, name), map);
}

/// Returns the documented algorithm with another digest.
fn variant(name: u8) -> Vec<u8> {
    [DEFAULT_POLICY, &[0, 2, 1, name]].concat()
}

fn kept(namespace: &str, wasm: &[u8]) -> KeptPolicy {
    KeptPolicy {
        namespace: namespace.into(),
        digest: policy_host::sha256(wasm),
    }
}

fn source(namespace: &str, name: &str) -> PolicyConfigMap {
    PolicyConfigMap {
        namespace: namespace.into(),
        name: name.into(),
        key: "policy.wasm".into(),
    }
}

/// Returns a policy that was loaded from this ConfigMap.
fn in_use(policy: &KeptPolicy, name: &str) -> RetainedPolicy {
    RetainedPolicy {
        policy: policy.clone(),
        source: Some(source(&policy.namespace, name)),
    }
}

/// Returns a keeper without its task: the tests call [`Keeper::check`].
fn keeper(cluster: &Cluster) -> KeptPolicies {
    let client = client(cluster);
    let config_maps = ConfigMaps::new(client.clone(), Counter::default());
    let keeper = Keeper {
        config_maps,
        api: Api::namespaced(client, "op"),
        namespace: "op".into(),
        limits: LIMITS,
        serves_subset: false,
        deletions_start_at: Instant::now() + DELETION_DELAY,
        state: Mutex::default(),
        missing: Notify::new(),
    };
    KeptPolicies {
        keeper: Arc::new(keeper),
        _task: Arc::new(Task(tokio::spawn(async {}).abort_handle())),
    }
}

fn writes(cluster: &Cluster) -> Vec<String> {
    std::mem::take(&mut cluster.lock().unwrap().writes)
}

/// Changes when a copy was last renewed.
fn set_last_used(cluster: &Cluster, policy: &KeptPolicy, at: Timestamp) {
    let mut stored = cluster.lock().unwrap();
    let map = stored
        .maps
        .get_mut(&path("op", &policy.config_map()))
        .unwrap();
    map["metadata"]["annotations"][LAST_USED] = json!(at.to_string());
}

#[tokio::test]
async fn policy_that_decided_is_copied_once_and_renewed() {
    let cluster = Cluster::default();
    let kept_policies = keeper(&cluster);
    let wasm = variant(1);
    store(&cluster, "a", "mine", &wasm);
    let (group, policy) = (ObjectRef::new("g").within("a"), kept("a", &wasm));
    let copy = path("op", &policy.config_map());
    for _ in 0..2 {
        kept_policies.record(&group, vec![in_use(&policy, "mine")]);
        kept_policies.keeper.check().await.unwrap();
    }
    assert_eq!(writes(&cluster), ["POST /api/v1/namespaces/op/configmaps"]);
    let value = kept_policies.read(&policy).await.unwrap().unwrap();
    assert!(policy_host::is_gzip(&value));
    let component = policy_host::decompress(&value, 4 << 20).unwrap();
    assert_eq!(component, wasm);
    let day_ago = Timestamp::now().minus(RENEW_AFTER + Duration::from_secs(60));
    set_last_used(&cluster, &policy, day_ago);
    kept_policies.keeper.check().await.unwrap();
    kept_policies.keeper.check().await.unwrap();
    assert_eq!(writes(&cluster), [format!("PATCH {copy}")]);
    // Another namespace has no copy of it.
    let foreign = kept("b", &wasm);
    assert_eq!(kept_policies.read(&foreign).await.unwrap(), None);
}

#[tokio::test]
async fn only_the_policy_that_decided_is_copied() {
    let cluster = Cluster::default();
    let kept_policies = keeper(&cluster);
    let group = ObjectRef::new("g").within("a");
    let policy = kept("a", &variant(1));
    // The source has another component by now, or none.
    store(&cluster, "a", "mine", &variant(2));
    for name in ["mine", "missing"] {
        kept_policies.record(&group, vec![in_use(&policy, name)]);
        kept_policies.keeper.check().await.unwrap();
    }
    assert_eq!(writes(&cluster), [""; 0]);
}

#[tokio::test]
async fn unused_copy_is_deleted_after_a_week() {
    let cluster = Cluster::default();
    let mut kept_policies = keeper(&cluster);
    let policies: Vec<_> = (1..=2).map(|name| kept("a", &variant(name))).collect();
    let groups = ["one", "two"].map(|name| ObjectRef::new(name).within("a"));
    for (index, group) in groups.iter().enumerate() {
        let name = format!("map-{index}");
        store(
            &cluster,
            "a",
            &name,
            &variant(u8::try_from(index).unwrap() + 1),
        );
        kept_policies.record(group, vec![in_use(&policies[index], &name)]);
    }
    kept_policies.keeper.check().await.unwrap();
    assert_eq!(writes(&cluster).len(), 2);
    kept_policies.record(&groups[0], Vec::new());
    let week_ago = Timestamp::now().minus(DELETE_AFTER + Duration::from_secs(60));
    for policy in &policies {
        set_last_used(&cluster, policy, week_ago);
    }
    // After a start, the groups may not be known yet.
    kept_policies.keeper.check().await.unwrap();
    let used = path("op", &policies[1].config_map());
    assert_eq!(writes(&cluster), [format!("PATCH {used}")]);
    let keeper = Arc::get_mut(&mut kept_policies.keeper).unwrap();
    keeper.deletions_start_at = Instant::now();
    kept_policies.keeper.check().await.unwrap();
    let unused = path("op", &policies[0].config_map());
    assert_eq!(writes(&cluster), [format!("DELETE {unused}")]);
}

#[tokio::test]
async fn copies_of_all_last_good_policies_are_in_use() {
    let cluster = Cluster::default();
    let mut kept_policies = keeper(&cluster);
    let keeper = Arc::get_mut(&mut kept_policies.keeper).unwrap();
    keeper.deletions_start_at = Instant::now();
    let copies: Vec<_> = (1..=3).map(|name| kept("a", &variant(name))).collect();
    let week_ago = Timestamp::now().minus(DELETE_AFTER + Duration::from_secs(60));
    for (policy, name) in copies.iter().zip(1..) {
        let value = pack(variant(name), &policy.digest).unwrap();
        let map = config_map(policy, &source("a", "mine"), value, week_ago);
        let map = serde_json::to_value(map).unwrap();
        let path = path("op", &policy.config_map());
        cluster.lock().unwrap().maps.insert(path, map);
    }
    // The group has settings that one policy accepted, and another one decided last.
    let mut group = group(Some(&copies[0]));
    let accepted = json!({ "source": "other", "digest": copies[1].digest, "settings": "{}" });
    let status = group.status.as_mut().unwrap();
    status.accepted_settings = serde_json::from_value(accepted).unwrap();
    let (queue, _queued) = unbounded_channel();
    let compiler = Compiler::new(|_| unreachable!());
    let sources = PolicySources::new(kept_policies.keeper.config_maps.clone(), compiler, queue)
        .with_kept(Some(kept_policies.clone()));
    let key = ObjectRef::new("g").within("a");
    sources.record_last_good(&key, LastGoodPolicy::all(&group, group.status.as_ref()));
    kept_policies.keeper.check().await.unwrap();
    let write = |method: &str, policy: &KeptPolicy| {
        format!("{method} {}", path("op", &policy.config_map()))
    };
    let mut expected = [
        write("PATCH", &copies[0]),
        write("PATCH", &copies[1]),
        write("DELETE", &copies[2]),
    ];
    let mut written = writes(&cluster);
    expected.sort();
    written.sort();
    assert_eq!(written, expected);
}

#[tokio::test]
async fn number_of_copies_is_limited_and_shared_between_namespaces() {
    let cluster = Cluster::default();
    let mut kept_policies = keeper(&cluster);
    let record = |kept_policies: &KeptPolicies, namespace: &str, name: u8| {
        let map = format!("map-{name}");
        store(&cluster, namespace, &map, &variant(name));
        let group = ObjectRef::new(&map).within(namespace);
        let policy = kept(namespace, &variant(name));
        kept_policies.record(&group, vec![in_use(&policy, &map)]);
    };
    (1..=5).for_each(|name| record(&kept_policies, "greedy", name));
    kept_policies.keeper.check().await.unwrap();
    assert_eq!(writes(&cluster).len(), LIMITS.count);
    // After a start, the groups of the other copies may not be known yet.
    record(&kept_policies, "modest", 9);
    kept_policies.keeper.check().await.unwrap();
    assert_eq!(writes(&cluster), [""; 0]);
    let keeper = Arc::get_mut(&mut kept_policies.keeper).unwrap();
    keeper.deletions_start_at = Instant::now();
    keeper.lock().failed.clear();
    kept_policies.keeper.check().await.unwrap();
    let modest = kept("modest", &variant(9));
    assert!(kept_policies.read(&modest).await.unwrap().is_some());
    let copies = kept_policies.keeper.list().await.unwrap();
    assert_eq!(copies.len(), LIMITS.count);
}

#[tokio::test]
async fn damaged_copy_is_deleted_and_written_again() {
    let cluster = Cluster::default();
    let kept_policies = keeper(&cluster);
    let wasm = variant(1);
    store(&cluster, "a", "mine", &wasm);
    let (group, policy) = (ObjectRef::new("g").within("a"), kept("a", &wasm));
    let copy = path("op", &policy.config_map());
    kept_policies.record(&group, vec![in_use(&policy, "mine")]);
    kept_policies.keeper.check().await.unwrap();
    let posted = "POST /api/v1/namespaces/op/configmaps".to_owned();
    assert_eq!(writes(&cluster), std::slice::from_ref(&posted));
    let change = |field: &str, value: Value| {
        cluster.lock().unwrap().maps.get_mut(&copy).unwrap()[field] = value;
    };
    // A read finds the damage.
    for damaged in [json!({ KEY: ByteString(variant(2)) }), json!(null)] {
        change("binaryData", damaged);
        assert_eq!(kept_policies.read(&policy).await.unwrap(), None);
        assert_eq!(writes(&cluster), [format!("DELETE {copy}")]);
        kept_policies.keeper.check().await.unwrap();
        assert_eq!(writes(&cluster), std::slice::from_ref(&posted));
        assert!(kept_policies.read(&policy).await.unwrap().is_some());
    }
    // A ConfigMap without the annotations is not in the list. If its content is intact, it stays.
    let name = copy.rsplit('/').next().unwrap();
    change("metadata", json!({ "name": name }));
    kept_policies.keeper.check().await.unwrap();
    assert_eq!(writes(&cluster), std::slice::from_ref(&posted));
    change("binaryData", json!(null));
    kept_policies.keeper.check().await.unwrap();
    assert_eq!(writes(&cluster), [posted.clone(), format!("DELETE {copy}")]);
    kept_policies.keeper.lock().failed.clear();
    kept_policies.keeper.check().await.unwrap();
    assert_eq!(writes(&cluster), [posted]);
}

/// A group with `onError: UseDefault`, whose status names the policy that decided last.
fn group(last: Option<&KeptPolicy>) -> OaatGroup {
    let policy = last.map(|policy| {
        json!({
            "source": "ConfigMap mine, key policy.wasm", "digest": policy.digest, "contract": "1.0.0",
        })
    });
    serde_json::from_value(json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": "g", "namespace": "a", "uid": "us" },
        "spec": {
            "oaatType": "t", "oaatItems": ["x"],
            "policy": { "configMap": { "name": "mine" }, "onError": "UseDefault" },
        },
        "status": { "policy": policy },
    }))
    .unwrap()
}

/// The policy of a group after a start of the process.
#[derive(Debug, PartialEq)]
struct Decides {
    digest: String,
    /// The reason of a problem with the source.
    problem: Option<&'static str>,
    restored: bool,
}

/// A cluster whose ConfigMap `mine` in the namespace `a` contains a policy.
struct Fixture {
    cluster: Cluster,
    host: Host,
    default: Policy,
    policy: KeptPolicy,
    /// The host compiles a component only once while it is in use.
    _in_use: Policy,
}

impl Fixture {
    /// Creates the cluster, and lets the policy decide for the group.
    async fn new() -> Self {
        let host = Host::new(Limits::default()).unwrap();
        let wasm = variant(1);
        let fixture = Self {
            cluster: Cluster::default(),
            default: host.load(DEFAULT_POLICY, None).unwrap(),
            policy: kept("a", &wasm),
            _in_use: host.load(&wasm, None).unwrap(),
            host,
        };
        store(&fixture.cluster, "a", "mine", &wasm);
        let expected = Decides {
            digest: fixture.policy.digest.clone(),
            problem: None,
            restored: false,
        };
        assert_eq!(fixture.start(&group(None)).await, expected);
        fixture
    }

    fn delete_source(&self) {
        self.cluster.lock().unwrap().maps.remove(&path("a", "mine"));
    }

    /// Returns the expected result if the copy decides because the source has this problem.
    fn restored(&self, problem: &'static str) -> Decides {
        Decides {
            digest: self.policy.digest.clone(),
            problem: Some(problem),
            restored: true,
        }
    }

    /// Starts a new process, without any state in memory, and selects the policy of a group. Fails if
    /// the default policy would decide in the meantime.
    async fn start(&self, group: &OaatGroup) -> Decides {
        let (queue, mut queued) = unbounded_channel();
        let (resumed, _resumed) = unbounded_channel();
        let limiter = PolicyLimiter::new(permits(), resumed);
        let loads = self.host.clone();
        let compiler = Compiler::new(move |bytes| loads.load(bytes, None));
        let kept = keeper(&self.cluster);
        let sources = PolicySources::new(kept.keeper.config_maps.clone(), compiler, queue)
            .with_kept(Some(kept.clone()));
        let cache = PolicyCache::default();
        let key = ObjectRef::new("g").within("a");
        let named = PolicySource::from_group(group).unwrap();
        let last = || LastGoodPolicy::all(group, group.status.as_ref());
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE, "no policy decides");
            let last_source = last().into_iter().map(|last| last.source);
            sources.set_sources(&key, [named.clone()], last_source, None);
            let read = sources.read(&named);
            let read_last = last().into_iter().filter_map(|last| {
                let read = sources.read_last_good(&key, &last.source)?;
                Some((last, read))
            });
            let items = &group.spec.oaat_items;
            let selected =
                cache.select(group, items, Some(read), &self.default, &limiter, read_last);
            let Some((selection, policy)) = selected.await else {
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            };
            assert!(!selection.needs_default(), "{selection:?}");
            if let Some(policy) = policy {
                let status = OaatGroupStatus {
                    policy: selection.in_use,
                    ..OaatGroupStatus::default()
                };
                sources.record_last_good(&key, LastGoodPolicy::all(group, Some(&status)));
                kept.keeper.check().await.unwrap();
                return Decides {
                    digest: policy.digest().to_owned(),
                    problem: selection.problem.map(|problem| problem.reason),
                    restored: selection.restored,
                };
            }
            let _ = tokio::time::timeout(Duration::from_millis(100), queued.recv()).await;
        }
    }
}

#[tokio::test]
async fn same_policy_decides_after_100_restarts_without_its_source() {
    let fixture = Fixture::new().await;
    let group = group(Some(&fixture.policy));
    for restart in 0..100 {
        let problem = if restart % 2 == 0 {
            fixture.delete_source();
            "SourceNotFound"
        } else {
            store(&fixture.cluster, "a", "mine", b"garbage");
            "Malformed"
        };
        let decides = fixture.start(&group).await;
        assert_eq!(decides, fixture.restored(problem), "restart {restart}");
    }
}

#[tokio::test]
async fn copy_decides_if_the_pin_excludes_the_last_good_built_in_policy() {
    let fixture = Fixture::new().await;
    fixture.delete_source();
    let mut group = group(Some(&fixture.policy));
    group.spec.policy.as_mut().unwrap().sha256 = Some(fixture.policy.digest.clone());
    // The default policy may also have decided last, because the pin excluded the policy.
    let instead = PolicyInUse {
        source: "default".into(),
        digest: fixture.default.digest().into(),
        contract: fixture.default.contract().into(),
        instead_of: Some(fixture.policy.digest.clone()),
    };
    let decided = group.status.as_ref().unwrap().policy.clone().unwrap();
    for last in [decided, instead] {
        let status = group.status.as_mut().unwrap();
        status.policy = Some(last);
        // In the meantime, the group named the built-in policy fair, which has not decided yet.
        status.set_last_good_built_in(Some("fair".into()));
        let expected = fixture.restored("SourceNotFound");
        assert_eq!(fixture.start(&group).await, expected, "{group:?}");
    }
}

#[tokio::test]
async fn copy_is_used_only_if_it_is_intact_and_matches_the_pin() {
    let cluster = Cluster::default();
    let host = Host::new(Limits::default()).unwrap();
    let (queue, _queued) = unbounded_channel();
    let loads = host.clone();
    let compiler = Compiler::new(move |bytes| loads.load(bytes, None));
    let kept_policies = keeper(&cluster);
    let sources = PolicySources::new(kept_policies.keeper.config_maps.clone(), compiler, queue)
        .with_kept(Some(kept_policies.clone()));
    let (policy, other) = (kept("a", &variant(1)), kept("a", &variant(2)));
    let foreign = kept("b", &variant(3));
    // The value of the first copy is another component, and only another namespace has the last one.
    for (policy, wasm) in [(&policy, 2), (&other, 2), (&foreign, 3)] {
        let value = pack(variant(wasm), &kept("", &variant(wasm)).digest).unwrap();
        let map = config_map(policy, &source("a", "mine"), value, Timestamp::now());
        let path = path("op", &policy.config_map());
        let map = serde_json::to_value(map).unwrap();
        cluster.lock().unwrap().maps.insert(path, map);
    }
    let key = ObjectRef::new("g").within("a");
    let forged = kept("a", &variant(3));
    for (policy, expected) in [(&policy, false), (&other, true), (&forged, false)] {
        let copy = PolicySource::Kept(policy.clone());
        let named = PolicySource::ConfigMap(source("a", "mine"));
        sources.set_sources(&key, [named], None, None);
        let began = Instant::now();
        let is_loaded = loop {
            assert!(began.elapsed() < PATIENCE, "{policy:?} is loading");
            match sources.read_last_good(&key, &copy) {
                Some(PolicyRead::Loaded(_)) => break true,
                Some(PolicyRead::Failed(_)) => break false,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        assert_eq!(is_loaded, expected, "{policy:?}");
    }
}
