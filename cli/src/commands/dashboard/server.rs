//! Serves the dashboard over HTTP/1.1. The cost of a client is bounded.

use super::access::Refusal;
use super::api::{Dashboard, Problem};
use super::assets::ASSETS;
use super::response::{ResponseBody, response};
use crate::terminal::report;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// The maximum number of open connections. A page uses at most six.
const CONNECTIONS: usize = 64;
/// How long a client may take to send a request. A connection without a valid token ends after this
/// time, even if the client has not read the response.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum bytes of a request's head.
const MAX_HEAD: usize = 16 << 10;
/// The maximum bytes of a request's body. The name of an item has at most 253 bytes.
const MAX_BODY: usize = 8 << 10;
/// The pause after a failed accept, for example if the process has no file descriptors left.
const PAUSE: Duration = Duration::from_millis(200);

/// What the page may do: use its own files, in no other page, and never turn text into HTML.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";
/// The headers of all responses.
const HEADERS: [(header::HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (
        header::HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// An open connection.
struct Connection {
    /// Whether it has sent a valid token.
    is_authorized: Arc<AtomicBool>,
    task: AbortHandle,
}

/// Returns whether another connection may be open. At the limit, ends the oldest connection that has
/// sent no valid token. Therefore, a local program without the token cannot lock the user out.
fn make_room(open: &mut Vec<Connection>) -> bool {
    open.retain(|connection| !connection.task.is_finished());
    if open.len() < CONNECTIONS {
        return true;
    }
    let is_unauthorized =
        |connection: &Connection| !connection.is_authorized.load(Ordering::Relaxed);
    let oldest = open.iter().position(is_unauthorized);
    if let Some(oldest) = oldest {
        open.remove(oldest).task.abort();
    }
    oldest.is_some()
}

/// Accepts connections until it is dropped. See [`REQUEST_TIMEOUT`] for `request_timeout`.
pub(super) async fn serve(
    listener: TcpListener,
    dashboard: Arc<Dashboard>,
    request_timeout: Duration,
) {
    let mut open = Vec::new();
    loop {
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(error) => {
                report(&format!("warning: failed to accept a connection: {error}"));
                sleep(PAUSE).await;
                continue;
            }
        };
        if !make_room(&mut open) {
            continue;
        }
        let dashboard = dashboard.clone();
        let is_authorized = Arc::new(AtomicBool::new(false));
        let authorized = is_authorized.clone();
        let task = tokio::spawn(async move {
            serve_connection(connection, &dashboard, request_timeout, &authorized).await;
        });
        open.push(Connection {
            is_authorized,
            task: task.abort_handle(),
        });
    }
}

/// Serves a connection until it ends, or until `request_timeout` has passed without a request with the token.
async fn serve_connection<C>(
    connection: C,
    dashboard: &Arc<Dashboard>,
    request_timeout: Duration,
    is_authorized: &AtomicBool,
) where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(|request| {
        let access = &dashboard.access;
        if access.check(request.method(), request.headers()).is_ok() {
            is_authorized.store(true, Ordering::Relaxed);
        }
        async { Ok::<_, Infallible>(answer(dashboard, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(request_timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(connection), service);
    let expired = async {
        sleep(request_timeout).await;
        if is_authorized.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
    };
    tokio::select! {
        // A failed response only affects the client.
        _ = served => {}
        () = expired => {}
    }
}

/// Answers a request.
async fn answer<B>(dashboard: &Arc<Dashboard>, request: Request<B>) -> Response<ResponseBody>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let response = match route(dashboard, request).await {
        Ok(response) => response,
        Err(problem) => problem.response(),
    };
    with_headers(response)
}

fn with_headers(mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    for (name, value) in HEADERS {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

async fn route<B>(
    dashboard: &Arc<Dashboard>,
    request: Request<B>,
) -> Result<Response<ResponseBody>, Problem>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let Some(api) = path.strip_prefix("/api/") else {
        dashboard.access.check_host(&head.headers)?;
        return asset(&head.method, path);
    };
    dashboard.access.check(&head.method, &head.headers)?;
    let parts: Vec<&str> = api.split('/').collect();
    match (&head.method, parts.as_slice()) {
        (&Method::GET, ["events"]) => Ok(dashboard.events()),
        (&Method::GET, ["groups", namespace, name]) => dashboard.group(namespace, name),
        (&Method::GET, ["groups", namespace, name, "forecast"]) => {
            dashboard.forecast(namespace, name).await
        }
        (&Method::POST, ["groups", namespace, name, action]) => {
            let body = read(&head.headers, body).await?;
            dashboard.act(namespace, name, action, &body).await
        }
        _ => Err(Problem::not_found()),
    }
}

/// Returns a file of the page.
fn asset(method: &Method, path: &str) -> Result<Response<ResponseBody>, Problem> {
    let asset = ASSETS.iter().find(|asset| asset.path == path);
    match asset {
        Some(asset) if *method == Method::GET => {
            let content = Bytes::from_static(asset.content.as_bytes());
            let mut response = response(StatusCode::OK, asset.content_type, content);
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
            Ok(response)
        }
        _ => Err(Problem::not_found()),
    }
}

/// Reads the body of a request.
async fn read<B>(headers: &HeaderMap, body: B) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let too_large = || Problem {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        problem: format!("the request has more than {MAX_BODY} bytes"),
    };
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > MAX_BODY) {
        return Err(too_large());
    }
    let body = Box::pin(Limited::new(body, MAX_BODY).collect());
    match timeout(REQUEST_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) | Err(_) => Err(Problem {
            status: StatusCode::BAD_REQUEST,
            problem: "the request is incomplete".to_owned(),
        }),
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (status, problem) = match refusal {
            Refusal::Host => (
                StatusCode::FORBIDDEN,
                "the host name differs from the one in the URL that kubectl oaat dashboard printed",
            ),
            Refusal::Origin => (StatusCode::FORBIDDEN, "the request is from another page"),
            Refusal::Token => (
                StatusCode::UNAUTHORIZED,
                "the token is missing or from an earlier start; open the URL that kubectl oaat \
                 dashboard printed",
            ),
        };
        Self {
            status,
            problem: problem.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
