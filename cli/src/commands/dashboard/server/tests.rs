//! Requests that are refused, and the headers of all responses. No request reaches a cluster.

use super::*;
use crate::cluster::Session;
use crate::commands::dashboard::access::{Access, Token};
use crate::commands::dashboard::live_groups::LiveGroups;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

const HOST: &str = "127.0.0.1:4000";
const ORIGIN: &str = "http://127.0.0.1:4000";

fn dashboard(token: &Token, read_only: bool) -> Arc<Dashboard> {
    Arc::new(Dashboard {
        access: Access::new(4000, token),
        live: Arc::new(LiveGroups::new()),
        session: Session::unconnected("media"),
        namespace: Some("media".into()),
        read_only,
        built_in: Vec::new(),
        forecasts: Arc::new(Semaphore::new(1)),
    })
}

/// Returns the status and the problem of the response to a request with these headers.
async fn send(
    dashboard: &Arc<Dashboard>,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned())));
    let response = answer(dashboard, request.unwrap()).await;
    for (name, value) in HEADERS {
        assert_eq!(response.headers()[&name], value, "{path}");
    }
    let allows_others = "access-control-allow-origin";
    assert!(!response.headers().contains_key(allows_others));
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let problem = body["problem"].as_str().unwrap_or_default().to_owned();
    (status, problem)
}

#[tokio::test]
async fn requests_of_others_are_refused() {
    let token = Token::random();
    let dashboard = dashboard(&token, true);
    let bearer = format!("Bearer {}", token.as_str());
    let (host, origin) = (("host", HOST), ("origin", ORIGIN));
    let bearer = ("authorization", bearer.as_str());
    let (group, run) = ("/api/groups/media/backup", "/api/groups/media/backup/run");
    let large = "x".repeat(MAX_BODY + 1);
    for (method, path, headers, body, expected) in [
        (Method::GET, "/", &[host][..], "", 200),
        (Method::GET, "/page.js", &[host], "", 200),
        (Method::POST, "/", &[host], "", 404),
        (Method::GET, "/", &[("host", "evil.example")], "", 403),
        (Method::GET, group, &[host], "", 401),
        (Method::GET, "/api/events", &[host], "", 401),
        (Method::GET, group, &[host, bearer], "", 404),
        (
            Method::GET,
            group,
            &[host, bearer, ("origin", "https://evil.example")],
            "",
            403,
        ),
        (Method::POST, run, &[host, origin], "{}", 401),
        (Method::POST, run, &[host, bearer], "{}", 403),
        (Method::OPTIONS, run, &[host, origin], "", 401),
        (Method::POST, run, &[host, origin, bearer], &large, 413),
        (
            Method::POST,
            run,
            &[host, origin, bearer, ("content-length", "999999")],
            "",
            413,
        ),
        (Method::POST, run, &[host, origin, bearer], "{}", 403),
        (Method::GET, "/api/other", &[host, bearer], "", 404),
    ] {
        let what = format!("{method} {path} {headers:?}");
        let (status, problem) = send(&dashboard, method, path, headers, body).await;
        assert_eq!(status, expected, "{what}: {problem}");
        assert_eq!(problem.is_empty(), status == 200, "{what}: {problem}");
    }
}

/// The time after which the tests expect a connection without a token to end.
const SHORT: Duration = Duration::from_millis(200);

/// Sends a request over a connection that buffers little. Returns the client's end, and a task that
/// ends with the connection.
async fn connect(
    dashboard: Arc<Dashboard>,
    request: String,
) -> (DuplexStream, tokio::task::JoinHandle<()>) {
    let (mut client, server) = duplex(64);
    let served = tokio::spawn(async move {
        serve_connection(server, &dashboard, SHORT, &AtomicBool::default()).await;
    });
    client.write_all(request.as_bytes()).await.unwrap();
    (client, served)
}

#[tokio::test]
async fn connection_without_the_token_ends_even_if_the_client_does_not_read() {
    let dashboard = dashboard(&Token::random(), true);
    for path in ["/page.js", "/api/events", "/api/other"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        let (client, served) = connect(dashboard.clone(), request).await;
        timeout(Duration::from_secs(60), served)
            .await
            .unwrap()
            .unwrap();
        drop(client);
    }
}

#[tokio::test]
async fn connection_ends_after_a_file_of_the_page() {
    let dashboard = dashboard(&Token::random(), true);
    let request = format!("GET /page.js HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let (mut client, _) = connect(dashboard, request).await;
    let mut response = String::new();
    client.read_to_string(&mut response).await.unwrap();
    assert!(response.contains("connection: close\r\n"), "{response}");
    let end = "// Connects the parts of the page.";
    assert!(response.contains(end), "{response}");
}

#[tokio::test]
async fn events_continue_for_a_client_with_the_token() {
    let token = Token::random();
    let dashboard = dashboard(&token, true);
    let bearer = token.as_str();
    let request = format!(
        "GET /api/events HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {bearer}\r\n\r\n"
    );
    let (mut client, served) = connect(dashboard.clone(), request).await;
    // The client reads late.
    sleep(SHORT * 3).await;
    let mut response = Vec::new();
    while !String::from_utf8_lossy(&response).contains("data: ") {
        let read = client.read_buf(&mut response).await.unwrap();
        assert_ne!(read, 0, "the connection has ended");
    }
    drop(client);
    served.await.unwrap();
}

#[tokio::test]
async fn connections_without_the_token_do_not_lock_others_out() {
    let token = Token::random();
    let dashboard = dashboard(&token, true);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, dashboard, Duration::from_secs(3600)));
    let ask = async |connection: &mut TcpStream| {
        let bearer = token.as_str();
        let request = format!(
            "GET /api/other HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {bearer}\r\n\r\n"
        );
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        while !response.contains("page not found") {
            let mut part = [0; 1024];
            let read = connection.read(&mut part);
            let read = timeout(Duration::from_secs(60), read).await.unwrap();
            let read = read.unwrap();
            assert_ne!(read, 0, "the connection has ended");
            response += std::str::from_utf8(&part[..read]).unwrap();
        }
    };
    let mut first = TcpStream::connect(address).await.unwrap();
    ask(&mut first).await;
    let mut idle = Vec::new();
    for _ in 0..3 * CONNECTIONS {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    let mut last = TcpStream::connect(address).await.unwrap();
    ask(&mut last).await;
    ask(&mut first).await;
    let ended = timeout(Duration::from_secs(60), idle[0].read_u8()).await;
    assert!(ended.unwrap().is_err());
}

#[tokio::test]
async fn invalid_actions_are_named() {
    let token = Token::random();
    let dashboard = dashboard(&token, false);
    let bearer = format!("Bearer {}", token.as_str());
    let headers = [
        ("host", HOST),
        ("origin", ORIGIN),
        ("authorization", bearer.as_str()),
    ];
    for (path, body, expected) in [
        (
            "/api/groups/media/backup/run",
            "{}",
            (
                400,
                "the request is invalid: missing field `item` at line 1 column 2",
            ),
        ),
        (
            "/api/groups/media/backup/suspend",
            r#"{"reason": " \n"}"#,
            (400, "the reason must not be empty"),
        ),
        (
            "/api/groups/media/backup/delete",
            "{}",
            (404, "page not found"),
        ),
        (
            "/api/groups/other/backup/run",
            r#"{"item": "a"}"#,
            (404, "page not found"),
        ),
    ] {
        let (status, problem) = send(&dashboard, Method::POST, path, &headers, body).await;
        assert_eq!((status, problem.as_str()), expected, "{path}");
    }
}
