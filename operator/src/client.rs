//! The client for the API server, with a timeout for every request.
//!
//! A connection whose other end is gone looks like an idle one. Without timeouts, an operator that
//! waits for a response on such a connection appears healthy but is stuck indefinitely.

use crate::metrics::Metrics;
use anyhow::{Context, bail};
use http::Uri;
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::config::Kubeconfig;
use kube::{Client, Config};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tower::util::MapRequestLayer;
use tower::{BoxError, Service, ServiceBuilder};
use tower_http::timeout::TimeoutBody;
use tracing::{info, warn};

/// The idle time before the first TCP keepalive probe.
const KEEPALIVE_TIME: Duration = Duration::from_secs(20);
/// The number of unanswered keepalive probes after which a connection is closed.
const KEEPALIVE_PROBES: u32 = 3;
/// The time between two keepalive probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// The timeout for a request for the version, which is cheap for the server.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);
/// The port of a SOCKS proxy whose URL has none.
const SOCKS_PORT: u16 = 1080;

/// The maximum time without data from the server. The length of a whole response is not limited,
/// because it may be a large list on a slow connection.
#[derive(Clone, Copy, Debug)]
struct Timeouts {
    /// The timeout for the start of a response, and for each further part unless it is a watch.
    response: Duration,
    /// The timeout for the next event of a watch. The client requests that the server ends a watch
    /// after 290 seconds, so a longer silence means that the connection is lost.
    watch: Duration,
}

const TIMEOUTS: Timeouts = Timeouts {
    response: Duration::from_secs(30),
    watch: Duration::from_secs(300),
};

/// Creates a client from the same configuration as kubectl. Counts every request in `metrics`.
///
/// The default client of `kube` is not suitable, for three reasons. It leaves Nagle's algorithm on,
/// so a request whose head and body are sent in two packets waits 40 ms for an acknowledgement. It
/// repeats writes, but after a write whose response is lost, the operator must read the object
/// again. It waits almost five minutes for any response.
///
/// # Errors
/// Returns an error if there is no valid configuration for a cluster, or if the operator does not
/// support its proxy.
pub async fn connect(metrics: Arc<Metrics>) -> anyhow::Result<Client> {
    let proxy = match Kubeconfig::read() {
        Ok(kubeconfig) => proxy_url(&kubeconfig).map(parse_proxy).transpose(),
        Err(_) => Ok(None),
    };
    let proxy = proxy.context("proxy-url in the kubeconfig")?;
    let config = Config::infer().await.context(
        "no cluster configuration found: set KUBECONFIG, create ~/.kube/config, or run in a pod \
         with a service account",
    )?;
    // Without a usable kubeconfig, the configuration is that of the pod, which has no proxy.
    let proxy = proxy.filter(|_| config.proxy_url.is_some());
    client(config, proxy, metrics)
}

/// Returns `proxy-url` of the cluster in the current context. `Config::proxy_url` cannot replace
/// it: that may also be HTTPS_PROXY, which kube applies even to addresses in NO_PROXY.
fn proxy_url(kubeconfig: &Kubeconfig) -> Option<&str> {
    let current = kubeconfig.current_context.as_ref()?;
    let mut contexts = kubeconfig.contexts.iter();
    let context = contexts.find(|context| context.name == *current)?;
    let name = &context.context.as_ref()?.cluster;
    let mut clusters = kubeconfig.clusters.iter();
    let cluster = clusters.find(|cluster| cluster.name == *name)?;
    let url = cluster.cluster.as_ref()?.proxy_url.as_deref();
    url.filter(|url| !url.is_empty())
}

/// Parses the URL of a proxy. An error does not contain the URL, which may contain a password.
fn parse_proxy(url: &str) -> anyhow::Result<Intercept> {
    const SUPPORTED: &str = "use http, https, or socks5, such as http://proxy.example.com:3128";
    let uri: Uri = url.parse()?;
    match uri.scheme_str() {
        Some("http" | "https" | "socks5") => {}
        Some(scheme) => bail!("the scheme {scheme:?} is not supported; {SUPPORTED}"),
        None => bail!("the URL has no scheme; {SUPPORTED}"),
    }
    // The proxy is the same for every destination.
    let destination = Uri::from_static("https://kubernetes.default.svc");
    let matcher = Matcher::builder().all(url).build();
    matcher
        .intercept(&destination)
        .with_context(|| format!("the URL has no host; {SUPPORTED}"))
}

/// Returns a client that connects to the API server directly or through a proxy.
///
/// As with kubectl, the certificate of an `https` proxy must be signed by the certificate authority
/// of the cluster.
fn client(
    config: Config,
    proxy: Option<Intercept>,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Client> {
    let tcp = tcp_connector(&config);
    let Some(proxy) = proxy else {
        return client_over(tcp, config, metrics);
    };
    let (host, port) = (proxy.uri().host(), proxy.uri().port_u16());
    let host = host.unwrap_or_default();
    info!(host, port, "connecting to the API server through a proxy");
    match proxy.uri().scheme_str() {
        Some("socks5") => {
            let port = port.unwrap_or(SOCKS_PORT);
            let address = format!("socks5://{host}:{port}").parse()?;
            let mut socks = SocksV5::new(address, tcp);
            if let Some((user, password)) = proxy.raw_auth() {
                socks = socks.with_auth(user.to_owned(), password.to_owned());
            }
            client_over(socks, config, metrics)
        }
        Some("https") => {
            let tls = config.rustls_https_connector_with_connector(tcp)?;
            client_over(tunnel(&proxy, tls), config, metrics)
        }
        _ => client_over(tunnel(&proxy, tcp), config, metrics),
    }
}

/// Returns a connector for TCP connections, to the API server or to its proxy.
fn tcp_connector(config: &Config) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    tcp.set_keepalive(Some(KEEPALIVE_TIME));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    // The same limit for data that was sent and is not acknowledged.
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(KEEPALIVE_TIME + KEEPALIVE_INTERVAL * KEEPALIVE_PROBES));
    tcp
}

/// Returns a connector that opens tunnels through an HTTP proxy with CONNECT. `connector` connects
/// to the proxy.
fn tunnel<C>(proxy: &Intercept, connector: C) -> Tunnel<C> {
    let tunnel = Tunnel::new(proxy.uri().clone(), connector);
    match proxy.basic_auth() {
        Some(credentials) => tunnel.with_auth(credentials.clone()),
        None => tunnel,
    }
}

/// Returns a client whose connections to the API server use TLS over those of `connector`.
fn client_over<C>(connector: C, config: Config, metrics: Arc<Metrics>) -> anyhow::Result<Client>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    let tls = config.rustls_https_connector_with_connector(connector)?;
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(tls);
    let count = MapRequestLayer::new(move |request: http::Request<Body>| {
        metrics.request(request.method(), request.uri());
        request
    });
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(count)
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(with_timeouts(http, TIMEOUTS));
    Ok(Client::new(service, config.default_namespace))
}

/// Waits until the API server responds.
pub async fn wait_for_api_server(client: &Client) {
    let mut backoff = Duration::from_millis(100);
    loop {
        let error = match timeout(VERSION_TIMEOUT, client.apiserver_version()).await {
            Ok(Ok(version)) => {
                info!(
                    kubernetes = version.git_version,
                    "connected to the API server"
                );
                return;
            }
            Ok(Err(error)) => with_causes(&error),
            Err(_) => format!("no response within {VERSION_TIMEOUT:?}"),
        };
        warn!(
            error,
            "the API server is not responding; retrying in {backoff:?}"
        );
        sleep(backoff).await;
        backoff = (backoff * 2).min(Duration::from_secs(5));
    }
}

/// Returns the message of an error with those of its causes. The first message does not show, for
/// example, that a proxy rejected the connection.
fn with_causes(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !message.contains(&words) {
            message = format!("{message}: {words}");
        }
        cause = error.source();
    }
    message
}

/// Limits the time without data from the server for each request to `service`, which must always
/// be ready.
fn with_timeouts<S, A, B>(
    service: S,
    Timeouts { response, watch }: Timeouts,
) -> impl Service<
    http::Request<A>,
    Response = http::Response<TimeoutBody<B>>,
    Error = BoxError,
    Future = impl Future<Output = Result<http::Response<TimeoutBody<B>>, BoxError>> + Send,
> + Clone
where
    S: Service<http::Request<A>, Response = http::Response<B>> + Clone,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    tower::service_fn(move |request: http::Request<A>| {
        let limit = if is_watch(request.uri()) {
            watch
        } else {
            response
        };
        let call = service.clone().call(request);
        async move {
            let answer = timeout(response, call).await.map_err(|_| {
                let seconds = response.as_secs();
                format!("no data from the API server for {seconds} seconds")
            })?;
            let answer = answer.map_err(Into::into)?;
            Ok(answer.map(|body| TimeoutBody::new(limit, body)))
        }
    })
}

fn is_watch(uri: &http::Uri) -> bool {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    pairs.any(|pair| matches!(pair, "watch=true" | "watch=1"))
}

/// A client that never gets a response.
#[cfg(test)]
pub(crate) fn silent() -> Client {
    let server = tower::service_fn(|_: http::Request<Body>| {
        std::future::pending::<Result<http::Response<Body>, std::io::Error>>()
    });
    Client::new(server, "default")
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use futures::{StreamExt, stream};
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};
    use std::convert::Infallible;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
    use tokio::net::{TcpListener, TcpStream};
    use tower::{ServiceExt, service_fn};

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(3600);

    /// Returns the number of parts of a response that arrive. The response begins after `first`,
    /// has a second part after `second`, and never ends.
    async fn parts(uri: &'static str, first: Duration, second: Duration) -> Result<usize, String> {
        let server = service_fn(move |_: http::Request<()>| async move {
            sleep(first).await;
            let part = || Ok::<_, Infallible>(Frame::data(&b"part"[..]));
            let parts = stream::once(async move { part() }).chain(stream::once(async move {
                sleep(second).await;
                part()
            }));
            let parts = Box::pin(parts.chain(stream::pending()));
            Ok::<_, BoxError>(http::Response::new(StreamBody::new(parts)))
        });
        let timeouts = Timeouts {
            response: SHORT * 10,
            watch: SHORT * 50,
        };
        let service = with_timeouts(server, timeouts);
        let request = http::Request::get(uri)
            .body(())
            .map_err(|e| e.to_string())?;
        let response = service.oneshot(request).await.map_err(|e| e.to_string())?;
        let mut body = Box::pin(response.into_body());
        let mut parts = 0;
        while let Some(Ok(_)) = body.frame().await {
            parts += 1;
        }
        Ok(parts)
    }

    #[tokio::test]
    async fn request_without_response_times_out() {
        for uri in ["/pods", "/pods?watch=true"] {
            let error = parts(uri, LONG, LONG)
                .await
                .expect_err("there is no response");
            assert!(error.contains("no data from the API server"), "{error}");
        }
    }

    #[tokio::test]
    async fn interrupted_response_times_out() {
        assert_eq!(parts("/pods", Duration::ZERO, LONG).await, Ok(1));
        assert_eq!(parts("/pods?watch=true", Duration::ZERO, LONG).await, Ok(1));
    }

    #[tokio::test]
    async fn watch_has_a_longer_timeout() {
        assert_eq!(parts("/pods", SHORT, SHORT * 30).await, Ok(1));
        let watch = parts("/pods?&watch=true&timeoutSeconds=290", SHORT, SHORT * 30);
        assert_eq!(watch.await, Ok(2));
    }

    /// A proxy that forwards each connection to the API server that the client names.
    struct TestProxy {
        address: SocketAddr,
        /// What each client sent before its tunnel was open.
        requests: Arc<Mutex<Vec<Vec<u8>>>>,
    }

    impl TestProxy {
        /// Starts a proxy. `handshake` reads a client's requests, and returns them with the
        /// destination; without one, the connection is closed.
        async fn start<F>(handshake: fn(TcpStream) -> F) -> Self
        where
            F: Future<Output = (TcpStream, Vec<u8>, Option<SocketAddr>)> + Send + 'static,
        {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let requests = Arc::default();
            let seen: Arc<Mutex<Vec<Vec<u8>>>> = Arc::clone(&requests);
            tokio::spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    let (mut client, request, destination) = handshake(client).await;
                    seen.lock().unwrap().push(request);
                    let Some(destination) = destination else {
                        continue;
                    };
                    tokio::spawn(async move {
                        let mut server = TcpStream::connect(destination).await.unwrap();
                        // An error is a closed connection.
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    });
                }
            });
            Self { address, requests }
        }

        /// Returns a client for the API server behind this proxy. `prefix` is the scheme and the
        /// credentials.
        fn client(&self, prefix: &str, api_server: SocketAddr) -> Client {
            let proxy = parse_proxy(&format!("{prefix}{}", self.address)).unwrap();
            let config = Config::new(format!("http://{api_server}").parse().unwrap());
            client(config, Some(proxy), Arc::default()).unwrap()
        }

        fn requests(&self) -> Vec<Vec<u8>> {
            self.requests.lock().unwrap().clone()
        }
    }

    /// Reads an HTTP request without a body.
    async fn read_head(stream: &mut TcpStream) -> Vec<u8> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return Vec::new(),
            }
        }
        head
    }

    /// Opens the tunnel of a CONNECT request.
    async fn http_proxy(mut client: TcpStream) -> (TcpStream, Vec<u8>, Option<SocketAddr>) {
        let head = read_head(&mut client).await;
        let text = String::from_utf8_lossy(&head).into_owned();
        let destination = text
            .strip_prefix("CONNECT ")
            .and_then(|rest| rest.split(' ').next()?.parse().ok());
        let answer = "HTTP/1.1 200 Connection established\r\n\r\n";
        client.write_all(answer.as_bytes()).await.unwrap();
        (client, head, destination)
    }

    /// Requires credentials that the client does not have.
    async fn denying_proxy(mut client: TcpStream) -> (TcpStream, Vec<u8>, Option<SocketAddr>) {
        let head = read_head(&mut client).await;
        let answer = "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
        client.write_all(answer.as_bytes()).await.unwrap();
        (client, head, None)
    }

    /// Opens the tunnel of a SOCKS5 client, whose user and password are returned.
    async fn socks_proxy(mut client: TcpStream) -> (TcpStream, Vec<u8>, Option<SocketAddr>) {
        const USER_AND_PASSWORD: u8 = 2;
        let mut greeting = [0; 3];
        client.read_exact(&mut greeting).await.unwrap();
        assert_eq!(greeting, [5, 1, USER_AND_PASSWORD]);
        client.write_all(&[5, USER_AND_PASSWORD]).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), 1);
        let mut credentials = Vec::new();
        for separator in [&b":"[..], b""] {
            let length = client.read_u8().await.unwrap();
            let mut text = vec![0; length.into()];
            client.read_exact(&mut text).await.unwrap();
            credentials.extend([&text[..], separator].concat());
        }
        client.write_all(&[1, 0]).await.unwrap();
        // A connection to an IPv4 address.
        let mut request = [0; 4];
        client.read_exact(&mut request).await.unwrap();
        assert_eq!(request, [5, 1, 0, 1]);
        let address = client.read_u32().await.unwrap();
        let port = client.read_u16().await.unwrap();
        client
            .write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
            .await
            .unwrap();
        let destination = SocketAddr::from((Ipv4Addr::from(address), port));
        (client, credentials, Some(destination))
    }

    /// Starts an API server that knows only its version, and returns its address. It checks that
    /// it receives no credentials of the proxy.
    async fn api_server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let version = serde_json::json!({
            "major": "1", "minor": "37", "gitVersion": "v1.37.0", "gitCommit": "",
            "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
        })
        .to_string();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let version = version.clone();
                tokio::spawn(async move {
                    loop {
                        let head = read_head(&mut client).await;
                        let head = String::from_utf8_lossy(&head).to_lowercase();
                        if head.is_empty() || head.contains("proxy-authorization") {
                            return;
                        }
                        let length = version.len();
                        let answer =
                            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{version}");
                        client.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn requests_use_one_tunnel_through_an_http_proxy() {
        let (server, proxy) = (api_server().await, TestProxy::start(http_proxy).await);
        let client = proxy.client("http://", server);
        for _ in 0..3 {
            client.apiserver_version().await.unwrap();
        }
        let requests = proxy.requests();
        assert_eq!(requests.len(), 1);
        let head = String::from_utf8_lossy(&requests[0]);
        assert!(head.starts_with(&format!("CONNECT {server} ")), "{head}");
        assert!(!head.contains("Authorization"), "{head}");
    }

    #[tokio::test]
    async fn credentials_are_sent_to_an_http_proxy_only() {
        let (server, proxy) = (api_server().await, TestProxy::start(http_proxy).await);
        let client = proxy.client("http://user:p%40ss@", server);
        client.apiserver_version().await.unwrap();
        let requests = proxy.requests();
        let head = String::from_utf8_lossy(&requests[0]);
        let credentials = base64::engine::general_purpose::STANDARD.encode("user:p@ss");
        let header = format!("\r\nProxy-Authorization: Basic {credentials}\r\n");
        assert!(head.contains(&header), "{head}");
    }

    #[tokio::test]
    async fn requests_use_a_socks_proxy() {
        let (server, proxy) = (api_server().await, TestProxy::start(socks_proxy).await);
        let client = proxy.client("socks5://user:p%40ss@", server);
        client.apiserver_version().await.unwrap();
        assert_eq!(proxy.requests(), [b"user:p@ss"]);
    }

    #[tokio::test]
    async fn rejection_by_a_proxy_is_reported() {
        let (server, proxy) = (api_server().await, TestProxy::start(denying_proxy).await);
        let client = proxy.client("http://", server);
        let error = client.apiserver_version().await.unwrap_err();
        let message = with_causes(&error);
        assert!(
            message.contains("proxy authorization required"),
            "{message}"
        );
    }

    #[test]
    fn invalid_proxies_are_reported_without_their_password() {
        for (url, words) in [
            (
                "ftp://u:secret@proxy:21",
                "the scheme \"ftp\" is not supported; use http, https, or socks5",
            ),
            (
                "socks4://u:secret@proxy",
                "the scheme \"socks4\" is not supported",
            ),
            ("proxy.example.com:3128", "the URL has no scheme; use http"),
            ("http://u:secret@pro xy", "invalid uri character"),
        ] {
            let error = parse_proxy(url).unwrap_err().to_string();
            assert!(error.contains(words), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn proxy_is_that_of_the_current_context() {
        let kubeconfig = |current: &str| {
            let text = serde_json::json!({
                "apiVersion": "v1", "kind": "Config", "current-context": current,
                "contexts": [
                    { "name": "direct", "context": { "cluster": "one", "user": "u" } },
                    { "name": "proxied", "context": { "cluster": "two", "user": "u" } },
                    { "name": "empty", "context": { "cluster": "three", "user": "u" } },
                ],
                "clusters": [
                    { "name": "one", "cluster": { "server": "https://one" } },
                    { "name": "two", "cluster": {
                        "server": "https://two", "proxy-url": "http://proxy:3128",
                    } },
                    { "name": "three", "cluster": { "server": "https://three", "proxy-url": "" } },
                ],
            });
            Kubeconfig::from_yaml(&text.to_string()).unwrap()
        };
        for (context, expected) in [
            ("direct", None),
            ("proxied", Some("http://proxy:3128")),
            ("empty", None),
            ("missing", None),
        ] {
            assert_eq!(proxy_url(&kubeconfig(context)), expected, "{context}");
        }
    }

    #[test]
    fn watch_is_recognized_by_its_query() {
        let is = |uri| is_watch(&http::Uri::from_static(uri));
        assert!(is("/api/v1/pods?&watch=true&allowWatchBookmarks=true"));
        assert!(is("/api/v1/pods?watch=1"));
        assert!(!is("/api/v1/pods?limit=500"));
        assert!(!is("/api/v1/namespaces/watch=true/pods"));
    }
}
