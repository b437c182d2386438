//! `oaat-operator fetch-items`: fetches a list of items from a web server and prints it as JSON. It
//! runs in a pod of the group's namespace ([`crate::item_sources`]), never in the operator's
//! process.

use crate::item_sources::http::{DEFINITION, header_variable};
use crate::item_sources::{MAX_TEXT, at_path, list};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use oaat_api::ItemsHttp;
use oaat_api::validate::{answer_timeout, certificates, http_errors, summary};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use rustls::{ClientConfig, RootCertStore};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

/// The maximum number of redirects, all to the same server.
const MAX_REDIRECTS: usize = 3;

/// Prints the list, or one line with the error on standard error.
pub fn run() -> ExitCode {
    let fetched = definition().and_then(|(http, headers)| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| format!("failed to start the runtime: {error}"))?;
        runtime.block_on(fetch(&http, headers))
    });
    let printed = fetched.and_then(|items| {
        let text = serde_json::to_string_pretty(&items).map_err(|error| error.to_string())?;
        writeln!(std::io::stdout(), "{text}").map_err(|error| format!("standard output: {error}"))
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{}", problem.replace(char::is_control, " "));
            ExitCode::FAILURE
        }
    }
}

/// Reads the definition from the environment of the pod.
fn definition() -> Result<(ItemsHttp, HeaderMap), String> {
    let text = std::env::var(DEFINITION).map_err(|_| {
        format!(
            "{DEFINITION} is not set; do not run this command by hand: the operator runs it in pods \
             that it creates"
        )
    })?;
    let http: ItemsHttp =
        serde_json::from_str(&text).map_err(|error| format!("{DEFINITION}: {error}"))?;
    let errors = http_errors(&http);
    if !errors.is_empty() {
        return Err(summary(&errors));
    }
    let secrets =
        (0..http.headers_from.len()).map(|index| std::env::var_os(header_variable(index)));
    let headers = headers(
        &http,
        secrets.map(|value| value.map(|value| value.into_encoded_bytes())),
    )?;
    Ok((http, headers))
}

/// Returns the headers of the request. The values from Secrets never appear in an error.
fn headers(
    http: &ItemsHttp,
    secrets: impl Iterator<Item = Option<Vec<u8>>>,
) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let parse_name = |name: &str| {
        name.parse::<HeaderName>()
            .map_err(|error| error.to_string())
    };
    for (name, value) in &http.headers {
        let value: HeaderValue = value
            .parse()
            .map_err(|_| format!("http.headers[{name:?}]: the value must be one line of text"))?;
        headers.insert(parse_name(name)?, value);
    }
    for (header, secret) in http.headers_from.iter().zip(secrets) {
        // Most files that Secrets are created from end with a newline.
        let secret = secret.unwrap_or_default();
        let value = HeaderValue::from_bytes(secret.trim_ascii());
        let mut value = value.map_err(|_| {
            let key = &header.value_from.secret_key_ref;
            format!(
                "key {} of Secret {} cannot be sent as header {}: it must be one line of text",
                key.key, key.name, header.name
            )
        })?;
        value.set_sensitive(true);
        headers.insert(parse_name(&header.name)?, value);
    }
    Ok(headers)
}

fn tls(ca_bundle: Option<&str>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match ca_bundle {
        Some(pem) => {
            for certificate in certificates(pem)? {
                let added = roots.add(certificate);
                added.map_err(|error| format!("caBundle: {error}"))?;
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Fetches a list from a web server.
async fn fetch(http: &ItemsHttp, headers: HeaderMap) -> Result<Vec<String>, String> {
    let url = Url::parse(&http.url).map_err(|error| format!("url: {error}"))?;
    let client = Client::builder()
        .use_preconfigured_tls(tls(http.ca_bundle.as_deref())?)
        .no_proxy()
        .redirect(redirects_to_same_server())
        .timeout(answer_timeout(http).map_err(|e| e.to_string())?)
        .user_agent(concat!("oaat-operator/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .build()
        .map_err(|error| with_sources(&error))?;
    let mut response = client
        .get(url)
        .send()
        .await
        .map_err(|error| with_sources(&error))?;
    match response.status() {
        StatusCode::OK => {}
        status if status.is_redirection() => {
            let target = response.headers().get(header::LOCATION);
            let target = target.and_then(|target| target.to_str().ok());
            return Err(format!(
                "the server redirects to {}, which is not followed; set http.url to the final URL",
                target.unwrap_or("another URL")
            ));
        }
        status => return Err(format!("the server responded with status {status}")),
    }
    let content_type = response.headers().get(header::CONTENT_TYPE);
    if content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/html")) {
        return Err("the response is an HTML page, not a list of items".into());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| with_sources(&error))?
    {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_TEXT {
            return Err(format!("the response is longer than {MAX_TEXT} bytes"));
        }
    }
    let text = String::from_utf8(body).map_err(|_| "the response is not UTF-8 text".to_owned())?;
    match &http.json_path {
        Some(path) => at_path(&text, &path.parse()?),
        None => list(&text),
    }
}

/// Follows a few redirects to the same server. No other server may receive the headers.
fn redirects_to_same_server() -> Policy {
    let server = |url: &Url| url.origin();
    Policy::custom(move |attempt| {
        let first = attempt.previous().first().map(server);
        if attempt.previous().len() > MAX_REDIRECTS || first != Some(server(attempt.url())) {
            attempt.stop()
        } else {
            attempt.follow()
        }
    })
}

/// Formats an error with its chain of causes.
fn with_sources(error: &reqwest::Error) -> String {
    let mut message = if error.is_timeout() {
        "the server did not respond in time".to_owned()
    } else {
        "the request failed".to_owned()
    };
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let _ = write!(message, ": {error}");
        source = error.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn headers_are_read_from_the_spec_and_from_secrets() {
        let header = |name: &str, key: &str| {
            let secret = json!({ "name": "lists", "key": key });
            json!({ "name": name, "valueFrom": { "secretKeyRef": secret } })
        };
        let http: ItemsHttp = serde_json::from_value(json!({
            "url": "http://a.example/", "headers": { "Accept": "text/plain" },
            "headersFrom": [header("Authorization", "token"), header("X-Other", "other")],
        }))
        .unwrap();
        let with = |other: &[u8]| {
            let secrets = [b"Bearer abc\n".to_vec(), other.to_vec()];
            headers(&http, secrets.into_iter().map(Some))
        };
        let headers = with(b"x").unwrap();
        assert_eq!(headers["accept"], "text/plain");
        assert_eq!(headers["authorization"], "Bearer abc");
        assert!(headers["authorization"].is_sensitive());
        let error = with(b"hun\nter2").unwrap_err();
        assert!(
            error.contains("key other of Secret lists") && error.contains("X-Other"),
            "{error}"
        );
        assert!(!error.contains("ter2"), "{error}");
    }

    /// Starts a server that responds to each connection with the next of these texts. Returns its
    /// URL.
    async fn server(answers: Vec<String>) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
            // Further connections are accepted without a response.
            let _connection = listener.accept().await;
            std::future::pending::<()>().await;
        });
        format!("http://{address}/")
    }

    async fn fetch_from(answers: Vec<String>, timeout: &str) -> Result<Vec<String>, String> {
        let http = ItemsHttp {
            url: server(answers).await,
            timeout: Some(timeout.into()),
            ..ItemsHttp::default()
        };
        fetch(&http, HeaderMap::new()).await
    }

    #[tokio::test]
    async fn response_is_limited_in_size_and_time() {
        let answer = |body: &str| {
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        let items = fetch_from(vec![answer("a\nb\n")], "20s").await;
        assert_eq!(items, Ok(vec!["a".to_owned(), "b".to_owned()]));
        let large = fetch_from(vec![answer(&"a\n".repeat(MAX_TEXT))], "20s").await;
        assert!(large.unwrap_err().contains("longer than"));
        let silent = fetch_from(vec![], "300ms").await;
        assert!(silent.unwrap_err().contains("in time"));
    }

    #[tokio::test]
    async fn redirects_are_followed_only_to_the_same_server() {
        let moved = |to: &str| {
            format!(
                "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        };
        let good = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\na".to_owned();
        let within = fetch_from(vec![moved("/there"), good.clone()], "20s").await;
        assert_eq!(within, Ok(vec!["a".to_owned()]));
        let away = fetch_from(vec![moved("http://127.0.0.1:1/"), good], "20s")
            .await
            .unwrap_err();
        assert!(
            away.contains("http://127.0.0.1:1/") && away.contains("not followed"),
            "{away}"
        );
        let round = ["/a", "/b", "/c", "/d", "/e"].map(moved).to_vec();
        let round = fetch_from(round, "20s").await;
        assert!(round.unwrap_err().contains("not followed"));
    }
}
