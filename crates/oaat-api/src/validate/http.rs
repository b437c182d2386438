//! Validates `itemsFrom[].http`.

use crate::ItemsHttp;
use crate::field_error::{FieldError, FieldProblem};
use crate::json_path::JsonPath;
use ::http::{HeaderName, HeaderValue, header};
use rustls_pki_types::{CertificateDer, pem, pem::PemObject};
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
/// Why the value of a header is invalid.
const INVALID_VALUE: &str =
    "the value is not a valid header value; use one line of ASCII characters";

/// Parses certificates in PEM format.
///
/// # Errors
/// Returns the reason, which completes "is …", if the text contains no valid certificate.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err("not a certificate in PEM format".into()),
        Err(error) => Err(format!(
            "not in PEM format ({})",
            describe_pem_error(&error)
        )),
    }
}

/// Describes an error without the text that it is about, which may be a private key.
fn describe_pem_error(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a line with END is missing",
        pem::Error::IllegalSectionStart { .. } => "a line with BEGIN is invalid",
        _ => "the content is not base64",
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
        // The value may be a private key.
        let why = format!("{why}; use for example -----BEGIN CERTIFICATE----- …");
        errors.push(FieldError::conflict("caBundle", why));
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

/// Validates the headers. Values, and names that are not valid, may be secrets, so no error contains
/// them.
fn header_errors(http: &ItemsHttp, errors: &mut Vec<FieldError>) {
    for (index, (name, value)) in http.headers.iter().enumerate() {
        let value_is_valid = HeaderValue::from_str(value).is_ok();
        let (field, why) = match name_error(name) {
            Some(why) if HeaderName::from_str(name).is_err() => (format!("headers[{index}]"), why),
            Some(why) => (format!("headers[{name:?}]"), why),
            None if value_is_valid => continue,
            None => (format!("headers[{name:?}]"), INVALID_VALUE),
        };
        errors.push(FieldError::conflict(field, why));
    }
    let mut seen: HashSet<String> = http.headers.keys().map(|n| n.to_lowercase()).collect();
    for (index, header) in http.headers_from.iter().enumerate() {
        let (field, name) = (format!("headersFrom[{index}].name"), &header.name);
        if let Some(why) = name_error(name) {
            errors.push(FieldError::conflict(&field, why));
        }
        if !seen.insert(name.to_lowercase()) {
            errors.push(FieldError::duplicate(field, name));
        }
    }
}

/// Returns why a header may not have this name.
fn name_error(name: &str) -> Option<&'static str> {
    match HeaderName::from_str(name) {
        Err(_) => Some("the name is not a valid header name; use for example Authorization"),
        Ok(header::HOST) => Some("the header Host follows from the URL; remove it"),
        Ok(_) => None,
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
        for (name, value, expected) in [
            ("no s3cret", "s3cret", "headers[0]: the name is not a valid"),
            (
                "Accept",
                "s3cret\n",
                "headers[\"Accept\"]: the value is not",
            ),
            (
                "host",
                "s3cret",
                "headers[\"host\"]: the header Host follows",
            ),
        ] {
            let problem = wrong(header(name, value));
            assert!(problem.starts_with(expected), "{problem}");
            assert!(!problem.contains("s3cret"), "{problem}");
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
        for (pem, expected) in [
            ("s3cret", "caBundle: not a certificate in PEM format; use"),
            ("-----BEGIN s3cret", "(a line with BEGIN is invalid)"),
            (
                "-----BEGIN CERTIFICATE-----\ns3cret",
                "(a line with END is missing)",
            ),
            (
                "-----BEGIN CERTIFICATE-----\n!s3cret\n-----END CERTIFICATE-----",
                "(the content is not base64)",
            ),
        ] {
            let problem = wrong(ItemsHttp {
                ca_bundle: Some(pem.into()),
                ..http("https://a.example/")
            });
            assert!(problem.contains(expected), "{problem}");
            assert!(!problem.contains("s3cret"), "{problem}");
        }
        assert!(wrong(header("Accept", &"$".repeat(60_000))).contains("the maximum is 100000"));
    }
}
