//! Limits the size of the responses of the API server.

use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use http::{Request, Response, Uri};
use http_body_util::{Either, Limited};
use hyper::body::Body;
use std::task::{Context, Poll};
use tower::{BoxError, Service};

/// The maximum size of a response in bytes. A page of the largest objects is smaller, because etcd
/// accepts 1.5 MiB for an object by default.
pub(super) const MAX_RESPONSE: usize = 256 << 20;
/// The number of objects in a page of a list.
pub(crate) const PAGE: u32 = 100;

/// A service that limits the size of responses. Watches and logs are not limited, because they are
/// read in parts.
pub(super) struct LimitResponses<S> {
    pub service: S,
    /// The maximum size in bytes.
    pub limit: usize,
}

impl<S, A, B> Service<Request<A>> for LimitResponses<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Either<Limited<B>, B>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let limit = self.limit;
        let is_stream = is_stream(request.uri());
        let limited = move |body| {
            if is_stream {
                Either::Right(body)
            } else {
                Either::Left(Limited::new(body, limit))
            }
        };
        let response = self.service.call(request);
        response
            .map_ok(move |response: Response<B>| response.map(limited))
            .boxed()
    }
}

/// Returns whether a response is read in parts.
fn is_stream(uri: &Uri) -> bool {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    let is_watch = pairs.any(|pair| matches!(pair, "watch=true" | "watch=1"));
    is_watch || uri.path().ends_with("/log")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Access, ClusterError};
    use futures::AsyncReadExt;
    use http_body_util::Full;
    use kube::Client;
    use std::convert::Infallible;

    /// A client whose API server responds with 12 bytes, and that accepts 11.
    fn client() -> Client {
        let service = tower::service_fn(|_: Request<kube::client::Body>| async {
            let body = Full::new(hyper::body::Bytes::from_static(b"\"0123456789\""));
            Ok::<_, Infallible>(Response::new(body))
        });
        Client::new(LimitResponses { service, limit: 11 }, "default")
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
    async fn watches_and_logs_have_no_limit() {
        for uri in [
            "/api/v1/pods?watch=true",
            "/api/v1/namespaces/n/pods/p/log?follow=true",
        ] {
            let request = Request::get(uri).body(Vec::new()).unwrap();
            let stream = client().request_stream(request).await.unwrap();
            let mut text = Vec::new();
            std::pin::pin!(stream).read_to_end(&mut text).await.unwrap();
            assert_eq!(text.len(), 12, "{uri}");
        }
    }
}
