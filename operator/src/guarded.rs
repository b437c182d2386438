//! Objects as the API server gives them. One that cannot be decoded must not keep the others of a
//! list or a watch from being read.

use crate::text::{MESSAGE, clean};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::error_boundary::InvalidObject;
use serde::de::{DeserializeOwned, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

/// The most levels that an object may be nested. `serde_json` reads 128 of a list.
const LEVELS: usize = 100;

/// An object, or why it cannot be decoded.
///
/// kube's `DeserializeGuard` does not stand for objects that are nested deeper than `serde_json`
/// reads, and the API server accepts 10,000 levels in settings and in fields that it does not know.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, InvalidObject>);

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let too_deep = Cell::new(false);
        let object = Levels(LEVELS, &too_deep).deserialize(deserializer)?;
        let metadata = object["metadata"].clone();
        let error = match serde_json::from_value(object) {
            _ if too_deep.get() => format!("it is nested more than {LEVELS} levels deep"),
            Ok(object) => return Ok(Self(Ok(object))),
            Err(error) => clean(&error.to_string(), MESSAGE),
        };
        let metadata = serde_json::from_value(metadata).unwrap_or_default();
        Ok(Self(Err(InvalidObject { error, metadata })))
    }
}

/// Reads a value of so many levels. What is nested deeper is skipped, for which no recursion is
/// needed, and told of.
#[derive(Clone, Copy)]
struct Levels<'a>(usize, &'a Cell<bool>);

impl Levels<'_> {
    fn next(self) -> Option<Self> {
        let next = self.0.checked_sub(1);
        self.1.set(self.1.get() || next.is_none());
        next.map(|next| Self(next, self.1))
    }
}

impl<'de> DeserializeSeed<'de> for Levels<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Levels<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(json!(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(json!(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(json!(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(json!(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(json!(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        if let Some(next) = self.next() {
            while let Some(value) = seq.next_element_seed(next)? {
                list.push(value);
            }
        } else {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        if let Some(next) = self.next() {
            while let Some(key) = map.next_key()? {
                object.insert(key, map.next_value_seed(next)?);
            }
        } else {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        }
        Ok(Value::Object(object))
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &K::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &K::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &K::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &K::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0
            .as_ref()
            .map_or_else(|error| &error.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => object.meta_mut(),
            Err(error) => &mut error.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::OaatGroup;
    use kube::ResourceExt;
    use kube::core::{ObjectList, WatchEvent};

    fn nested(levels: usize) -> String {
        format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
    }

    fn group(name: &str, settings: &str) -> String {
        format!(
            r#"{{"apiVersion":"kawaja.net/v1","kind":"OaatGroup","metadata":{{"name":"{name}","namespace":"n",
            "uid":"u","generation":3,"resourceVersion":"7","managedFields":[{{"fieldsV1":{settings}}}]}},
            "spec":{{"oaatType":"t","policy":{{"configMap":{{"name":"p"}},"settings":{settings}}}}}}}"#
        )
    }

    #[test]
    fn an_object_that_is_nested_too_deep_spoils_no_other() {
        let deep = group("deep", &nested(9_000));
        let wrong = group("wrong", "5");
        let list = format!(
            r#"{{"apiVersion":"kawaja.net/v1","kind":"OaatGroupList","metadata":{{}},"items":[{},{deep},{wrong}]}}"#,
            group("good", &nested(50))
        );
        let list: ObjectList<Guarded<OaatGroup>> = serde_json::from_str(&list).unwrap();
        let read = list
            .items
            .iter()
            .map(|group| (group.name_any(), group.0.is_ok()));
        let expected = [("good", true), ("deep", false), ("wrong", false)];
        assert_eq!(
            read.collect::<Vec<_>>(),
            expected.map(|(name, ok)| (name.to_owned(), ok))
        );
        let event = format!(r#"{{"type":"ADDED","object":{deep}}}"#);
        match serde_json::from_str::<WatchEvent<Guarded<OaatGroup>>>(&event).unwrap() {
            WatchEvent::Added(Guarded(Err(error))) => {
                assert!(error.error.contains("100 levels"), "{error}");
                let meta = error.metadata;
                assert_eq!(
                    (meta.generation, meta.resource_version.as_deref()),
                    (Some(3), Some("7"))
                );
            }
            other => panic!("{other:?}"),
        }
    }
}
