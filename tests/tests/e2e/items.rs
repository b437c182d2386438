//! Items from lists: in ConfigMaps, printed by containers, and behind URLs.

use crate::bad_input::message;
use crate::fixture::{Fixture, condition, item, millis};
use crate::helpers::{history, state, text};
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

/// Returns the reason and the message of the condition ItemsReady.
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

/// Writes a text to a key of a ConfigMap.
async fn list(fixture: &Fixture, name: &str, key: &str, text: &str) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(fixture.client.clone(), &fixture.namespace);
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
async fn item_list_in_a_config_map_is_followed() -> Result<()> {
    let fixture = Fixture::new("items-map").await?;
    fixture.work("true", json!({})).await?;
    fixture
        .group(&["own"], json!({ "itemsFrom": from_map() }))
        .await?;
    // Items of the spec do not wait for a missing list.
    let group = fixture
        .until("the available items run", |g| {
            runs(g, "own") == 1 && ready(g).0 == "SourceFailed"
        })
        .await?;
    ensure!(ready(&group).1.contains("no such ConfigMap"), "{group:#}");
    ensure!(
        ready(&group).1.contains("no list has been read yet"),
        "{group:#}"
    );
    let words = fixture.until_event("group", "ItemsNotReady").await?;
    ensure!(words.contains("ConfigMap disks, key items"), "{words}");

    list(&fixture, "disks", "items", "# mine\n\n/home\nown\n/var\n").await?;
    let group = fixture
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
    fixture.until_event("group", "ItemsReady").await?;

    list(&fixture, "disks", "items", "[\"/home\", \"/srv\"]").await?;
    let group = fixture
        .until("the new item has run", |g| runs(g, "/srv") == 1)
        .await?;
    let gone = item(&group, "/var");
    ensure!(
        gone["state"] == "Held" && gone["missingSince"].is_string(),
        "{group:#}"
    );
    ensure!(
        text(&gone["message"]).contains("kept for one day"),
        "{group:#}"
    );
    ensure!(
        gone["lastSuccess"].is_string() && runs(&group, "own") == 1,
        "{group:#}"
    );
    let described = fixture.kubectl(&["describe", "og", "group"]).await?;
    ensure!(
        described.contains("2 items from ConfigMap disks"),
        "{described}"
    );

    // It returns with its history, so it is not due yet.
    list(&fixture, "disks", "items", "/home\n/srv\n/var\n").await?;
    let group = fixture
        .until("the item is in the list again", |g| {
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
async fn invalid_item_list_leaves_the_last_good_one_in_effect() -> Result<()> {
    let mut fixture = Fixture::new("items-bad").await?;
    fixture.work("true", json!({})).await?;
    list(&fixture, "disks", "items", "a\nb\n").await?;
    fixture
        .group(&[], json!({ "itemsFrom": from_map(), "frequency": "2s" }))
        .await?;
    fixture
        .until("both have run", |g| runs(g, "a") > 0 && runs(g, "b") > 0)
        .await?;
    let bad = [
        ("items", "", "write []"),
        ("items", "[1]", "entry 1 is a number"),
        ("other", "a", "no such key under data; keys: other"),
    ];
    for (key, words, said) in bad {
        list(&fixture, "disks", key, words).await?;
        let group = fixture
            .until("the problem is reported", |g| {
                ready(g).0 == "SourceFailed" && ready(g).1.contains(said)
            })
            .await?;
        ensure!(
            ready(&group).1.contains("with 2 items, stays in effect"),
            "{group:#}"
        );
    }
    let maps: Api<ConfigMap> = Api::namespaced(fixture.client.clone(), &fixture.namespace);
    maps.delete("disks", &DeleteParams::default()).await?;
    fixture
        .until("the missing ConfigMap is reported", |g| {
            ready(g).1.contains("no such ConfigMap")
        })
        .await?;
    // Also after a restart, because the list in effect is in the status.
    fixture.take_operator().kill().await;
    fixture.start_operator().await?;
    let before = fixture.read("group").await?;
    let group = fixture
        .until("the items continue to run", |g| {
            runs(g, "a") > runs(&before, "a") && runs(g, "b") > runs(&before, "b")
        })
        .await?;
    ensure!(item(&group, "a")["missingSince"].is_null(), "{group:#}");

    list(&fixture, "disks", "items", "[]").await?;
    let group = fixture
        .until("the group reports that it has no items", |g| {
            state(g) == "Waiting" && message(g).contains("there are no items; disks: 0 items")
        })
        .await?;
    ensure!(condition(&group, "Ready").1 == "NoItems", "{group:#}");
    ensure!(item(&group, "a")["missingSince"].is_string(), "{group:#}");
    Ok(())
}

/// Returns a container source with this script.
fn printed(script: &str) -> Value {
    let container = json!({ "name": "main", "image": "any", "command": ["sh", "-c", script] });
    json!([{ "name": "disks", "container": {
        "podspec": { "container": container }, "refresh": "10s", "timeout": "20s",
    } }])
}

/// Returns the pods that print lists.
async fn listers(fixture: &Fixture) -> Result<Vec<k8s_openapi::api::core::v1::Pod>> {
    let params = ListParams::default().labels("oaat.kawaja.net/lists-items-of=group");
    Ok(fixture.pods().list(&params).await?.items)
}

#[tokio::test]
async fn container_prints_the_item_list_and_is_not_a_run() -> Result<()> {
    let fixture = Fixture::new("items-container").await?;
    fixture.work("true", json!({})).await?;
    let mut source = printed("echo a; echo b");
    source[0]["container"]["refresh"] = "1h".into();
    let group = json!({ "itemsFrom": source, "frequency": "1h" });
    fixture.group(&[], group).await?;
    let group = fixture
        .until("the printed items have run", |g| {
            runs(g, "a") == 1 && runs(g, "b") == 1
        })
        .await?;
    ensure!(
        group["status"]["run"] == 2 && history(&group).len() == 2,
        "{group:#}"
    );
    ensure!(ready(&group).0 == "Listed", "{group:#}");
    let first = listers(&fixture).await?;
    ensure!(first.len() == 1, "{first:#?}");
    ensure!(
        !first[0].labels().contains_key("oaat.kawaja.net/group"),
        "{first:#?}"
    );
    let log = fixture.kubectl(&["logs", &first[0].name_any()]).await?;
    ensure!(log == "a\nb\n", "{log:?}");

    // The container runs again after its source changes and after `refresh`.
    source[0]["container"]["refresh"] = "10s".into();
    fixture
        .change(json!({ "spec": { "itemsFrom": source } }))
        .await?;
    let tried = |g: &Value| millis(&g["status"]["itemSources"][0]["tried"]);
    let before = tried(&group);
    let group = fixture
        .until("the changed source is read", |g| tried(g) > before)
        .await?;
    let before = tried(&group);
    let group = fixture
        .until("the list is read again", |g| tried(g) > before)
        .await?;
    ensure!(tried(&group) - before >= 10_000, "{group:#}");
    fixture.until_pod_gone(&first[0].name_any()).await?;
    ensure!(group["status"]["run"] == 2, "{group:#}");

    // A changed definition takes effect at once.
    fixture
        .change(json!({ "spec": { "itemsFrom": printed("echo a; echo c") } }))
        .await?;
    let group = fixture
        .until("the new item has run", |g| runs(g, "c") == 1)
        .await?;
    ensure!(item(&group, "b")["missingSince"].is_string(), "{group:#}");

    fixture
        .change(json!({ "spec": { "itemsFrom": printed("echo no such list >&2; exit 3") } }))
        .await?;
    let group = fixture
        .until("the failure is reported", |g| {
            ready(g).0 == "SourceFailed" && ready(g).1.contains("exited with code 3")
        })
        .await?;
    ensure!(
        ready(&group).1.contains("with 2 items, stays in effect"),
        "{group:#}"
    );

    // Without the source, its pod is deleted and its items are missing.
    fixture
        .change(json!({ "spec": { "itemsFrom": null, "oaatItems": ["own"] } }))
        .await?;
    let group = fixture
        .until("the source and its pod are removed", |g| {
            g["status"]["itemSources"].is_null() && runs(g, "own") == 1
        })
        .await?;
    ensure!(listers(&fixture).await?.is_empty(), "{group:#}");
    ensure!(
        has(&group, "c") && condition(&group, "ItemsReady").0.is_empty(),
        "{group:#}"
    );
    Ok(())
}

#[tokio::test]
async fn item_list_container_that_does_not_end_or_start_is_deleted_and_reported() -> Result<()> {
    let fixture = Fixture::new("items-slow").await?;
    fixture.work("true", json!({})).await?;
    let mut sources = printed("sleep 600");
    sources[0]["container"]["timeout"] = json!("2s");
    fixture
        .group(&["own"], json!({ "itemsFrom": sources }))
        .await?;
    let group = fixture
        .until("the timeout is reported", |g| ready(g).0 == "SourceFailed")
        .await?;
    let (_, words) = ready(&group);
    ensure!(
        words.contains("did not finish within 2s") || words.contains("DeadlineExceeded"),
        "{group:#}"
    );
    fixture.until_recorded("own").await?;

    let mut misspelt = printed("true");
    misspelt[0]["container"]["podspec"]["container"]["comand"] = json!(["true"]);
    fixture
        .change(json!({ "spec": { "itemsFrom": misspelt } }))
        .await?;
    fixture
        .until("the unknown field is reported", |g| {
            ready(g).1.contains("rejected its pod") && ready(g).1.contains("comand")
        })
        .await?;

    let mut refused = printed("true");
    refused[0]["container"]["podspec"]["priorityClassName"] = json!("nowhere");
    fixture
        .change(json!({ "spec": { "itemsFrom": refused } }))
        .await?;
    let group = fixture
        .until("the reason for the rejection is reported", |g| {
            ready(g).1.contains("nowhere")
        })
        .await?;
    ensure!(ready(&group).1.contains("rejected its pod"), "{group:#}");
    Ok(())
}

/// Requests and completion may depend on a list that has not been read yet.
#[tokio::test]
async fn group_waits_for_an_item_list_that_was_not_read() -> Result<()> {
    let fixture = Fixture::new("items-unread").await?;
    fixture.work("true", json!({})).await?;
    let more = json!({ "itemsFrom": from_map(), "eachOnce": true });
    fixture.group(&["own"], more).await?;
    fixture
        .ask(r#"{"token": "1", "items": ["later", "own"]}"#)
        .await?;
    let group = fixture
        .until("the available items have run", |g| runs(g, "own") > 0)
        .await?;
    ensure!(group["status"]["runNow"]["done"].is_null(), "{group:#}");
    let (complete, _, words) = condition(&group, "Complete");
    ensure!(complete == "False", "{group:#}");
    fixture
        .until("the unread source is reported", |g| {
            condition(g, "Complete")
                .2
                .contains("sources not read yet: disks")
        })
        .await
        .map_err(|error| error.context(words))?;
    list(&fixture, "disks", "items", "later\n").await?;
    let group = fixture
        .until("all is done", |g| {
            g["status"]["runNow"]["done"] == true && condition(g, "Complete").0 == "True"
        })
        .await?;
    ensure!(runs(&group, "later") == 1, "{group:#}");

    // An item that is in no source does not run, even if it is requested.
    list(&fixture, "disks", "items", "other\n").await?;
    fixture
        .until("the item is missing", |g| {
            item(g, "later")["missingSince"].is_string() && runs(g, "other") == 1
        })
        .await?;
    fixture.ask(r#"{"token": "2", "items": ["later"]}"#).await?;
    let group = fixture
        .until("the ignored request is reported", |g| {
            text(&g["status"]["runNow"]["problem"]).contains("unknown items: later")
        })
        .await?;
    fixture.look().await?;
    ensure!(
        runs(&fixture.read("group").await?, "later") == 1,
        "{group:#}"
    );
    Ok(())
}

#[tokio::test]
async fn suspended_group_starts_no_item_list_container() -> Result<()> {
    let fixture = Fixture::new("items-suspended").await?;
    fixture.work("true", json!({})).await?;
    let group = json!({ "itemsFrom": printed("echo a"), "suspend": true });
    fixture.group(&[], group).await?;
    let group = fixture
        .until("the group is suspended", |g| state(g) == "Suspended")
        .await?;
    ensure!(ready(&group).1.contains("no pod is started"), "{group:#}");
    fixture.look().await?;
    ensure!(listers(&fixture).await?.is_empty(), "{group:#}");
    fixture
        .change(json!({ "spec": { "suspend": false } }))
        .await?;
    fixture.until_recorded("a").await?;
    Ok(())
}

/// A web server: its response, and the requests that it received.
#[derive(Default)]
pub(crate) struct Web {
    /// The status, headers, and body.
    pub(crate) says: (u16, Vec<(&'static str, String)>, String),
    had: Vec<http::request::Parts>,
}

/// Starts a web server. Returns its response, which the test may change, and its port. With a
/// certificate, it uses TLS.
pub(crate) async fn web(tls: Option<TlsAcceptor>) -> Result<(Arc<Mutex<Web>>, u16)> {
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

/// Waits until the source has failed with this message.
async fn until_failed(fixture: &Fixture, words: &str) -> Result<Value> {
    fixture
        .until(words, |g| {
            ready(g).0 == "SourceFailed" && ready(g).1.contains(words)
        })
        .await
}

/// Returns the fields that the Pod Security Standard `restricted` requires.
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
async fn http_item_list_is_requested_with_a_header_from_a_secret() -> Result<()> {
    let fixture = Fixture::new("items-http").await?;
    let enforced = "pod-security.kubernetes.io/enforce=restricted";
    fixture
        .kubectl(&["label", "namespace", &fixture.namespace, enforced])
        .await?;
    fixture.work("true", restricted()).await?;
    let (web, port) = web(None).await?;
    let disks = r#"{"disks": [{"name": "a"}, {"name": "b$(HOME)"}]}"#;
    web.lock().unwrap().says = (200, vec![], disks.into());
    let secret = json!({ "secretKeyRef": { "name": "lists", "key": "token" } });
    let mut source = json!([{ "name": "disks", "http": {
        "url": format!("http://localhost:{port}/disks?secret=$(HOME)$$"), "refresh": "1h",
        "jsonPath": "$.disks[*].name", "headers": { "Accept": "$(OAAT_HEADER_0)" },
        "headersFrom": [{ "name": "Authorization", "valueFrom": secret }],
    } }]);
    let spec = json!({ "itemsFrom": source, "suspend": true, "frequency": "1h" });
    fixture.group(&[], spec).await?;
    let group = fixture
        .until("the group is suspended", |g| state(g) == "Suspended")
        .await?;
    ensure!(listers(&fixture).await?.is_empty(), "{group:#}");

    // Only the kubelet reads the Secret.
    fixture
        .change(json!({ "spec": { "suspend": false } }))
        .await?;
    let group = fixture
        .until("the Secret is missing", |g| {
            ready(g).1.contains("secret \"lists\" not found")
        })
        .await?;
    ensure!(!ready(&group).1.contains("secret="), "{group:#}");
    let token = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "lists" },
        "stringData": { "token": "Bearer $(HOME)\n" },
    });
    fixture.apply(&token.to_string()).await?;
    let group = fixture
        .until("the listed items have run", |g| {
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
    let asked = web
        .lock()
        .unwrap()
        .had
        .pop()
        .context("the server received no request")?;
    ensure!(
        asked.headers["authorization"] == "Bearer $(HOME)",
        "{asked:?}"
    );
    ensure!(asked.headers["accept"] == "$(OAAT_HEADER_0)", "{asked:?}");
    ensure!(asked.uri == "/disks?secret=$(HOME)$$", "{asked:?}");
    let pods = listers(&fixture).await?;
    ensure!(pods.len() == 1, "{pods:#?}");
    let log = fixture.kubectl(&["logs", &pods[0].name_any()]).await?;
    ensure!(
        serde_json::from_str::<Value>(&log)? == json!(["a", "b$(HOME)"]),
        "{log}"
    );

    // It is requested again after the refresh time.
    web.lock().unwrap().says.2 = r#"{"disks": [{"name": "c"}]}"#.into();
    source[0]["http"]["refresh"] = "10s".into();
    fixture
        .change(json!({ "spec": { "itemsFrom": source } }))
        .await?;
    let group = fixture
        .until("the new item has run", |g| runs(g, "c") == 1)
        .await?;
    ensure!(item(&group, "a")["missingSince"].is_string(), "{group:#}");
    ensure!(listers(&fixture).await?.len() <= 1, "{group:#}");
    Ok(())
}

#[tokio::test]
async fn http_item_list_failure_is_reported_on_the_group() -> Result<()> {
    let mut fixture = Fixture::without_operator("items-http-bad").await?;
    fixture.environment = vec![("OAAT_IMAGE", String::new())];
    fixture.start_operator().await?;
    fixture.work("true", json!({})).await?;
    let (web, port) = web(None).await?;
    let source = |more: Value| {
        let mut http = json!({ "url": format!("http://localhost:{port}/"), "refresh": "10s" });
        if let (Some(http), Some(more)) = (http.as_object_mut(), more.as_object()) {
            http.extend(more.clone());
        }
        json!([{ "name": "disks", "http": http }])
    };
    web.lock().unwrap().says = (200, vec![], r#"["a", "b"]"#.into());
    fixture
        .group(
            &["own"],
            json!({ "itemsFrom": source(json!({ "refresh": "1h" })) }),
        )
        .await?;
    let group = until_failed(&fixture, "set the environment variable OAAT_IMAGE").await?;
    ensure!(listers(&fixture).await?.is_empty(), "{group:#}");
    // Nothing else waits for it, and the status is not written repeatedly.
    fixture.until_recorded("own").await?;
    fixture.look().await?;
    let tried = |g: &Value| g["status"]["itemSources"][0]["tried"].clone();
    ensure!(
        tried(&fixture.read("group").await?) == tried(&group),
        "{group:#}"
    );

    fixture.take_operator().kill().await;
    fixture.environment.clear();
    fixture.start_operator().await?;
    fixture
        .change(json!({ "spec": { "itemsFrom": source(json!({})) } }))
        .await?;
    fixture
        .until("it is read", |g| runs(g, "a") == 1 && runs(g, "b") == 1)
        .await?;

    let object = r#"{"a": ["x"]}"#;
    let html = vec![("content-type", "text/html; charset=utf-8".to_owned())];
    let away = vec![("location", "http://10.0.0.1/".to_owned())];
    let long = "x\n".repeat(1 << 20);
    for (path, status, headers, text, words) in [
        (
            "$",
            503,
            vec![],
            "",
            "responded with status 503 Service Unavailable",
        ),
        ("$", 200, vec![], "<html>", "the response is not JSON"),
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
        fixture
            .change(json!({ "spec": { "itemsFrom": sources } }))
            .await?;
        let group = until_failed(&fixture, words).await?;
        ensure!(
            ready(&group).1.contains("with 2 items, stays in effect"),
            "{group:#}"
        );
    }
    let nowhere = json!([{ "name": "disks", "http": { "url": "http://127.0.0.1:1/" } }]);
    fixture
        .change(json!({ "spec": { "itemsFrom": nowhere } }))
        .await?;
    let group = until_failed(&fixture, "the request failed").await?;
    ensure!(ready(&group).1.contains("refused"), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn http_item_list_certificate_is_verified() -> Result<()> {
    let fixture = Fixture::new("items-https").await?;
    fixture.work("true", json!({})).await?;
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
    fixture
        .group(&[], json!({ "itemsFrom": source(json!({})) }))
        .await?;
    let group = fixture
        .until("the certificate is rejected", |g| {
            ready(g).0 == "SourceFailed"
        })
        .await?;
    ensure!(ready(&group).1.contains("certificate"), "{group:#}");
    let trusted = source(json!({ "caBundle": own.cert.pem() }));
    fixture
        .change(json!({ "spec": { "itemsFrom": trusted } }))
        .await?;
    fixture
        .until("the listed items have run", |g| runs(g, "a") == 1)
        .await?;
    Ok(())
}

#[tokio::test]
async fn example_of_item_lists_completes() -> Result<()> {
    let fixture = Fixture::new("items-example").await?;
    fixture
        .apply(include_str!("../../../manifests/examples/lists.yaml"))
        .await?;
    let group = fixture
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
