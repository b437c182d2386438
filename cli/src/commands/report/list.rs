//! Lists objects for a report.

use super::bundle::Bundle;
use crate::cluster::{Access, ClusterError, NamedMeta, PAGE, Session, list_names};
use crate::views::counted;
use kube::Resource;
use kube::api::{GetParams, ListParams};
use kube::core::Request;
use oaat_api::text;
use serde::Deserialize;
use serde_json::Value;

/// The maximum number of objects of a kind.
const MAX_OBJECTS: usize = 2000;

/// Objects of a kind.
#[derive(Default)]
pub(super) struct Listed {
    objects: Vec<Value>,
    /// The objects that cannot be decoded, and why.
    undecodable: Vec<String>,
    has_more: bool,
}

/// A page of objects. They are not decoded further, because they may be invalid.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMeta,
    items: Vec<Value>,
}

#[derive(Default, Deserialize)]
struct PageMeta {
    /// The token of the next page.
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

/// Lists objects in pages, up to a maximum.
pub(super) async fn list<K: Resource<DynamicType = ()>>(
    session: &Session,
    resource: &'static str,
    namespace: Option<&str>,
    params: &ListParams,
) -> Result<Listed, ClusterError> {
    list_if::<K>(session, resource, namespace, params, |_| true).await
}

/// Lists the objects that meet a condition, up to a maximum.
pub(super) async fn list_if<K: Resource<DynamicType = ()>>(
    session: &Session,
    resource: &'static str,
    namespace: Option<&str>,
    params: &ListParams,
    is_wanted: impl Fn(&Value) -> bool,
) -> Result<Listed, ClusterError> {
    let mut listed = Listed::default();
    let mut page = params.clone().limit(PAGE);
    loop {
        let access = |verb| Access::new(verb, group_of::<K>(), resource, namespace);
        let request = Request::new(K::url_path(&(), namespace)).list(&page);
        let read = read::<Page>(session, access("list"), request).await?;
        let next = match read {
            Ok(Page { metadata, items }) => {
                listed.objects.extend(items.into_iter().filter(&is_wanted));
                metadata.next
            }
            // An object is nested too deeply. The others of the page are read one by one.
            Err(_) => {
                let names = list_names::<K>(session, access("list"), &page).await?;
                for object in names.items {
                    add_one::<K>(&mut listed, session, access("get"), object.metadata).await?;
                }
                listed.objects.retain(&is_wanted);
                names.metadata.next
            }
        };
        let next = next.filter(|token| !token.is_empty());
        listed.has_more = next.is_some();
        match next {
            Some(next) if listed.objects.len() < MAX_OBJECTS => page = page.continue_token(&next),
            _ => return Ok(listed),
        }
    }
}

/// Adds a listed object, unless it no longer exists.
async fn add_one<K: Resource<DynamicType = ()>>(
    listed: &mut Listed,
    session: &Session,
    access: Access,
    NamedMeta { namespace, name }: NamedMeta,
) -> Result<(), ClusterError> {
    let path = K::url_path(&(), Some(&namespace));
    let request = Request::new(path).get(&name, &GetParams::default());
    match read(session, access, request).await {
        Ok(Ok(object)) => listed.objects.push(object),
        Ok(Err(problem)) => listed.undecodable.push(format!(
            "{}/{} cannot be decoded: {}",
            text::name(&namespace),
            text::name(&name),
            text::clean(&problem.to_string(), text::PROBLEM)
        )),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Sends a request. Returns the inner error if the response cannot be decoded.
async fn read<T: serde::de::DeserializeOwned>(
    session: &Session,
    access: Access,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<Result<T, serde_json::Error>, ClusterError> {
    let read = async {
        let request = request.map_err(kube::Error::BuildRequest)?;
        match session.client.request(request).await {
            Err(kube::Error::SerdeError(problem)) => Ok(Err(problem)),
            other => other.map(Ok),
        }
    };
    session.request(access, read).await
}

/// Returns the API group of a kind.
fn group_of<K: Resource<DynamicType = ()>>() -> &'static str {
    match K::group(&()) {
        std::borrow::Cow::Borrowed(group) => group,
        std::borrow::Cow::Owned(_) => "",
    }
}

/// Returns the objects of a list. Records what is missing.
pub(super) fn take(
    bundle: &mut Bundle,
    what: &str,
    listed: Result<Listed, ClusterError>,
) -> Vec<Value> {
    match listed {
        Ok(Listed {
            objects,
            undecodable,
            has_more,
        }) => {
            for problem in undecodable {
                bundle.miss(what, &problem);
            }
            if has_more {
                let shown = counted(objects.len(), "object");
                bundle.miss(what, &format!("only the first {shown} are included"));
            }
            objects
        }
        Err(error) => {
            bundle.miss(what, &error.to_string());
            Vec::new()
        }
    }
}
