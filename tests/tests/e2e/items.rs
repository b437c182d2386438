//! Items that are listed elsewhere: in ConfigMaps, by containers, behind URLs.

use crate::bad_input::message;
use crate::by_hand::{history, state, text};
use crate::world::{World, condition, item, millis};
use anyhow::{Context, Result, anyhow, ensure};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, pki_types::PrivateKeyDer};

/// What the condition ItemsReady says: its reason and message.
fn ready(group: &Value) -> (String, String) {
    let (_, reason, message) = condition(group, "ItemsReady");
    (reason, message)
}

fn runs(group: &Value, name: &str) -> i64 {
    item(group, name)["runs"].as_i64().unwrap_or(0)
}

fn has(group: &Value, name: &str) -> bool {
    !item(group, name).is_null()
}

/// Writes the text under a key of a ConfigMap.
async fn list(world: &World, name: &str, key: &str, text: &str) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.namespace);
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { key: text },
    });
    maps.patch(
        name,
        &PatchParams::apply("test").force(),
        &Patch::Apply(&map),
    )
    .await?;
    Ok(())
}

fn from_map() -> Value {
    json!([{ "name": "disks", "configMap": { "name": "disks" } }])
}

#[tokio::test]
async fn a_list_in_a_configmap_is_followed() -> Result<()> {
    let world = World::new("items-map").await?;
    world.work("true", json!({})).await?;
    world
        .group(&["own"], json!({ "itemsFrom": from_map() }))
        .await?;
    // What is listed in the spec does not wait for a list that is not there.
    let group = world
        .until("what is there runs", |g| {
            runs(g, "own") == 1 && ready(g).0 == "SourceFailed"
        })
        .await?;
    ensure!(ready(&group).1.contains("no such ConfigMap"), "{group:#}");
    ensure!(ready(&group).1.contains("no list yet"), "{group:#}");
    let words = world.until_event("group", "ItemsNotReady").await?;
    ensure!(words.contains("ConfigMap disks, key items"), "{words}");

    list(&world, "disks", "items", "# mine\n\n/home\nown\n/var\n").await?;
    let group = world
        .until("all have run", |g| {
            runs(g, "/home") == 1 && runs(g, "/var") == 1
        })
        .await?;
    ensure!(runs(&group, "own") == 1, "{group:#}");
    ensure!(ready(&group).0 == "Listed", "{group:#}");
    ensure!(
        ready(&group).1.contains("3 items from ConfigMap disks"),
        "{group:#}"
    );
    let source = &group["status"]["itemSources"][0];
    ensure!(
        source["items"] == json!(["/home", "own", "/var"]),
        "{group:#}"
    );
    world.until_event("group", "ItemsReady").await?;

    list(&world, "disks", "items", "[\"/home\", \"/srv\"]").await?;
    let group = world
        .until("the new one has run", |g| runs(g, "/srv") == 1)
        .await?;
    let gone = item(&group, "/var");
    ensure!(
        gone["state"] == "Held" && gone["missingSince"].is_string(),
        "{group:#}"
    );
    ensure!(
        text(&gone["message"]).contains("kept for a day"),
        "{group:#}"
    );
    ensure!(
        gone["lastSuccess"].is_string() && runs(&group, "own") == 1,
        "{group:#}"
    );
    let described = world.kubectl(&["describe", "og", "group"]).await?;
    ensure!(
        described.contains("2 items from ConfigMap disks"),
        "{described}"
    );

    // It comes back with its history, and so is not due yet.
    list(&world, "disks", "items", "/home\n/srv\n/var\n").await?;
    let group = world
        .until("it is back", |g| {
            item(g, "/var")["missingSince"].is_null() && state(g) == "Idle"
        })
        .await?;
    ensure!(
        runs(&group, "/var") == 1 && history(&group).len() == 4,
        "{group:#}"
    );
    Ok(())
}

#[tokio::test]
async fn a_list_that_goes_bad_leaves_the_last_good_one_in_force() -> Result<()> {
    let mut world = World::new("items-bad").await?;
    world.work("true", json!({})).await?;
    list(&world, "disks", "items", "a\nb\n").await?;
    world
        .group(&[], json!({ "itemsFrom": from_map(), "frequency": "2s" }))
        .await?;
    world
        .until("both have run", |g| runs(g, "a") > 0 && runs(g, "b") > 0)
        .await?;
    let bad = [
        ("items", "", "write []"),
        ("items", "[1]", "entry 1 is a number"),
        ("other", "a", "no such key under data, but other"),
    ];
    for (key, words, said) in bad {
        list(&world, "disks", key, words).await?;
        let group = world
            .until("it says what is wrong", |g| {
                ready(g).0 == "SourceFailed" && ready(g).1.contains(said)
            })
            .await?;
        ensure!(
            ready(&group).1.contains("stays in effect, with 2 items"),
            "{group:#}"
        );
    }
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.namespace);
    maps.delete("disks", &DeleteParams::default()).await?;
    world
        .until("it says that it is gone", |g| {
            ready(g).1.contains("no such ConfigMap")
        })
        .await?;
    // Over a restart as well: what is in force is in the status.
    world.take_operator().kill().await;
    world.start_operator().await?;
    let before = world.read("group").await?;
    let group = world
        .until("they go on", |g| {
            runs(g, "a") > runs(&before, "a") && runs(g, "b") > runs(&before, "b")
        })
        .await?;
    ensure!(item(&group, "a")["missingSince"].is_null(), "{group:#}");

    list(&world, "disks", "items", "[]").await?;
    let group = world
        .until("it says that there is none", |g| {
            state(g) == "Waiting" && message(g).contains("there are no items; disks: 0 items")
        })
        .await?;
    ensure!(condition(&group, "Ready").1 == "NoItems", "{group:#}");
    ensure!(item(&group, "a")["missingSince"].is_string(), "{group:#}");
    Ok(())
}

/// A source that is a container with this script.
fn printed(script: &str) -> Value {
    let container = json!({ "name": "main", "image": "any", "command": ["sh", "-c", script] });
    json!([{ "name": "disks", "container": {
        "podspec": { "container": container }, "refresh": "10s", "timeout": "20s",
    } }])
}

/// The pods that print lists.
async fn listers(world: &World) -> Result<Vec<k8s_openapi::api::core::v1::Pod>> {
    let params = ListParams::default().labels("oaat.kawaja.net/lists-items-of=group");
    Ok(world.pods().list(&params).await?.items)
}

#[tokio::test]
async fn a_container_prints_the_list_and_is_no_run() -> Result<()> {
    let world = World::new("items-container").await?;
    world.work("true", json!({})).await?;
    let group = json!({ "itemsFrom": printed("echo a; echo b"), "frequency": "1h" });
    world.group(&[], group).await?;
    let group = world
        .until("what it printed has run", |g| {
            runs(g, "a") == 1 && runs(g, "b") == 1
        })
        .await?;
    ensure!(
        group["status"]["run"] == 2 && history(&group).len() == 2,
        "{group:#}"
    );
    ensure!(ready(&group).0 == "Listed", "{group:#}");
    let first = listers(&world).await?;
    ensure!(first.len() == 1, "{first:#?}");
    ensure!(
        !first[0].labels().contains_key("oaat.kawaja.net/group"),
        "{first:#?}"
    );
    let log = world.kubectl(&["logs", &first[0].name_any()]).await?;
    ensure!(log == "a\nb\n", "{log:?}");

    // It is run again in time, and what it prints then counts.
    let tried = |g: &Value| millis(&g["status"]["itemSources"][0]["tried"]);
    let before = tried(&group);
    let group = world
        .until("it is read again", |g| tried(g) > before)
        .await?;
    ensure!(tried(&group) - before >= 10_000, "{group:#}");
    let second = listers(&world).await?;
    ensure!(
        second[0].uid() != first[0].uid(),
        "the same pod was read twice"
    );
    ensure!(group["status"]["run"] == 2, "{group:#}");

    // Another definition is not waited for.
    world
        .change(json!({ "spec": { "itemsFrom": printed("echo a; echo c") } }))
        .await?;
    let group = world
        .until("the new one has run", |g| runs(g, "c") == 1)
        .await?;
    ensure!(item(&group, "b")["missingSince"].is_string(), "{group:#}");

    world
        .change(json!({ "spec": { "itemsFrom": printed("echo no such list >&2; exit 3") } }))
        .await?;
    let group = world
        .until("it says what went wrong", |g| {
            ready(g).0 == "SourceFailed" && ready(g).1.contains("exited with code 3")
        })
        .await?;
    ensure!(
        ready(&group).1.contains("stays in effect, with 2 items"),
        "{group:#}"
    );

    // Without the source its pod goes as well, and its items are missing.
    world
        .change(json!({ "spec": { "itemsFrom": null, "oaatItems": ["own"] } }))
        .await?;
    let group = world
        .until("nothing is left of it", |g| {
            g["status"]["itemSources"].is_null() && runs(g, "own") == 1
        })
        .await?;
    ensure!(listers(&world).await?.is_empty(), "{group:#}");
    ensure!(
        has(&group, "c") && condition(&group, "ItemsReady").0.is_empty(),
        "{group:#}"
    );
    Ok(())
}

#[tokio::test]
async fn a_container_that_does_not_end_or_start_is_ended_and_told() -> Result<()> {
    let world = World::new("items-slow").await?;
    world.work("true", json!({})).await?;
    let mut sources = printed("sleep 600");
    sources[0]["container"]["timeout"] = json!("2s");
    world
        .group(&["own"], json!({ "itemsFrom": sources }))
        .await?;
    let group = world
        .until("it says that it took too long", |g| {
            ready(g).0 == "SourceFailed"
        })
        .await?;
    let (_, words) = ready(&group);
    ensure!(
        words.contains("did not finish within 2s") || words.contains("DeadlineExceeded"),
        "{group:#}"
    );
    world.until_recorded("own").await?;

    let mut misspelt = printed("true");
    misspelt[0]["container"]["podspec"]["container"]["comand"] = json!(["true"]);
    world
        .change(json!({ "spec": { "itemsFrom": misspelt } }))
        .await?;
    world
        .until("it says which field there is none of", |g| {
            ready(g).1.contains("rejected its pod") && ready(g).1.contains("comand")
        })
        .await?;

    let mut refused = printed("true");
    refused[0]["container"]["podspec"]["priorityClassName"] = json!("nowhere");
    world
        .change(json!({ "spec": { "itemsFrom": refused } }))
        .await?;
    let group = world
        .until("it says why it was refused", |g| {
            ready(g).1.contains("nowhere")
        })
        .await?;
    ensure!(ready(&group).1.contains("rejected its pod"), "{group:#}");
    Ok(())
}

/// What is asked for, and what is complete, may depend on a list that has not been read yet.
#[tokio::test]
async fn a_list_that_is_not_read_yet_is_waited_for() -> Result<()> {
    let world = World::new("items-unread").await?;
    world.work("true", json!({})).await?;
    let more = json!({ "itemsFrom": from_map(), "eachOnce": true });
    world.group(&["own"], more).await?;
    world
        .ask(r#"{"token": "1", "items": ["later", "own"]}"#)
        .await?;
    let group = world
        .until("what is there has run", |g| runs(g, "own") > 0)
        .await?;
    ensure!(group["status"]["runNow"]["done"].is_null(), "{group:#}");
    let (complete, _, words) = condition(&group, "Complete");
    ensure!(complete == "False", "{group:#}");
    world
        .until("it says what it waits for", |g| {
            condition(g, "Complete")
                .2
                .contains("the list of disks has not been read yet")
        })
        .await
        .map_err(|error| error.context(words))?;
    list(&world, "disks", "items", "later\n").await?;
    let group = world
        .until("all is done", |g| {
            g["status"]["runNow"]["done"] == true && condition(g, "Complete").0 == "True"
        })
        .await?;
    ensure!(runs(&group, "later") == 1, "{group:#}");

    // One that no source has any more is not run, whoever asks for it.
    list(&world, "disks", "items", "other\n").await?;
    world
        .until("it is missing", |g| {
            item(g, "later")["missingSince"].is_string() && runs(g, "other") == 1
        })
        .await?;
    world.ask(r#"{"token": "2", "items": ["later"]}"#).await?;
    let group = world
        .until("it is told", |g| {
            text(&g["status"]["runNow"]["problem"]).contains("unknown items: later")
        })
        .await?;
    world.look().await?;
    ensure!(runs(&world.read("group").await?, "later") == 1, "{group:#}");
    Ok(())
}

#[tokio::test]
async fn no_container_is_started_while_the_group_is_suspended() -> Result<()> {
    let world = World::new("items-suspended").await?;
    world.work("true", json!({})).await?;
    let group = json!({ "itemsFrom": printed("echo a"), "suspend": true });
    world.group(&[], group).await?;
    let group = world
        .until("it is suspended", |g| state(g) == "Suspended")
        .await?;
    ensure!(ready(&group).1.contains("no pod is started"), "{group:#}");
    world.look().await?;
    ensure!(listers(&world).await?.is_empty(), "{group:#}");
    world
        .change(json!({ "spec": { "suspend": false } }))
        .await?;
    world.until_recorded("a").await?;
    Ok(())
}

/// A web server: what it says, and the requests that it had.
#[derive(Default)]
struct Web {
    /// Status, headers, and text.
    says: (u16, Vec<(&'static str, String)>, String),
    had: Vec<http::request::Parts>,
}

/// Starts one; gives what it says, to be changed, and its port. With a certificate it speaks TLS.
async fn web(tls: Option<TlsAcceptor>) -> Result<(Arc<Mutex<Web>>, u16)> {
    let web: Arc<Mutex<Web>> = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let shared = web.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let shared = shared.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let mut web = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let (parts, _) = request.into_parts();
                let (status, headers, text) = web.says.clone();
                web.had.push(parts);
                let mut response = Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                let response = response.body(text);
                async move { response }
            });
            let tls = tls.clone();
            tokio::spawn(async move {
                let http = http1::Builder::new();
                match tls {
                    None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            let _ = http.serve_connection(TokioIo::new(stream), service).await;
                        }
                    }
                }
            });
        }
    });
    Ok((web, port))
}

/// Waits until the source has failed with these words.
async fn until_failed(world: &World, words: &str) -> Result<Value> {
    world
        .until(words, |g| {
            ready(g).0 == "SourceFailed" && ready(g).1.contains(words)
        })
        .await
}

/// What the Pod Security Standard `restricted` asks of a type.
fn restricted() -> Value {
    let container = json!({
        "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
    });
    json!({ "podspec": {
        "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
        "container": { "securityContext": container },
    } })
}

#[tokio::test]
async fn a_pod_asks_the_web_server_with_a_header_from_a_secret() -> Result<()> {
    let world = World::new("items-http").await?;
    let enforced = "pod-security.kubernetes.io/enforce=restricted";
    world
        .kubectl(&["label", "namespace", &world.namespace, enforced])
        .await?;
    world.work("true", restricted()).await?;
    let (web, port) = web(None).await?;
    let disks = r#"{"disks": [{"name": "a"}, {"name": "b$(HOME)"}]}"#;
    web.lock().unwrap().says = (200, vec![], disks.into());
    let secret = json!({ "secretKeyRef": { "name": "lists", "key": "token" } });
    let source = json!([{ "name": "disks", "http": {
        "url": format!("http://localhost:{port}/disks?secret=$(HOME)$$"), "refresh": "10s",
        "jsonPath": "$.disks[*].name", "headers": { "Accept": "$(OAAT_HEADER_0)" },
        "headersFrom": [{ "name": "Authorization", "valueFrom": secret }],
    } }]);
    let spec = json!({ "itemsFrom": source, "suspend": true, "frequency": "1h" });
    world.group(&[], spec).await?;
    let group = world
        .until("it is suspended", |g| state(g) == "Suspended")
        .await?;
    ensure!(listers(&world).await?.is_empty(), "{group:#}");

    // Only the kubelet reads the Secret.
    world
        .change(json!({ "spec": { "suspend": false } }))
        .await?;
    let group = world
        .until("the Secret is missing", |g| {
            ready(g).1.contains("secret \"lists\" not found")
        })
        .await?;
    ensure!(!ready(&group).1.contains("secret="), "{group:#}");
    let token = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "lists" },
        "stringData": { "token": "Bearer $(HOME)\n" },
    });
    world.apply(&token.to_string()).await?;
    let group = world
        .until("what it lists has run", |g| {
            runs(g, "a") == 1 && runs(g, "b$(HOME)") == 1
        })
        .await?;
    ensure!(ready(&group).0 == "Listed", "{group:#}");
    ensure!(
        ready(&group)
            .1
            .contains(&format!("2 items from http://localhost:{port}/disks, read")),
        "{group:#}"
    );
    let asked = web.lock().unwrap().had.pop().context("it was not asked")?;
    ensure!(
        asked.headers["authorization"] == "Bearer $(HOME)",
        "{asked:?}"
    );
    ensure!(asked.headers["accept"] == "$(OAAT_HEADER_0)", "{asked:?}");
    ensure!(asked.uri == "/disks?secret=$(HOME)$$", "{asked:?}");
    let pods = listers(&world).await?;
    ensure!(pods.len() == 1, "{pods:#?}");
    let log = world.kubectl(&["logs", &pods[0].name_any()]).await?;
    ensure!(
        serde_json::from_str::<Value>(&log)? == json!(["a", "b$(HOME)"]),
        "{log}"
    );

    // It is asked again in time.
    web.lock().unwrap().says.2 = r#"{"disks": [{"name": "c"}]}"#.into();
    let group = world
        .until("the new one has run", |g| runs(g, "c") == 1)
        .await?;
    ensure!(item(&group, "a")["missingSince"].is_string(), "{group:#}");
    ensure!(listers(&world).await?.len() == 1, "{group:#}");
    Ok(())
}

#[tokio::test]
async fn the_group_says_why_a_web_server_gave_no_list() -> Result<()> {
    let mut world = World::without_operator("items-http-bad").await?;
    world.environment = vec![("OAAT_IMAGE", String::new())];
    world.start_operator().await?;
    world.work("true", json!({})).await?;
    let (web, port) = web(None).await?;
    let source = |more: Value| {
        let mut http = json!({ "url": format!("http://localhost:{port}/"), "refresh": "10s" });
        if let (Some(http), Some(more)) = (http.as_object_mut(), more.as_object()) {
            http.extend(more.clone());
        }
        json!([{ "name": "disks", "http": http }])
    };
    web.lock().unwrap().says = (200, vec![], r#"["a", "b"]"#.into());
    world
        .group(&["own"], json!({ "itemsFrom": source(json!({})) }))
        .await?;
    let group = until_failed(&world, "set the environment variable OAAT_IMAGE").await?;
    ensure!(listers(&world).await?.is_empty(), "{group:#}");
    // Nothing else waits for it, and it is not written again and again.
    world.until_recorded("own").await?;
    world.look().await?;
    let tried = |g: &Value| g["status"]["itemSources"][0]["tried"].clone();
    ensure!(
        tried(&world.read("group").await?) == tried(&group),
        "{group:#}"
    );

    world.take_operator().kill().await;
    world.environment.clear();
    world.start_operator().await?;
    world
        .until("it is read", |g| runs(g, "a") == 1 && runs(g, "b") == 1)
        .await?;

    let object = r#"{"a": ["x"]}"#;
    let html = vec![("content-type", "text/html; charset=utf-8".to_owned())];
    let away = vec![("location", "http://10.0.0.1/".to_owned())];
    let long = "x\n".repeat(1 << 20);
    for (path, status, headers, text, words) in [
        ("$", 503, vec![], "", "responded with status 503 Service Unavailable"),
        ("$", 200, vec![], "<html>", "the answer is not JSON"),
        ("$", 200, html, "a", "an HTML page"),
        (
            "$",
            302,
            away,
            "",
            "redirects to http://10.0.0.1/, which is not followed",
        ),
        ("$.b", 200, vec![], object, "jsonPath selects nothing"),
        (
            "$.a[0]",
            200,
            vec![],
            r#"{"a": [5]}"#,
            "entry 1 is a number",
        ),
        (
            "$.a",
            200,
            vec![],
            long.as_str(),
            "longer than 1048576 bytes",
        ),
    ] {
        web.lock().unwrap().says = (status, headers, text.into());
        let sources = source(json!({ "jsonPath": path }));
        world
            .change(json!({ "spec": { "itemsFrom": sources } }))
            .await?;
        let group = until_failed(&world, words).await?;
        ensure!(
            ready(&group).1.contains("stays in effect, with 2 items"),
            "{group:#}"
        );
    }
    let nowhere = json!([{ "name": "disks", "http": { "url": "http://127.0.0.1:1/" } }]);
    world
        .change(json!({ "spec": { "itemsFrom": nowhere } }))
        .await?;
    let group = until_failed(&world, "the request failed").await?;
    ensure!(ready(&group).1.contains("refused"), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn a_web_servers_certificate_is_verified() -> Result<()> {
    let world = World::new("items-https").await?;
    world.work("true", json!({})).await?;
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![own.cert.der().clone()],
            key.map_err(|e| anyhow!("{e}"))?,
        )?;
    let (web, port) = web(Some(TlsAcceptor::from(Arc::new(config)))).await?;
    web.lock().unwrap().says = (200, vec![], "a".into());
    let source = |more: Value| {
        let mut http = json!({ "url": format!("https://localhost:{port}/"), "refresh": "10s" });
        if let (Some(http), Some(more)) = (http.as_object_mut(), more.as_object()) {
            http.extend(more.clone());
        }
        json!([{ "name": "disks", "http": http }])
    };
    world
        .group(&[], json!({ "itemsFrom": source(json!({})) }))
        .await?;
    let group = world
        .until("it is not believed", |g| ready(g).0 == "SourceFailed")
        .await?;
    ensure!(ready(&group).1.contains("certificate"), "{group:#}");
    let trusted = source(json!({ "caBundle": own.cert.pem() }));
    world
        .change(json!({ "spec": { "itemsFrom": trusted } }))
        .await?;
    world
        .until("what it lists has run", |g| runs(g, "a") == 1)
        .await?;
    Ok(())
}

#[tokio::test]
async fn the_example_of_lists_is_followed_to_its_end() -> Result<()> {
    let world = World::new("items-example").await?;
    world
        .apply(include_str!("../../../manifests/examples/lists.yaml"))
        .await?;
    let group = world
        .until_object("OaatGroup", "archive", "all have run", |g| {
            ["/srv/fixed", "customers", "orders", "invoices"]
                .iter()
                .all(|name| runs(g, name) == 1)
        })
        .await?;
    ensure!(
        group["status"]["itemSources"][1]["items"] == json!(["orders", "invoices"]),
        "{group:#}"
    );
    Ok(())
}
