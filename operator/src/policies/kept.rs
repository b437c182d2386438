//! Keeps copies of the last good policies, in ConfigMaps in the operator's own namespace. With a
//! copy, a policy still decides after a restart if its source is deleted or invalid.
//!
//! A separate task writes the copies, so no reconcile waits for them. Every replica may write and
//! renew the same copies. A copy belongs to the namespace of its groups: no other namespace can use
//! it.

mod eviction;

use crate::api_request::with_timeout;
use crate::cluster::ClusterError;
use crate::config_maps::ConfigMaps;
use crate::group_ref::GroupRef;
use crate::pod::names;
use crate::policy_source::{KeptPolicy, PolicyConfigMap, bytes};
pub use eviction::KeptLimits;
use eviction::{Copies, Copy, copies_to_evict, used_since};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use oaat_api::Timestamp;
use policy_host::Limits;
use serde_json::json;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tracing::{debug, info, warn};

/// The label of all copies.
const LABEL: &str = "oaat.kawaja.net/kept-policy";
/// The annotation with the namespace of the groups that use the copy.
const NAMESPACE: &str = "oaat.kawaja.net/policy-namespace";
/// The annotation with the sha256 of the component.
const DIGEST: &str = "oaat.kawaja.net/policy-sha256";
/// The annotation with the ConfigMap and the key that the policy was copied from.
const SOURCE: &str = "oaat.kawaja.net/policy-source";
/// The annotation with the time of the last renewal.
const LAST_USED: &str = "oaat.kawaja.net/last-used";
/// The annotation with the size of the value in bytes.
const SIZE: &str = "oaat.kawaja.net/size";
/// The key of the component, compressed with gzip.
const KEY: &str = "policy.wasm.gz";

/// The interval at which the copies are listed, renewed, and deleted.
const CHECK_INTERVAL: Duration = Duration::from_secs(600);
/// The minimum time between two checks for policies without a copy.
const MIN_INTERVAL: Duration = Duration::from_secs(2);
/// The pause after each write.
const WRITE_PAUSE: Duration = Duration::from_millis(200);
/// The maximum number of policies that are copied in one check.
const MAX_WRITES: usize = 50;
/// The age of the last renewal at which a copy in use is renewed.
const RENEW_AFTER: Duration = Duration::from_secs(24 * 3600);
/// The age of the last renewal at which a copy is deleted, unless this replica uses it.
const DELETE_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
/// The time after the start before the first intact copy is deleted. Earlier, the groups may not be
/// known.
const DELETION_DELAY: Duration = Duration::from_secs(3600);

/// The copies of the last good policies. Cheap to clone.
#[derive(Clone)]
pub struct KeptPolicies {
    keeper: Arc<Keeper>,
    _task: Arc<Task>,
}

/// A background task that is aborted on drop.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Keeper {
    /// Reads the sources and the copies.
    config_maps: ConfigMaps,
    api: Api<ConfigMap>,
    /// The operator's own namespace.
    namespace: String,
    limits: KeptLimits,
    /// Whether this replica serves only some groups. The groups of other replicas may use other copies.
    serves_subset: bool,
    /// When copies may be deleted.
    deletions_start_at: Instant,
    state: Mutex<State>,
    /// Notifies the task of a policy without a copy.
    missing: Notify,
}

#[derive(Default)]
struct State {
    /// The last good policies of each group.
    in_use: HashMap<GroupRef, Vec<RetainedPolicy>>,
    /// The copies in the last list, and those written since.
    copies: Copies,
    /// The time of the last failure to write a copy.
    failed: HashMap<KeptPolicy, Instant>,
    /// Whether it was logged that no copy is evicted yet.
    eviction_delay_logged: bool,
}

/// A last good policy of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct RetainedPolicy {
    /// The policy whose copy is retained.
    pub policy: KeptPolicy,
    /// The ConfigMap to copy it from, if it was loaded from one.
    pub source: Option<PolicyConfigMap>,
}

impl KeptPolicies {
    /// Starts the task that keeps copies in `namespace`, the operator's own namespace. `serves_subset` is
    /// true if other replicas serve other groups.
    pub fn start(
        client: Client,
        namespace: &str,
        config_maps: ConfigMaps,
        limits: KeptLimits,
        serves_subset: bool,
    ) -> Self {
        let keeper = Arc::new(Keeper {
            config_maps,
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            limits,
            serves_subset,
            deletions_start_at: Instant::now() + DELETION_DELAY,
            state: Mutex::default(),
            missing: Notify::new(),
        });
        let task = Task(tokio::spawn(keeper.clone().run()).abort_handle());
        Self {
            keeper,
            _task: Arc::new(task),
        }
    }

    /// Records the last good policies of a group, except built-in ones. `in_use` is empty if the group
    /// was deleted.
    pub fn record(&self, group: &GroupRef, in_use: Vec<RetainedPolicy>) {
        let mut state = self.keeper.lock();
        let before = state.in_use.remove(group).unwrap_or_default();
        for new in in_use.iter().filter(|new| !before.contains(new)) {
            if new.source.is_some() && !state.copies.contains_key(&new.policy) {
                state.failed.remove(&new.policy);
                self.keeper.missing.notify_one();
            }
        }
        if !in_use.is_empty() {
            state.in_use.insert(group.clone(), in_use);
        }
    }

    /// Reads the copy of a policy. Returns `None` if there is none. Deletes a damaged copy.
    ///
    /// # Errors
    /// Returns an error if a request fails.
    pub async fn read(&self, policy: &KeptPolicy) -> Result<Option<Vec<u8>>, ClusterError> {
        self.keeper.read(policy).await
    }
}

impl Keeper {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the copy of a policy. Deletes it if its content does not match the sha256, so that it is
    /// written again.
    async fn read(&self, policy: &KeptPolicy) -> Result<Option<Vec<u8>>, ClusterError> {
        let name = policy.config_map();
        let Some(map) = self.config_maps.get(&self.namespace, &name).await? else {
            return Ok(None);
        };
        let version = map.metadata.resource_version;
        let value = map.binary_data.and_then(|mut data| data.remove(KEY));
        let digest = policy.digest.clone();
        let packed = tokio::task::spawn_blocking(move || pack(value?.0, &digest)).await;
        let packed = packed.map_err(|error| ClusterError::Unavailable(error.to_string()))?;
        if packed.is_none() {
            let (namespace, digest) = (&policy.namespace, &policy.digest);
            warn!(namespace, digest, "the copy of the policy is damaged");
            match self.delete(policy, version).await {
                Ok(()) => self.missing.notify_one(),
                Err(error) => {
                    warn!(namespace, digest, %error, "failed to delete the damaged copy of the policy");
                }
            }
        }
        Ok(packed)
    }

    async fn run(self: Arc<Self>) {
        loop {
            if let Err(error) = self.check().await {
                let namespace = &self.namespace;
                warn!(namespace, %error, "failed to update the copies of policies; retrying later");
            }
            tokio::time::sleep(MIN_INTERVAL).await;
            let _ = tokio::time::timeout(CHECK_INTERVAL, self.missing.notified()).await;
        }
    }

    /// Deletes old copies, renews those in use, and writes the missing ones.
    async fn check(&self) -> Result<(), ClusterError> {
        let now = Timestamp::now();
        let copies = self.list().await?;
        self.lock().copies.clone_from(&copies);
        let in_use = self.in_use();
        for (policy, copy) in &copies {
            let age = now.since(copy.last_used);
            let is_used = in_use.contains_key(policy);
            if is_used && age > RENEW_AFTER {
                self.renew(policy, now).await?;
            } else if !is_used && age > DELETE_AFTER && Instant::now() >= self.deletions_start_at {
                self.delete(policy, None).await?;
            }
        }
        let missing = self.missing(in_use, &copies);
        let is_last = missing.len() <= MAX_WRITES;
        for (policy, source) in missing.into_iter().take(MAX_WRITES) {
            let copied = self.copy(&policy, &source, now).await;
            if let Err(error) = &copied {
                let (namespace, digest) = (&policy.namespace, &policy.digest);
                warn!(namespace, digest, %error, "failed to keep a copy of the policy");
            }
            if !matches!(copied, Ok(true)) {
                self.lock().failed.insert(policy, Instant::now());
            }
            tokio::time::sleep(WRITE_PAUSE).await;
        }
        if !is_last {
            self.missing.notify_one();
        }
        Ok(())
    }

    /// Returns the policies to copy, except those that failed recently.
    fn missing(
        &self,
        in_use: BTreeMap<KeptPolicy, Option<PolicyConfigMap>>,
        copies: &Copies,
    ) -> Vec<(KeptPolicy, PolicyConfigMap)> {
        let mut state = self.lock();
        state
            .failed
            .retain(|policy, at| in_use.contains_key(policy) && at.elapsed() < CHECK_INTERVAL / 2);
        let missing = in_use.into_iter().filter_map(|(policy, source)| {
            let is_known = copies.contains_key(&policy) || state.failed.contains_key(&policy);
            Some((policy, source.filter(|_| !is_known)?))
        });
        round_robin(missing)
    }

    /// Lists the copies, without their values.
    async fn list(&self) -> Result<Copies, ClusterError> {
        let params = ListParams::default().labels(LABEL);
        let listed = with_timeout(self.api.list_metadata(&params)).await?;
        let copies = listed.items.iter().filter_map(|map| {
            let annotations = map.annotations();
            let policy = KeptPolicy {
                namespace: annotations.get(NAMESPACE)?.clone(),
                digest: annotations.get(DIGEST)?.clone(),
            };
            let copy = Copy {
                size: annotations.get(SIZE)?.parse().ok()?,
                last_used: time(annotations.get(LAST_USED)?)?,
            };
            (policy.config_map() == map.name_any()).then_some((policy, copy))
        });
        Ok(copies.collect())
    }

    /// Returns the policies in use, and where they can be copied from.
    fn in_use(&self) -> BTreeMap<KeptPolicy, Option<PolicyConfigMap>> {
        let state = self.lock();
        let mut all = BTreeMap::new();
        for RetainedPolicy { policy, source } in state.in_use.values().flatten() {
            let entry = all.entry(policy.clone()).or_insert(None);
            *entry = entry.take().or_else(|| source.clone());
        }
        all
    }

    /// Writes the copy of a policy if its source still contains it and the limits allow it. Returns
    /// whether it was written.
    async fn copy(
        &self,
        policy: &KeptPolicy,
        source: &PolicyConfigMap,
        now: Timestamp,
    ) -> Result<bool, ClusterError> {
        let map = self
            .config_maps
            .get(&source.namespace, &source.name)
            .await?;
        let Ok(value) = bytes(source, map.as_ref()).map(<[u8]>::to_vec) else {
            return Ok(false);
        };
        drop(map);
        let digest = policy.digest.clone();
        let packed = tokio::task::spawn_blocking(move || pack(value, &digest)).await;
        let Ok(Some(value)) = packed else {
            debug!(namespace = policy.namespace, %source, "the source no longer contains the policy that decided");
            return Ok(false);
        };
        let mut used: HashSet<_> = self.in_use().into_keys().collect();
        let copies = self.lock().copies.clone();
        if self.serves_subset {
            used.extend(used_since(&copies, now.minus(2 * RENEW_AFTER)));
        }
        let Some(evicted) = copies_to_evict(&copies, &used, policy, value.len(), self.limits)
        else {
            let digest = &policy.digest;
            warn!(
                namespace = policy.namespace,
                digest,
                "the limits leave no space for a copy of the policy; after a restart, it needs its source"
            );
            return Ok(false);
        };
        if !evicted.is_empty() && Instant::now() < self.deletions_start_at {
            self.log_eviction_delay();
            return Ok(false);
        }
        for evicted in &evicted {
            self.delete(evicted, None).await?;
        }
        let size = value.len();
        let map = config_map(policy, source, value, now);
        let created = with_timeout(self.api.create(&PostParams::default(), &map)).await;
        match created {
            Ok(_) => {}
            Err(ClusterError::Conflict(_)) => {
                // Another replica wrote the copy, unless the ConfigMap is damaged.
                if self.read(policy).await?.is_none() {
                    return Ok(false);
                }
            }
            Err(error) => return Err(error),
        }
        let (namespace, digest) = (&policy.namespace, &policy.digest);
        info!(namespace, digest, %source, "kept a copy of the policy");
        let copy = Copy {
            size,
            last_used: now,
        };
        self.lock().copies.insert(policy.clone(), copy);
        Ok(true)
    }

    /// Logs once that new copies do not replace others yet.
    fn log_eviction_delay(&self) {
        if !std::mem::replace(&mut self.lock().eviction_delay_logged, true) {
            info!(
                "the limits on copies of policies are reached; \
                 no copy is replaced in the first hour after the start, until all groups are known"
            );
        }
    }

    async fn renew(&self, policy: &KeptPolicy, now: Timestamp) -> Result<(), ClusterError> {
        let patch =
            json!({ "metadata": { "annotations": { LAST_USED: now.seconds().to_string() } } });
        let (name, patch) = (policy.config_map(), Patch::Merge(&patch));
        let params = PatchParams::default();
        let patched = self.api.patch_metadata(&name, &params, &patch);
        match with_timeout(patched).await {
            Ok(_) | Err(ClusterError::NotFound) => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(WRITE_PAUSE).await;
        Ok(())
    }

    /// Deletes the copy of a policy. If `resource_version` is set and the copy has changed since, it
    /// stays.
    async fn delete(
        &self,
        policy: &KeptPolicy,
        resource_version: Option<String>,
    ) -> Result<(), ClusterError> {
        let params = DeleteParams {
            preconditions: resource_version.map(|version| Preconditions {
                resource_version: Some(version),
                uid: None,
            }),
            ..DeleteParams::default()
        };
        let name = policy.config_map();
        match with_timeout(self.api.delete(&name, &params)).await {
            Ok(_) | Err(ClusterError::NotFound) => {}
            Err(ClusterError::Conflict(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.lock().copies.remove(policy);
        let (namespace, digest) = (&policy.namespace, &policy.digest);
        info!(namespace, digest, "deleted the copy of a policy");
        tokio::time::sleep(WRITE_PAUSE).await;
        Ok(())
    }
}

/// Parses the time in an annotation.
fn time(text: &str) -> Option<Timestamp> {
    serde_json::from_value(text.into()).ok()
}

/// Orders policies by namespace in turn: the first of each namespace, then the second, and so on.
fn round_robin(
    policies: impl Iterator<Item = (KeptPolicy, PolicyConfigMap)>,
) -> Vec<(KeptPolicy, PolicyConfigMap)> {
    let mut counts = HashMap::<String, usize>::new();
    let mut numbered: Vec<_> = policies
        .map(|(policy, source)| {
            let count = counts.entry(policy.namespace.clone()).or_default();
            *count += 1;
            (*count, policy, source)
        })
        .collect();
    numbered.sort_by_key(|(number, ..)| *number);
    numbered
        .into_iter()
        .map(|(_, policy, source)| (policy, source))
        .collect()
}

/// Compresses a value with gzip. Returns `None` if it is not the component with this digest.
fn pack(value: Vec<u8>, digest: &str) -> Option<Vec<u8>> {
    let wasm = policy_host::decompress(&value, Limits::default().component).ok()?;
    if policy_host::sha256(&wasm) != digest {
        return None;
    }
    if policy_host::is_gzip(&value) {
        return Some(value);
    }
    policy_host::compress(&wasm).ok()
}

/// Returns the ConfigMap with a copy.
fn config_map(
    policy: &KeptPolicy,
    source: &PolicyConfigMap,
    value: Vec<u8>,
    now: Timestamp,
) -> ConfigMap {
    let annotations = [
        (NAMESPACE, policy.namespace.clone()),
        (DIGEST, policy.digest.clone()),
        (SOURCE, source.to_string()),
        (SIZE, value.len().to_string()),
        (LAST_USED, now.seconds().to_string()),
    ];
    let labels = [(LABEL, "true"), (names::MANAGED_BY, names::OPERATOR)];
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(policy.config_map()),
            labels: Some(labels.map(|(key, value)| (key.into(), value.into())).into()),
            annotations: Some(annotations.map(|(key, value)| (key.into(), value)).into()),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        binary_data: Some(BTreeMap::from([(KEY.into(), ByteString(value))])),
        ..ConfigMap::default()
    }
}

#[cfg(test)]
mod tests;
