//! Everything hostile that users can write, in several namespaces at once: components that attack
//! the compiler, lists, JSON paths, annotations, schedules, and objects. Each results in a named
//! condition or is rejected by the API server. The operator stays up, and a group in another
//! namespace keeps running.

use crate::fixture::{Fixture, condition, say};
use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use hostile_policies::{Attack, COMPILED, Text};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// The timeout of the test. Components are compiled one at a time, for up to half a minute each.
const PATIENCE: Duration = Duration::from_secs(900);
/// How long a health check of the operator may take on a busy machine.
const HEALTHY: Duration = Duration::from_secs(20);
const POLICIES: &str = "attack-policies";
const LISTS: &str = "attack-lists";
const TEXTS: &str = "attack-texts";
const OBJECTS: &str = "attack-objects";

/// A hostile object that the API server accepted, and the condition that it must eventually have.
struct Enemy {
    namespace: &'static str,
    kind: &'static str,
    name: String,
    condition: &'static str,
    /// The possible reasons; any reason if empty.
    reasons: &'static [&'static str],
}

impl Enemy {
    fn group(namespace: &'static str, name: String, condition: &'static str) -> Self {
        let (kind, reasons) = ("OaatGroup", [].as_slice());
        Self {
            namespace,
            kind,
            name,
            condition,
            reasons,
        }
    }

    fn done(&self, object: &Value) -> bool {
        let (_, reason, _) = condition(object, self.condition);
        let reason = if reason == "Ready" { COMPILED } else { &reason };
        let waits =
            ["", "Loading", "Listing", "TypeNotChecked", "CompilePending"].contains(&reason);
        !waits && (self.reasons.is_empty() || self.reasons.contains(&reason))
    }
}

/// Writes an object, and returns whether the API server accepted it. The response is not decoded,
/// because it may be nested deeper than a client can read.
async fn write(client: &Client, namespace: &str, object: &Value) -> Result<bool> {
    let plural = format!(
        "{}s",
        object["kind"].as_str().unwrap_or_default().to_lowercase()
    );
    let path = format!("/apis/kawaja.net/v1/namespaces/{namespace}/{plural}");
    let request = http::Request::post(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(object.to_string().into_bytes())?;
    create_with_retries(async || client.request_text(request.clone()).await).await
}

/// Returns whether the API server accepts an object. Retries server errors and timeouts, which
/// deeply nested objects can cause.
async fn create_with_retries<T>(create: impl AsyncFn() -> kube::Result<T>) -> Result<bool> {
    let begin = Instant::now();
    loop {
        match create().await {
            Ok(_) => return Ok(true),
            // An earlier request that timed out created the object.
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(true),
            Err(kube::Error::Api(status)) if status.code < 500 => return Ok(false),
            Err(error) if begin.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => sleep(Duration::from_secs(1)).await,
        }
    }
}

async fn config_map(client: &Client, namespace: &str, name: &str, map: Value) -> Result<bool> {
    let mut map: ConfigMap = serde_json::from_value(map)?;
    map.metadata.name = Some(name.to_owned());
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    create_with_retries(async || maps.create(&PostParams::default(), &map).await).await
}

fn group(name: &str, more: Value) -> Value {
    let mut spec = json!({ "oaatType": "work", "oaatItems": ["a"] });
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup", "metadata": { "name": name }, "spec": spec,
    })
}

/// Components that attack the compiler: some that end soon, and one for each kind of long
/// compilation.
fn components() -> Result<Vec<Attack>> {
    const CHOSEN: [&str; 8] = [
        "nested-component-types",
        "doubling-imports",
        "adapter-chain",
        "variant-lifts",
        "operand-stacks",
        "float-chain",
        "artifact",
        "cut-in-section-1",
    ];
    let mut all = hostile_policies::attacks()?;
    all.retain(|attack| CHOSEN.contains(&&*attack.name));
    Ok(all)
}

async fn policies(client: &Client) -> Result<Vec<Enemy>> {
    let mut enemies = Vec::new();
    for attack in tokio::task::spawn_blocking(components).await?? {
        let map = json!({ "binaryData": { "policy.wasm": ByteString(attack.bytes) } });
        if config_map(client, POLICIES, &attack.name, map).await? {
            let policy = json!({ "policy": { "configMap": { "name": attack.name } } });
            write(client, POLICIES, &group(&attack.name, policy)).await?;
            enemies.push(Enemy {
                reasons: attack.ends,
                ..Enemy::group(POLICIES, attack.name, "PolicyReady")
            });
        }
    }
    // A ConfigMap with very many keys, without the key that is used.
    let keys = (0..10_000).map(|n| (format!("key-{n}"), json!("eA==")));
    let keys: serde_json::Map<String, Value> = keys.collect();
    for (name, field) in [("keys-binary", "binaryData"), ("keys-text", "data")] {
        config_map(client, POLICIES, name, json!({ field: keys })).await?;
        let source = json!([{ "name": "s", "configMap": { "name": name } }]);
        let more = json!({ "itemsFrom": source, "policy": { "configMap": { "name": name } } });
        if write(client, POLICIES, &group(name, more)).await? {
            enemies.push(Enemy::group(POLICIES, name.into(), "PolicyReady"));
            enemies.push(Enemy::group(POLICIES, name.into(), "ItemsReady"));
        }
    }
    Ok(enemies)
}

async fn lists(client: &Client) -> Result<Vec<Enemy>> {
    let texts = hostile_policies::lists().into_iter();
    let maps = texts.map(|text| (text.name, json!({ "data": { "items": text.text } })));
    let bytes = json!({ "binaryData": { "items": ByteString(vec![0xff; 1000]) } });
    let maps = maps.chain([("not-text", bytes)]);
    let written = stream::iter(maps).map(async |(name, map)| {
        if !config_map(client, LISTS, name, map).await? {
            return Ok(None);
        }
        let source = json!([{ "name": "s", "configMap": { "name": name } }]);
        write(client, LISTS, &group(name, json!({ "itemsFrom": source }))).await?;
        anyhow::Ok(Some(Enemy::group(LISTS, name.into(), "ItemsReady")))
    });
    let all: Vec<_> = written.buffer_unordered(4).try_collect().await?;
    Ok(all.into_iter().flatten().collect())
}

async fn texts(client: &Client) -> Result<Vec<Enemy>> {
    let mut groups = Vec::new();
    let mut push = |kind: &str, texts: Vec<Text>, spec: &dyn Fn(String) -> Value| {
        for text in texts {
            groups.push(group(&format!("{kind}-{}", text.name), spec(text.text)));
        }
    };
    push("path", hostile_policies::paths(), &|path| {
        let http = json!({ "url": "http://lists.invalid/", "jsonPath": path });
        json!({ "itemsFrom": [{ "name": "s", "http": http }] })
    });
    let window = |schedule: &str, duration: &str, zone: &str| json!({ "blackoutWindows": [{ "schedule": schedule, "duration": duration, "timeZone": zone }] });
    push("schedule", hostile_policies::schedules(), &|schedule| {
        window(&schedule, "1h", "UTC")
    });
    push("window", hostile_policies::durations(), &|duration| {
        window("0 0 * * *", &duration, "UTC")
    });
    push("zone", hostile_policies::time_zones(), &|zone| {
        window("0 0 * * *", "1h", &zone)
    });
    push(
        "frequency",
        hostile_policies::durations(),
        &|duration| json!({ "frequency": duration }),
    );
    for text in hostile_policies::run_now() {
        for (kind, name) in [
            ("run-now", "oaat.kawaja.net/run-now"),
            ("pause", "pause_new_jobs"),
        ] {
            let mut group = group(&format!("{kind}-{}", text.name), json!({}));
            group["metadata"]["annotations"] = json!({ name: text.text });
            groups.push(group);
        }
    }
    let written = stream::iter(groups).map(async |group| {
        let name = group["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let taken = write(client, TEXTS, &group).await?;
        anyhow::Ok(taken.then(|| Enemy::group(TEXTS, name, "Ready")))
    });
    let all: Vec<_> = written.buffer_unordered(4).try_collect().await?;
    Ok(all.into_iter().flatten().collect())
}

async fn objects(client: &Client) -> Result<Vec<Enemy>> {
    let honest =
        json!({ "binaryData": { "policy.wasm": ByteString(hostile_policies::honest()?) } });
    config_map(client, OBJECTS, "honest", honest).await?;
    let mut enemies = Vec::new();
    for object in hostile_policies::objects() {
        if write(client, OBJECTS, &object.value()).await? {
            let condition = if object.kind == "OaatType" {
                "Valid"
            } else {
                "Ready"
            };
            enemies.push(Enemy {
                kind: object.kind,
                ..Enemy::group(OBJECTS, object.name.into(), condition)
            });
        }
    }
    Ok(enemies)
}

/// Reads the conditions of an object with kubectl, which reads objects of any depth.
async fn read(fixture: &Fixture, enemy: &Enemy) -> Result<Value> {
    let kind = enemy.kind.to_lowercase();
    let what = ["--namespace", enemy.namespace, "get", &kind, &enemy.name];
    let text = fixture
        .plane
        .kubectl(&[what.as_slice(), &["-o", "jsonpath={.status.conditions}"]].concat())
        .await?;
    let conditions: Value = serde_json::from_str(&text).unwrap_or_default();
    Ok(json!({ "status": { "conditions": conditions } }))
}

/// Checks the operator's health repeatedly and counts the responses.
async fn watch_health(address: std::net::SocketAddr, answers: Arc<AtomicU64>) -> Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    loop {
        let ask = async {
            let mut stream = TcpStream::connect(address).await?;
            stream
                .write_all(b"GET /healthz HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n")
                .await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            anyhow::Ok(answer)
        };
        let answer = timeout(HEALTHY, ask)
            .await
            .context("/healthz does not respond")??;
        if !answer.starts_with("HTTP/1.1 200") {
            bail!("/healthz responds with {answer}");
        }
        answers.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until each hostile object has its condition.
async fn settled(fixture: &Fixture, mut waiting: Vec<Enemy>) -> Result<()> {
    let begin = Instant::now();
    while !waiting.is_empty() {
        let mut still = Vec::new();
        for enemy in waiting {
            let object = read(fixture, &enemy).await?;
            if enemy.done(&object) {
                let (_, reason, message) = condition(&object, enemy.condition);
                assert!(
                    message.len() <= 4096 && !message.contains(char::is_control),
                    "{}: {message}",
                    enemy.name
                );
                let shown = &message[..message.floor_char_boundary(100)];
                say(&format!(
                    "attack {:16} {:28} {reason:18} {shown}",
                    enemy.namespace, enemy.name
                ));
            } else if begin.elapsed() > PATIENCE {
                bail!(
                    "{} {} does not come to one of {:?}: {object:#}",
                    enemy.namespace,
                    enemy.name,
                    enemy.reasons
                );
            } else {
                still.push(enemy);
            }
        }
        waiting = still;
        sleep(Duration::from_millis(300)).await;
    }
    Ok(())
}

/// The stack size of the test, whose objects are nested thousands of levels deep.
const STACK: usize = 256 << 20;

#[test]
fn simultaneous_attacks_affect_no_other_group() -> Result<()> {
    let test = || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_stack_size(STACK)
            .build()?;
        runtime.block_on(simultaneous_attacks())
    };
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(test)?;
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

async fn simultaneous_attacks() -> Result<()> {
    let mut fixture = Fixture::without_operator("attack-neighbor").await?;
    for namespace in [POLICIES, LISTS, TEXTS, OBJECTS] {
        fixture.plane.namespace(namespace).await?;
        fixture.options.namespaces.push(namespace.to_owned());
        let mut type_ = json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatType", "metadata": { "name": "work" },
            "spec": { "type": "pod", "podspec": { "container": { "name": "main", "image": "any", "command": ["true"] } } },
        });
        type_["metadata"]["namespace"] = namespace.into();
        fixture.plane.apply(&type_.to_string()).await?;
    }
    fixture.start_operator().await?;
    fixture.work("exit 0", json!({})).await?;
    fixture
        .group(&["a", "b", "c"], json!({ "frequency": "2s" }))
        .await?;
    let runs = |group: &Value| group["status"]["run"].as_i64().unwrap_or(0);
    fixture
        .until("the neighbor runs before the attacks", |group| {
            runs(group) >= 3
        })
        .await?;
    let pid = fixture.operator().process().pid();
    let answers = Arc::<AtomicU64>::default();
    let health = tokio::spawn(watch_health(fixture.operator().address(), answers.clone()));

    let client = &fixture.client;
    let (policies, lists, texts, objects) = tokio::try_join!(
        policies(client),
        lists(client),
        texts(client),
        objects(client)
    )?;
    let enemies: Vec<_> = [policies, lists, texts, objects]
        .into_iter()
        .flatten()
        .collect();
    let count = enemies.len();
    say(&format!("{count} hostile objects were accepted"));
    assert!(count > 200, "{count}");
    let before = runs(&fixture.read("group").await?);
    settled(&fixture, enemies).await?;
    fixture
        .until("the neighbor continues to run", |group| {
            runs(group) >= before + 3
        })
        .await?;
    assert!(fixture.operator().process().is_running());
    assert_eq!(fixture.operator().process().pid(), pid);
    assert!(!health.is_finished(), "{:?}", health.await);
    assert!(answers.load(Ordering::Relaxed) > 10);
    health.abort();

    // A restart changes nothing for the neighbor.
    fixture.take_operator().stop().await;
    fixture.start_operator().await?;
    let before = runs(&fixture.read("group").await?);
    fixture
        .until("the neighbor runs after a restart", |group| {
            runs(group) >= before + 3
        })
        .await?;
    assert!(fixture.operator().process().is_running());
    Ok(())
}
