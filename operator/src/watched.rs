//! What is kept of an object that is watched: metadata, without managed fields.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;

/// Metadata of an object of kind `K`. The API server is asked for nothing else.
///
/// Managed fields are skipped without being decoded. They are nested as deeply as the object, and
/// the API server accepts 10,000 levels in settings, of which `serde_json` decodes 128: one such
/// object would make the list of all objects fail.
#[derive(Clone, Debug)]
pub struct Watched<K> {
    /// The metadata.
    pub metadata: ObjectMeta,
    kind: PhantomData<fn() -> K>,
}

impl<K> From<ObjectMeta> for Watched<K> {
    fn from(metadata: ObjectMeta) -> Self {
        Self {
            metadata,
            kind: PhantomData,
        }
    }
}

impl<'de, K> Deserialize<'de> for Watched<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Object {
            #[serde(default)]
            metadata: Metadata,
        }

        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Metadata {
            name: Option<String>,
            namespace: Option<String>,
            uid: Option<String>,
            generation: Option<i64>,
            resource_version: Option<String>,
            deletion_timestamp: Option<Time>,
            annotations: Option<BTreeMap<String, String>>,
        }

        let Object { metadata } = Object::deserialize(deserializer)?;
        Ok(Self::from(ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            generation: metadata.generation,
            resource_version: metadata.resource_version,
            deletion_timestamp: metadata.deletion_timestamp,
            annotations: metadata.annotations,
            ..ObjectMeta::default()
        }))
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Watched<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn metadata_api() -> bool {
        true
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::OaatGroup;
    use kube::ResourceExt;
    use kube::core::ObjectList;

    #[test]
    fn deeply_nested_managed_fields_make_no_list_fail() {
        let deep = format!("{}1{}", r#"{"f:a":"#.repeat(9_000), "}".repeat(9_000));
        let object = |name: &str, fields: &str| {
            format!(
                r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{{"name":"{name}",
                "generation":3,"managedFields":[{{"fieldsV1":{fields}}}]}}}}"#
            )
        };
        let list = format!(
            r#"{{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{{}},"items":[{},{}]}}"#,
            object("deep", &deep),
            object("flat", "{}")
        );
        let list: ObjectList<Watched<OaatGroup>> = serde_json::from_str(&list).unwrap();
        let read = list.items.iter();
        let read: Vec<_> = read
            .map(|group| (group.name_any(), group.metadata.generation))
            .collect();
        assert_eq!(read, [("deep".into(), Some(3)), ("flat".into(), Some(3))]);
    }
}
