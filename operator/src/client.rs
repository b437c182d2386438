//! The client for the API server, with a timeout for every request.
//!
//! A connection whose other end is gone looks like an idle one. Without timeouts, an operator that
//! waits for a response on such a connection appears healthy but is stuck indefinitely.

use crate::metrics::Metrics;
use anyhow::Context;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::{Client, Config};
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
/// Returns an error if there is no valid configuration for a cluster.
pub async fn connect(metrics: Arc<Metrics>) -> anyhow::Result<Client> {
    let config = Config::infer().await.context(
        "no cluster configuration found: set KUBECONFIG, create ~/.kube/config, or run in a pod \
         with a service account",
    )?;
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
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(tls);
    let count = MapRequestLayer::new(move |request: http::Request<Body>| {
        metrics.request(request.method(), request.uri().path());
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
            Ok(Err(error)) => error.to_string(),
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
    use futures::{StreamExt, stream};
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};
    use std::convert::Infallible;
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

    #[test]
    fn watch_is_recognized_by_its_query() {
        let is = |uri| is_watch(&http::Uri::from_static(uri));
        assert!(is("/api/v1/pods?&watch=true&allowWatchBookmarks=true"));
        assert!(is("/api/v1/pods?watch=1"));
        assert!(!is("/api/v1/pods?limit=500"));
        assert!(!is("/api/v1/namespaces/watch=true/pods"));
    }
}
