//! Stands between an operator and the API server, and does to requests what networks do: they
//! are late, their answers are lost, connections break. It also knows the operator's writes by
//! number, so that the operator can be killed at any of them without a switch in the operator.

use anyhow::{Context, Result};
use futures::stream::{self, BoxStream, StreamExt};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Either, StreamBody};
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

/// What becomes of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It goes through.
    #[default]
    Passes,
    /// It goes through, after so long.
    Late(Duration),
    /// The connection breaks before the request is passed on.
    Breaks,
    /// It is passed on, and the connection breaks instead of an answer.
    Unheard,
    /// It is passed on, and no answer comes.
    Silent,
    /// It is not passed on, and no answer comes.
    Swallowed,
    /// It is passed on, and the connection breaks in the middle of the answer.
    Cut,
    /// It is passed on, and after half of the answer nothing more comes.
    Stalls,
    /// The operator is killed before it is passed on.
    KillsBefore,
    /// It is passed on, and the operator is killed instead of an answer.
    KillsAfter,
}

/// A request, as far as its fate depends on it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// If it writes a pod or a group: the how manyth such write it is, from 1.
    pub write: Option<u64>,
}

/// Decides what becomes of requests.
pub type Decide = dyn Fn(&Seen) -> Fate + Send + Sync;

struct Shared {
    client: Client,
    decide: Box<Decide>,
    writes: AtomicU64,
    victim: Mutex<Option<u32>>,
    killed_at: Mutex<Option<Seen>>,
}

/// A proxy; it ends when it is dropped.
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
    /// Starts one that passes requests on with the rights of `kubeconfig`.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used, or there is no port.
    pub async fn start(
        kubeconfig: &Path,
        decide: impl Fn(&Seen) -> Fate + Send + Sync + 'static,
    ) -> Result<Self> {
        let config = kube::config::Kubeconfig::read_from(kubeconfig)?;
        let context = config.contexts.first().and_then(|c| c.context.as_ref());
        let namespace = context.and_then(|c| c.namespace.clone());
        let mut config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await?;
        // What is sent twice is the operator's business.
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

    /// What an operator reads to come this way.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Writes so far.
    pub fn writes(&self) -> u64 {
        self.shared.writes.load(Ordering::SeqCst)
    }

    /// Whom to kill. Writes are counted anew.
    pub fn watch_over(&self, pid: u32) {
        *self.shared.victim() = Some(pid);
        self.shared.writes.store(0, Ordering::SeqCst);
    }

    /// The write at which the last one was killed, once.
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
            // One that has ended already is no matter.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    /// Numbers the writes of pods and groups that are meant.
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
        // What is of this connection alone.
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
            _ => Either::Left(body),
        }))
    }
}

/// The body of an answer, whole or in part.
type Answer = Either<Body, PartOfBody>;
type PartOfBody = StreamBody<BoxStream<'static, Result<Frame<Bytes>, kube::Error>>>;

/// Half of the first thing that a body brings, and then an error or nothing more.
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

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        // An operator that is frozen leaves its connections open: one that waits for others
        // must not go on in their stead.
        tokio::spawn(serve(stream, Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move {
            // In a task of its own: what was sent arrives also if the sender is gone.
            let pass = tokio::spawn(async move { shared.pass(request).await });
            pass.await
                .unwrap_or_else(|error| Err(error.into()))
                .map_err(std::io::Error::other)
        }
    });
    // A connection that ends in an error is the point of it.
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
