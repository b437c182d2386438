//! Reads OaatGroups.

use super::error::UndecodableGroups;
use super::response_limit::PAGE;
use super::{Access, ClusterError, Session};
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::Request;
use kube::{Api, Resource};
use oaat_api::OaatGroup;
use oaat_api::text::{self, clean};
use policy_cases::Similar;
use serde::Deserialize;

/// The status of a response about something that does not exist.
const NOT_FOUND: u16 = 404;

/// A group, or why it cannot be decoded.
#[derive(Clone, Debug)]
pub(crate) struct GroupRead {
    pub namespace: String,
    pub name: String,
    pub group: Result<OaatGroup, String>,
}

impl GroupRead {
    /// Decodes an object. One object that cannot be decoded does not affect the others.
    pub fn of(mut object: DynamicObject) -> Self {
        object.metadata.managed_fields = None;
        let namespace = object.metadata.namespace.clone().unwrap_or_default();
        let name = object.metadata.name.clone().unwrap_or_default();
        let mut take = |field: &str| {
            let value = object.data.get_mut(field);
            value.map(serde_json::Value::take)
        };
        let (spec, status) = (take("spec").unwrap_or_default(), take("status"));
        let decode = || {
            let mut group = OaatGroup::new("", serde_json::from_value(spec)?);
            group.status = status.map(serde_json::from_value).transpose()?;
            group.metadata = object.metadata;
            Ok(group)
        };
        let decoded: Result<OaatGroup, serde_json::Error> = decode();
        let group = decoded.map_err(|error| clean(&error.to_string(), text::PROBLEM));
        Self {
            namespace,
            name,
            group,
        }
    }
}

impl Session {
    /// Returns the API of OaatGroups, of a namespace or of all namespaces.
    pub fn groups(&self, namespace: Option<&str>) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<OaatGroup>(&());
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }
}

/// Reads all groups of a namespace, or of all namespaces, in pages.
pub(crate) async fn read_groups(
    session: &Session,
    namespace: Option<&str>,
) -> Result<Vec<GroupRead>, ClusterError> {
    let api = session.groups(namespace);
    let mut groups = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let access = Access::groups("list", namespace);
        let list = async {
            match api.list(&page).await {
                Err(kube::Error::SerdeError(_)) => Ok(None),
                other => other.map(Some),
            }
        };
        let next = match session.request(access, list).await? {
            Some(list) => {
                groups.extend(list.items.into_iter().map(GroupRead::of));
                list.metadata.continue_
            }
            // A group is nested too deeply. The others of the page are read one by one.
            None => {
                let access = Access::groups("list", namespace);
                let list = list_names::<OaatGroup>(session, access, &page).await?;
                for object in &list.items {
                    groups.extend(read_one(session, &object.metadata).await?);
                }
                list.metadata.next
            }
        };
        match next.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(groups),
        }
    }
}

/// A list of objects of which only the names are decoded: the managed fields of an object are nested as
/// deeply as the object.
#[derive(Deserialize)]
pub(crate) struct Names {
    pub metadata: NamesMeta,
    pub items: Vec<Named>,
}

#[derive(Deserialize)]
pub(crate) struct NamesMeta {
    /// The token of the next page.
    #[serde(rename = "continue")]
    pub next: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Named {
    pub metadata: NamedMeta,
}

#[derive(Deserialize)]
pub(crate) struct NamedMeta {
    #[serde(default)]
    pub namespace: String,
    pub name: String,
}

/// Lists the names of the objects of a kind.
pub(crate) async fn list_names<K: Resource<DynamicType = ()>>(
    session: &Session,
    access: Access,
    page: &ListParams,
) -> Result<Names, ClusterError> {
    let path = K::url_path(&(), access.namespace.as_deref());
    let request = Request::new(path).list_metadata(page);
    let list = async {
        let request = request.map_err(kube::Error::BuildRequest)?;
        session.client.request::<Names>(request).await
    };
    session.request(access, list).await
}

/// Reads a listed group. Returns `None` if it no longer exists.
async fn read_one(
    session: &Session,
    NamedMeta { namespace, name }: &NamedMeta,
) -> Result<Option<GroupRead>, ClusterError> {
    let api = session.groups(Some(namespace));
    let get = async {
        match api.get_opt(name).await {
            Err(kube::Error::SerdeError(problem)) => Ok(Some(Err(problem))),
            other => other.map(|object| object.map(Ok)),
        }
    };
    let access = Access::groups("get", Some(namespace));
    let read = session.request(access, get).await?;
    Ok(read.map(|read| match read {
        Ok(object) => GroupRead::of(object),
        Err(problem) => GroupRead {
            namespace: namespace.clone(),
            name: name.clone(),
            group: Err(clean(&problem.to_string(), text::PROBLEM)),
        },
    }))
}

/// Reads one group. If it does not exist, the error suggests similar names.
pub(crate) async fn read_group(session: &Session, name: &str) -> Result<OaatGroup, ClusterError> {
    let namespace = session.namespace.as_str();
    let api = session.groups(Some(namespace));
    let access = Access::groups("get", Some(namespace));
    let get = async {
        match api.get(name).await {
            // A 404 about a missing resource does not name the object.
            Err(kube::Error::Api(status))
                if status.code == NOT_FOUND
                    && status.details.as_ref().is_some_and(|d| d.name == name) =>
            {
                Ok(None)
            }
            other => other.map(Some),
        }
    };
    if let Some(object) = session.request(access, get).await? {
        let read = GroupRead::of(object);
        return read.group.map_err(|problem| ClusterError::Undecodable {
            name: name.to_owned(),
            problem,
        });
    }
    // Without permission to list, nothing is suggested.
    let others = api.list_metadata(&ListParams::default().limit(PAGE)).await;
    let others = others.map(|list| list.items).unwrap_or_default();
    let others = others
        .iter()
        .filter_map(|object| object.meta().name.as_deref());
    Err(ClusterError::GroupNotFound {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        similar: Similar::to(name, others),
    })
}

/// Finds the group with an item: the given group, or else the only group of the namespace that has
/// the item.
pub(crate) async fn find_item(
    session: &Session,
    item: &str,
    group: Option<&str>,
) -> Result<OaatGroup, ClusterError> {
    if let Some(name) = group {
        return with_item(read_group(session, name).await?, item);
    }
    let read = read_groups(session, Some(&session.namespace)).await?;
    let (groups, undecodable) = decoded(read);
    choose(groups, &undecodable, item, &session.namespace)
}

/// Returns a group if it has an item.
fn with_item(group: OaatGroup, item: &str) -> Result<OaatGroup, ClusterError> {
    let items = items_in_effect(&group);
    if items.iter().any(|name| name == item) {
        return Ok(group);
    }
    Err(ClusterError::NotInGroup {
        item: item.to_owned(),
        group: group.metadata.name.unwrap_or_default(),
        similar: Similar::to(item, items.iter().map(String::as_str)),
    })
}

/// A group that cannot be decoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UndecodableGroup {
    pub name: String,
    pub problem: String,
}

/// Separates the groups that can be decoded from the others.
pub(crate) fn decoded(read: Vec<GroupRead>) -> (Vec<OaatGroup>, Vec<UndecodableGroup>) {
    let (mut groups, mut undecodable) = (Vec::new(), Vec::new());
    for GroupRead { name, group, .. } in read {
        match group {
            Ok(group) => groups.push(group),
            Err(problem) => undecodable.push(UndecodableGroup { name, problem }),
        }
    }
    (groups, undecodable)
}

/// Returns the only group that has an item.
fn choose(
    groups: Vec<OaatGroup>,
    undecodable: &[UndecodableGroup],
    item: &str,
    namespace: &str,
) -> Result<OaatGroup, ClusterError> {
    let has_item = |group: &OaatGroup| items_in_effect(group).iter().any(|name| name == item);
    let (mut found, others): (Vec<_>, Vec<_>) = groups.into_iter().partition(has_item);
    let name = |group: &OaatGroup| group.metadata.name.clone().unwrap_or_default();
    match (found.pop(), found.as_slice()) {
        (Some(group), []) => Ok(group),
        (Some(last), others) => Err(ClusterError::AmbiguousItem {
            item: item.to_owned(),
            groups: others.iter().chain([&last]).map(name).collect(),
        }),
        (None, _) => {
            let items: Vec<_> = others.iter().flat_map(items_in_effect).collect();
            Err(ClusterError::ItemNotFound {
                item: item.to_owned(),
                namespace: namespace.to_owned(),
                undecodable: UndecodableGroups(
                    undecodable.iter().map(|group| group.name.clone()).collect(),
                ),
                similar: Similar::to(item, items.iter().map(String::as_str)),
            })
        }
    }
}

/// Returns the items of a group: those in its spec, and then those that it has from other sources.
/// Includes items that their source no longer lists, until their history is deleted.
pub(crate) fn items_in_effect(group: &OaatGroup) -> Vec<String> {
    let mut items = group.spec.oaat_items.clone();
    let mut seen: std::collections::HashSet<String> = items.iter().cloned().collect();
    if group.spec.items_from.is_empty() {
        return items;
    }
    let status = group.status.iter();
    let lists = status.clone().flat_map(|status| &status.item_sources);
    let listed = lists.flat_map(|source| &source.items).cloned();
    let known = status.flat_map(|status| status.items.keys()).cloned();
    for name in listed.chain(known) {
        if seen.insert(name.clone()) {
            items.push(name);
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn group(name: &str, items: &[&str]) -> OaatGroup {
        let spec = json!({ "oaatType": "t", "oaatItems": items });
        OaatGroup::new(name, serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn item_is_found_in_the_only_group_that_has_it() {
        let groups = || vec![group("a", &["x", "photos"]), group("b", &["y", "x"])];
        for (item, expected) in [
            ("photos", Ok("a")),
            ("y", Ok("b")),
            (
                "x",
                Err("the item x is in several groups (a, b); choose one with --group"),
            ),
            (
                "photo",
                Err("no group in namespace \"n\" has the item photo; did you mean photos?"),
            ),
        ] {
            let found = choose(groups(), &[], item, "n");
            let found = found.map(|group| group.metadata.name.unwrap_or_default());
            let found = found.map_err(|error| error.to_string());
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(found, expected, "{item}");
        }
    }

    #[test]
    fn given_group_without_the_item_is_named() {
        let error = with_item(group("cool", &["www"]), "ww").unwrap_err();
        assert_eq!(
            error.to_string(),
            "group cool has no item ww; did you mean www?"
        );
        assert!(with_item(group("cool", &["www"]), "www").is_ok());
    }

    #[test]
    fn groups_that_cannot_be_decoded_are_named_if_no_group_has_the_item() {
        let bad = UndecodableGroup {
            name: "bad".into(),
            problem: "spec".into(),
        };
        let found = choose(vec![group("a", &["x"])], &[bad], "mail", "n");
        assert_eq!(
            found.unwrap_err().to_string(),
            "no group in namespace \"n\" has the item mail, but these groups cannot be decoded: bad"
        );
    }

    #[test]
    fn items_of_sources_follow_those_of_the_spec() {
        let mut group = group("a", &["x"]);
        group.spec.items_from = serde_json::from_value(json!([
            { "name": "s", "configMap": { "name": "c", "key": "k" } }
        ]))
        .unwrap();
        let status = json!({
            "itemSources": [{ "name": "s", "items": ["y", "x"] }],
            "items": { "x": {}, "gone": {} },
        });
        group.status = Some(serde_json::from_value(status).unwrap());
        assert_eq!(items_in_effect(&group), ["x", "y", "gone"]);
    }

    #[test]
    fn object_that_cannot_be_decoded_is_reported() {
        let object = json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
            "metadata": { "name": "bad", "namespace": "n" }, "spec": { "oaatType": 1 },
        });
        let read = GroupRead::of(serde_json::from_value(object).unwrap());
        assert_eq!((read.namespace.as_str(), read.name.as_str()), ("n", "bad"));
        let problem = read.group.unwrap_err();
        assert!(problem.contains("expected a string"), "{problem}");
    }
}
