//! The policy that each group uses: the last one that passed every check, with the settings that it
//! accepted. It stays in use until the next one has passed the checks.

use crate::policy_limiter::PolicyLimiter;
use crate::policy_selection::PolicySelection;
use crate::policy_source::PolicyProblem;
use crate::policy_source::PolicyRead;
use crate::policy_source::{LastGoodPolicy, PolicySource};
use kube::runtime::reflector::ObjectRef;
use oaat_api::reasons::policy_ready::{LOADING, SETTINGS_REJECTED};
use oaat_api::{AcceptedSettings, OaatGroup, PolicyInUse, PolicySpec};
use policy_host::{EvalError, ItemSettings, Policy, WeakPolicy};
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// The maximum number of rejections that are cached per group: those of the current settings by the
/// group's policy, by the last good built-in policy, and by the last policy that decided, and those of
/// the current and the accepted settings by the policy whose accepted settings are in effect.
const MAX_REJECTED: usize = 5;

/// A policy with settings that it accepted.
#[derive(Clone)]
struct Accepted {
    /// The source, as in `status.policy.source`.
    source: String,
    /// Whether it was restored from a copy that the operator keeps.
    restored: bool,
    policy: WeakPolicy,
    settings: Settings,
}

#[derive(Clone, PartialEq)]
struct Settings {
    group: String,
    items: Vec<(String, String)>,
}

/// The policy state of a group.
#[derive(Clone, Default)]
struct GroupState {
    accepted: Option<Accepted>,
    /// The last rejected settings, newest first.
    rejected: VecDeque<RejectedSettings>,
}

/// Settings that a policy rejected.
#[derive(Clone)]
struct RejectedSettings {
    digest: String,
    settings: Settings,
    problem: PolicyProblem,
}

impl GroupState {
    /// Returns whether the policy accepts these settings; `None` if they were not checked yet.
    fn checked(&self, policy: &Policy, settings: &Settings) -> Option<Result<(), PolicyProblem>> {
        let same = |digest: &str, known: &Settings| digest == policy.digest() && known == settings;
        if let Some(accepted) = &self.accepted
            && same(accepted.policy.digest(), &accepted.settings)
        {
            return Some(Ok(()));
        }
        let mut rejected = self.rejected.iter();
        let rejected = rejected.find(|rejected| same(&rejected.digest, &rejected.settings));
        rejected.map(|rejected| Err(rejected.problem.clone()))
    }

    /// Records that the policy rejects these settings.
    fn record_rejection(&mut self, policy: &Policy, settings: Settings, problem: &PolicyProblem) {
        // A missed deadline does not mean that the policy rejects the settings, so they are checked
        // again.
        if problem.transient || self.checked(policy, &settings).is_some() {
            return;
        }
        self.rejected.push_front(RejectedSettings {
            digest: policy.digest().into(),
            settings,
            problem: problem.clone(),
        });
        self.rejected.truncate(MAX_REJECTED);
    }

    /// Returns the accepted policy, unless it was evicted from memory.
    fn in_use(&self) -> Option<(&Accepted, Policy)> {
        let accepted = self.accepted.as_ref()?;
        Some((accepted, accepted.policy.upgrade()?))
    }
}

/// The policies that groups use, by the groups' uids.
#[derive(Default)]
pub struct PolicyCache {
    groups: Mutex<HashMap<String, GroupState>>,
}

impl PolicyCache {
    fn groups(&self) -> std::sync::MutexGuard<'_, HashMap<String, GroupState>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self, group: &OaatGroup) -> GroupState {
        self.groups().get(uid(group)).cloned().unwrap_or_default()
    }

    /// Returns whether there is state for a group.
    #[cfg(test)]
    pub(crate) fn knows(&self, uid: &str) -> bool {
        self.groups().contains_key(uid)
    }

    /// Removes the groups whose uids are not in `existing`.
    pub fn retain(&self, existing: &HashSet<String>) {
        self.groups().retain(|uid, _| existing.contains(uid));
    }

    /// Removes a group that was deleted.
    pub fn remove_group(&self, uid: &str) {
        self.groups().remove(uid);
    }

    /// Returns whether the policy of a group can be selected without checking settings.
    pub fn settings_are_checked(
        &self,
        group: &OaatGroup,
        listed: &[String],
        read: Option<&PolicyRead>,
    ) -> bool {
        let (Some(spec), Some(PolicyRead::Loaded(policy))) = (&group.spec.policy, read) else {
            return true;
        };
        let settings = settings(group, listed, spec);
        self.state(group).checked(policy, &settings).is_some()
    }

    /// Returns the policy that decides for a group. `read` is the state of the policy that the group
    /// refers to. `last_good` reads the last good policies, one after the other, if none is in memory,
    /// for example after a restart. Returns `None` if the settings must be checked first and no permit
    /// is available yet.
    pub async fn select(
        &self,
        group: &OaatGroup,
        listed: &[String],
        read: Option<PolicyRead>,
        default: &Policy,
        limiter: &PolicyLimiter,
        last_good: impl IntoIterator<Item = (LastGoodPolicy, PolicyRead)>,
    ) -> Option<(PolicySelection, Option<Policy>)> {
        let (Some(spec), Some(source), Some(read)) =
            (&group.spec.policy, PolicySource::from_group(group), read)
        else {
            self.remove_group(uid(group));
            return Some((
                PolicySelection::built_in(default, None),
                Some(default.clone()),
            ));
        };
        let mut selector = PolicySelector {
            cache: self,
            group,
            listed,
            spec,
            source,
            settings: settings(group, listed, spec),
            limiter,
            state: self.state(group),
            rejected_by: Vec::new(),
        };
        let loading = |since| Some((PolicySelection::loading(since, spec.on_error), None));
        let problem = match read {
            PolicyRead::Loading(since) if selector.state.in_use().is_none() => {
                return loading(since);
            }
            PolicyRead::Loading(_) => selector.loading_problem(),
            PolicyRead::Failed(problem) => Some(problem),
            PolicyRead::Loaded(policy) => selector.try_named(&policy).await?,
        };
        let mut last_good = last_good.into_iter();
        while selector.in_use().is_none()
            && let Some((last, read)) = last_good.next()
        {
            match read {
                PolicyRead::Loading(since) => return loading(since),
                PolicyRead::Loaded(policy) => selector.try_last_good(last, &policy).await?,
                PolicyRead::Failed(_) => {}
            }
        }
        Some(selector.finish(problem))
    }
}

/// Selects the policy of one group.
struct PolicySelector<'a> {
    cache: &'a PolicyCache,
    group: &'a OaatGroup,
    listed: &'a [String],
    spec: &'a PolicySpec,
    /// The source of the policy that the group names.
    source: PolicySource,
    /// The settings in the group's spec.
    settings: Settings,
    limiter: &'a PolicyLimiter,
    state: GroupState,
    /// The digests of the policies that are available but rejected settings.
    rejected_by: Vec<String>,
}

impl PolicySelector<'_> {
    fn check_pin(&self, policy: &Policy) -> Result<(), PolicyProblem> {
        let Some(pin) = &self.spec.sha256 else {
            return Ok(());
        };
        let checked = policy.check_pin(pin);
        checked.map_err(|error| PolicyProblem::from(&error))
    }

    /// Returns the accepted policy, unless it was evicted from memory or the pin excludes it.
    fn in_use(&self) -> Option<(&Accepted, Policy)> {
        let in_use = self.state.in_use();
        in_use.filter(|(_, policy)| self.check_pin(policy).is_ok())
    }

    /// Returns the problem of changed settings that wait until their policy is loaded.
    fn loading_problem(&self) -> Option<PolicyProblem> {
        let accepted = self.state.accepted.as_ref()?;
        (accepted.settings != self.settings).then(|| PolicyProblem::loading_settings(&self.source))
    }

    /// Lets the policy that the group names decide if it can. Returns the problem if it cannot. The
    /// outer `None` means that no permit is available.
    async fn try_named(&mut self, policy: &Policy) -> Option<Option<PolicyProblem>> {
        let (name, settings) = (self.source.to_string(), self.settings.clone());
        let tried = self.try_policy(policy, settings, name, false).await?;
        if tried.is_ok() {
            self.state.rejected.clear();
        }
        self.record();
        Some(tried.err())
    }

    /// Lets a last good policy decide if it can, with the settings that it accepted before, or else
    /// with the current ones. Returns `None` if no permit is available.
    async fn try_last_good(&mut self, last: LastGoodPolicy, policy: &Policy) -> Option<()> {
        let restored = matches!(last.source, PolicySource::Kept(_));
        // The policy may only have been evicted from memory.
        let known = self.state.accepted.as_ref();
        let known = known.filter(|known| known.policy.digest() == policy.digest());
        let known = known.map(|known| known.settings.clone());
        let accepted = known.or_else(|| accepted_settings(last.settings.as_ref()?, self.listed));
        let is_rejected = self.rejected_by.iter().any(|by| by == policy.digest());
        let current = (!is_rejected).then(|| self.settings.clone());
        for settings in accepted.into_iter().chain(current) {
            let name = last.name.clone();
            let tried = self.try_policy(policy, settings, name, restored).await?;
            // The next try ends the selection early if no permit is available.
            self.record();
            if tried.is_ok() {
                break;
            }
        }
        Some(())
    }

    /// Lets a policy decide with these settings if it matches the pin and accepts them. Returns the
    /// problem if it does not, or `None` if no permit is available. The caller records the state.
    async fn try_policy(
        &mut self,
        policy: &Policy,
        settings: Settings,
        source: String,
        restored: bool,
    ) -> Option<Result<(), PolicyProblem>> {
        if let Err(problem) = self.check_pin(policy) {
            return Some(Err(problem));
        }
        let checked = match self.state.checked(policy, &settings) {
            Some(checked) => checked,
            None => check_settings(self.group, policy, &settings, self.limiter).await?,
        };
        match &checked {
            Ok(()) => {
                self.state.accepted = Some(Accepted {
                    source,
                    restored,
                    policy: policy.downgrade(),
                    settings,
                });
            }
            Err(problem) => {
                self.rejected_by.push(policy.digest().to_owned());
                self.state.record_rejection(policy, settings, problem);
            }
        }
        Some(checked)
    }

    /// Stores the state in the cache.
    fn record(&self) {
        let uid = uid(self.group).to_owned();
        self.cache.groups().insert(uid, self.state.clone());
    }

    /// Returns the selection of the accepted policy, if there is one. `problem` is why the policy that
    /// the group names does not decide with the settings in its spec.
    fn finish(self, problem: Option<PolicyProblem>) -> (PolicySelection, Option<Policy>) {
        let Some((accepted, policy)) = self.in_use() else {
            let problem = problem.unwrap_or_else(|| PolicyProblem::pin_mismatch(&self.source));
            let selection = PolicySelection {
                rejected_by: self.rejected_by,
                ..PolicySelection::unavailable(problem, self.spec.on_error)
            };
            return (selection, None);
        };
        let has_old_settings = accepted.settings != self.settings;
        let problem = match problem {
            // These messages already mention the settings.
            Some(p) if [SETTINGS_REJECTED, LOADING].contains(&p.reason) => Some(p),
            Some(p) if has_old_settings => Some(p.with_old_settings()),
            other => other,
        };
        let Settings { group, items } = &accepted.settings;
        let selection = PolicySelection {
            settings: group.clone(),
            items: items.iter().cloned().collect(),
            restored: accepted.restored,
            accepted_settings: has_old_settings.then(|| AcceptedSettings {
                source: accepted.source.clone(),
                digest: policy.digest().to_owned(),
                settings: group.clone(),
                items: items.iter().cloned().collect(),
            }),
            ..PolicySelection::selected(
                in_use_of(&accepted.source, &policy),
                problem,
                self.spec.on_error,
            )
        };
        (selection, Some(policy))
    }
}

/// Asks a policy whether it accepts settings. Returns `None` if no permit is free, or if the permit
/// does not allow enough time.
async fn check_settings(
    group: &OaatGroup,
    policy: &Policy,
    settings: &Settings,
    limiter: &PolicyLimiter,
) -> Option<Result<(), PolicyProblem>> {
    let name = group.metadata.name.as_deref().unwrap_or_default();
    let namespace = group.metadata.namespace.as_deref().unwrap_or_default();
    let group = ObjectRef::new(name).within(namespace);
    let items = settings.items.iter().cloned();
    let items: Vec<_> = items
        .map(|(name, settings)| ItemSettings { name, settings })
        .collect();
    let permit = limiter.acquire(&group)?;
    let (policy, settings) = (policy.clone(), settings.group.clone());
    let validate = move |deadline| {
        let validation = match deadline {
            Some(deadline) => policy.validate_within(&settings, &items, deadline)?,
            None => policy.validate(&settings, &items),
        };
        Some(validation.answer)
    };
    let error = match limiter.evaluate(&group, permit, false, validate).await {
        Ok(answer) => match answer? {
            Ok(()) => return Some(Ok(())),
            Err(error) => error,
        },
        Err(error) => EvalError::Trapped(error.into()),
    };
    Some(Err(PolicyProblem::settings(&error)))
}

fn in_use_of(source: &str, policy: &Policy) -> PolicyInUse {
    PolicyInUse {
        source: source.to_owned(),
        digest: policy.digest().into(),
        contract: policy.contract().into(),
        instead_of: None,
    }
}

/// Returns the settings in a group's spec that its policy receives.
fn settings(group: &OaatGroup, listed: &[String], spec: &PolicySpec) -> Settings {
    let text = |object: &serde_json::Map<_, _>| serde_json::to_string(object).unwrap_or_default();
    Settings {
        group: spec.settings.as_ref().map_or_else(|| "{}".into(), text),
        items: listed
            .iter()
            .filter_map(|name| {
                let settings = group.spec.item_options.get(name)?.settings.as_ref()?;
                Some((name.clone(), text(settings)))
            })
            .collect(),
    }
}

/// Returns the settings in the status of a group. Anyone who may write the status may have written
/// them. Returns `None` if they are too large, or if they are not JSON objects.
fn accepted_settings(accepted: &AcceptedSettings, listed: &[String]) -> Option<Settings> {
    let is_object = |text: &String| serde_json::from_str::<Map<String, Value>>(text).is_ok();
    let mut texts = accepted.items.values().chain([&accepted.settings]);
    let is_valid = accepted.size() <= AcceptedSettings::MAX_SIZE && texts.all(is_object);
    is_valid.then(|| Settings {
        group: accepted.settings.clone(),
        items: listed
            .iter()
            .filter_map(|name| Some((name.clone(), accepted.items.get(name)?.clone())))
            .collect(),
    })
}

fn uid(group: &OaatGroup) -> &str {
    group.metadata.uid.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests;
