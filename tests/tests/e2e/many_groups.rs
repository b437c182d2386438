//! A namespace with many groups, whose pods end at once.

use crate::fixture::shared;
use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use oaat_tests::{Mode, Node, NodeOptions};
use serde_json::{Value, json};

pub struct ManyGroups {
    pub api: Api<DynamicObject>,
    _node: Node,
}

impl ManyGroups {
    /// Creates the namespace, its node, and the OaatType `work`.
    pub async fn new(namespace: &str) -> Result<Self> {
        let (plane, ..) = shared().await?;
        plane.namespace(namespace).await?;
        let client = plane.admin();
        let node = NodeOptions {
            name: format!("node-{namespace}"),
            namespace: Some(namespace.into()),
            mode: Mode::Instant { exit_code: 0 },
            ..NodeOptions::default()
        };
        let node = Node::start(client.clone(), node).await?;
        let type_ = json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatType",
            "metadata": { "name": "work", "namespace": namespace },
            "spec": { "type": "pod", "podspec": { "container": { "name": "main", "image": "any" } } },
        });
        plane.apply(&type_.to_string()).await?;
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("kawaja.net", "v1", "OaatGroup"));
        Ok(Self {
            api: Api::namespaced_with(client, namespace, &kind),
            _node: node,
        })
    }

    /// Creates groups with this spec.
    pub async fn create(&self, count: usize, spec: &Value) -> Result<()> {
        let create = async |number: usize| -> Result<()> {
            let group = serde_json::from_value(json!({
                "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
                "metadata": { "name": format!("group-{number}") }, "spec": spec,
            }))?;
            self.api.create(&PostParams::default(), &group).await?;
            Ok(())
        };
        let creations = stream::iter(0..count).map(create);
        creations.buffer_unordered(16).try_collect().await
    }
}
