//! A proxy between an operator and the API server that injects network faults: delayed requests,
//! lost responses, and broken connections. It also numbers the operator's writes, so that the
//! operator can be killed at any of them without support in the operator.

use anyhow::{Context, Result};
use futures::stream::{self, BoxStream, StreamExt};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, BodyStream, Either, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The fault that is injected into a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// No fault.
    #[default]
    Passes,
    /// The request is forwarded after this delay.
    Late(Duration),
    /// The connection breaks before the request is forwarded.
    Breaks,
    /// The request is forwarded, and the connection breaks before the response.
    Unheard,
    /// The request is forwarded, and the response never arrives.
    Silent,
    /// The request is not forwarded, and no response arrives.
    Swallowed,
    /// The request is forwarded, and the connection breaks in the middle of the response.
    Cut,
    /// The request is forwarded, and only half of the response arrives.
    Stalls,
    /// The request is forwarded, and each part of the response body is delayed by this duration.
    Lags(Duration),
    /// The operator is killed before the request is forwarded.
    KillsBefore,
    /// The request is forwarded, and the operator is killed before the response.
    KillsAfter,
}

/// The properties of a request that select its fault.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The HTTP method.
    pub method: Method,
    /// The path and query.
    pub uri: Uri,
    /// The number of this write among all writes of pods and groups, from 1. `None` for other
    /// requests.
    pub write: Option<u64>,
}

/// Selects the fault for a request.
pub type Decide = dyn Fn(&Seen) -> Fate + Send + Sync;

struct Shared {
    client: Client,
    decide: Box<Decide>,
    writes: AtomicU64,
    victim: Mutex<Option<u32>>,
    killed_at: Mutex<Option<Seen>>,
}

/// A running proxy. Dropping it stops the proxy.
pub struct Proxy {
    shared: Arc<Shared>,
    kubeconfig: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Starts a proxy that forwards requests with the credentials of `kubeconfig`.
    ///
    /// # Errors
    /// Returns an error if the kubeconfig is invalid, or if no port is free.
    pub async fn start(
        kubeconfig: &Path,
        decide: impl Fn(&Seen) -> Fate + Send + Sync + 'static,
    ) -> Result<Self> {
        let config = kube::config::Kubeconfig::read_from(kubeconfig)?;
        let context = config.contexts.first().and_then(|c| c.context.as_ref());
        let namespace = context.and_then(|c| c.namespace.clone());
        let mut config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await?;
        // Retries are left to the operator.
        config.default_retry = false;
        let shared = Arc::new(Shared {
            client: Client::try_from(config)?,
            decide: Box::new(decide),
            writes: AtomicU64::new(0),
            victim: Mutex::new(None),
            killed_at: Mutex::new(None),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let ours = kubeconfig.with_file_name(format!("proxy-{}.kubeconfig", address.port()));
        let content = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{ "name": "proxy", "cluster": { "server": format!("http://{address}") } }],
            "users": [{ "name": "proxy", "user": {} }],
            "contexts": [{ "name": "proxy", "context": {
                "cluster": "proxy", "user": "proxy", "namespace": namespace,
            } }],
        });
        std::fs::write(&ours, content.to_string()).with_context(|| ours.display().to_string())?;
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            shared,
            kubeconfig: ours,
            task,
        })
    }

    /// Returns the kubeconfig for an operator behind this proxy.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Returns the number of writes so far.
    pub fn writes(&self) -> u64 {
        self.shared.writes.load(Ordering::SeqCst)
    }

    /// Sets the process to kill, and resets the count of writes.
    pub fn watch_over(&self, pid: u32) {
        *self.shared.victim() = Some(pid);
        self.shared.writes.store(0, Ordering::SeqCst);
    }

    /// Returns and clears the number of the write at which the last process was killed.
    pub fn killed_at(&self) -> Option<Seen> {
        self.shared.killed_at().take()
    }
}

impl Shared {
    fn victim(&self) -> std::sync::MutexGuard<'_, Option<u32>> {
        self.victim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn killed_at(&self) -> std::sync::MutexGuard<'_, Option<Seen>> {
        self.killed_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn kill(&self, seen: Seen) {
        *self.killed_at() = Some(seen);
        let victim = self.victim().take().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = victim.and_then(rustix::process::Pid::from_raw) {
            // The process may have ended already.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    /// Returns the next number if the request writes a pod or a group.
    fn number(&self, method: &Method, uri: &Uri) -> Option<u64> {
        let ours = ["/pods", "/oaatgroups"];
        let meant = ours.iter().any(|kind| uri.path().contains(kind));
        let trial = uri.query().is_some_and(|query| query.contains("dryRun"));
        (method != Method::GET && meant && !trial)
            .then(|| self.writes.fetch_add(1, Ordering::SeqCst) + 1)
    }

    async fn pass(&self, request: Request<Incoming>) -> Result<Response<Answer>> {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let write = self.number(&method, &uri);
        let seen = Seen { method, uri, write };
        let fate = (self.decide)(&seen);
        match fate {
            Fate::Passes
            | Fate::Unheard
            | Fate::Silent
            | Fate::Cut
            | Fate::Stalls
            | Fate::Lags(_)
            | Fate::KillsAfter => {}
            Fate::Swallowed => std::future::pending().await,
            Fate::Late(time) => tokio::time::sleep(time).await,
            Fate::Breaks => anyhow::bail!("broken"),
            Fate::KillsBefore => {
                self.kill(seen);
                anyhow::bail!("killed");
            }
        }
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        // Headers that apply only to this connection.
        parts.headers.remove(http::header::HOST);
        parts.headers.remove(http::header::CONNECTION);
        let answer = self.client.send(Request::from_parts(parts, body.into()));
        let answer = answer.await;
        match fate {
            Fate::Unheard => anyhow::bail!("unheard"),
            Fate::Silent => {
                std::future::pending::<()>().await;
            }
            Fate::KillsAfter => {
                self.kill(seen);
                anyhow::bail!("killed");
            }
            _ => {}
        }
        Ok(answer?.map(|body| match fate {
            Fate::Cut => half(body, true),
            Fate::Stalls => half(body, false),
            Fate::Lags(delay) => delayed(body, delay),
            _ => Either::Left(body),
        }))
    }
}

/// The body of a response, unchanged or altered by a fault.
type Answer = Either<Body, AlteredBody>;
type AlteredBody = StreamBody<BoxStream<'static, Result<Frame<Bytes>, kube::Error>>>;

/// A body that delivers half of its first part, and then an error or nothing.
fn half(mut body: Body, breaks: bool) -> Answer {
    let first = async move {
        let frame = body.frame().await?.ok()?;
        let bytes = frame.into_data().ok()?;
        Some(Ok(Frame::data(bytes.slice(..bytes.len() / 2))))
    };
    let rest = async move {
        if !breaks {
            std::future::pending::<()>().await;
        }
        Err(kube::Error::Service("the connection breaks".into()))
    };
    let first = stream::once(first).filter_map(|frame| async { frame });
    Either::Right(StreamBody::new(first.chain(stream::once(rest)).boxed()))
}

/// A body whose parts are each delayed.
fn delayed(body: Body, delay: Duration) -> Answer {
    let parts = BodyStream::new(body).then(move |part| async move {
        tokio::time::sleep(delay).await;
        part
    });
    Either::Right(StreamBody::new(parts.boxed()))
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        // A frozen operator keeps its connections open, so they must not block those of others.
        tokio::spawn(serve(stream, Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move {
            // In a separate task, so that a request is forwarded even if its sender is gone.
            let pass = tokio::spawn(async move { shared.pass(request).await });
            pass.await
                .unwrap_or_else(|error| Err(error.into()))
                .map_err(std::io::Error::other)
        }
    });
    // Errors of the connection are expected, because the proxy causes them.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_of_pods_and_groups_are_numbered() {
        let client = kube::Config::new(Uri::from_static("http://127.0.0.1:1"));
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let _entered = runtime.enter();
        let shared = Shared {
            client: Client::try_from(client).expect("a client"),
            decide: Box::new(|_| Fate::Passes),
            writes: AtomicU64::new(0),
            victim: Mutex::new(None),
            killed_at: Mutex::new(None),
        };
        let number = |method, uri: &'static str| shared.number(&method, &Uri::from_static(uri));
        let group = "/apis/kawaja.net/v1/namespaces/n/oaatgroups/g/status";
        assert_eq!(number(Method::GET, group), None);
        assert_eq!(number(Method::PATCH, group), Some(1));
        let pods = "/api/v1/namespaces/n/pods";
        assert_eq!(number(Method::POST, pods), Some(2));
        let trial = "/api/v1/namespaces/n/pods?dryRun=All";
        assert_eq!(number(Method::POST, trial), None);
        let lease = "/apis/coordination.k8s.io/v1/namespaces/n/leases/l";
        assert_eq!(number(Method::PUT, lease), None);
    }
}
