//! Which policy decides for a group.

use crate::policy_source::PolicyProblem;
use oaat_api::{AcceptedSettings, OnError, PolicyInUse, Timestamp};
use policy_host::Policy;
use std::collections::HashMap;

/// The source of the built-in policy.
pub(crate) const BUILT_IN: &str = "default";

/// Which policy decides for a group.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicySelection {
    /// The policy that decides. `None` if no policy decides.
    pub in_use: Option<PolicyInUse>,
    /// The settings of the policy, a JSON object.
    pub settings: String,
    /// The settings of items, by item name.
    pub items: HashMap<String, String>,
    /// The settings of the policy and of items, if those in the group's spec are not in effect.
    pub accepted_settings: Option<AcceptedSettings>,
    /// Why the policy that the group names does not decide.
    pub problem: Option<PolicyProblem>,
    /// The digests of the policies that are available but do not accept the current settings.
    pub rejected_by: Vec<String>,
    /// Whether the policy that decides comes from the copy that the operator keeps.
    pub restored: bool,
    /// What to do if no policy decides.
    pub on_error: OnError,
    /// Since when the group's policy has been loading, if no policy decides because of that.
    pub loading: Option<Timestamp>,
}

impl PolicySelection {
    /// Returns the selection of `in_use`. `problem` is why it decides instead of the policy that
    /// the group names.
    pub fn selected(
        in_use: PolicyInUse,
        problem: Option<PolicyProblem>,
        on_error: OnError,
    ) -> Self {
        Self {
            in_use: Some(in_use),
            problem,
            on_error,
            ..Self::none()
        }
    }

    /// Returns the selection of the built-in policy.
    pub fn built_in(default: &Policy, problem: Option<PolicyProblem>) -> Self {
        let in_use = PolicyInUse {
            source: BUILT_IN.into(),
            digest: default.digest().into(),
            contract: default.contract().into(),
            instead_of: None,
        };
        Self::selected(in_use, problem, OnError::Hold)
    }

    /// Returns the selection of no policy, because the group's policy is loading.
    pub fn loading(since: Timestamp, on_error: OnError) -> Self {
        Self {
            loading: Some(since),
            on_error,
            ..Self::none()
        }
    }

    /// Returns the selection of no policy, because the group's policy cannot decide and no earlier
    /// one is available.
    pub fn unavailable(problem: PolicyProblem, on_error: OnError) -> Self {
        Self {
            problem: Some(problem),
            on_error,
            ..Self::none()
        }
    }

    fn none() -> Self {
        Self {
            in_use: None,
            settings: "{}".into(),
            items: HashMap::new(),
            accepted_settings: None,
            problem: None,
            rejected_by: Vec::new(),
            restored: false,
            on_error: OnError::Hold,
            loading: None,
        }
    }

    /// Returns whether the built-in policy must decide instead.
    pub fn needs_default(&self) -> bool {
        self.in_use.is_none() && self.problem.is_some() && self.on_error == OnError::UseDefault
    }
}
