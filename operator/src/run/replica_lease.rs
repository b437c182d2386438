//! The lease that a replica must hold before it reconciles.

use super::settings::Settings;
use crate::lease::{self, Election};
use crate::metrics::Metrics;
use crate::pod::names;
use crate::shard::Shard;
use crate::shard_leases::{self, OBSERVATION_PERIOD, Served, ShardObserver};
use kube::{Api, Client};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The name of the Lease of an operator that watches all namespaces.
const LEASE: &str = "oaat-operator";

/// The lease that this replica must hold before it reconciles.
pub(super) struct ReplicaLease {
    namespace: String,
    /// The name of the lease without `--shard`.
    base_name: String,
    shard: Option<Shard>,
}

impl ReplicaLease {
    pub(super) fn new(client: &Client, settings: &Settings, scopes: &[Option<String>]) -> Self {
        let namespace = std::env::var("POD_NAMESPACE");
        Self {
            namespace: namespace.unwrap_or_else(|_| client.default_namespace().to_owned()),
            base_name: lease_name(scopes, settings.selector()),
            shard: settings.shard,
        }
    }

    /// Returns the leader election of this replica.
    pub(super) fn election(&self, client: &Client, instance: Option<&str>) -> Election {
        let uid = std::env::var("POD_UID").ok();
        let identity = lease::identity(instance, uid.as_deref());
        let (name, labels) = match self.shard {
            None => (self.base_name.clone(), BTreeMap::new()),
            Some(shard) => {
                let label = shard.lease_label(&self.base_name);
                let labels = BTreeMap::from([(shard_leases::LABEL.to_owned(), label)]);
                (shard.lease_name(&self.base_name), labels)
            }
        };
        Election::new(client.clone(), &self.namespace, name, labels, identity)
    }

    /// With `--shard`, starts to observe the leases of all shards, and waits until the live ones are
    /// known. Returns what this replica serves.
    pub(super) async fn observe_shards(&self, client: &Client, metrics: &Arc<Metrics>) -> Served {
        let Some(shard) = self.shard else {
            return Served::All;
        };
        let leases = Api::namespaced(client.clone(), &self.namespace);
        let served = ShardObserver::start(leases, &self.base_name, shard, metrics.clone());
        tokio::time::sleep(OBSERVATION_PERIOD).await;
        served
    }
}

/// Returns the name of the Lease of an operator with these scopes and this selector of groups.
/// Operators that watch different namespaces or select different groups have different Leases, so
/// none of them waits for another. The name must not change between releases; otherwise, the old
/// and the new replica of an upgrade both act.
fn lease_name(scopes: &[Option<String>], selector: Option<&str>) -> String {
    let namespaces: Vec<&str> = scopes.iter().flatten().map(String::as_str).collect();
    let namespaces = namespaces.join(",");
    let groups = match selector {
        None if namespaces.is_empty() => return LEASE.to_owned(),
        None => namespaces,
        // No namespace contains a question mark.
        Some(selector) => format!("{namespaces}?{selector}"),
    };
    format!("{LEASE}-{}", names::hash(&groups, 10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::settings::scopes;
    use std::collections::BTreeSet;

    fn lease(namespaces: &[&str]) -> String {
        let namespaces: Vec<String> = namespaces.iter().map(|name| (*name).to_owned()).collect();
        lease_name(&scopes(&namespaces), None)
    }

    #[test]
    fn lease_name_depends_on_the_selector_of_groups() {
        let selected = |namespaces: &[&str], selector| {
            let namespaces: Vec<_> = namespaces.iter().map(|n| Some((*n).to_owned())).collect();
            lease_name(&namespaces, Some(selector))
        };
        let names = [
            lease(&[]),
            lease(&["a"]),
            selected(&[], "team=a"),
            selected(&[], "team=b"),
            selected(&["a"], "team=a"),
            selected(&["a", "b"], "team=a"),
        ];
        let different: BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{names:?}");
    }

    #[test]
    fn lease_name_depends_on_the_set_of_namespaces() {
        assert_eq!(lease(&[]), "oaat-operator");
        assert_eq!(lease(&["", " "]), "oaat-operator");
        let ab = lease(&["a", "b"]);
        assert_eq!(ab, "oaat-operator-1eb7c54d52");
        assert_eq!(lease(&[" b", "a", "b", ""]), ab);
        for other in [&["a"][..], &["ab"], &["a", "b", "c"], &[]] {
            assert_ne!(lease(other), ab, "{other:?}");
        }
    }
}
