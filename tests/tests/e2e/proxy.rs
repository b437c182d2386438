//! An operator whose kubeconfig has `proxy-url`: all its connections go through that proxy.

use crate::fixture::{Fixture, item};
use anyhow::{Context, Result, ensure};
use base64::Engine;
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// The host of the API server in the kubeconfig. It is in the certificate of the API server, but
/// only the proxy can reach it.
const HOST: &str = "kubernetes.default.svc";

/// The CONNECT requests that a proxy received.
type Requests = Arc<Mutex<Vec<String>>>;

/// Starts a proxy that forwards every tunnel to the API server. With an acceptor, clients connect
/// to it with TLS. Returns its port and requests.
async fn start(api_server: SocketAddr, tls: Option<TlsAcceptor>) -> Result<(u16, Requests)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, seen) = (tls.clone(), Arc::clone(&seen));
            // An error is a closed connection.
            tokio::spawn(async move {
                match tls {
                    Some(tls) => forward(tls.accept(stream).await?, api_server, seen).await,
                    None => forward(stream, api_server, seen).await,
                }
            });
        }
    });
    Ok((port, requests))
}

/// Serves one connection to the proxy.
async fn forward(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    api_server: SocketAddr,
    seen: Requests,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    seen.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(head);
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    let mut server = TcpStream::connect(api_server).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// Returns an acceptor with the certificate of the API server, which is also valid for 127.0.0.1.
fn acceptor(folder: &Path) -> Result<TlsAcceptor> {
    let certificates = CertificateDer::pem_file_iter(folder.join("server.crt"))?;
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates.collect::<Result<_, _>>()?, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Runs a group with an operator behind a proxy with this scheme.
async fn runs_through(scheme: &str) -> Result<()> {
    let mut fixture = Fixture::without_operator(&format!("proxy-{scheme}")).await?;
    let folder = fixture.plane.folder();
    let url = fixture.plane.api_server_url();
    let api_server: SocketAddr = url.trim_start_matches("https://").parse()?;
    let tls = (scheme == "https").then(|| acceptor(folder)).transpose()?;
    let (port, requests) = start(api_server, tls).await?;

    let kubeconfig = fs::read_to_string(&fixture.options.kubeconfig)?;
    let mut kubeconfig: Value = serde_norway::from_str(&kubeconfig)?;
    let cluster = &mut kubeconfig["clusters"][0]["cluster"];
    cluster["server"] = json!(format!("https://{HOST}:{}", api_server.port()));
    cluster["proxy-url"] = json!(format!("{scheme}://user:p%40ss@127.0.0.1:{port}"));
    fixture.options.kubeconfig = folder.join(format!("{scheme}-proxy.kubeconfig"));
    fs::write(&fixture.options.kubeconfig, kubeconfig.to_string())?;

    fixture.start_operator().await?;
    fixture.work("true", json!({})).await?;
    fixture.group(&["a"], json!({})).await?;
    fixture
        .until("a has run", |g| item(g, "a")["lastSuccess"].is_string())
        .await?;

    let requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
    let credentials = base64::engine::general_purpose::STANDARD.encode("user:p@ss");
    let first = requests.first().context("the proxy received no request")?;
    let connect = format!("CONNECT {HOST}:{} HTTP/1.1\r\n", api_server.port());
    ensure!(first.starts_with(&connect), "{first}");
    let header = format!("Proxy-Authorization: Basic {credentials}\r\n");
    ensure!(
        requests.iter().all(|head| head.contains(&header)),
        "{first}"
    );
    let log = fixture.operator().log();
    ensure!(!log.contains("p%40ss") && !log.contains("p@ss"), "{log}");
    Ok(())
}

#[tokio::test]
async fn operator_runs_groups_through_an_http_proxy() -> Result<()> {
    runs_through("http").await
}

#[tokio::test]
async fn operator_runs_groups_through_an_https_proxy() -> Result<()> {
    runs_through("https").await
}
