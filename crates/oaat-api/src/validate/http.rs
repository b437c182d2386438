//! Validates `itemsFrom[].http`.

use super::FieldError;
use crate::json_path::JsonPath;
use crate::{ItemsHttp, validate::FieldProblem};
use ::http::{HeaderName, HeaderValue, header};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::collections::HashSet;
use std::str::FromStr;
use std::time::Duration;
use url::Url;

/// The time that the pod has in addition to the response timeout, to be scheduled and to pull its
/// image.
pub const POD_START: Duration = Duration::from_secs(60);

/// The maximum size of a definition in bytes. The pod receives it in an environment variable, which
/// the kernel limits to 128 KiB.
const MAX_DEFINITION: usize = 100_000;

/// Parses certificates in PEM format.
///
/// # Errors
/// Returns the reason, which completes "is …", if the text contains no valid certificate.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err("not a certificate in PEM format".into()),
        Err(error) => Err(format!("not in PEM format ({error})")),
    }
}

/// Validates a definition without sending a request. Paths are relative to `http`.
pub fn errors(http: &ItemsHttp) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let example = "use for example https://lists.example.com/disks";
    match Url::parse(&http.url) {
        Err(error) => {
            let why = format!("not a URL ({error})");
            errors.push(FieldError::invalid("url", &http.url, why, example));
        }
        Ok(url) => {
            if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
                let why = "not an http or https URL";
                errors.push(FieldError::invalid("url", &http.url, why, example));
            }
            if !url.username().is_empty() || url.password().is_some() {
                let why = "contains a user name or password, which is visible to anyone who can read the group; use headersFrom";
                errors.push(FieldError::conflict("url", why));
            }
        }
    }
    header_errors(http, &mut errors);
    if let Some(path) = &http.json_path
        && let Err(error) = path.parse::<JsonPath>()
    {
        let why = format!("not a path ({error})");
        let fix = "use for example $.items[*].name";
        errors.push(FieldError::invalid("jsonPath", path, why, fix));
    }
    if let Some(pem) = &http.ca_bundle
        && let Err(why) = certificates(pem)
    {
        let fix = "use for example -----BEGIN CERTIFICATE----- …";
        errors.push(FieldError::invalid("caBundle", pem, why, fix));
    }
    let size = serde_json::to_string(http).map_or(0, |text| text.replace('$', "$$").len());
    if size > MAX_DEFINITION {
        let size = format!("{size} bytes together with the other fields of http, as JSON");
        let most = format!("{MAX_DEFINITION}; shorten headers or caBundle");
        let problem = FieldProblem::TooLong { size, most };
        errors.push(FieldError::new("url", problem));
    }
    errors
}

fn header_errors(http: &ItemsHttp, errors: &mut Vec<FieldError>) {
    let is_allowed = |name: &str| HeaderName::from_str(name).is_ok_and(|name| name != header::HOST);
    let why = "not a valid header";
    for (name, value) in &http.headers {
        if !is_allowed(name) || HeaderValue::from_str(value).is_err() {
            let field = format!("headers[{:?}]", crate::text::name(name));
            let fix = "use for example Accept: text/plain";
            errors.push(FieldError::invalid(field, value, why, fix));
        }
    }
    let mut seen: HashSet<String> = http.headers.keys().map(|n| n.to_lowercase()).collect();
    for (index, header) in http.headers_from.iter().enumerate() {
        let (field, name) = (format!("headersFrom[{index}].name"), &header.name);
        if !is_allowed(name) {
            let fix = "use for example Authorization";
            errors.push(FieldError::invalid(&field, name, why, fix));
        }
        if !seen.insert(name.to_lowercase()) {
            errors.push(FieldError::duplicate(field, name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HeaderFrom, HeaderSource, SecretKeyRef};

    fn http(url: &str) -> ItemsHttp {
        ItemsHttp {
            url: url.into(),
            ..ItemsHttp::default()
        }
    }

    fn from_secret(name: &str) -> HeaderFrom {
        let secret_key_ref = SecretKeyRef {
            name: "lists".into(),
            key: "token".into(),
        };
        HeaderFrom {
            name: name.into(),
            value_from: HeaderSource { secret_key_ref },
        }
    }

    #[test]
    fn definitions_are_validated() {
        let wrong = |http: ItemsHttp| super::super::summary(&errors(&http));
        assert_eq!(wrong(http("https://a.example/x?y")), "");
        assert!(wrong(http("ftp://a.example/")).contains("http or https"));
        assert!(wrong(http("nonsense")).contains("url: "));
        assert!(wrong(http("https://me:secret@a.example/")).contains("password"));
        let header = |name: &str, value: &str| ItemsHttp {
            headers: [(name.to_owned(), value.to_owned())].into(),
            ..http("https://a.example/")
        };
        assert_eq!(wrong(header("Accept", "text/plain")), "");
        for (name, value) in [("no name", "x"), ("Accept", "a\nb"), ("host", "b.example")] {
            assert!(
                wrong(header(name, value)).contains("not a valid header"),
                "{name}"
            );
        }
        let secret = |name: &str| ItemsHttp {
            headers_from: vec![from_secret(name)],
            ..header("Accept", "text/plain")
        };
        assert_eq!(wrong(secret("Authorization")), "");
        assert!(wrong(secret("Host")).contains("headersFrom[0].name"));
        assert!(wrong(secret("accept")).contains("listed twice"));
        let path = ItemsHttp {
            json_path: Some("$[?@.a]".into()),
            ..http("https://a.example/")
        };
        assert!(wrong(path).contains("at character 2"));
        let bundle = ItemsHttp {
            ca_bundle: Some("hello".into()),
            ..http("https://a.example/")
        };
        assert!(wrong(bundle).contains("BEGIN CERTIFICATE"));
        assert!(wrong(header("Accept", &"$".repeat(60_000))).contains("the maximum is 100000"));
    }
}
