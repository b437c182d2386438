//! Limits the size of the responses of the API server.

use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt, ready};
use http::{Request, Response, Uri};
use http_body_util::{Either, Limited};
use hyper::body::{Body, Bytes, Frame};
use memchr::memrchr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tower::{BoxError, Service};

/// The maximum size of a response, or of a watch event, in bytes. A page of the largest objects is
/// smaller, because etcd accepts 1.5 MiB for an object by default.
pub(super) const MAX_RESPONSE: usize = 256 << 20;
/// The number of objects in a page of a list.
pub(crate) const PAGE: u32 = 100;

/// A service that limits the size of responses and of watch events. Logs are streamed without a limit.
pub(super) struct LimitResponses<S> {
    pub service: S,
    /// The maximum size in bytes.
    pub limit: usize,
}

impl<S, A, B> Service<Request<A>> for LimitResponses<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Either<Limited<B>, LimitedLines<B>>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let limit = self.limit;
        let max_line_length = max_line_length(request.uri(), limit);
        let limited = move |response: Response<B>| {
            // kube reads the whole response if it is an error.
            let max_line_length = max_line_length.filter(|_| response.status().is_success());
            response.map(|body| match max_line_length {
                Some(max_line_length) => Either::Right(LimitedLines::new(body, max_line_length)),
                None => Either::Left(Limited::new(body, limit)),
            })
        };
        self.service.call(request).map_ok(limited).boxed()
    }
}

/// Returns the maximum line length of a streamed response (a watch or a log), or `None` if the whole
/// response is limited.
fn max_line_length(uri: &Uri, limit: usize) -> Option<usize> {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    if pairs.any(|pair| matches!(pair, "watch=true" | "watch=1")) {
        // Each event is a line.
        return Some(limit);
    }
    uri.path().ends_with("/log").then_some(usize::MAX)
}

/// A watch event that exceeds the limit.
#[derive(Debug, thiserror::Error)]
#[error("an event is too large")]
pub(super) struct EventTooLarge;

/// A body that fails once an unfinished line exceeds a limit.
pub(super) struct LimitedLines<B> {
    body: Pin<Box<B>>,
    max_line_length: usize,
    /// The number of bytes since the last newline.
    line_length: usize,
}

impl<B> LimitedLines<B> {
    fn new(body: B, max_line_length: usize) -> Self {
        Self {
            body: Box::pin(body),
            max_line_length,
            line_length: 0,
        }
    }
}

impl<B: Body<Data = Bytes>> Body for LimitedLines<B>
where
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(self.body.as_mut().poll_frame(context));
        if let Some(data) = frame
            .as_ref()
            .and_then(|frame| frame.as_ref().ok()?.data_ref())
        {
            self.line_length = match memrchr(b'\n', data) {
                Some(newline) => data.len() - newline - 1,
                None => self.line_length.saturating_add(data.len()),
            };
            if self.line_length > self.max_line_length {
                return Poll::Ready(Some(Err(EventTooLarge.into())));
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Access, ClusterError};
    use futures::{AsyncReadExt, StreamExt};
    use http::StatusCode;
    use http_body_util::Full;
    use k8s_openapi::api::core::v1::Pod;
    use kube::Client;
    use kube::api::{Api, WatchParams};
    use std::convert::Infallible;

    /// Returns a client that accepts 11 bytes, from an API server that responds with `text`.
    fn client_of(status: StatusCode, text: &'static str) -> Client {
        let service = tower::service_fn(move |_: Request<kube::client::Body>| async move {
            let body = Full::new(Bytes::from_static(text.as_bytes()));
            let mut response = Response::new(body);
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        });
        Client::new(LimitResponses { service, limit: 11 }, "default")
    }

    /// A client whose API server responds with 12 bytes, and that accepts 11.
    fn client() -> Client {
        client_of(StatusCode::OK, "\"0123456789\"")
    }

    #[tokio::test]
    async fn response_over_the_limit_is_an_error_that_names_the_limit() {
        let request = Request::get("/api/v1/pods?limit=1").body(Vec::new());
        let error = client().request::<String>(request.unwrap()).await;
        let access = Access::new("list", "", "pods", None);
        let error = ClusterError::of_request(error.unwrap_err(), access, "https://server/");
        let error = error.to_string();
        let words = "the response is larger than 256 MiB; reduce the size of the objects";
        assert!(error.contains(words), "{error}");
    }

    #[tokio::test]
    async fn watch_events_and_error_responses_are_limited() {
        for (status, text, expected) in [
            (StatusCode::OK, "\"01234567\"\n\"01234567\"\n", "expected"),
            (
                StatusCode::OK,
                "\"0123456789\"",
                "a watch event is larger than 256 MiB",
            ),
            (
                StatusCode::BAD_GATEWAY,
                "0\n0\n0\n0\n0\n0\n",
                "the response is larger than 256 MiB",
            ),
        ] {
            let pods = Api::<Pod>::all(client_of(status, text));
            let error = match pods.watch(&WatchParams::default(), "0").await {
                Ok(events) => std::pin::pin!(events).next().await.unwrap().map(drop),
                Err(error) => Err(error),
            };
            let access = Access::new("watch", "", "pods", None);
            let error = ClusterError::of_request(error.unwrap_err(), access, "https://server/");
            let error = error.to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn logs_have_no_limit() {
        let uri = "/api/v1/namespaces/n/pods/p/log?follow=true";
        let request = Request::get(uri).body(Vec::new()).unwrap();
        let stream = client().request_stream(request).await.unwrap();
        let mut text = Vec::new();
        std::pin::pin!(stream).read_to_end(&mut text).await.unwrap();
        assert_eq!(text.len(), 12);
    }
}
