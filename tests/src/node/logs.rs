//! Serves container logs, which the API server requests for `kubectl logs` and for the operator.

use std::sync::{Arc, Weak};

use anyhow::{Context, Result};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::shared::Shared;
use super::status::ADDRESS;

/// The server for logs.
pub(super) struct Logs {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Logs {
    /// Listens on a free port, with a certificate that no client verifies.
    pub(super) async fn new() -> Result<Self> {
        let own = rcgen::generate_simple_self_signed([ADDRESS.to_owned()])?;
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der())
            .map_err(|error| anyhow::anyhow!("the node's key: {error}"))?;
        let provider = tokio_rustls::rustls::crypto::ring::default_provider();
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)?;
        let listener = TcpListener::bind((ADDRESS, 0)).await;
        Ok(Self {
            listener: listener.context("failed to find a port for the node's logs")?,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    /// Returns the port.
    pub(super) fn port(&self) -> Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Serves logs until the node is gone.
    pub(super) async fn serve(self, shared: Weak<Shared>) {
        while let Ok((stream, _)) = self.listener.accept().await {
            let (acceptor, shared) = (self.acceptor.clone(), shared.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let service = service_fn(move |request: Request<Incoming>| {
                    let answer = answer(shared.upgrade().as_deref(), &request);
                    async move { answer }
                });
                // A client may close the connection early.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }
}

/// Responds to `/containerLogs/NAMESPACE/POD/CONTAINER`, as a kubelet does.
fn answer(
    shared: Option<&Shared>,
    request: &Request<Incoming>,
) -> Result<Response<String>, http::Error> {
    let path: Vec<&str> = request.uri().path().split('/').collect();
    let text = match (shared, path.as_slice()) {
        (Some(shared), ["", "containerLogs", namespace, pod, container]) => {
            std::fs::read(shared.log_path(namespace, pod, container)).ok()
        }
        _ => None,
    };
    match text {
        Some(mut text) => {
            let query = request.uri().query().unwrap_or_default().split('&');
            let limit = query.filter_map(|part| part.strip_prefix("limitBytes="));
            if let Some(limit) = limit.filter_map(|limit| limit.parse().ok()).next() {
                text.truncate(limit);
            }
            Response::builder().body(String::from_utf8_lossy(&text).into_owned())
        }
        None => Response::builder()
            .status(StatusCode::NOT_FOUND)
            .body("the container is not on this node".to_owned()),
    }
}
