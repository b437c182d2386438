//! Serves `/healthz`, `/readyz`, and `/metrics` to anyone who can reach the port. The cost of a
//! client is bounded, and a slow client does not block others.

use crate::metrics::Metrics;
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// The maximum number of open connections. The oldest is closed for a new one: a request is
/// answered within milliseconds, so an old connection belongs to a slow client.
const CONNECTIONS: usize = 64;
/// The maximum time that a connection is open, including its only response.
const LIFETIME: Duration = Duration::from_secs(10);
/// The maximum bytes of a request's head. Bodies are not read.
const HEAD: usize = 16 << 10;
/// The pause after a failed accept, for example if the process has no file descriptors left.
const PAUSE: Duration = Duration::from_millis(200);

/// Starts the server, and returns its address, which has the actual port if `listen` has port 0.
///
/// `/healthz` succeeds while the process responds. `/readyz` succeeds once `ready` is true: the API
/// server has responded and the setup is complete. A standby replica is ready as well.
///
/// # Errors
/// Returns an error if the address cannot be bound.
pub async fn serve(
    listen: SocketAddr,
    metrics: Arc<Metrics>,
    ready: Arc<AtomicBool>,
) -> std::io::Result<SocketAddr> {
    let listener = bind(listen, TcpListener::bind).await?;
    let address = listener.local_addr()?;
    let answer = move |request: &Request<Incoming>| answer(request.uri().path(), &metrics, &ready);
    tokio::spawn(accept(listener, Arc::new(answer)));
    info!(%address, "serving health and metrics");
    Ok(address)
}

/// Binds an address with `bind_to`. Uses `0.0.0.0` instead of `[::]` if the kernel has no IPv6.
async fn bind<T, F>(listen: SocketAddr, bind_to: impl Fn(SocketAddr) -> F) -> std::io::Result<T>
where
    F: Future<Output = std::io::Result<T>>,
{
    match bind_to(listen).await {
        Err(error)
            if listen.ip() == Ipv6Addr::UNSPECIFIED
                && error.kind() != std::io::ErrorKind::AddrInUse =>
        {
            warn!(%listen, %error, "no IPv6; listening on IPv4 only");
            bind_to((Ipv4Addr::UNSPECIFIED, listen.port()).into()).await
        }
        bound => bound,
    }
}

async fn accept<F>(listener: TcpListener, answer: Arc<F>)
where
    F: Fn(&Request<Incoming>) -> Response<String> + Send + Sync + 'static,
{
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(error) => {
                warn!(%error, "failed to accept a connection for health or metrics");
                sleep(PAUSE).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let task = tokio::spawn(timeout(
            LIFETIME,
            serve_connection(connection, answer.clone()),
        ));
        open.push_back(task.abort_handle());
    }
}

/// Serves one request on a connection.
async fn serve_connection<F>(connection: TcpStream, answer: Arc<F>)
where
    F: Fn(&Request<Incoming>) -> Response<String> + Send + Sync + 'static,
{
    let service = service_fn(move |request| {
        let response = answer(&request);
        async { Ok::<_, Infallible>(response) }
    });
    // A failed response only affects the client.
    let _ = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(connection), service)
        .await;
}

fn answer(path: &str, metrics: &Metrics, ready: &AtomicBool) -> Response<String> {
    let text = "text/plain; charset=utf-8";
    let (status, content_type, body) = match path {
        "/healthz" => (StatusCode::OK, text, "ok\n".to_owned()),
        "/readyz" if ready.load(Ordering::Relaxed) => (StatusCode::OK, text, "ok\n".to_owned()),
        "/readyz" => (
            StatusCode::SERVICE_UNAVAILABLE,
            text,
            "the API server has not responded yet\n".to_owned(),
        ),
        "/metrics" => (
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            metrics.text(),
        ),
        _ => (StatusCode::NOT_FOUND, text, "not found\n".to_owned()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let content_type = header::HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const PATIENCE: Duration = Duration::from_secs(60);

    async fn started(listen: &str) -> SocketAddr {
        let listen = listen.parse().unwrap();
        serve(listen, Arc::default(), Arc::default()).await.unwrap()
    }

    async fn get(address: impl Into<SocketAddr>, path: &str) -> String {
        let exchange = async {
            let mut connection = TcpStream::connect(address.into()).await?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: operator\r\n\r\n");
            connection.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        timeout(PATIENCE, exchange).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn each_path_has_a_response() {
        let address = started("127.0.0.1:0").await;
        for (path, status, body) in [
            ("/healthz", "200", "ok\n"),
            ("/readyz", "503", "has not responded yet\n"),
            ("/metrics", "200", "# EOF\n"),
            ("/other", "404", "not found\n"),
        ] {
            let answer = get(address, path).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
            assert!(answer.ends_with(body), "{answer}");
        }
    }

    #[tokio::test]
    async fn kernel_without_ipv6_listens_on_ipv4() {
        let without_ipv6 = async |address: SocketAddr| {
            let supported = address.is_ipv4().then_some(address);
            supported.ok_or(std::io::ErrorKind::Unsupported.into())
        };
        for (listen, bound) in [
            ("[::]:8080", Some("0.0.0.0:8080")),
            ("127.0.0.1:8080", Some("127.0.0.1:8080")),
            ("[::1]:8080", None),
        ] {
            let address = bind(listen.parse().unwrap(), without_ipv6).await.ok();
            assert_eq!(
                address,
                bound.map(|bound| bound.parse().unwrap()),
                "{listen}"
            );
        }
        let in_use = async |_| Err::<(), _>(std::io::ErrorKind::AddrInUse.into());
        let error = bind("[::]:8080".parse().unwrap(), in_use)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn unspecified_address_accepts_ipv4_and_ipv6() {
        // On a machine without IPv6, this tests the fallback.
        let port = started("[::]:0").await.port();
        let mut reached = vec![IpAddr::from(Ipv4Addr::LOCALHOST)];
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok() {
            reached.push(Ipv6Addr::LOCALHOST.into());
        }
        for host in reached {
            let answer = get((host, port), "/healthz").await;
            assert!(answer.ends_with("ok\n"), "{host}: {answer}");
        }
    }

    #[tokio::test]
    async fn slow_clients_do_not_block_others_and_are_closed() {
        let address = started("127.0.0.1:0").await;
        let mut slow = Vec::new();
        for number in 0..CONNECTIONS * 3 {
            let mut connection = TcpStream::connect(address).await.unwrap();
            let begun: &[u8] = match number % 3 {
                0 => b"",
                1 => b"GET /healthz HTTP/1.1\r\n",
                _ => b"POST /metrics HTTP/1.1\r\nContent-Length: 1000000\r\n",
            };
            connection.write_all(begun).await.unwrap();
            slow.push(connection);
        }
        let answer = get(address, "/healthz").await;
        assert!(answer.ends_with("ok\n"), "{answer}");
        for mut connection in slow {
            // Closed or reset after the maximum time.
            let ended = timeout(PATIENCE, connection.read_to_end(&mut Vec::new())).await;
            assert!(ended.is_ok(), "a slow client is still connected");
        }
    }

    #[tokio::test]
    async fn oversized_head_is_rejected() {
        let address = started("127.0.0.1:0").await;
        let mut connection = TcpStream::connect(address).await.unwrap();
        let head = format!("GET /healthz HTTP/1.1\r\nX: {}", "x".repeat(HEAD * 4));
        let exchange = async {
            // The server may close the connection before everything is written.
            let _ = connection.write_all(head.as_bytes()).await;
            let mut answer = Vec::new();
            let _ = connection.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        };
        let answer = timeout(PATIENCE, exchange).await.unwrap();
        assert!(!answer.contains("200 OK"), "{answer}");
    }
}
