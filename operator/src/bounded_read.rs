//! Reads from the API server with bounded memory, regardless of what tenants write into their
//! objects.
//!
//! An object can be several megabytes in size, and takes several times that when decoded. Small
//! responses are read immediately. To read the rest of a large response, a reconcile waits for one
//! of a few permits, which bounds the total over all reconciles.

use crate::api_request::with_timeout;
use crate::cluster::ClusterError;
use crate::fair_limiter::{FairLimiter, Permit};
use crate::watched::Watched;
use futures::{AsyncRead, AsyncReadExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{GetParams, ListParams, ObjectList};
use kube::core::Request as ApiRequest;
use kube::{Client, Resource};
use oaat_api::text;
use serde::de::DeserializeOwned;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The bytes of a response that are read without a permit: a group of 500 items with a full status,
/// or a page of 40 pods.
const SMALL: u64 = 256 << 10;
/// The decoded size in bytes up to which an object needs no permit.
const SMALL_DECODED: usize = 2 << 20;
/// The maximum decoded size of an object in bytes. A group of 2,000 items with a full status and
/// options for every item is smaller.
const DECODED: usize = 24 << 20;
/// The maximum number of large objects in memory.
const LARGE: usize = 3;
/// The approximate time of a reconcile with a large response, which is charged to its namespace.
const RECONCILE: Duration = Duration::from_millis(50);
/// The maximum bytes of one object. etcd accepts 1.5 MiB, which JSON escapes can expand.
const OBJECT: u64 = 12 << 20;
/// The maximum bytes of a list that is read in one piece: about 500 ordinary pods.
const LIST: u64 = 4 << 20;
/// The initial page size of larger lists. It is divided by 8 whenever a page is too large.
const PAGE: u32 = 64;

/// An object that cannot be decoded.
#[derive(Debug)]
pub struct Undecodable {
    /// The field, and what is wrong with it.
    pub error: String,
    /// The object's metadata.
    pub metadata: ObjectMeta,
}

/// A reader for one reconcile.
#[derive(Clone)]
pub struct BoundedReader {
    client: Client,
    permits: FairLimiter,
    /// The permit that this reconcile holds for what it has read.
    held: Arc<Mutex<Option<Permit>>>,
}

impl BoundedReader {
    /// Creates a reader with a new set of permits.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            permits: FairLimiter::new(LARGE),
            held: Arc::default(),
        }
    }

    /// Returns a reader for another reconcile. It shares the permits, and holds its own until
    /// dropped.
    pub fn for_reconcile(&self) -> Self {
        Self {
            held: Arc::default(),
            ..self.clone()
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<Permit>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads one object. Holds the permit for a large one.
    ///
    /// # Errors
    /// Returns an error if the request fails.
    pub async fn object<K>(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Result<K, Undecodable>, ClusterError>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let request = ApiRequest::new(K::url_path(&(), Some(namespace)))
            .get(name, &GetParams::default())
            .map_err(|error| ClusterError::Unavailable(error.to_string()))?;
        let (text, mut permit) = self.response(namespace, request, OBJECT).await?;
        let size = decoded_size(text.as_deref().unwrap_or_default());
        if size > SMALL_DECODED && permit.is_none() && self.held().is_none() {
            let mut acquired = self.permits.acquire(namespace).await;
            acquired.charge(RECONCILE);
            permit = Some(acquired);
        }
        if permit.is_some() {
            *self.held() = permit;
        }
        let Some(text) = text else {
            return Err(ClusterError::Unavailable(format!(
                "{} {name} is larger than {} MiB",
                K::kind(&()),
                OBJECT >> 20
            )));
        };
        if size > DECODED {
            let error = format!(
                "the object would take more than {} MiB of memory; shorten its free-form fields \
                 (settings, podspec, and containers)",
                DECODED >> 20
            );
            return undecodable::<K>(&text, error).map(Err);
        }
        decode(&text)
    }

    /// Passes each page of a list to `each`: one page, unless the list is very large.
    ///
    /// # Errors
    /// Returns an error if a request fails, or the error of `each`.
    pub async fn list<K>(
        &self,
        namespace: &str,
        labels: &str,
        mut each: impl FnMut(Vec<K>) -> Result<(), ClusterError>,
    ) -> Result<(), ClusterError>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone,
    {
        let mut params = ListParams::default().labels(labels);
        loop {
            let (text, _permit) = self.page::<K>(Some(namespace), &mut params).await?;
            each(decode_page(&text, &mut params)?)?;
            if params.continue_token.is_none() {
                return Ok(());
            }
        }
    }

    /// Lists the objects of a kind page by page. `None` means all namespaces or all labels. Passes only
    /// the metadata of a page's objects if one of them cannot be decoded or takes too much memory.
    /// Holds the permit for a large page, also for what `handle_page` reads.
    ///
    /// # Errors
    /// Returns an error if a request fails.
    pub async fn list_in_pages<K, R>(
        &self,
        namespace: Option<&str>,
        labels: Option<&str>,
        mut handle_page: impl FnMut(Result<Vec<K>, Vec<Watched<K>>>) -> R,
    ) -> Result<(), ClusterError>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone,
        R: Future<Output = ()>,
    {
        let mut params = ListParams {
            label_selector: labels.map(ToOwned::to_owned),
            ..ListParams::default().limit(PAGE)
        };
        loop {
            let (text, mut permit) = self.page::<K>(namespace, &mut params).await?;
            let size = decoded_size(&text);
            if size > DECODED && params.limit != Some(1) {
                params.limit = smaller_page(params.limit);
                continue;
            }
            if size > SMALL_DECODED && permit.is_none() {
                permit = Some(self.permits.acquire(namespace.unwrap_or_default()).await);
            }
            *self.held() = permit;
            let mut objects = Err(());
            if size <= DECODED {
                objects = decode_page(&text, &mut params).map_err(drop);
            }
            let page = match objects {
                Ok(objects) => Ok(objects),
                Err(()) => Err(decode_page(&text, &mut params)?),
            };
            drop(text);
            handle_page(page).await;
            *self.held() = None;
            if params.continue_token.is_none() {
                return Ok(());
            }
        }
    }

    /// Reads a page of a list, and the permit for it. Reduces the size of this and later pages if
    /// this one is too large.
    async fn page<K: Resource<DynamicType = ()>>(
        &self,
        namespace: Option<&str>,
        params: &mut ListParams,
    ) -> Result<(Vec<u8>, Option<Permit>), ClusterError> {
        loop {
            let request = ApiRequest::new(K::url_path(&(), namespace))
                .list(params)
                .map_err(|error| ClusterError::Unavailable(error.to_string()))?;
            let single = params.limit == Some(1);
            let max = if single { OBJECT } else { LIST };
            let namespace = namespace.unwrap_or_default();
            match self.response(namespace, request, max).await? {
                (Some(text), permit) => return Ok((text, permit)),
                (None, _) if single => {
                    return Err(ClusterError::Unavailable(format!(
                        "a {} is larger than {} MiB",
                        K::kind(&()),
                        OBJECT >> 20
                    )));
                }
                (None, _) => params.limit = smaller_page(params.limit),
            }
        }
    }

    /// Returns the bytes of a response, unless there are more than `max`, and the permit for them.
    async fn response(
        &self,
        namespace: &str,
        request: http::Request<Vec<u8>>,
        max: u64,
    ) -> Result<(Option<Vec<u8>>, Option<Permit>), ClusterError> {
        let holds = self.held().is_some();
        let mut permit = None;
        loop {
            let attempt = async {
                let body = self.client.request_stream(request.clone()).await?;
                let may_continue = || {
                    if !holds && permit.is_none() {
                        permit = self.permits.try_acquire(namespace);
                    }
                    holds || permit.is_some()
                };
                read(body, max, may_continue)
                    .await
                    .map_err(kube::Error::ReadEvents)
            };
            match with_timeout(attempt).await? {
                Part::Whole(bytes) => {
                    if let Some(permit) = &mut permit {
                        permit.charge(RECONCILE);
                    }
                    return Ok((Some(bytes), permit));
                }
                Part::TooLarge => return Ok((None, permit)),
                // The connection is closed during the wait, and the wait does not count against the
                // timeout of the request.
                Part::NeedsPermit => permit = Some(self.permits.acquire(namespace).await),
            }
        }
    }
}

/// The part of a response that was read.
#[derive(Debug, PartialEq)]
enum Part {
    Whole(Vec<u8>),
    /// The response is larger than the maximum.
    TooLarge,
    /// The response is large, and no permit is free.
    NeedsPermit,
}

/// Reads up to `max` bytes. Reads more than [`SMALL`] only if `may_continue` returns true.
async fn read(
    body: impl AsyncRead,
    max: u64,
    may_continue: impl FnOnce() -> bool,
) -> std::io::Result<Part> {
    futures::pin_mut!(body);
    let mut bytes = Vec::new();
    let small = body.as_mut().take(SMALL).read_to_end(&mut bytes).await?;
    if (small as u64) < SMALL {
        return Ok(Part::Whole(bytes));
    }
    if !may_continue() {
        return Ok(Part::NeedsPermit);
    }
    let rest = max.saturating_sub(SMALL);
    let more = body.take(rest + 1).read_to_end(&mut bytes).await?;
    if more as u64 > rest {
        return Ok(Part::TooLarge);
    }
    Ok(Part::Whole(bytes))
}

/// Returns the size of the page to request after a page of this size was too large.
fn smaller_page(limit: Option<u32>) -> Option<u32> {
    Some(limit.map_or(PAGE, |limit| (limit / 8).max(1)))
}

/// Decodes a page of a list, and sets the position of the next one.
fn decode_page<K: Clone + DeserializeOwned>(
    json: &[u8],
    params: &mut ListParams,
) -> Result<Vec<K>, ClusterError> {
    let list: ObjectList<K> = serde_json::from_slice(json)
        .map_err(|error| ClusterError::Unavailable(format!("failed to decode a list: {error}")))?;
    params.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
    Ok(list.items)
}

/// Decodes an object, or returns the field that cannot be decoded.
fn decode<K: DeserializeOwned>(json: &[u8]) -> Result<Result<K, Undecodable>, ClusterError> {
    if let Ok(object) = serde_json::from_slice(json) {
        return Ok(Ok(object));
    }
    // Decode again, slowly: the decoder's own message does not name the field.
    let mut slow = serde_json::Deserializer::from_slice(json);
    let error = match serde_path_to_error::deserialize::<_, K>(&mut slow) {
        Ok(object) => return Ok(Ok(object)),
        Err(error) => format!("{}: {}", error.path(), error.inner()),
    };
    undecodable::<K>(json, text::clean(&error, text::MESSAGE)).map(Err)
}

fn undecodable<K>(json: &[u8], error: String) -> Result<Undecodable, ClusterError> {
    let Watched { metadata, .. } = serde_json::from_slice::<Watched<K>>(json).map_err(|error| {
        ClusterError::Unavailable(format!("failed to decode an object: {error}"))
    })?;
    Ok(Undecodable { error, metadata })
}

/// Estimates the memory that an object takes once decoded, in bytes.
///
/// Free-form fields become trees of [`serde_json::Value`], in which a map with one entry takes some
/// 700 bytes.
pub(crate) fn decoded_size(json: &[u8]) -> usize {
    let values = json.iter().map(|byte| match byte {
        b'{' => 700,
        b'[' | b',' => 150,
        _ => 1,
    });
    values.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::io::Cursor;
    use oaat_api::validate::MAX_ITEMS;
    use serde_json::json;

    /// Returns the part that is read, and whether a permit was requested.
    async fn part(len: u64, may_continue: bool) -> (Part, bool) {
        let body = Cursor::new(vec![b'x'; usize::try_from(len).unwrap()]);
        let mut requested = false;
        let request = || {
            requested = true;
            may_continue
        };
        let part = read(body, LIST, request).await.unwrap();
        (part, requested)
    }

    #[test]
    fn decoded_size_of_free_form_fields_is_many_times_their_size() {
        let maps = json!({ "a": vec![json!({ "b": 0 }); 1000] }).to_string();
        assert!(maps.len() < 10_000 && decoded_size(maps.as_bytes()) > 700_000);
        let text = json!({ "a": "x".repeat(10_000) }).to_string();
        assert!(decoded_size(text.as_bytes()) < 12_000);
    }

    #[test]
    fn group_of_the_maximum_size_is_decoded() {
        let per_item = |value: serde_json::Value| -> serde_json::Map<_, _> {
            (0..MAX_ITEMS)
                .map(|n| (format!("{n:060}"), value.clone()))
                .collect()
        };
        let group = json!({
            "spec": {
                "oaatItems": per_item(json!(0)).keys().collect::<Vec<_>>(),
                "itemOptions": per_item(json!({
                    "frequency": "1h", "failureCoolOff": "5m", "suspend": false,
                    "env": [{ "name": "A", "value": "a" }, { "name": "B", "value": "b" }],
                    "settings": { "base": "1m", "factor": 2, "max": "1h" },
                })),
            },
            "status": { "items": per_item(json!({
                "item": "x".repeat(60), "state": "Cooling", "message": "failed 3 times in a row",
                "lastSuccess": "2026-01-01T00:00:00Z", "lastFailure": "2026-01-02T00:00:00Z",
                "failures": 3, "lastExitCode": 17, "lastStarted": "2026-01-01T23:59:00Z",
                "lastFinished": "2026-01-02T00:00:00Z", "runs": 1234, "next": "2099-01-01T00:00:00Z",
            })) },
        });
        let size = decoded_size(group.to_string().as_bytes());
        assert!((SMALL_DECODED..DECODED).contains(&size), "{size}");
    }

    #[tokio::test]
    async fn large_responses_take_a_permit_and_too_large_ones_are_rejected() {
        let whole = |len: u64| Part::Whole(vec![b'x'; usize::try_from(len).unwrap()]);
        assert_eq!(part(0, false).await, (whole(0), false));
        assert_eq!(part(SMALL - 1, false).await, (whole(SMALL - 1), false));
        assert_eq!(part(SMALL, false).await, (Part::NeedsPermit, true));
        assert_eq!(part(LIST, true).await, (whole(LIST), true));
        assert_eq!(part(LIST + 1, true).await, (Part::TooLarge, true));
    }
}
