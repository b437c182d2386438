//! The examples in manifests/alertmanager: a real Alertmanager receives the alerts that
//! `data/alerts_test.yaml` expects from Prometheus, and notifies a receiver in this process.

use anyhow::{Context, Result, ensure};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use oaat_tests::operator::root;
use oaat_tests::{Supervised, chart};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

const PATIENCE: Duration = Duration::from_secs(60);

/// A request to the receiver.
#[derive(Clone, Debug)]
struct Received {
    path: String,
    headers: HeaderMap,
    body: Value,
}

/// An HTTP server that accepts and records all requests.
struct Receiver {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let received = Arc::default();
        let requests: Arc<Mutex<Vec<Received>>> = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let requests = Arc::clone(&requests);
                let record = service_fn(move |request| record(request, Arc::clone(&requests)));
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(TokioIo::new(stream), record));
            }
        });
        Ok(Self { address, received })
    }

    fn received(&self) -> Vec<Received> {
        let received = self.received.lock();
        received.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn record(
    request: Request<Incoming>,
    requests: Arc<Mutex<Vec<Received>>>,
) -> Result<Response<String>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let received = Received {
        path: head.uri.path().to_owned(),
        headers: head.headers,
        body: serde_json::from_slice(&body)?,
    };
    let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
    requests.push(received);
    Ok(Response::new("ok".to_owned()))
}

/// An Alertmanager with one of the examples.
struct Alertmanager {
    process: Supervised,
    address: String,
    folder: TempDir,
}

impl Alertmanager {
    /// Starts Alertmanager with an example that sends to the receiver, without waiting for more
    /// alerts.
    async fn start(example: &str, receiver: &Receiver) -> Result<Self> {
        let program = ::control_plane::ensure_alertmanager(&|line| eprintln!("{line}"))?;
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let address = format!("http://{}", receiver.address);
        let mut text = fs::read_to_string(root().join("manifests/alertmanager").join(example))?;
        for (shipped, tested) in [
            ("/etc/alertmanager/secrets", &*path("")),
            ("https://ntfy.example.com", &address),
            ("https://receiver.example.com", &address),
            ("group_wait: 30s", "group_wait: 0s"),
            ("group_interval: 5m", "group_interval: 1s"),
        ] {
            text = text.replace(shipped, tested);
        }
        ensure!(
            !text.contains("https://") && text.contains(": 1s"),
            "{text}"
        );
        fs::write(path("alertmanager.yaml"), text)?;
        fs::write(path("slack-url"), format!("{address}/slack"))?;
        fs::write(path("ntfy-token"), "a secret")?;
        fs::write(path("webhook-token"), "a secret")?;
        let mut command = Command::new(program);
        command.args([
            format!("--config.file={}", path("alertmanager.yaml")),
            format!("--storage.path={}", path("data")),
            "--web.listen-address=127.0.0.1:0".to_owned(),
            "--cluster.listen-address=".to_owned(),
            "--log.format=json".to_owned(),
        ]);
        let log = folder.path().join("log");
        let process = Supervised::spawn(command, &log)?;
        let began = Instant::now();
        loop {
            let lines = fs::read_to_string(&log)?;
            let mut lines = lines.lines().filter_map(|l| serde_json::from_str(l).ok());
            let listening = lines.find(|line: &Value| line["msg"] == "Listening on");
            if let Some(address) = listening.as_ref().and_then(|l| l["address"].as_str()) {
                return Ok(Self {
                    process,
                    address: address.to_owned(),
                    folder,
                });
            }
            ensure!(
                process.is_running() && began.elapsed() < PATIENCE,
                "Alertmanager does not listen: {}",
                fs::read_to_string(&log)?
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends alerts as Prometheus does.
    async fn post(&self, alerts: &[Value]) -> Result<()> {
        let body = json!(alerts).to_string();
        let mut stream = TcpStream::connect(&self.address).await?;
        let request = format!(
            "POST /api/v2/alerts HTTP/1.1\r\nHost: alertmanager\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        Ok(())
    }

    /// Waits until the receiver has all messages.
    async fn until(&self, what: &str, done: impl Fn() -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        while !done()? {
            let log = fs::read_to_string(self.folder.path().join("log"))?;
            ensure!(self.process.is_running(), "{log}");
            ensure!(began.elapsed() < PATIENCE, "{what} was not received: {log}");
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

/// Returns one alert of each kind, as Prometheus sends it. promtool checks in `../alerts.rs` that
/// the rules result in these alerts.
fn alerts() -> Result<Vec<Value>> {
    let cases = fs::read_to_string(root().join("tests/data/alerts_test.yaml"))?;
    let cases: Value = serde_norway::from_str(&cases)?;
    let groups = cases["tests"].as_array().context("no tests")?;
    let cases = groups
        .iter()
        .filter_map(|g| g["alert_rule_test"].as_array());
    let mut alerts = BTreeMap::new();
    for case in cases.flatten() {
        let name = case["alertname"].as_str().context("no alertname")?;
        let Some(alert) = case["exp_alerts"].get(0) else {
            continue;
        };
        let mut labels = alert["exp_labels"].clone();
        labels["alertname"] = name.into();
        let annotations = &alert["exp_annotations"];
        alerts.insert(
            name,
            json!({ "labels": labels, "annotations": annotations }),
        );
    }
    Ok(alerts.into_values().collect())
}

/// Returns the alerts as resolved.
fn resolved(alerts: &[Value]) -> Vec<Value> {
    let mut alerts = alerts.to_vec();
    for alert in &mut alerts {
        alert["endsAt"] = k8s_openapi::jiff::Timestamp::now().to_string().into();
    }
    alerts
}

/// A message as its reader sees it.
#[derive(Debug, Deserialize)]
struct Message {
    title: String,
    text: String,
}

fn slack(received: &[Received]) -> Result<Vec<Message>> {
    let read = |received: &Received| {
        ensure!(received.path == "/slack", "{received:?}");
        ensure!(received.body["channel"] == "#jobs", "{received:?}");
        let attachment = &received.body["attachments"][0];
        let part = |name: &str| attachment[name].as_str().unwrap_or_default().to_owned();
        Ok(Message {
            title: part("title"),
            text: part("text"),
        })
    };
    received.iter().map(read).collect()
}

/// Renders the templates in the headers with Helm, because ntfy also uses the templates of Go.
fn ntfy(received: &[Received]) -> Result<Vec<Message>> {
    let mut templates = BTreeSet::new();
    for message in received {
        let header = |name| message.headers.get(name).and_then(|v| v.to_str().ok());
        ensure!(message.path == "/jobs", "{message:?}");
        ensure!(header("authorization") == Some("Bearer a secret"));
        ensure!(header("x-template") == Some("yes"), "{message:?}");
        // ntfy replaces the newlines.
        let text = header("x-message").context("no message")?;
        let text = text.replace("\\n", "\n");
        templates.insert((header("x-title").context("no title")?, text));
    }
    ensure!(templates.len() == 1, "{templates:?}");
    let (title, text) = templates.pop_first().context("no templates")?;
    let chart = tempfile::tempdir()?;
    let path = |name| chart.path().join(name);
    fs::create_dir(path("templates"))?;
    fs::write(
        path("Chart.yaml"),
        "{apiVersion: v2, name: a, version: 1.0.0}",
    )?;
    let bodies: Vec<_> = received.iter().map(|message| &message.body).collect();
    fs::write(
        path("values.yaml"),
        json!({ "messages": bodies }).to_string(),
    )?;
    let template = format!(
        "{{{{- define \"title\" }}}}{title}{{{{ end }}}}{{{{- define \"text\" }}}}{text}{{{{ end }}}}\n\
         messages:\n\
         {{{{- range .Values.messages }}}}\n\
         - title: {{{{ include \"title\" . | quote }}}}\n\
        \x20 text: {{{{ include \"text\" . | quote }}}}\n\
         {{{{- end }}}}\n"
    );
    fs::write(path("templates/messages.yaml"), template)?;
    let home = tempfile::tempdir()?;
    let folder = chart.path().to_string_lossy();
    let helm = chart::tools()?.helm;
    let text = chart::run(&helm, home.path(), &["template", "a", &folder])?;
    let mut rendered: BTreeMap<String, Vec<Message>> = serde_norway::from_str(&text)?;
    rendered.remove("messages").context("no messages")
}

fn webhook(received: &[Received]) -> Result<Vec<Message>> {
    let read = |received: &Received| {
        ensure!(received.path == "/alerts", "{received:?}");
        let secret = received.headers.get("authorization");
        ensure!(secret.is_some_and(|value| value == "Bearer a secret"));
        let status = &received.body["status"];
        let name = &received.body["commonLabels"]["alertname"];
        Ok(Message {
            title: format!("{status}: {name}").replace('"', ""),
            text: received.body["alerts"].to_string(),
        })
    };
    received.iter().map(read).collect()
}

/// Sends an alert of each kind, and then that it is resolved. Checks the messages.
async fn notifies(example: &str, read: fn(&[Received]) -> Result<Vec<Message>>) -> Result<()> {
    let receiver = Receiver::start().await?;
    let alertmanager = Alertmanager::start(example, &receiver).await?;
    let alerts = alerts()?;
    ensure!(alerts.len() >= 10, "{} alerts", alerts.len());
    for (status, posted, silent) in [
        ("firing", alerts.clone(), 0),
        // Nobody needs to know when a group stops to be newly complete.
        (
            "resolved",
            resolved(&alerts),
            usize::from(example != "webhook.yaml"),
        ),
    ] {
        let before = receiver.received().len();
        alertmanager.post(&posted).await?;
        alertmanager
            .until(&format!("{example}: {status}"), || {
                let received = receiver.received().len();
                Ok(received - before + silent >= alerts.len())
            })
            .await?;
        let messages = receiver.received().split_off(before);
        let messages = read(&messages)?;
        for alert in &alerts {
            let part = |name: &str| alert["annotations"][name].as_str().unwrap_or_default();
            let name = alert["labels"]["alertname"].as_str().unwrap_or_default();
            let title = format!("{status}: {name}");
            let message = messages.iter().find(|m| m.title.starts_with(&title));
            if status == "resolved" && silent == 1 && name == "OaatGroupComplete" {
                ensure!(message.is_none(), "{message:?}");
                continue;
            }
            let message = message.with_context(|| format!("{title} is not in {messages:?}"))?;
            let text = message.text.to_lowercase();
            let shown = text.contains(&part("description").to_lowercase());
            ensure!(shown, "{message:?}");
            let link = text.contains(part("runbook_url"));
            ensure!(link || text.contains("resolved"), "{message:?}");
            ensure!(link || status == "resolved", "{message:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn slack_receives_all_alerts_and_their_ends() -> Result<()> {
    notifies("slack.yaml", slack).await
}

#[tokio::test]
async fn slack_markup_in_the_name_of_an_item_is_escaped() -> Result<()> {
    let receiver = Receiver::start().await?;
    let alertmanager = Alertmanager::start("slack.yaml", &receiver).await?;
    let item = "<!channel> <https://example.com|log in> & more";
    let alert = json!({
        "labels": {
            "alertname": "OaatItemLate", "namespace": "n", "group": "g", "item": item,
            "severity": "warning",
        },
        "annotations": { "description": format!("Item {item} is late"), "runbook_url": "r" },
    });
    alertmanager.post(&[alert]).await?;
    let arrived = || Ok(!receiver.received().is_empty());
    alertmanager.until("a message", arrived).await?;
    let sent = receiver.received()[0].body.to_string();
    ensure!(!sent.contains("<!") && !sent.contains("<http"), "{sent}");
    let escaped = "&lt;!channel&gt; &lt;https://example.com|log in&gt; &amp; more";
    ensure!(sent.contains(escaped), "{sent}");
    Ok(())
}

#[tokio::test]
async fn ntfy_receives_all_alerts_and_their_ends() -> Result<()> {
    notifies("ntfy.yaml", ntfy).await
}

#[tokio::test]
async fn webhook_receives_all_alerts_and_their_ends() -> Result<()> {
    notifies("webhook.yaml", webhook).await
}

#[tokio::test]
async fn teams_receive_the_alerts_of_their_namespaces() -> Result<()> {
    let receiver = Receiver::start().await?;
    let alertmanager = Alertmanager::start("webhook.yaml", &receiver).await?;
    let alert = |name: &str, namespace: &str, group: &str| json!({ "labels": { "alertname": name, "namespace": namespace, "group": group } });
    let alerts = [
        alert("NodeDown", "jobs", "backup"),
        alert("OaatGroupStuck", "team-a", "experiments"),
        alert("OaatGroupStuck", "team-a", "backup"),
        alert("OaatGroupStuck", "team-a-test", "backup"),
        alert("OaatGroupStuck", "jobs", "backup"),
    ];
    alertmanager.post(&alerts).await?;
    let all = || Ok(receiver.received().len() >= 3);
    alertmanager.until("an alert", all).await?;
    // A second alert shows that the first ones caused no more messages.
    alertmanager
        .post(&[alert("OaatGroupStuck", "jobs", "late")])
        .await?;
    let all = || Ok(receiver.received().len() >= 4);
    alertmanager.until("the last alert", all).await?;
    let received = receiver.received();
    let mut routes: Vec<_> = received
        .iter()
        .map(|message| {
            let labels = &message.body["commonLabels"];
            let part = |name: &str| labels[name].as_str().unwrap_or_default();
            (&*message.path, part("namespace"), part("group"))
        })
        .collect();
    routes.sort_unstable();
    let expected = [
        ("/alerts", "jobs", "backup"),
        ("/alerts", "jobs", "late"),
        ("/team-a", "team-a", "backup"),
        ("/team-a", "team-a-test", "backup"),
    ];
    ensure!(routes == expected, "{routes:?}");
    Ok(())
}
