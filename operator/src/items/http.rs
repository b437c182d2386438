//! Asks a web server for a list of items. The operator stands where its users may not: so it asks
//! only those hosts that whoever runs it has named, and looks at the very addresses that it
//! connects to.

use super::{MAX_TEXT, parse};
use crate::api::ItemsHttp;
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url, header};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Most hops within a server.
const HOPS: usize = 3;

/// One that may be asked for lists of items: a host name, `*.` and a domain, an address, or a
/// network of addresses.
#[derive(Clone, Debug, PartialEq)]
enum Permission {
    /// A host by its name. Its addresses must be public, or be permitted as well.
    Host(String),
    /// All hosts of a domain.
    Domain(String),
    /// Addresses, also those that are not public.
    Net(IpNet),
}

impl FromStr for Permission {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Net(address.to_canonical().into()));
        }
        if let Ok(net) = text.parse() {
            return Ok(Self::Net(net));
        }
        let (name, all) = match text.strip_prefix("*.") {
            Some(domain) => (domain, true),
            None => (text, false),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if name.is_empty() || !name.chars().all(fits) {
            return Err(format!(
                "{text:?} is no host (lists.example.com), domain (*.example.com), address (10.1.2.3) or \
                 network (10.1.2.0/24)"
            ));
        }
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        Ok(if all {
            Self::Domain(name)
        } else {
            Self::Host(name)
        })
    }
}

/// All who may be asked. None, as a rule.
#[derive(Clone, Debug, Default)]
pub struct Allowed(Vec<Permission>);

impl Allowed {
    /// Those that the texts name. Blank ones count for nothing.
    ///
    /// # Errors
    /// What the first is that names nobody.
    pub fn read(texts: &[String]) -> Result<Self, String> {
        let texts = texts.iter().map(|text| text.trim());
        let permissions = texts.filter(|text| !text.is_empty()).map(str::parse);
        permissions.collect::<Result<_, _>>().map(Self)
    }

    fn host(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        self.0.iter().any(|permission| match permission {
            Permission::Host(host) => *host == name,
            Permission::Domain(domain) => name
                .strip_suffix(domain.as_str())
                .is_some_and(|head| head.len() > 1 && head.ends_with('.')),
            Permission::Net(_) => false,
        })
    }

    fn listed(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let nets = self.0.iter().filter_map(|permission| match permission {
            Permission::Net(net) => Some(net),
            _ => None,
        });
        nets.into_iter().any(|net| net.contains(&address))
    }

    /// Whether an address may be connected to: of a host that is permitted, and public; or
    /// permitted itself.
    fn address(&self, address: IpAddr) -> bool {
        self.listed(address) || public(address)
    }

    fn url(&self, url: &Url) -> Result<(), String> {
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let permitted = match literal {
            Ok(address) => self.listed(address),
            Err(_) => self.host(host),
        };
        match permitted {
            true => Ok(()),
            false => Err(format!(
                "this operator asks no host {host}: whoever runs it may permit that by --allow-items-from {host}"
            )),
        }
    }
}

/// Whether an address is one of the public internet.
fn public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => public_v4(address),
        IpAddr::V6(address) => public_v6(address),
    }
}

fn public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        // Shared by providers, and by some clusters (RFC 6598).
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
        // Multicast, and what is reserved.
        || a >= 224)
}

fn public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // An address of the other kind by way of a translator (RFC 6052), or of 6to4.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        // Only these are given out (2000::/3), but for documentation and Teredo.
        [0x2001, 0 | 0xdb8, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Resolves names to those of their addresses that may be connected to.
struct Resolver(Arc<Allowed>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: BTreeSet<IpAddr> = found.map(|address| address.ip()).collect();
            let (good, bad): (Vec<_>, Vec<_>) = found
                .into_iter()
                .partition(|address| allowed.address(*address));
            match (good.as_slice(), bad.first()) {
                ([], Some(bad)) => Err(format!(
                    "{} has the address {bad}, which is not public: whoever runs this operator may permit \
                     that by --allow-items-from {bad}",
                    name.as_str()
                )
                .into()),
                _ => {
                    let addresses = good.into_iter().map(|address| SocketAddr::new(address, 0));
                    Ok(Box::new(addresses) as Addrs)
                }
            }
        })
    }
}

/// A good answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The list.
    pub items: Vec<String>,
    /// By which the server knows it again.
    tag: Option<header::HeaderValue>,
}

/// The certificates in PEM.
///
/// # Errors
/// When there are none.
fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err("it has no certificate in PEM (-----BEGIN CERTIFICATE----- …)".into()),
        Err(error) => Err(format!("it is no PEM: {error}")),
    }
}

/// What is wrong with how a web server is to be asked, as far as that can be told without asking.
pub fn problems(http: &ItemsHttp) -> Vec<String> {
    let mut problems = Vec::new();
    match Url::parse(&http.url) {
        Err(error) => problems.push(format!("http.url is {:?}: {error}", http.url)),
        Ok(url) => {
            if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
                problems.push(format!(
                    "http.url is {:?}; it must be one of http or https, such as https://lists.example.com/disks",
                    http.url
                ));
            }
            if !url.username().is_empty() || url.password().is_some() {
                problems.push("http.url has a user or a password in it, which all could read who may read the group".into());
            }
        }
    }
    for (name, value) in &http.headers {
        let name_is_one = header::HeaderName::from_str(name).is_ok_and(|name| name != header::HOST);
        if !name_is_one || header::HeaderValue::from_str(value).is_err() {
            problems.push(format!(
                "http.headers[{name:?}] is no header that can be sent; one is for instance Accept: text/plain"
            ));
        }
    }
    if let Some(path) = &http.json_path
        && let Err(error) = parse::path(path)
    {
        problems.push(format!(
            "http.jsonPath is {path:?}: {error}; one is for instance $.items[*].name"
        ));
    }
    if let Some(pem) = &http.ca_bundle
        && let Err(error) = certificates(pem)
    {
        problems.push(format!("http.caBundle: {error}"));
    }
    problems
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

/// Asks a web server for a list, within `timeout` as a whole.
///
/// # Errors
/// Why there is none, in words.
pub async fn fetch(
    http: &ItemsHttp,
    timeout: Duration,
    allowed: &Arc<Allowed>,
    before: Option<Answer>,
) -> Result<Answer, String> {
    let url = Url::parse(&http.url).map_err(|error| format!("url: {error}"))?;
    allowed.url(&url)?;
    let client = Client::builder()
        .use_preconfigured_tls(tls(http.ca_bundle.as_deref())?)
        .dns_resolver(Arc::new(Resolver(allowed.clone())))
        // A proxy would connect to whatever it is told.
        .no_proxy()
        .redirect(within_a_server())
        .timeout(timeout)
        .user_agent(concat!("oaat-operator/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| in_words(&error))?;
    let mut request = client.get(url.clone());
    for (name, value) in &http.headers {
        request = request.header(name, value);
    }
    if let Some(tag) = before.as_ref().and_then(|before| before.tag.as_ref()) {
        request = request.header(header::IF_NONE_MATCH, tag);
    }
    let mut response = request.send().await.map_err(|error| in_words(&error))?;
    match (response.status(), before) {
        (StatusCode::OK, _) => {}
        (StatusCode::NOT_MODIFIED, Some(before)) => return Ok(before),
        (status, _) if status.is_redirection() => {
            let target = response.headers().get(header::LOCATION);
            let target = target
                .and_then(|target| target.to_str().ok())
                .unwrap_or("somewhere else");
            return Err(format!(
                "it points to {target}, which is not followed: put the last URL into the group"
            ));
        }
        (status, _) => return Err(format!("it answered {status}")),
    }
    let kind = response.headers().get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html")) {
        return Err("it answered with a page of HTML, which is no list of items".into());
    }
    let tag = response.headers().get(header::ETAG).cloned();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| in_words(&error))? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_TEXT {
            return Err(format!("its answer is longer than {MAX_TEXT} bytes"));
        }
    }
    let text = String::from_utf8(body).map_err(|_| "its answer is no UTF-8 text".to_owned())?;
    let items = match &http.json_path {
        Some(path) => parse::at_path(&text, path)?,
        None => parse::list(&text)?,
    };
    Ok(Answer { items, tag })
}

/// Follows a few redirections that stay with the same server.
fn within_a_server() -> Policy {
    let server = |url: &Url| {
        (
            url.scheme().to_owned(),
            url.host_str().map(str::to_owned),
            url.port_or_known_default(),
        )
    };
    Policy::custom(move |attempt| {
        let first = attempt.previous().first().map(server);
        if attempt.previous().len() > HOPS || first != Some(server(attempt.url())) {
            attempt.stop()
        } else {
            attempt.follow()
        }
    })
}

/// An error with all that is behind it.
fn in_words(error: &reqwest::Error) -> String {
    let mut words = match error.is_timeout() {
        true => "it did not answer in time".to_owned(),
        false => "it cannot be asked".to_owned(),
    };
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let _ = write!(words, ": {error}");
        source = error.source();
    }
    words
}

#[cfg(test)]
mod tests;
