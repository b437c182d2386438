//! Who may use the dashboard: only pages that it served itself, to someone who has the token.

use http::{HeaderMap, Method, header};
use sha2::{Digest, Sha256};

/// The secret of one start, in the URL that the command prints.
pub(super) struct Token(String);

impl Token {
    pub fn random() -> Self {
        let [high, low]: [u128; 2] = rand::random();
        Self(format!("{high:032x}{low:032x}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The request is for another host name, so another site may have resolved its name to this
    /// address.
    Host,
    /// The request comes from another page.
    Origin,
    /// The request has no valid token.
    Token,
}

/// Checks requests.
pub(super) struct Access {
    hosts: [String; 2],
    /// The hash of the token. Comparing hashes does not reveal the token through the time that it
    /// takes.
    token: [u8; 32],
}

impl Access {
    pub fn new(port: u16, token: &Token) -> Self {
        Self {
            hosts: ["127.0.0.1", "localhost"].map(|name| format!("{name}:{port}")),
            token: Sha256::digest(token.as_str()).into(),
        }
    }

    /// Checks a request for the page itself, which contains nothing secret.
    pub fn check_host(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = only(headers, header::HOST).ok_or(Refusal::Host)?;
        if !self.hosts.iter().any(|known| known == host) {
            return Err(Refusal::Host);
        }
        Ok(())
    }

    /// Checks a request for data, or for a change. Browsers send the origin with each change.
    pub fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
        self.check_host(headers)?;
        let host = only(headers, header::HOST).unwrap_or_default();
        let origin = only(headers, header::ORIGIN);
        let is_own = origin.and_then(|origin| origin.strip_prefix("http://")) == Some(host);
        let may_be_absent = *method == Method::GET && !headers.contains_key(header::ORIGIN);
        if !is_own && !may_be_absent {
            return Err(Refusal::Origin);
        }
        let token = only(headers, header::AUTHORIZATION);
        let token = token.and_then(|value| value.strip_prefix("Bearer "));
        let hash = Sha256::digest(token.ok_or(Refusal::Token)?);
        if hash[..] != self.token {
            return Err(Refusal::Token);
        }
        Ok(())
    }
}

/// Returns the value of a header that occurs once.
fn only(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    value.to_str().ok().filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn tokens_are_random() {
        let (one, other) = (Token::random(), Token::random());
        assert_eq!(one.as_str().len(), 64);
        assert_ne!(one.as_str(), other.as_str());
    }

    #[test]
    fn only_own_pages_with_the_token_are_served() {
        let token = Token("secret".into());
        let access = Access::new(4000, &token);
        let host = ("host", "127.0.0.1:4000");
        let origin = ("origin", "http://127.0.0.1:4000");
        let bearer = ("authorization", "Bearer secret");
        let (get, post) = (Method::GET, Method::POST);
        for (method, headers, expected) in [
            (&get, &[host, bearer][..], Ok(())),
            (&get, &[host, origin, bearer], Ok(())),
            (&post, &[host, origin, bearer], Ok(())),
            (
                &post,
                &[
                    ("host", "localhost:4000"),
                    ("origin", "http://localhost:4000"),
                    bearer,
                ],
                Ok(()),
            ),
            (&get, &[bearer], Err(Refusal::Host)),
            (&get, &[host, host, bearer], Err(Refusal::Host)),
            (
                &get,
                &[("host", "evil.example:4000"), bearer],
                Err(Refusal::Host),
            ),
            (
                &get,
                &[("host", "127.0.0.1:4001"), bearer],
                Err(Refusal::Host),
            ),
            (&get, &[host], Err(Refusal::Token)),
            (
                &get,
                &[host, ("authorization", "Bearer secre")],
                Err(Refusal::Token),
            ),
            (
                &get,
                &[host, ("authorization", "secret")],
                Err(Refusal::Token),
            ),
            (&post, &[host, bearer], Err(Refusal::Origin)),
            (
                &post,
                &[host, ("origin", "null"), bearer],
                Err(Refusal::Origin),
            ),
            (
                &post,
                &[host, ("origin", "http://localhost:4000"), bearer],
                Err(Refusal::Origin),
            ),
            (
                &get,
                &[host, ("origin", "https://evil.example"), bearer],
                Err(Refusal::Origin),
            ),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(access.check(method, &map), expected, "{method} {headers:?}");
        }
    }
}
