//! The way to the API server: a client whose every request comes to an end, in one way or
//! another.
//!
//! Networks lose things without a word: a connection whose other end is gone looks like one on
//! which nothing happens. Whoever waits for an answer there waits for ever, and an operator that
//! does looks healthy and does nothing.

use crate::metrics::Metrics;
use anyhow::Context;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::{Client, Config};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tower::util::MapRequestLayer;
use tower::{BoxError, Service, ServiceBuilder};
use tracing::{info, warn};

/// A connection on which nothing came for so long is asked whether anybody is there …
const PROBE_AFTER: Duration = Duration::from_secs(20);
/// … so often …
const PROBES: u32 = 3;
/// … and after each time this is waited for.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// Longest wait for an answer about the version, which costs the server nothing.
const VERSION: Duration = Duration::from_secs(5);

/// How long to wait for the next sign of life. Not for the whole of an answer: that may be a
/// large list on a slow line.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// For the beginning of any answer, and for each part of one that is no watch.
    answer: Duration,
    /// For the next event of a watch. Without one the server ends the watch when the client has
    /// asked for, which is after 290 seconds.
    watch: Duration,
}

const LIMITS: Limits = Limits {
    answer: Duration::from_secs(30),
    watch: Duration::from_secs(300),
};

/// A client as kubectl would make it, with every request counted.
///
/// Put together by hand for three reasons: kube's own leaves Nagle's algorithm on, under
/// which a request whose head and body leave in two packets waits 40 ms for an
/// acknowledgement; it repeats writes, where a write whose answer is lost must be looked
/// into; and it waits almost five minutes for any answer.
///
/// # Errors
/// When there is no access to a cluster.
pub async fn connect(metrics: Arc<Metrics>) -> anyhow::Result<Client> {
    let config = Config::infer().await.context(
        "no access to a cluster: KUBECONFIG, ~/.kube/config and the service account of a pod \
         were tried",
    )?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    tcp.set_keepalive(Some(PROBE_AFTER));
    tcp.set_keepalive_interval(Some(PROBE_EVERY));
    tcp.set_keepalive_retries(Some(PROBES));
    // The same for what was sent and is not acknowledged.
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(PROBE_AFTER + PROBE_EVERY * PROBES));
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
        .service(Limited {
            inner: http,
            limits: LIMITS,
        });
    Ok(Client::new(service, config.default_namespace))
}

/// Returns once the API server answers.
pub async fn answering(client: &Client) {
    let mut wait = Duration::from_millis(100);
    loop {
        let error = match timeout(VERSION, client.apiserver_version()).await {
            Ok(Ok(version)) => {
                info!(kubernetes = version.git_version, "the API server answers");
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {VERSION:?}"),
        };
        warn!(
            error,
            "the API server does not answer; trying again in {wait:?}"
        );
        sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(5));
    }
}

/// Requests, and how long to wait for signs of life.
#[derive(Clone)]
struct Limited<S> {
    inner: S,
    limits: Limits,
}

/// What happens to a request of which nothing more is heard.
fn silence(limit: Duration) -> BoxError {
    format!(
        "nothing came from the API server for {} seconds",
        limit.as_secs()
    )
    .into()
}

fn is_watch(uri: &http::Uri) -> bool {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    pairs.any(|pair| matches!(pair, "watch=true" | "watch=1"))
}

impl<S, A, B> Service<http::Request<A>> for Limited<S>
where
    S: Service<http::Request<A>, Response = http::Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    type Response = http::Response<LimitedBody<B>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: http::Request<A>) -> Self::Future {
        let Limits { answer, watch } = self.limits;
        let between = if is_watch(request.uri()) {
            watch
        } else {
            answer
        };
        let call = self.inner.call(request);
        Box::pin(async move {
            match timeout(answer, call).await {
                Ok(Ok(response)) => Ok(response.map(|body| LimitedBody {
                    body,
                    limit: between,
                    silent: Box::pin(sleep(between)),
                })),
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err(silence(answer)),
            }
        })
    }
}

/// A body that fails when its next part takes too long.
struct LimitedBody<B> {
    body: B,
    limit: Duration,
    silent: Pin<Box<Sleep>>,
}

impl<B> HttpBody for LimitedBody<B>
where
    B: HttpBody + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            let next = Instant::now() + this.limit;
            this.silent.as_mut().reset(next);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(this.silent.as_mut().poll(context));
        Poll::Ready(Some(Err(silence(this.limit))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
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
    use http_body_util::{BodyExt, StreamBody};
    use std::convert::Infallible;
    use tower::{ServiceExt, service_fn};

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(3600);

    /// An answer that begins after `first`, has a second part after `second`, and never ends.
    async fn ask(uri: &'static str, first: Duration, second: Duration) -> Result<usize, String> {
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
        let limited = Limited {
            inner: server,
            limits: Limits {
                answer: SHORT * 10,
                watch: SHORT * 50,
            },
        };
        let request = http::Request::get(uri)
            .body(())
            .map_err(|e| e.to_string())?;
        let response = limited.oneshot(request).await.map_err(|e| e.to_string())?;
        let mut body = response.into_body();
        let mut parts = 0;
        while let Some(Ok(_)) = body.frame().await {
            parts += 1;
        }
        Ok(parts)
    }

    #[tokio::test]
    async fn what_is_not_answered_ends() {
        for uri in ["/pods", "/pods?watch=true"] {
            let error = ask(uri, LONG, LONG).await.expect_err("it is not answered");
            assert!(error.contains("nothing came"), "{error}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_stops_half_way_ends() {
        assert_eq!(ask("/pods", Duration::ZERO, LONG).await, Ok(1));
        assert_eq!(ask("/pods?watch=true", Duration::ZERO, LONG).await, Ok(1));
    }

    #[tokio::test]
    async fn a_watch_may_be_silent_for_longer() {
        assert_eq!(ask("/pods", SHORT, SHORT * 30).await, Ok(1));
        let watch = ask("/pods?&watch=true&timeoutSeconds=290", SHORT, SHORT * 30);
        assert_eq!(watch.await, Ok(2));
    }

    #[test]
    fn a_watch_is_known_by_its_query() {
        let is = |uri| is_watch(&http::Uri::from_static(uri));
        assert!(is("/api/v1/pods?&watch=true&allowWatchBookmarks=true"));
        assert!(is("/api/v1/pods?watch=1"));
        assert!(!is("/api/v1/pods?limit=500"));
        assert!(!is("/api/v1/namespaces/watch=true/pods"));
    }
}
