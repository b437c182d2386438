//! Serves `/healthz`, `/readyz`, and `/metrics` to anyone who can reach the port. The cost of a
//! client is bounded, and a slow client does not block others.

use crate::metrics::Metrics;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{BufWriter, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// The maximum number of open connections. The oldest is closed for a new one: a request is
/// answered within milliseconds, so an old connection belongs to a slow client.
const CONNECTIONS: usize = 64;
/// The size in bytes of the text that is compressed at once. The metrics are written in pieces of a
/// few bytes, and each call of the compressor is expensive.
const BUFFER: usize = 64 << 10;
/// The maximum size in bytes of uncompressed metrics. With many items, the metrics take megabytes.
const MAX_PLAIN: usize = 1 << 20;
/// How long a larger page of metrics is cached.
const MAX_PAGE_AGE: Duration = Duration::from_secs(1);
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
    let server = Server {
        metrics,
        ready,
        cached_page: Arc::default(),
    };
    tokio::spawn(accept(listener, server));
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

/// The state that the connections share.
#[derive(Clone)]
struct Server {
    metrics: Arc<Metrics>,
    ready: Arc<AtomicBool>,
    /// The latest large page of metrics. Locked while a page is created.
    cached_page: Arc<Mutex<Option<(Instant, Page)>>>,
}

async fn accept(listener: TcpListener, server: Server) {
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
            serve_connection(connection, server.clone()),
        ));
        open.push_back(task.abort_handle());
    }
}

/// Serves one request on a connection.
async fn serve_connection(connection: TcpStream, server: Server) {
    let service = service_fn(|request: Request<Incoming>| {
        let server = server.clone();
        async move { Ok::<_, Infallible>(server.answer(request).await) }
    });
    // A failed response only affects the client.
    let _ = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(connection), service)
        .await;
}

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match request.uri().path() {
            "/healthz" => plain(StatusCode::OK, "ok\n"),
            "/readyz" if self.ready.load(Ordering::Relaxed) => plain(StatusCode::OK, "ok\n"),
            "/readyz" => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "the API server has not responded yet\n",
            ),
            "/metrics" => {
                // The page is completed even if the client disconnects, so at most one is in progress.
                let page = tokio::spawn(self.clone().page()).await;
                match page.ok().flatten() {
                    Some(page) => page.response(accepts_gzip(request.headers())),
                    None => plain(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        "failed to encode the metrics\n",
                    ),
                }
            }
            _ => plain(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    /// Returns the page with the metrics. All clients share a large one for a second.
    async fn page(self) -> Option<Page> {
        let mut cached = self.cached_page.lock().await;
        if let Some((created, page)) = &*cached
            && created.elapsed() < MAX_PAGE_AGE
        {
            return Some(page.clone());
        }
        let metrics = self.metrics.clone();
        // With many items, this takes a while.
        let page = tokio::task::spawn_blocking(move || Page::new(&metrics).ok());
        let page = page.await.ok().flatten();
        let large = page.clone().filter(|page| page.plain.is_none());
        *cached = large.map(|page| (Instant::now(), page));
        page
    }
}

/// The metrics as text.
#[derive(Clone)]
struct Page {
    /// The text, unless it is large.
    plain: Option<Bytes>,
    gzip: Bytes,
}

impl Page {
    fn new(metrics: &Metrics) -> std::io::Result<Self> {
        let mut writer = PageWriter {
            plain: String::new(),
            is_large: false,
            gzip: BufWriter::with_capacity(BUFFER, GzEncoder::new(Vec::new(), Compression::fast())),
        };
        metrics.encode(&mut writer).map_err(std::io::Error::other)?;
        Ok(Self {
            plain: (!writer.is_large).then(|| writer.plain.into()),
            gzip: writer.gzip.into_inner()?.finish()?.into(),
        })
    }

    fn response(self, accepts_gzip: bool) -> Response<Full<Bytes>> {
        let (body, is_compressed) = match self.plain {
            Some(plain) if !accepts_gzip => (plain, false),
            None if !accepts_gzip => {
                let text = "the metrics exceed 1 MiB; send Accept-Encoding: gzip, for example with curl --compressed\n";
                return plain(StatusCode::NOT_ACCEPTABLE, text);
            }
            _ => (self.gzip, true),
        };
        let mut response = Response::new(Full::from(body));
        let headers = response.headers_mut();
        let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if is_compressed {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// Compresses what is written, and keeps the text unless it is large.
struct PageWriter {
    plain: String,
    is_large: bool,
    gzip: BufWriter<GzEncoder<Vec<u8>>>,
}

impl std::fmt::Write for PageWriter {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if self.plain.len() + text.len() > MAX_PLAIN {
            self.is_large = true;
            self.plain = String::new();
        }
        if !self.is_large {
            self.plain.push_str(text);
        }
        self.gzip
            .write_all(text.as_bytes())
            .map_err(|_| std::fmt::Error)
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

/// Returns whether the client accepts compressed responses, as Prometheus does.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).into_iter();
    let accepted = accepted.filter_map(|value| value.to_str().ok());
    let mut codings = accepted.flat_map(|value| value.split(','));
    codings.any(|coding| {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim() == "gzip" && parameters.trim().trim_end_matches(['0', '.']) != "q="
    })
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

    #[test]
    fn gzip_is_used_only_if_the_client_accepts_it() {
        for (accepted, expected) in [
            ("gzip", true),
            ("deflate, gzip;q=0.5", true),
            ("br;q=1.0, gzip ; q=1", true),
            ("gzip;q=0", false),
            ("gzip; q=0.00", false),
            ("identity", false),
            ("", false),
        ] {
            let value = HeaderValue::from_static(accepted);
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, value)]);
            assert_eq!(accepts_gzip(&headers), expected, "{accepted}");
        }
    }

    fn decompressed(page: &Page) -> String {
        let mut text = String::new();
        let mut decoder = flate2::read::GzDecoder::new(&*page.gzip);
        std::io::Read::read_to_string(&mut decoder, &mut text).unwrap();
        text
    }

    #[tokio::test]
    async fn only_small_metrics_are_also_served_uncompressed() {
        let server = Server {
            metrics: Arc::default(),
            ready: Arc::default(),
            cached_page: Arc::default(),
        };
        let page = server.clone().page().await.unwrap();
        let text = decompressed(&page);
        assert!(text.ends_with("# EOF\n"));
        assert_eq!(page.plain.as_deref(), Some(text.as_bytes()));
        assert_eq!(page.clone().response(false).status(), StatusCode::OK);
        assert!(server.cached_page.lock().await.is_none());

        let mut snapshot = crate::plan::tests::fixture(&[]);
        snapshot.items = (0..20_000).map(|number| format!("item-{number}")).collect();
        let sample = crate::group_metrics::GroupSample::new(&snapshot, None, &Default::default());
        let group = kube::runtime::reflector::ObjectRef::new("g").within("n");
        server.metrics.groups.record(&group, sample);
        let page = server.clone().page().await.unwrap();
        assert!(page.plain.is_none());
        assert!(decompressed(&page).len() > 10 * page.gzip.len());
        let response = page.clone().response(true);
        assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
        assert_eq!(page.response(false).status(), StatusCode::NOT_ACCEPTABLE);
        assert!(
            server.cached_page.lock().await.is_some(),
            "clients share it"
        );
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
